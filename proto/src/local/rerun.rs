//! The local method that runs a call again on the node's own machine.

use serde::{Deserialize, Serialize};

use super::Progress;
use crate::{
    ids::ManifestId,
    kept::{CallInput, CallOutput},
    methods,
    name::ModelName,
};

methods! {
    /// Runs a version on an input, whoever answered it before: fetched and loaded here if it is not; progress, then what came out.
    Rerun = 123: RerunCall => RerunItem;
}

/// Request of [`Rerun`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RerunCall {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: u32,
    /// Its sealed manifest: nothing else is run.
    pub manifest: ManifestId,
    /// What to run it on.
    pub input: CallInput,
}

/// One item of the answer to [`Rerun`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RerunItem {
    /// What is being done.
    Step(Progress),
    /// The result.
    Done(RerunReport),
}

/// Result of [`Rerun`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RerunReport {
    /// What computed: runtime, instruction set and version.
    pub runtime: String,
    /// What came out.
    pub output: CallOutput,
}
