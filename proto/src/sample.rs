//! A sample of a validator's own data, as it is shown to the jury of a dispute: the only way in which such data leave the validator's machine.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::ids::Digest;

/// One sample, with what it is said to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sample {
    /// A row of numbers.
    Row {
        /// 32-bit floats, little-endian, in the model's order.
        features: ByteBuf,
        /// Its class.
        label: u16,
    },
    /// A picture.
    Picture {
        /// The whole file.
        file: ByteBuf,
        /// Its class.
        label: u16,
    },
    /// A sound, or a part of one.
    Sound {
        /// The whole file.
        file: ByteBuf,
        /// Beginning and end of the part, seconds, each the bits of a 64-bit float; none is all of it.
        span: Option<(u64, u64)>,
        /// Its class.
        label: u16,
    },
    /// For models that write text.
    Prompt {
        /// What the model is given.
        prompt: String,
        /// Answers that are right.
        expected: Vec<String>,
    },
}

/// Answer to [`crate::calls::ShowSample`], in pieces: at most [`crate::limits::SHOWN_BYTES`] encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownSample {
    /// The salt of this one leaf: with the sample it makes the digest that the leaf holds.
    pub salt: Digest,
    /// The sample.
    pub sample: Sample,
}
