//! Local methods about the names on the ledger, as the node's own copy of it has them.

use serde::{Deserialize, Serialize};

use crate::{
    limits::LABEL_BYTES,
    methods,
    name::ModelName,
    state::{Event, Model, Score, Version},
};

methods! {
    /// Every model whose name starts so, in order of name, one item each.
    NamesList = 132: NamesCall => NamedModel;
    /// Everything that happened to a model, oldest first, one item each.
    NameHistory = 133: HistoryCall => Event;
}

/// Request of [`NamesList`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesCall {
    /// What names start with: a publisher, `publisher/`, or more; empty is all. Longer than [`LABEL_BYTES`] is refused.
    pub prefix: String,
}

impl NamesCall {
    /// True if the prefix is within its bound.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.prefix.len() <= LABEL_BYTES
    }
}

/// One item of the answer to [`NamesList`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedModel {
    /// Its name.
    pub name: ModelName,
    /// Owner, newest version, channels.
    pub model: Model,
    /// The newest version.
    pub version: Version,
    /// That version's score, once it was endorsed.
    pub score: Option<Score>,
    /// The round of that version in which this node could commit to something now, and has not yet.
    pub round: Option<u64>,
}

/// Request of [`NameHistory`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryCall {
    /// The model.
    pub name: ModelName,
}
