//! Tensors of the wire to tract's and back.

use tract_onnx::prelude::{Datum, DatumType, Tensor as TractTensor, f16};
use zero2ai_proto::{
    ByteBuf,
    tensor::{DType, Tensor},
};

use crate::error::EngineError;

/// tract's name of a type.
pub(super) const fn datum_type(dtype: DType) -> DatumType {
    match dtype {
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::F16 => DatumType::F16,
        DType::I64 => DatumType::I64,
        DType::I32 => DatumType::I32,
        DType::U8 => DatumType::U8,
        DType::Bool => DatumType::Bool,
    }
}

/// The wire's name of a type, if it has one. Sizes that tract computed (`TDim`) travel as I64.
pub(super) const fn dtype(datum: DatumType) -> Option<DType> {
    Some(match datum {
        DatumType::F32 => DType::F32,
        DatumType::F64 => DType::F64,
        DatumType::F16 => DType::F16,
        DatumType::I64 | DatumType::TDim => DType::I64,
        DatumType::I32 => DType::I32,
        DatumType::U8 => DType::U8,
        DatumType::Bool => DType::Bool,
        _ => return None,
    })
}

/// A tensor that was checked already, for tract.
pub(super) fn to_tract(tensor: &Tensor) -> Result<TractTensor, EngineError> {
    let bytes = tensor.data.as_slice();
    match tensor.dtype {
        DType::F32 => shaped(tensor, bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        DType::F64 => shaped(tensor, bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b))),
        DType::F16 => shaped(tensor, bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b))),
        DType::I64 => shaped(tensor, bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b))),
        DType::I32 => shaped(tensor, bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b))),
        DType::U8 => shaped(tensor, bytes.iter().copied()),
        DType::Bool => shaped(tensor, bytes.iter().map(|b| *b != 0)),
    }
}

fn shaped<T: Datum + Copy>(tensor: &Tensor, values: impl Iterator<Item = T>) -> Result<TractTensor, EngineError> {
    let dims: Option<Vec<usize>> = tensor.shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let values: Vec<T> = values.collect();
    dims.and_then(|dims| TractTensor::from_shape(&dims, &values).ok())
        .ok_or_else(|| EngineError::input(format!("tensor '{}' is too large", tensor.name)))
}

/// A tensor of tract's, for the wire.
pub(super) fn from_tract(name: &str, tensor: &TractTensor) -> Result<Tensor, EngineError> {
    let lost = || {
        EngineError::model(format!("output '{name}' is of the type {:?}, which the wire lacks", tensor.datum_type()))
    };
    let dtype = dtype(tensor.datum_type()).ok_or_else(lost)?;
    let plain = tensor.cast_to_dt(datum_type(dtype)).map_err(|_| lost())?;
    let shape = plain.shape().iter().map(|d| *d as u64).collect();
    // tract's bytes are in the machine's order, which is the wire's on every machine the worker's sandbox exists for.
    Ok(Tensor { name: name.to_owned(), dtype, shape, data: ByteBuf::from(plain.as_bytes().to_vec()) })
}
