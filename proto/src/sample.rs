//! A sample of a validator's own data, as it is shown to the jury of a dispute: the only way in which such data leave the validator's machine.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};
use serde_bytes::ByteBuf;

use crate::{ids::Digest, limits::ANSWERS};

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
        /// Answers that are right, at most [`ANSWERS`].
        #[serde(deserialize_with = "few")]
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

/// Reads no more answers than there may be: an empty text is one byte there, and some two dozen here.
fn few<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = Vec<String>;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(to, "at most {ANSWERS} texts")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Vec<String>, A::Error> {
            let mut read = Vec::new();
            while let Some(text) = texts.next_element()? {
                if read.len() == ANSWERS {
                    return Err(A::Error::invalid_length(ANSWERS + 1, &self));
                }
                read.push(text);
            }
            Ok(read)
        }
    }

    from.deserialize_seq(Few)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{decode, encode, limits::SHOWN_BYTES};

    #[test]
    fn no_more_answers_are_read_than_there_may_be() {
        let with = |count: usize| Sample::Prompt { prompt: String::new(), expected: vec![String::new(); count] };
        let read = |count| decode::<Sample>(&encode(&with(count)).unwrap(), SHOWN_BYTES);
        assert_eq!(read(ANSWERS).unwrap(), with(ANSWERS));
        assert!(read(ANSWERS + 1).is_err());
    }
}
