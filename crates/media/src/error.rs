//! Why content did not become tensors.

use crate::kind::Kind;

/// See the module. Each message says what to do about it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MediaError {
    /// Something else than the model takes.
    #[error("this is {found}, and the model takes {wanted}")]
    Kind {
        /// What the bytes are.
        found: Kind,
        /// What is taken, in words.
        wanted: &'static str,
    },
    /// Cut short, damaged, or of a variant that is not read.
    #[error("{kind} that cannot be read: {why}; it may be cut short or damaged, save it again")]
    Damaged {
        /// What it seems to be.
        kind: Kind,
        /// What its decoder says.
        why: String,
    },
    /// Beyond a limit, which was noticed before memory was taken for it.
    #[error("{0}; make it smaller")]
    TooLarge(String),
    /// A sound without a sample.
    #[error("the sound has no samples: record it again")]
    Empty,
    /// Too few or too many files.
    #[error("{given} files: {what}")]
    Count {
        /// Files given.
        given: usize,
        /// What is right.
        what: &'static str,
    },
    /// One of several files.
    #[error("file {number}: {source}")]
    OfSeveral {
        /// Which, from 1.
        number: usize,
        /// What is wrong with it.
        source: Box<MediaError>,
    },
    /// A provider's word on how to prepare it that is out of bounds.
    #[error("{0}; its publisher made it wrongly, do not use it")]
    Preparation(String),
    /// A decoder broke.
    #[error("its decoder broke on it: it is damaged or made to do harm, save it again in another format")]
    Panicked,
}

impl MediaError {
    pub(crate) fn damaged(kind: Kind, why: impl std::fmt::Display) -> Self {
        Self::Damaged { kind, why: why.to_string() }
    }

    /// Says which file it was, if there are several.
    pub(crate) fn of_several(self, index: usize, count: usize) -> Self {
        if count < 2 { self } else { Self::OfSeveral { number: index.saturating_add(1), source: Box::new(self) } }
    }
}
