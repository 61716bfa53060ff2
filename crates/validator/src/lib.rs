//! Runs validation jobs: reads a validator's own data, asks a model about each sample, and counts. It knows nothing of where
//! predictions come from (a [`Predictor`] does) and sends nothing (the node signs and submits the endorsement).
//!
//! | module | owns |
//! |---|---|
//! | [`augment`] | what callers sent back, and perturbed copies of it, as a set to train on |
//! | [`dataset`] | samples out of tables and folders, and the dataset's root |
//! | [`domain`] | what a model is for, as its publisher said, else by a ranked guess |
//! | [`inputs`] | samples as what a model is asked, its answers as scores |
//! | [`job`] | the run: answers → counts → [`zero2ai_proto::tx::Endorse`] |
//! | [`search`] | the same of embedders: queries and what they find |
//! | [`leaves`] | the leaves of a run, to be opened in a round |
//! | [`assess`] | from a run to its report: figures, attacks, the dataset's gate, the grade |
//! | [`shown`] | one sample, as a jury is shown it and runs it again |
//! | [`prints`] | fingerprints of the publisher's data |
//! | [`report`] | a report as a page: HTML with plots, without scripts |

pub mod assess;
pub mod augment;
pub mod dataset;
pub mod domain;
pub mod inputs;
pub mod job;
pub mod leaves;
pub mod prints;
pub mod report;
pub mod search;
pub mod shown;

pub use dataset::{Dataset, DatasetError};
pub use inputs::Subject;
pub use job::{Findings, JobError, Predictor, Said, run};
pub use leaves::{Leaves, Row, own_salt, salted};
