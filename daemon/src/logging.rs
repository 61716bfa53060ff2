//! Log lines, on standard error alone.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

use crate::cli::{Global, LogFormat};

/// Crates whose chatter helps nobody at the level of the rest.
const QUIET: &str = "arc_malachitebft=warn,libp2p=warn,libp2p_kad=error,libp2p_gossipsub=warn,quinn=warn,quinn_proto=warn,quinn_udp=warn,tract_onnx=error,tract_core=error,sled=warn";

/// Starts logging. A node logs what it does; the other commands log warnings only, since their result is their answer.
pub(crate) fn start(global: &Global, node: bool) {
    let level = match (global.verbose, node) {
        (0, false) => "warn",
        (0, true) => "info",
        (1, _) => "debug",
        _ => "trace",
    };
    let quiet = if global.verbose > 1 { String::new() } else { format!(",{QUIET}") };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{level}{quiet}")));
    let colours = std::io::stderr().is_terminal();
    let lines = fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match global.log_format {
        LogFormat::Text => lines.with_target(true).init(),
        LogFormat::Json => lines.json().init(),
    }
}
