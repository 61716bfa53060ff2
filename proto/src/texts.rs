//! Texts as the inputs of a prediction: how a model that embeds text is asked.
//!
//! A prediction has tensors and nothing else, so texts are three of them: `lengths` I64 `[n]`, bytes of each text; `text` U8
//! `[bytes]`, the texts' UTF-8 one after the other; and, only where it is 1, `truncate` Bool `[1]`: a text of more tokens than
//! the model takes is then cut, where it would be refused otherwise. `lengths` comes first: so a prediction of n texts counts
//! n units ([`crate::tensor::units`]).
//!
//! The answer is `embeddings` F32 `[n, width]`, one row a text, and `tokens` I64 `[n]`: tokens of each text, the model's own
//! marks included, before any cut. More than the model's context says that the text was cut.

use serde_bytes::ByteBuf;

use crate::{
    limits::{EMBED_BYTES, EMBED_TEXTS},
    tensor::{DType, Tensor},
};

/// Name of the input with the length of each text.
pub const LENGTHS: &str = "lengths";
/// Name of the input with the texts' bytes.
pub const TEXT: &str = "text";
/// Name of the input that allows texts to be cut.
pub const TRUNCATE: &str = "truncate";
/// Name of the output with one row a text.
pub const EMBEDDINGS: &str = "embeddings";
/// Name of the output with each text's number of tokens.
pub const TOKENS: &str = "tokens";

/// Texts that cannot be sent, tensors that are not texts, or an answer that does not fit its question.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct TextsError(pub String);

/// Texts to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts<'a> {
    /// The texts, 1 to [`EMBED_TEXTS`], of at most [`EMBED_BYTES`] together.
    pub texts: Vec<&'a str>,
    /// Whether a text that is too long for the model may be cut.
    pub truncate: bool,
}

impl<'a> Texts<'a> {
    /// Texts, none of which may be cut.
    #[must_use]
    pub fn new<T: AsRef<str>>(texts: &'a [T]) -> Self {
        Self { texts: texts.iter().map(AsRef::as_ref).collect(), truncate: false }
    }

    /// The tensors that stand for them.
    ///
    /// # Errors
    /// If there are none, too many, or they are too long together.
    pub fn to_tensors(&self) -> Result<Vec<Tensor>, TextsError> {
        let bytes = self.texts.iter().fold(0_usize, |n, text| n.saturating_add(text.len()));
        bounds(self.texts.len(), bytes)?;
        let lengths = self.texts.iter().flat_map(|text| (text.len() as u64).to_le_bytes()).collect::<Vec<u8>>();
        let tensor = |name: &str, dtype, shape: usize, data: Vec<u8>| Tensor {
            name: name.to_owned(),
            dtype,
            shape: vec![shape as u64],
            data: ByteBuf::from(data),
        };
        let mut tensors = vec![
            tensor(LENGTHS, DType::I64, self.texts.len(), lengths),
            tensor(TEXT, DType::U8, bytes, self.texts.concat().into_bytes()),
        ];
        if self.truncate {
            tensors.push(tensor(TRUNCATE, DType::Bool, 1, vec![1]));
        }
        Ok(tensors)
    }

    /// The texts that tensors stand for.
    ///
    /// # Errors
    /// Says what is not as the module's words have it.
    pub fn from_tensors(tensors: &'a [Tensor]) -> Result<Self, TextsError> {
        let fail = |why: &str| {
            TextsError(format!("this model embeds texts, and {why}; see 'Texts' in the wire's description"))
        };
        let (lengths, text, truncate) = match tensors {
            [lengths, text] => (lengths, text, None),
            [lengths, text, truncate] => (lengths, text, Some(truncate)),
            _ => return Err(fail("takes two tensors, 'lengths' and 'text', and a third, 'truncate', at will")),
        };
        for (tensor, name, dtype) in [(lengths, LENGTHS, DType::I64), (text, TEXT, DType::U8)] {
            tensor.check().map_err(|e| TextsError(e.to_string()))?;
            if tensor.name != name || tensor.dtype != dtype || tensor.shape.len() != 1 {
                return Err(fail(&format!("takes '{name}' as a row of {dtype:?} at its place")));
            }
        }
        let truncate = match truncate {
            None => false,
            Some(Tensor { name, dtype: DType::Bool, shape, data }) if name == TRUNCATE && *shape == [1] => {
                if data.as_ref() != [1] {
                    return Err(fail("takes 'truncate' as 1, or leaves it out"));
                }
                true
            }
            Some(_) => return Err(fail("takes 'truncate' as Bool [1]")),
        };
        let lengths = lengths.data.as_chunks::<8>().0;
        bounds(lengths.len(), text.data.len())?;
        let (mut texts, mut rest) = (Vec::with_capacity(lengths.len()), text.data.as_ref());
        for length in lengths {
            let length = usize::try_from(i64::from_le_bytes(*length)).ok();
            let (own, after) =
                length.and_then(|n| rest.split_at_checked(n)).ok_or_else(|| fail("its lengths go beyond 'text'"))?;
            texts.push(std::str::from_utf8(own).map_err(|_| fail("a text is not UTF-8"))?);
            rest = after;
        }
        if rest.is_empty() { Ok(Self { texts, truncate }) } else { Err(fail("'text' goes beyond its lengths")) }
    }
}

fn bounds(texts: usize, bytes: usize) -> Result<(), TextsError> {
    if !(1..=EMBED_TEXTS).contains(&texts) {
        return Err(TextsError(format!(
            "{texts} texts; 1 to {EMBED_TEXTS} are embedded at once: send more in several calls"
        )));
    }
    if bytes > EMBED_BYTES {
        return Err(TextsError(format!(
            "the texts have {bytes} bytes together; {EMBED_BYTES} are embedded at once: send fewer, or shorter ones"
        )));
    }
    Ok(())
}

/// What texts were turned into.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// Numbers of a row.
    pub width: usize,
    /// One row a text, one after the other.
    pub values: Vec<f32>,
    /// Tokens of each text, the model's own marks included, before any cut.
    pub tokens: Vec<u64>,
}

impl Embeddings {
    /// The tensors that stand for them.
    #[must_use]
    pub fn to_tensors(&self) -> Vec<Tensor> {
        let rows = self.tokens.len() as u64;
        let tokens: Vec<u8> = self.tokens.iter().flat_map(|n| n.to_le_bytes()).collect();
        vec![
            Tensor::f32(EMBEDDINGS, &[rows, self.width as u64], &self.values),
            Tensor { name: TOKENS.to_owned(), dtype: DType::I64, shape: vec![rows], data: ByteBuf::from(tokens) },
        ]
    }

    /// The answer to `texts` texts.
    ///
    /// # Errors
    /// If the tensors are not of that shape.
    pub fn from_tensors(tensors: &[Tensor], texts: usize) -> Result<Self, TextsError> {
        let fail =
            || TextsError(format!("the answer to {texts} texts is not 'embeddings' F32 [{texts}, width] and 'tokens'"));
        let [values, tokens] = tensors else { return Err(fail()) };
        let rows = texts as u64;
        if values.name != EMBEDDINGS || tokens.name != TOKENS || tokens.dtype != DType::I64 || tokens.shape != [rows] {
            return Err(fail());
        }
        tokens.check().map_err(|_| fail())?;
        let width = match values.shape.as_slice() {
            [n, width] if *n == rows && *width > 0 => usize::try_from(*width).map_err(|_| fail())?,
            _ => return Err(fail()),
        };
        let count = |b: &[u8; 8]| u64::try_from(i64::from_le_bytes(*b)).map_err(|_| fail());
        let tokens = tokens.data.as_chunks::<8>().0.iter().map(count).collect::<Result<_, _>>()?;
        let values = values.to_f32().map_err(|_| fail())?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(TextsError("the answer has numbers that are not finite".to_owned()));
        }
        Ok(Self { width, values, tokens })
    }

    /// The rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// Tokens of all texts; saturated.
    #[must_use]
    pub fn total_tokens(&self) -> u64 {
        self.tokens.iter().fold(0, |n, tokens| n.saturating_add(*tokens))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tensor::units;

    #[test]
    fn texts_come_back_as_they_were() {
        for truncate in [false, true] {
            let given = Texts { texts: vec!["", "zwei Wörter", "三", ""], truncate };
            let tensors = given.to_tensors().unwrap();
            tensors.iter().try_for_each(Tensor::check).unwrap();
            assert_eq!(units(&tensors), 4);
            assert_eq!(Texts::from_tensors(&tensors).unwrap(), given);
        }
        assert!(Texts::new::<&str>(&[]).to_tensors().is_err());
        assert!(Texts::new(&vec!["a"; EMBED_TEXTS + 1]).to_tensors().is_err());
        assert!(Texts::new(&["a".repeat(EMBED_BYTES + 1)]).to_tensors().is_err());
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let good = Texts::new(&["ab", "ö"]).to_tensors().unwrap();
        let refused = |change: &dyn Fn(&mut Vec<Tensor>)| {
            let mut tensors = good.clone();
            change(&mut tensors);
            assert!(Texts::from_tensors(&tensors).is_err(), "{tensors:?}");
        };
        refused(&|t| t.truncate(1));
        refused(&|t| t.swap(0, 1));
        refused(&|t| t[0].data[0] = 3);
        refused(&|t| t[0].data[0] = 1);
        refused(&|t| t[0].data[7] = 0x80);
        refused(&|t| t[1].data[2] = b'x');
        refused(&|t| t[1].name.clear());
        refused(&|t| {
            t.push(Tensor { name: TRUNCATE.into(), dtype: DType::Bool, shape: vec![1], data: vec![0].into() })
        });
        refused(&|t| t.push(Tensor::f32(TRUNCATE, &[1], &[1.0])));
    }

    #[test]
    fn answers_are_held_to_their_question() {
        let given = Embeddings { width: 2, values: vec![1.0, 2.0, 3.0, 4.0], tokens: vec![3, 5] };
        let tensors = given.to_tensors();
        assert_eq!(Embeddings::from_tensors(&tensors, 2).unwrap(), given);
        assert_eq!(given.rows().collect::<Vec<_>>(), [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(given.total_tokens(), 8);
        assert!(Embeddings::from_tensors(&tensors, 1).is_err());
        assert!(Embeddings::from_tensors(&tensors[..1], 2).is_err());
        let mut negative = tensors;
        negative[1].data[7] = 0xff;
        assert!(Embeddings::from_tensors(&negative, 2).is_err());
    }
}
