//! `service` and `completions`: what can be typed.

use std::net::SocketAddr;

use clap::{Args, Subcommand};

use super::HttpTlsArgs;

/// `service ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Write a hardened systemd unit for this home and these options, then enable and start it
    #[command(after_help = "Examples:\n  zero2ai service install --print      # only show the unit\n  \
        zero2ai service install --home /var/lib/zero2ai --listen 192.0.2.7:7411 --http 127.0.0.1:8700\n\n\
        As root it is the machine's service and runs as the owner of the home folder; otherwise your own (it then ends when \
        you log out, unless 'loginctl enable-linger' was run). The home must hold a pool or an account in one: run \
        'zero2ai pool create' or 'zero2ai up --join ...' once before. Run it again to change options.")]
    Install(InstallArgs),
    /// Stop and disable the service and delete its unit; the home folder stays
    #[command(after_help = "Example:\n  zero2ai service uninstall")]
    Uninstall(UnitArgs),
    /// Whether it is installed and runs
    #[command(after_help = "Example:\n  zero2ai service status --json")]
    Status(UnitArgs),
}

/// Arguments of `service install`.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    pub(crate) unit: UnitArgs,
    /// As of 'up': address of peer RPC (UDP)
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// As of 'up': address of the swarm (UDP)
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) swarm_listen: Option<SocketAddr>,
    /// As of 'up': also answer HTTP here; beyond loopback it needs TLS
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) http: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) tls: HttpTlsArgs,
    /// Print the unit and change nothing
    #[arg(long)]
    pub(crate) print: bool,
}

/// Which unit.
#[derive(Debug, Args)]
pub(crate) struct UnitArgs {
    /// Name of the unit, for several nodes on one machine
    #[arg(long, default_value = "zero2ai", value_parser = unit_name, value_name = "NAME")]
    pub(crate) name: String,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// A name that is safe as a file's and to systemd.
fn unit_name(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-') {
        return Ok(text.to_owned());
    }
    Err("a unit's name is 1 to 64 letters, digits, '-' and '_'".to_owned())
}
