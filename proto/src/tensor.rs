//! Tensors on the wire: a type, a shape, and row-major little-endian bytes.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::limits::{DIMENSIONS, LABEL_BYTES};

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DType {
    /// IEEE 754 single.
    F32,
    /// IEEE 754 double.
    F64,
    /// IEEE 754 half.
    F16,
    /// Signed 64-bit.
    I64,
    /// Signed 32-bit.
    I32,
    /// Unsigned byte.
    U8,
    /// One byte each, 0 or 1.
    Bool,
}

impl DType {
    /// Bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 => 2,
            Self::U8 | Self::Bool => 1,
        }
    }
}

/// What a prediction counts as: the first dimension of its first input, or 1 for a scalar.
#[must_use]
pub fn units(inputs: &[Tensor]) -> u64 {
    inputs.first().and_then(|t| t.shape.first().copied()).unwrap_or(1)
}

/// The place of the largest value: the class that a row of scores says. Of equal ones it is the first, and the first that is no number
/// comes before all, as in numpy's `argmax`; 0 for an empty row. The one function for it, so that caller, owner and validator read one
/// answer alike.
#[must_use]
pub fn argmax<T: PartialOrd>(row: &[T]) -> usize {
    let is_number = |value: &T| value.partial_cmp(value).is_some();
    let mut best = 0;
    for (place, value) in row.iter().enumerate() {
        let Some(so_far) = row.get(best).filter(|so_far| is_number(so_far)) else { break };
        if value > so_far || !is_number(value) {
            best = place;
        }
    }
    best
}

/// A tensor that does not hold together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("tensor '{name}': {why}")]
pub struct TensorError {
    /// The tensor's name.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

/// One named tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tensor {
    /// Name of the model's input or output; empty means "the only one".
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Row-major little-endian elements: product of `shape` times the element's size.
    pub data: ByteBuf,
}

impl Tensor {
    /// A tensor of single-precision values.
    #[must_use]
    pub fn f32(name: &str, shape: &[u64], values: &[f32]) -> Self {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { name: name.to_owned(), dtype: DType::F32, shape: shape.to_vec(), data: ByteBuf::from(data) }
    }

    /// Checks bounds and that shape, type and bytes agree.
    ///
    /// # Errors
    /// Too many dimensions, a name too long, or data of another size than the shape says.
    pub fn check(&self) -> Result<(), TensorError> {
        let fail = |why: String| Err(TensorError { name: self.name.chars().take(64).collect(), why });
        if self.name.len() > LABEL_BYTES {
            return fail(format!("the name is longer than {LABEL_BYTES} bytes"));
        }
        if self.shape.len() > DIMENSIONS {
            return fail(format!("{} dimensions; at most {DIMENSIONS}", self.shape.len()));
        }
        let expected = self.shape.iter().try_fold(self.dtype.size() as u64, |n, d| n.checked_mul(*d));
        if expected != Some(self.data.len() as u64) {
            return fail(format!("shape {:?} of {:?} does not take {} bytes", self.shape, self.dtype, self.data.len()));
        }
        Ok(())
    }

    /// The elements as single-precision values.
    ///
    /// # Errors
    /// The tensor is of another type or does not [`Tensor::check`].
    pub fn to_f32(&self) -> Result<Vec<f32>, TensorError> {
        self.check()?;
        if self.dtype != DType::F32 {
            return Err(TensorError { name: self.name.clone(), why: format!("is {:?}, not F32", self.dtype) });
        }
        let (quads, _) = self.data.as_chunks::<4>();
        Ok(quads.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }
}

/// What a model takes or gives at one input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Name of the input or output.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; `None` is free (a batch, a length).
    pub shape: Vec<Option<u64>>,
}

impl TensorSpec {
    /// The dimensions for people: `[?, 64]`.
    #[must_use]
    pub fn shape_text(&self) -> String {
        let dims: Vec<String> = self.shape.iter().map(|d| d.map_or_else(|| "?".into(), |d| d.to_string())).collect();
        format!("[{}]", dims.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_scores_the_first_is_the_answer() {
        let rows: [(&[f32], usize); 7] = [
            (&[], 0),
            (&[0.2, 0.7, 0.1], 1),
            (&[0.1, 0.4, 0.4, 0.1], 1),
            (&[0.25; 4], 0),
            (&[-0.0, 0.0], 0),
            (&[f32::NEG_INFINITY, -1.0], 1),
            (&[0.5, f32::NAN, 1.0, f32::NAN], 1),
        ];
        for (row, place) in rows {
            assert_eq!(argmax(row), place, "{row:?}");
            let doubles: Vec<f64> = row.iter().copied().map(f64::from).collect();
            assert_eq!(argmax(&doubles), place, "in double precision, {row:?}");
        }
    }
}
