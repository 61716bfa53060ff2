//! `names ...`: what can be typed.

use clap::Subcommand;
use zero2ai_proto::{ModelName, NodeId};

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
    /// Everything that happened to a model: versions, endorsements, channels, withdrawals, new owners, oldest first
    #[command(after_help = "Example:\n  zero2ai names history lab/digits")]
    History {
        /// The model
        name: ModelName,
    },
    /// Offer a model of yours to another member, who becomes its owner by accepting
    #[command(
        after_help = "Examples:\n  zero2ai names offer lab/digits NODE-KEY\n  zero2ai names offer lab/digits --take-back\n\n\
        The new owner publishes further versions, points channels, withdraws and grants. Versions stay their publishers' and \
        grants hold; the handle before the slash stays yours."
    )]
    Offer {
        /// The model
        name: ModelName,
        /// The member's node key
        #[arg(required_unless_present = "take_back")]
        to: Option<NodeId>,
        /// Take an offer back that was not accepted yet
        #[arg(long, conflicts_with = "to")]
        take_back: bool,
    },
    /// Become the owner of a model that was offered to you
    #[command(after_help = "Example:\n  zero2ai names accept lab/digits")]
    Accept {
        /// The model
        name: ModelName,
    },
}
