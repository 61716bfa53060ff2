//! `outcome` and `outcomes`: what can be typed.

use std::path::PathBuf;

use clap::Args;
use zero2ai_proto::{Digest, ModelName};

/// What `outcome --help` ends with.
pub(super) const OUTCOME_HELP: &str = "Examples:\n  zero2ai predict lab/digits rows.csv --save-call call.cbor\n  \
    zero2ai outcome call.cbor --label 3,8,1          # the true class of each row\n  \
    zero2ai run lab/chat \"Capital of Peru?\" --save-call call.cbor && zero2ai outcome call.cbor --wrong\n\n\
    The owner learns who called, the receipt, what was answered if there are labels, and with --with-input what was asked. Nobody \
    else can read it. While he is away, the node keeps it and tries again for thirty days, every quarter of an hour at least.";

/// What `outcomes --help` ends with.
pub(super) const OUTCOMES_HELP: &str = "Examples:\n  zero2ai outcomes lab/digits\n  zero2ai outcomes lab/digits --out outcomes.csv\n  \
    zero2ai outcomes lab/digits --augment ./set --copies 4\n\n\
    Two detectors hear of each answer, right or wrong: ADWIN and DDM. What they say is an alarm if others than one account bear it \
    out, or no other spoke for a week. With three accounts, or as many as may call, this node opens a round of grading for the \
    version, if the pool's rules have rounds; with fewer 'zero2ai validator open' does. Under rules 1 validators grade again by their \
    own schedule. \
    The set of --augment holds what callers sent; samples that validators' runs failed on are not in it, since their reports carry figures alone.";

/// Arguments of `outcome`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("truth").required(true).args(["label", "right", "wrong"]))]
pub(crate) struct OutcomeArgs {
    /// What predict or run kept with --save-call
    #[arg(value_name = "CALL")]
    pub(crate) call: PathBuf,
    /// The true class of each row, from 0: several times, or with commas
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    pub(crate) label: Vec<u16>,
    /// The whole answer was right
    #[arg(long)]
    pub(crate) right: bool,
    /// It was wrong
    #[arg(long)]
    pub(crate) wrong: bool,
    /// Also give the owner what was asked, so that he can train on it
    #[arg(long)]
    pub(crate) with_input: bool,
}

/// Arguments of `outcomes`.
#[derive(Debug, Args)]
pub(crate) struct OutcomesArgs {
    /// publisher/model
    pub(crate) name: ModelName,
    /// Also write a line for each row of each outcome to this file, CSV
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Also write a set to train on into this new folder: the inputs that callers gave, with what was true, and perturbed copies. What
    /// has the form of personal data is left out and counted
    #[arg(long, value_name = "DIR")]
    pub(crate) augment: Option<PathBuf>,
    /// Perturbed copies of each sample
    #[arg(long, value_name = "N", default_value_t = 2, requires = "augment", value_parser = clap::value_parser!(u32).range(0..=16))]
    pub(crate) copies: u32,
    /// What the copies are drawn from: 64 hexadecimal digits [default: drawn here, and written to manifest.json]
    #[arg(long, value_name = "HEX", requires = "augment")]
    pub(crate) seed: Option<Digest>,
}
