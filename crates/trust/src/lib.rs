//! Metrics, endorsement verdicts and score aggregation, in integers: every node computes the same bits.
//!
//! This crate knows nothing of where predictions come from, who made them, or where results are kept. It uses no floats,
//! no clock and no randomness.
//!
//! | module | owns |
//! |---|---|
//! | [`metrics`] | macro precision, recall and F1 from counts per class; whether counts hold together |
//! | [`score`] | the verdict of one endorsement, and the score of a round of them |

pub mod metrics;
pub mod score;

pub use metrics::{CountsError, Macro, check_counts, macro_scores};
pub use score::{ScoreParts, Vote, round_score, verdict};

/// One whole in parts per million, the unit of every figure here.
pub const PPM: u32 = 1_000_000;
