//! `validator ...`, `reputation`, `pool grading`: what can be typed.

use clap::{Args, Subcommand};
use zero2ai_proto::{ModelName, NodeId};

/// `validator ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ValidatorCommand {
    /// Stake some of what an administrator allotted to this node: findings then weigh by it
    #[command(after_help = "Example:\n  zero2ai validator stake 1000")]
    Stake {
        /// How much
        amount: u64,
    },
    /// Take some of the stake back: it weighs nothing from then on, and is free once no evidence can reach it any more
    #[command(after_help = "Example:\n  zero2ai validator unstake 400")]
    Unstake {
        /// How much
        amount: u64,
    },
    /// Who was convicted of what, by which transaction, and what it cost. Reads this home's own files
    #[command(after_help = "Example:\n  zero2ai validator slashes --json\n\n\
        Stake is taken for what the ledger itself can prove, and nothing else: two signatures at one step of consensus, and counts that \
        opened leaves contradict. What others found otherwise is no proof.")]
    Slashes,
    /// The rounds of a model's newest version: where each stands, who sits, what it came to. Reads this home's own files
    #[command(after_help = "Example:\n  zero2ai validator rounds lab/digits --json")]
    Rounds {
        /// publisher/model
        name: ModelName,
    },
    /// Put this node's stake behind a validator, instead of one before; without one take that back
    #[command(
        after_help = "Examples:\n  zero2ai validator vote NODE-KEY\n  zero2ai validator vote   # takes it back\n\n\
        Votes count for models whose owner asks for elected graders: see 'zero2ai elections' and 'zero2ai validator graders'."
    )]
    Vote {
        /// The validator's node key
        node: Option<NodeId>,
    },
    /// Say who may grade a model of yours: everyone, elected, or the keys of those you name. Its rounds tell which
    #[command(after_help = "Examples:\n  zero2ai validator graders lab/digits elected\n  \
        zero2ai validator graders lab/digits NODE-KEY1 NODE-KEY2\n  zero2ai validator graders lab/digits everyone")]
    Graders {
        /// publisher/model
        name: ModelName,
        /// 'everyone', 'elected', or node keys
        #[arg(required = true)]
        graders: Vec<String>,
    },
    /// Have a model's newest version graded again: its owner at any time, a validator once the score has faded
    #[command(after_help = "Example:\n  zero2ai validator open lab/digits")]
    Open {
        /// publisher/model
        name: ModelName,
    },
}

/// Arguments of `reputation`.
#[derive(Debug, Args)]
pub(crate) struct ReputationArgs {
    /// A node key [default: this node's; without a node everyone with a record]
    pub(crate) node: Option<NodeId>,
}

/// Arguments of `pool grading`.
#[derive(Debug, Default, Args)]
pub(crate) struct GradingArgs {
    /// Blocks from the opening of a round to the draw of its committee
    #[arg(long)]
    pub(crate) delay: Option<u64>,
    /// Blocks in which validators commit to what they found: at least as long as a run takes
    #[arg(long)]
    pub(crate) commit: Option<u64>,
    /// Blocks in which they show it
    #[arg(long)]
    pub(crate) reveal: Option<u64>,
    /// Blocks in which leaves are drawn and opened
    #[arg(long)]
    pub(crate) dispute: Option<u64>,
    /// Seats of a committee; where there are no more validators everyone sits
    #[arg(long)]
    pub(crate) seats: Option<u16>,
    /// What a commitment binds of a stake, millionths
    #[arg(long)]
    pub(crate) bond_ppm: Option<u32>,
    /// How likely a validator is to be asked to open leaves, millionths
    #[arg(long)]
    pub(crate) open_ppm: Option<u32>,
    /// How many leaves
    #[arg(long)]
    pub(crate) leaves: Option<u16>,
    /// Blocks of a window of convictions, at whose end they are paid
    #[arg(long)]
    pub(crate) window: Option<u64>,
}
