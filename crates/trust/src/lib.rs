//! Metrics, endorsement verdicts and score aggregation, in integers: every node computes the same bits.
//!
//! This crate knows nothing of where predictions come from, who made them, or where results are kept. What reaches the
//! ledger is made without floats, clocks and randomness.
//!
//! | module | owns |
//! |---|---|
//! | [`metrics`] | macro precision, recall and F1 from counts per class; whether counts hold together |
//! | [`score`] | the verdict of one endorsement, and the score of a round of them |
//! | [`aggregate`] | the score over all rounds, how it fades, its confidence |
//! | [`commit`] | commitments, the windows of a round, bonds |
//! | [`committee`] | seeds, committees by stake, which leaves are opened |
//! | [`reputation`] | what a validator's record makes of its stake |
//! | [`reward`] | agreement beyond chance, and the division of a pool by it |
//! | [`settle`] | the end of a round: what counts, the score, the records |
//! | [`slash`] | what the ledger proves, and what it costs |
//! | [`dispute`] | what it cannot prove: instances, votes, deposits |
//! | [`election`] | votes by stake, the step of power |
//! | [`drift`] | alarms from outcomes: local, so the only floats here |

pub mod aggregate;
pub mod commit;
pub mod committee;
pub mod dispute;
mod draws;
pub mod drift;
pub mod election;
pub mod metrics;
pub mod reputation;
pub mod reward;
pub mod score;
pub mod settle;
pub mod slash;

pub use aggregate::{Aging, Cumulative};
pub use metrics::{CountsError, Macro, check_counts, macro_scores};
pub use reputation::{Reach, Reputation};
pub use score::{ScoreParts, Vote, conflicts, round_score, verdict};

/// One whole in parts per million, the unit of every figure here.
pub const PPM: u32 = 1_000_000;
