//! Runs validation jobs: reads a validator's own samples, asks a model for each, and counts. It knows nothing of where
//! predictions come from (a [`Predictor`] does) and sends nothing (the node signs and submits the endorsement).
//!
//! | module | owns |
//! |---|---|
//! | [`samples`] | labelled samples out of CSV text, and the dataset's root |
//! | [`job`] | the run: predictions → counts → [`zero2ai_proto::tx::Endorse`] |
//! | [`leaves`] | the leaves of a run, to be opened in a round |
//! | [`assess`] | from a run to its report: figures, attacks, the grade |
//! | [`report`] | a report as a page: HTML with plots, without scripts |

pub mod assess;
pub mod job;
pub mod leaves;
pub mod report;
pub mod samples;

pub use job::{Findings, JobError, Predictor, predicted_scores, run};
pub use leaves::{Leaves, Row};
pub use samples::{Dataset, SamplesError};
