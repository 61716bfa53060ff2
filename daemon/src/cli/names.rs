//! `names ...`: what can be typed.

use clap::Subcommand;
use zero2ai_proto::ModelName;

/// `names ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum NamesCommand {
    /// List the pool's models: newest version, channels, score
    #[command(after_help = "Examples:\n  zero2ai names ls\n  zero2ai names ls lab/ --json")]
    Ls {
        /// What names start with: a publisher, or more
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Everything that happened to a model: versions, endorsements, channels, withdrawals, oldest first
    #[command(after_help = "Example:\n  zero2ai names history lab/digits")]
    History {
        /// The model
        name: ModelName,
    },
}
