//! `validate`, `validator ...`, `reputation`, `pool grading`: what can be typed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use zero2ai_proto::{Digest, ModelName, ModelRef, NodeId, local::LocalData, tx::Disputed};

use crate::{commands::publish::absolute, exit::Outcome};

/// Examples, and what labelled data may look like.
pub(crate) const HELP: &str = "Examples:
  zero2ai validate lab/digits --data heldout.csv
  zero2ai validate lab/digits@1 --data heldout.csv --serve
  zero2ai validate lab/digits --data heldout.csv --report report.html --report report.json
  zero2ai validate lab/loans --data loans.parquet --label granted --group sex --report report.html --load
  zero2ai validate lab/cats --data pictures/ --report report.html

Data, by the ending of its name:
  table.csv, .jsonl, .parquet   a sample a row. The columns 'prompt' and 'expected' are for models that write text, 'query' and
                                'relevant' for embedders, 'file' and 'label' for pictures or sounds beside the table (of sounds
                                also 'start' and 'end', seconds). All else is numbers with a class, in the last column unless
                                --label names it; of JSONL, --features names the columns, or one column holds a list.
  folder/                       pictures or sounds: a folder a class, or labels.csv with 'file' and 'label'.

Classes are 0, 1, 2, …, or have the names that --classes gives in the order of the model's outputs.";

/// Columns of labelled data.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Columns {
    /// The column of the class, or of the expected answer
    #[arg(long, value_name = "COLUMN")]
    pub(crate) label: Option<String>,
    /// The column that names each sample's group: answers are compared between groups
    #[arg(long, value_name = "COLUMN")]
    pub(crate) group: Option<String>,
    /// The column that names the part of the data that a sample belongs to: figures are told for each part
    #[arg(long, value_name = "COLUMN")]
    pub(crate) slice: Option<String>,
    /// The columns of numbers, in the model's order [default: all others]
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub(crate) features: Vec<String>,
    /// What the classes are called, in the order of the model's outputs
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) classes: Vec<String>,
}

impl Columns {
    /// The data at a path of this machine.
    pub(crate) fn of(self, path: &std::path::Path) -> Outcome<LocalData> {
        let Self { label, group, slice, features, classes } = self;
        Ok(LocalData { path: absolute(path)?, label, group, slice, features, classes })
    }
}

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// publisher/model, publisher/model@3 or publisher/model:channel
    pub(crate) name: ModelRef,
    /// Labelled data of your own: a table or a folder
    #[arg(long, value_name = "PATH")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) columns: Columns,
    /// Also write a report: a page if the name ends in .html, else JSON; may be given twice. Takes longer: the model is attacked
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Vec<PathBuf>,
    /// What the report's attacks and intervals are drawn from: with the same samples and seed a second validator gets the same
    /// report, but for latencies [default: random]
    #[arg(long, value_name = "HEX", requires = "report")]
    pub(crate) seed: Option<Digest>,
    /// For the report, also test it under load: several at once, at random times, all at once; half a minute more
    #[arg(long, requires = "report")]
    pub(crate) load: bool,
    /// Serve the model afterwards
    #[arg(long)]
    pub(crate) serve: bool,
}

/// `validator ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ValidatorCommand {
    /// Grade new versions as they are published, on data in a folder, until Ctrl-C
    #[command(after_help = "Examples:\n  zero2ai validator run --data /srv/held-out\n  \
        zero2ai validator run --data /srv/held-out --reports /srv/reports --once\n\n\
        Data for lab/digits is lab/digits.csv, .jsonl, .parquet or the folder lab/digits/ below the folder; lab/digits.toml beside it\n\
        may say label, group, slice, features and classes. Models without data of their own that write text get text.jsonl (or .csv,\n\
        .parquet), embedders embedding.jsonl. What was graded is known by its report, also after a restart.")]
    Run(RunArgs),
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
    /// What validators shared in this epoch, their parts of the pot by that, and what it holds. Reads this home's own files
    #[command(after_help = "Example:\n  zero2ai validator rewards --json\n\n\
        A share is stake times reputation times agreement beyond chance: how much closer a validator's findings are to the scores of the \
        same models than to those of others. It takes two models in an epoch. Leaves that were refuted, or not opened, void the epoch. Models whose owner \
        named the graders, has them elected, or grants to whom he likes, earn nobody anything.")]
    Rewards,
    /// Leaves that were opened in the newest round of a model's newest version, each with the name it is disputed by. Reads this home's own files
    #[command(after_help = "Example:\n  zero2ai validator leaves lab/digits")]
    Leaves {
        /// publisher/model
        name: ModelName,
    },
    /// Disputes over what a model really said: where each stands, who sits, until when. Reads this home's own files
    #[command(after_help = "Example:\n  zero2ai validator disputes --json")]
    Disputes,
    /// Dispute a leaf that a validator opened: the model does not say that. Lays down a deposit, and a jury runs the leaf again
    #[command(after_help = "Example:\n  zero2ai validator dispute lab/digits@1/2/NODE-KEY/17\n\n\
        Names as 'zero2ai validator leaves' prints them. Until the end of the round, which is not settled before its disputes are. Who \
        loses a dispute loses his deposit and standing, and he or anyone else may appeal twice, for twice the deposit each time.")]
    Dispute {
        /// publisher/model@VERSION/ROUND/KEY/LEAF
        leaf: Disputed,
    },
    /// The salt of a leaf that this node opened: hand it to the jury together with that one sample. Reads this home's own files
    #[command(after_help = "Example:\n  zero2ai validator salt lab/digits@1/2/NODE-KEY/17\n\n\
        The leaf's number counts the samples of the run's data from 0. Its salt shows nothing of another sample.")]
    Salt {
        /// publisher/model@VERSION/ROUND/KEY/LEAF
        leaf: Disputed,
    },
    /// As a juror, check that a sample is what a disputed leaf is about, before you run the model on it
    #[command(
        after_help = "Example:\n  zero2ai validator check lab/digits@1/2/NODE-KEY/17 --salt HEX --data sample.csv\n\n\
        --data is a table or folder of that one sample with its class, as for 'zero2ai validate'."
    )]
    Check(CheckArgs),
    /// Vote as a juror by hand, before this node does. Who sits and is silent loses a bond
    #[command(after_help = "Examples:\n  zero2ai validator ballot lab/digits@1/2/NODE-KEY/17 stands\n  \
        zero2ai validator ballot lab/digits@1/2/NODE-KEY/17 refuted\n\n\
        A node that sits asks who opened the leaf for the sample, runs the model on it and votes, by itself; to whom nothing is shown \
        in half of the window, the leaf is refuted. A vote that was cast by hand stands.")]
    Ballot {
        /// publisher/model@VERSION/ROUND/KEY/LEAF
        leaf: Disputed,
        /// What you found
        #[arg(value_enum)]
        finding: Finding,
    },
    /// Take a dispute to the next instance, on the side that lost: 31 jurors, then everyone
    #[command(after_help = "Example:\n  zero2ai validator appeal lab/digits@1/2/NODE-KEY/17\n\n\
        For every validator but those who won, within the blocks that 'zero2ai validator disputes' tells. Its deposit is twice, then four \
        times the first.")]
    Appeal {
        /// publisher/model@VERSION/ROUND/KEY/LEAF
        leaf: Disputed,
    },
    /// Have a model's newest version graded again: its owner at any time, a validator once the score has faded
    #[command(after_help = "Example:\n  zero2ai validator open lab/digits")]
    Open {
        /// publisher/model
        name: ModelName,
    },
}

/// Arguments of `validator check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// publisher/model@VERSION/ROUND/KEY/LEAF
    pub(crate) leaf: Disputed,
    /// The leaf's salt, from who opened it
    #[arg(long, value_name = "HEX")]
    pub(crate) salt: Digest,
    /// The one sample
    #[arg(long, value_name = "PATH")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) columns: Columns,
}

/// What a juror found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Finding {
    /// The model says what the leaf says
    Stands,
    /// It does not, or nothing was shown
    Refuted,
}

/// Arguments of `validator run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The folder with the data
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: PathBuf,
    /// Where reports go, as pages and JSON [default: reports, in the home folder]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) reports: Option<PathBuf>,
    /// Test under load as well
    #[arg(long)]
    pub(crate) load: bool,
    /// Days after which a version is run again, to see whether it still does what its report says; 0 is never
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub(crate) recheck: u64,
    /// Seconds between two looks at the ledger
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) every: u64,
    /// Grade what there is, then end
    #[arg(long)]
    pub(crate) once: bool,
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
    /// Blocks in which leaves are drawn (the first), opened (as many as '--reveal') and disputed (the rest)
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
