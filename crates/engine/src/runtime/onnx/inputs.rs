//! Holding what a caller sends to what the model takes, before the runtime sees it.

use std::collections::HashMap;

use tract_onnx::prelude::TDim;
use zero2ai_proto::{
    limits::TENSORS,
    tensor::{DType, Tensor, TensorSpec},
};

use crate::error::EngineError;

/// One input of a model.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) dtype: DType,
    /// Fixed sizes, or symbols: the same symbol must have the same size everywhere.
    pub(super) dims: Vec<TDim>,
}

/// A dimension's size, if it is fixed.
pub(super) fn fixed(dim: &TDim) -> Option<u64> {
    dim.to_i64().ok().and_then(|d| u64::try_from(d).ok())
}

impl Input {
    pub(super) fn spec(&self) -> TensorSpec {
        TensorSpec { name: self.name.clone(), dtype: self.dtype, shape: self.dims.iter().map(fixed).collect() }
    }

    /// `F32 [batch, 64]`, for messages.
    fn describe(&self) -> String {
        let dims: Vec<String> =
            self.dims.iter().map(|d| fixed(d).map_or_else(|| format!("{d}"), |n| n.to_string())).collect();
        format!("'{}' {:?} [{}]", self.name, self.dtype, dims.join(", "))
    }
}

/// Brings `given` into the model's order; the first thing wrong is an input error that says what was expected.
pub(super) fn arrange<'a>(expected: &[Input], given: &'a [Tensor]) -> Result<Vec<&'a Tensor>, EngineError> {
    let wants = || expected.iter().map(Input::describe).collect::<Vec<_>>().join(", ");
    if given.len() != expected.len() || given.len() > TENSORS {
        let message = format!("{} tensors were sent; this model takes {}: {}", given.len(), expected.len(), wants());
        return Err(EngineError::input(message));
    }
    let mut sizes = HashMap::new();
    let mut ordered = Vec::with_capacity(expected.len());
    for input in expected {
        let only = expected.len() == 1;
        let tensor = given.iter().find(|t| t.name == input.name || only && t.name.is_empty());
        let tensor = tensor.ok_or_else(|| {
            EngineError::input(format!("no tensor is named '{}'; this model takes {}", input.name, wants()))
        })?;
        tensor.check().map_err(|e| EngineError::input(e.to_string()))?;
        check_shape(input, tensor, &mut sizes)?;
        let bad = not_finite(tensor);
        if bad > 0 {
            let message =
                format!("{bad} of the values of '{}' are NaN or infinite; replace them before predicting", input.name);
            return Err(EngineError::input(message));
        }
        ordered.push(tensor);
    }
    Ok(ordered)
}

fn check_shape(input: &Input, tensor: &Tensor, sizes: &mut HashMap<String, u64>) -> Result<(), EngineError> {
    let wrong = |why: &str| {
        Err(EngineError::input(format!(
            "'{}' was sent as {:?} {:?}, {why}; this model takes {}",
            input.name,
            tensor.dtype,
            tensor.shape,
            input.describe()
        )))
    };
    if tensor.dtype != input.dtype {
        return wrong("another type");
    }
    if tensor.shape.len() != input.dims.len() {
        return wrong("another number of dimensions");
    }
    for (size, dim) in tensor.shape.iter().zip(&input.dims) {
        if *size == 0 {
            return wrong("with an empty dimension");
        }
        match fixed(dim) {
            Some(fixed) if fixed != *size => return wrong("another shape"),
            Some(_) => {}
            None => {
                let seen = *sizes.entry(dim.to_string()).or_insert(*size);
                if seen != *size {
                    return wrong("where another input has a different size for the same dimension");
                }
            }
        }
    }
    Ok(())
}

fn not_finite(tensor: &Tensor) -> usize {
    let data = &tensor.data;
    match tensor.dtype {
        DType::F32 => data.as_chunks::<4>().0.iter().filter(|b| !f32::from_le_bytes(**b).is_finite()).count(),
        DType::F64 => data.as_chunks::<8>().0.iter().filter(|b| !f64::from_le_bytes(**b).is_finite()).count(),
        // All ones in the exponent of a half.
        DType::F16 => data.as_chunks::<2>().0.iter().filter(|b| u16::from_le_bytes(**b) & 0x7c00 == 0x7c00).count(),
        DType::I64 | DType::I32 | DType::U8 | DType::Bool => 0,
    }
}
