//! Metrics with intervals, the dataset gate, attacks without gradients, load schedules, endorsement verdicts and score aggregation.
//!
//! This crate knows nothing of where predictions come from, who made them, or where results are kept. It has no clock and
//! no state between calls; whatever it draws comes from a seed that the caller gives.
//!
//! Two kinds of modules live here, and the table says which is which:
//! - **ledger**: integers only, recomputed by every node inside `apply`. Floats are denied there by lint.
//! - **local**: what one validator computes from predictions. Inside they use doubles, in one fixed order of additions,
//!   with exponentials and logarithms from `libm` (software, the same bits on every machine) instead of the platform's;
//!   what leaves for the ledger is rounded once, by [`ppm`]. Two validators with the same data and seed get the same
//!   integers, on any number of threads.
//!
//! | module | kind | owns |
//! |---|---|---|
//! | [`metrics::counts`] | ledger | macro precision, recall and F1 from counts per class; whether counts hold together |
//! | [`score`] | ledger | the verdict of one endorsement, and the score of a round of them |
//! | [`aggregate`] | ledger | the score over all rounds, how it fades, its confidence |
//! | [`commit`] | ledger | commitments, the windows of a round, bonds |
//! | [`committee`] | ledger | seeds, committees by stake, which leaves are opened |
//! | [`reputation`] | ledger | what a validator's record makes of its stake |
//! | [`reward`] | ledger | agreement beyond chance, and the division of a pool by it |
//! | [`settle`] | ledger | the end of a round: what counts, the score, the records |
//! | [`slash`] | ledger | what the ledger proves, and what it costs |
//! | [`dispute`] | ledger | what it cannot prove: instances, votes, deposits |
//! | [`election`] | ledger | votes by stake, the step of power |
//! | [`metrics`] | local | figures of classification, regression, text and retrieval, with intervals |
//! | [`gate`] | local | the five criteria for a dataset: bias, privacy, overlap and shift, adversarial share, compute stress |
//! | [`attacks`] | local | attacks without gradients for pictures, texts, tables and sounds |
//! | [`drift`] | local | alarms from outcomes |
//! | [`load`] | local | schedules of load tests, percentiles from enough samples |
//! | [`report`] | local | the report of a run and its grade |
//! | [`draw`] | local | the one generator of seeded draws |
#![deny(clippy::float_arithmetic)]

pub mod aggregate;
pub mod attacks;
pub mod commit;
pub mod committee;
pub mod dispute;
pub mod draw;
pub mod drift;
pub mod election;
pub mod gate;
pub mod load;
pub mod metrics;
pub mod report;
pub mod reputation;
pub mod reward;
pub mod score;
pub mod settle;
pub mod slash;
mod sortition;

pub use aggregate::{Aging, Cumulative};
pub use metrics::{
    counts::{CountsError, Macro, check_counts, macro_scores},
    ppm,
};
pub use reputation::{Reach, Reputation};
pub use score::{ScoreParts, Vote, conflicts, counted, round_score, verdict};

/// One whole in parts per million, the unit of every figure here.
pub const PPM: u32 = 1_000_000;
