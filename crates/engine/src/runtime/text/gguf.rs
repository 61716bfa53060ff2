//! What a GGUF file says of a model of the llama family: its sizes, and its matrices made ready for fast products.

use std::{io::BufReader, sync::Arc};

use candle_core::{
    Device,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{Content, Value},
    },
};

use zero2ai_kernels::{Format, KernelError, Packed};

use super::{super::source::Source, kquants, linear::Weights};
use crate::error::EngineError;

/// Bounds of a plausible model: what a hostile header may make us compute with.
const MAX_LAYERS: u32 = 512;
const MAX_HEADS: u32 = 1_024;
const MAX_WIDTH: u32 = 1 << 17;
const MAX_CONTEXT: u32 = 1 << 20;

/// Sizes of a llama model.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) width: usize,
    pub(super) context: usize,
    pub(super) eps: f32,
    pub(super) rope_base: f32,
    /// Positions that a row attends to, its own among them.
    pub(super) window: usize,
}

/// An open GGUF file.
pub(super) struct Gguf<'a> {
    source: &'a Source,
    pub(super) content: Content,
}

/// A candle error as a fault of the model.
pub(super) fn bad(what: &str, error: &candle_core::Error) -> EngineError {
    // Without candle's backtrace, which tells nothing to who reads this.
    let text = error.to_string();
    EngineError::model(format!("{what}: {}", text.lines().next().unwrap_or_default()))
}

impl<'a> Gguf<'a> {
    pub(super) fn open(source: &'a Source) -> Result<Self, EngineError> {
        let content = Content::read(&mut BufReader::new(source.reader())).map_err(|e| {
            let what = format!("'{}' is not a whole GGUF file; it may be cut short, publish it again", source.name());
            bad(&what, &e)
        })?;
        Ok(Self { source, content })
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.content.metadata.get(key).and_then(|v| v.to_string().ok()).map(String::as_str)
    }

    pub(super) fn number(&self, key: &str) -> Option<u32> {
        match self.content.metadata.get(key)? {
            Value::U8(v) => Some((*v).into()),
            Value::U16(v) => Some((*v).into()),
            Value::U32(v) => Some(*v),
            Value::I32(v) => u32::try_from(*v).ok(),
            Value::U64(v) => u32::try_from(*v).ok(),
            Value::I64(v) => u32::try_from(*v).ok(),
            _ => None,
        }
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.content.metadata.get(key).and_then(|v| v.to_bool().ok())
    }

    pub(super) fn list(&self, key: &str) -> Option<&[Value]> {
        self.content.metadata.get(key).and_then(|v| v.to_vec().ok()).map(Vec::as_slice)
    }

    fn bounded(&self, key: &str, max: u32) -> Result<usize, EngineError> {
        let value = self.number(key).filter(|v| (1..=max).contains(v));
        value.map(|v| v as usize).ok_or_else(|| EngineError::model(format!("the GGUF file lacks a usable '{key}'")))
    }

    /// Sizes, held to bounds and to each other. Other architectures are refused by name.
    pub(super) fn config(&self) -> Result<Config, EngineError> {
        let architecture = self.text("general.architecture").unwrap_or("(none)");
        if architecture != "llama" {
            return Err(EngineError::model(format!(
                "the architecture '{architecture}' is not run by this version; llama is (and what shares its form: smollm, mistral)"
            )));
        }
        if self.number("llama.expert_count").is_some_and(|n| n > 0) {
            return Err(EngineError::model("mixtures of experts are not run by this version"));
        }
        if self.text("llama.rope.scaling.type").is_some_and(|t| t != "none") {
            return Err(EngineError::model(
                "scaled rotary positions are not run by this version; use the model unscaled",
            ));
        }
        let heads = self.bounded("llama.attention.head_count", MAX_HEADS)?;
        let kv_heads = match self.number("llama.attention.head_count_kv") {
            Some(_) => self.bounded("llama.attention.head_count_kv", MAX_HEADS)?,
            None => heads,
        };
        let width = self.bounded("llama.embedding_length", MAX_WIDTH)?;
        let head_dim = match self.number("llama.attention.key_length") {
            Some(_) => self.bounded("llama.attention.key_length", 1_024)?,
            None => width.checked_div(heads).unwrap_or(0),
        };
        let rotated = self.number("llama.rope.dimension_count").map_or(head_dim, |d| d as usize);
        if head_dim == 0 || head_dim % 2 == 1 || rotated != head_dim || heads % kv_heads != 0 {
            return Err(EngineError::model(
                "the GGUF file's head sizes do not fit each other, or only part of a head is rotated",
            ));
        }
        // 0 stands for none, as a missing value does.
        let window = match self.number("llama.attention.sliding_window") {
            None | Some(0) => usize::MAX,
            Some(window) => window as usize,
        };
        let float = |key: &str| self.content.metadata.get(key).and_then(|v| v.to_f32().ok());
        let positive = |v: &f32| v.is_finite() && *v > 0.0;
        let eps = float("llama.attention.layer_norm_rms_epsilon").filter(positive);
        let eps = eps.ok_or_else(|| EngineError::model("the GGUF file lacks the norm's epsilon"))?;
        Ok(Config {
            layers: self.bounded("llama.block_count", MAX_LAYERS)?,
            heads,
            kv_heads,
            head_dim,
            width,
            context: self.bounded("llama.context_length", MAX_CONTEXT)?,
            eps,
            rope_base: float("llama.rope.freq_base").filter(positive).unwrap_or(10_000.0),
            window,
        })
    }

    /// Number of parameters.
    pub(super) fn parameters(&self) -> u64 {
        let count = |dims: &[usize]| dims.iter().try_fold(1_u64, |n, d| n.checked_mul(*d as u64)).unwrap_or(0);
        self.content.tensor_infos.values().map(|t| count(t.shape.dims())).fold(0, u64::saturating_add)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// A tensor as it is stored; its shape must be this one.
    fn stored(&self, name: &str, shape: &[usize]) -> Result<QTensor, EngineError> {
        let info = self.content.tensor_infos.get(name);
        let info = info.ok_or_else(|| EngineError::model(format!("the GGUF file lacks the tensor '{name}'")))?;
        if info.shape.dims() != shape {
            let message = format!("the tensor '{name}' has the shape {:?} instead of {shape:?}", info.shape.dims());
            return Err(EngineError::model(message));
        }
        // The position is ours: TensorInfo reads through any reader, here one with its own cursor.
        info.read(&mut self.source.reader(), self.content.tensor_data_offset, &Device::Cpu)
            .map_err(|e| bad(&format!("the tensor '{name}' cannot be read"), &e))
    }

    /// A vector of finite single-precision values.
    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, EngineError> {
        let stored = self.stored(name, &[len])?;
        let read = || stored.dequantize(&Device::Cpu)?.to_vec1::<f32>();
        let values = read().map_err(|e| bad(&format!("the tensor '{name}' cannot be read"), &e))?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(EngineError::model(format!("the tensor '{name}' holds values that are not finite")));
        }
        Ok(values)
    }

    /// A matrix ready for products: packed for our kernels where it has a block format that they take, or one that can be
    /// brought into such a one: Q4_K into Q4_1, others of up to 6 bits into Q8_0 (what that rounds is far below what they
    /// rounded themselves); candle's for all others.
    pub(super) fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Weights, EngineError> {
        let stored = self.stored(name, &[rows, columns])?;
        let (format, stored) = match stored.dtype() {
            GgmlDType::Q8_0 => (Format::Q8_0, stored),
            GgmlDType::Q4_0 => (Format::Q4_0, stored),
            GgmlDType::Q4_1 => (Format::Q4_1, stored),
            GgmlDType::Q4K => {
                let blocks = stored.data().map_err(|e| bad(&format!("the tensor '{name}' cannot be read"), &e))?;
                let blocks = kquants::q4_k_to_q4_1(&blocks);
                let blocks = blocks.ok_or_else(|| EngineError::model(format!("the tensor '{name}' is cut short")))?;
                return pack(name, Format::Q4_1, &blocks, rows, columns);
            }
            GgmlDType::Q5_0 | GgmlDType::Q5_1 | GgmlDType::Q2K | GgmlDType::Q3K | GgmlDType::Q5K | GgmlDType::Q6K => {
                let convert = || QTensor::quantize(&stored.dequantize(&Device::Cpu)?, GgmlDType::Q8_0);
                let converted = convert().map_err(|e| bad(&format!("the tensor '{name}' cannot be converted"), &e))?;
                (Format::Q8_0, converted)
            }
            _ => return Ok(Weights::Candle(Arc::new(stored))),
        };
        let blocks = stored.data().map_err(|e| bad(&format!("the tensor '{name}' cannot be read"), &e))?;
        pack(name, format, &blocks, rows, columns)
    }
}

fn pack(name: &str, format: Format, blocks: &[u8], rows: usize, columns: usize) -> Result<Weights, EngineError> {
    let packed = Packed::new(format, blocks, rows, columns).map_err(|e| match e {
        KernelError::Memory { .. } => EngineError::worker(format!("the tensor '{name}' cannot be loaded: {e}")),
        _ => EngineError::model(format!("the tensor '{name}' cannot be used: {e}")),
    })?;
    Ok(Weights::Packed(Arc::new(packed)))
}
