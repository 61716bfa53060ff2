//! `score ...`: what can be typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use zero2ai_proto::ModelName;

/// Arguments of `score`.
#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    /// publisher/model
    #[arg(required = true)]
    pub(crate) name: Option<ModelName>,
    #[command(flatten)]
    pub(crate) part: ScorePart,
    #[command(subcommand)]
    pub(crate) command: Option<ScoreCommand>,
}

/// Which score, and how much of it.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ScorePart {
    /// This version instead of the newest
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u32>,
    /// Also who contributed what, and what of it counts
    #[arg(long)]
    pub(crate) explain: bool,
}

/// `score ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ScoreCommand {
    /// Recompute a score offline, from the endorsements of an exported audit and the pool's genesis
    #[command(after_help = "Example:\n  zero2ai audit lab/digits --export audit.cbor\n  \
        zero2ai score verify audit.cbor --genesis genesis.cbor --explain")]
    Verify {
        /// The exported audit
        file: PathBuf,
        /// The pool's genesis, from a source you trust
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
        #[command(flatten)]
        part: ScorePart,
    },
}
