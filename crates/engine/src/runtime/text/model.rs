//! The llama forward pass over per-sequence caches: rows of any position go through the same products together.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use candle_core::{
    D, Device, Module, Tensor,
    quantized::{QMatMul, QTensor},
    utils::barrier_pool,
};

use super::{
    attention::{Cache, attend},
    gguf::{Config, Gguf, bad},
};
use crate::error::EngineError;

/// A matrix with the padding its rows got.
struct Linear {
    product: QMatMul,
    pad: usize,
}

impl Linear {
    fn new(weights: Arc<QTensor>, columns: usize) -> candle_core::Result<Self> {
        let pad = weights.shape().dims().last().map_or(0, |k| k.saturating_sub(columns));
        Ok(Self { product: QMatMul::from_arc(weights)?, pad })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        if self.pad == 0 {
            self.product.forward(x)
        } else {
            self.product.forward(&x.pad_with_zeros(D::Minus1, 0, self.pad)?)
        }
    }
}

struct Layer {
    attention_norm: Vec<f32>,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    ffn_norm: Vec<f32>,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Weights of a llama model.
pub(super) struct Model {
    pub(super) config: Config,
    embedding: Arc<QTensor>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Linear,
    /// One angle per position for each pair of a head.
    frequencies: Vec<f32>,
}

impl Model {
    pub(super) fn load(gguf: &Gguf<'_>, vocabulary: usize) -> Result<Self, EngineError> {
        let config = gguf.config()?;
        let width = config.width;
        let bad_matrix = |e: candle_core::Error| bad("a matrix cannot be used", &e);
        let embedding = Arc::new(gguf.matrix("token_embd.weight", vocabulary, width)?);
        // Models that tie their head to the embedding store it once, and so do we.
        let head = if gguf.has("output.weight") {
            Arc::new(gguf.matrix("output.weight", vocabulary, width)?)
        } else {
            Arc::clone(&embedding)
        };
        let head = Linear::new(head, width).map_err(bad_matrix)?;
        let factors = if gguf.has("rope_freqs.weight") {
            gguf.vector("rope_freqs.weight", config.head_dim / 2)?
        } else {
            vec![1.0; config.head_dim / 2]
        };
        let exponent = |pair: usize| 2.0 * pair as f32 / config.head_dim as f32;
        let frequencies = factors
            .iter()
            .enumerate()
            .map(|(pair, factor)| 1.0 / (config.rope_base.powf(exponent(pair)) * factor))
            .collect();
        let layers = load_layers(gguf, &config)?;
        let norm = gguf.vector("output_norm.weight", width)?;
        Ok(Self { config, embedding, layers, norm, head, frequencies })
    }

    /// Runs `tokens`, one a row, the first at the cache's end; the cache grows by them. Answers the last row's logits.
    pub(super) fn forward(&self, tokens: &[u32], cache: &mut Cache) -> candle_core::Result<Vec<f32>> {
        let Config { heads, kv_heads, head_dim, width, eps, .. } = self.config;
        let rows = tokens.len();
        let first = cache.len();
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let mut x: Vec<f32> = self.embedding.embedding(&ids)?.narrow(1, 0, width)?.flatten_all()?.to_vec1()?;
        let rotations = self.rotations(first, rows);
        let tensor = |values: Vec<f32>, columns: usize| Tensor::from_vec(values, (rows, columns), &Device::Cpu);
        let values = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = tensor(rms_norm(&x, &layer.attention_norm, eps), width)?;
            let mut query = values(&layer.query.forward(&normed)?)?;
            let mut key = values(&layer.key.forward(&normed)?)?;
            let value = values(&layer.value.forward(&normed)?)?;
            rotate(&mut query, heads, head_dim, &rotations);
            rotate(&mut key, kv_heads, head_dim, &rotations);
            cache.store(index, &key, &value);
            let mixed = attend(&query, cache, index, rows, heads);
            let mixed = layer.output.forward(&tensor(mixed, heads.saturating_mul(head_dim))?)?;
            add(&mut x, &values(&mixed)?);
            let normed = tensor(rms_norm(&x, &layer.ffn_norm, eps), width)?;
            let gated = (layer.gate.forward(&normed)?.silu()? * layer.up.forward(&normed)?)?;
            add(&mut x, &values(&layer.down.forward(&gated)?)?);
        }
        cache.advance(rows);
        let last = x.get(x.len().saturating_sub(width)..).unwrap_or_default();
        let normed = Tensor::from_vec(rms_norm(last, &self.norm, eps), (1, width), &Device::Cpu)?;
        values(&self.head.forward(&normed)?)
    }

    /// Sine and cosine of every pair at every row's position.
    fn rotations(&self, first: usize, rows: usize) -> Vec<(f32, f32)> {
        let positions = first..first.saturating_add(rows);
        positions.flat_map(|p| self.frequencies.iter().map(move |f| (p as f32 * f).sin_cos())).collect()
    }
}

/// Layers on as many threads as candle uses: converting is most of the time a load takes.
fn load_layers(gguf: &Gguf<'_>, config: &Config) -> Result<Vec<Layer>, EngineError> {
    let next = Mutex::new(0..config.layers);
    let done = Mutex::new(Vec::new());
    let work = || -> Result<(), EngineError> {
        loop {
            let Some(index) = next.lock().unwrap_or_else(PoisonError::into_inner).next() else { return Ok(()) };
            let layer = load_layer(gguf, config, index)?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, layer));
        }
    };
    thread::scope(|scope| {
        let helpers: Vec<_> = (0..barrier_pool().n_workers()).map(|_| scope.spawn(work)).collect();
        let mut result = work();
        for helper in helpers {
            let joined = helper.join().unwrap_or_else(|_| Err(EngineError::model("a layer broke the converter")));
            result = result.and(joined);
        }
        result
    })?;
    let mut layers = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    layers.sort_by_key(|(index, _)| *index);
    Ok(layers.into_iter().map(|(_, layer)| layer).collect())
}

fn load_layer(gguf: &Gguf<'_>, config: &Config, index: usize) -> Result<Layer, EngineError> {
    let width = config.width;
    let name = |part: &str| format!("blk.{index}.{part}.weight");
    let matrix = |part: &str, rows: usize, columns: usize| {
        let weights = Arc::new(gguf.matrix(&name(part), rows, columns)?);
        Linear::new(weights, columns).map_err(|e| bad("a matrix cannot be used", &e))
    };
    let queries = config.heads.saturating_mul(config.head_dim);
    let keys = config.kv_heads.saturating_mul(config.head_dim);
    // The feed-forward width is what the file's own tensor says; the other two must agree.
    let hidden = gguf.content.tensor_infos.get(&name("ffn_gate")).and_then(|t| t.shape.dims().first().copied());
    let hidden =
        hidden.ok_or_else(|| EngineError::model(format!("the GGUF file lacks the tensor '{}'", name("ffn_gate"))))?;
    Ok(Layer {
        attention_norm: gguf.vector(&name("attn_norm"), width)?,
        query: matrix("attn_q", queries, width)?,
        key: matrix("attn_k", keys, width)?,
        value: matrix("attn_v", keys, width)?,
        output: matrix("attn_output", width, queries)?,
        ffn_norm: gguf.vector(&name("ffn_norm"), width)?,
        gate: matrix("ffn_gate", hidden, width)?,
        up: matrix("ffn_up", hidden, width)?,
        down: matrix("ffn_down", width, hidden)?,
    })
}

/// Each row by the root of its mean square, then by the weights.
fn rms_norm(x: &[f32], weights: &[f32], eps: f32) -> Vec<f32> {
    let norm_row = |row: &[f32]| {
        let squares: f32 = row.iter().map(|v| v * v).sum();
        let scale = 1.0 / (squares / row.len() as f32 + eps).sqrt();
        row.iter().zip(weights).map(|(v, w)| v * scale * w).collect::<Vec<_>>()
    };
    x.chunks(weights.len()).flat_map(norm_row).collect()
}

/// Turns each pair of neighbours by its angle (llama's GGUF order).
fn rotate(x: &mut [f32], heads: usize, head_dim: usize, rotations: &[(f32, f32)]) {
    let rows = x.chunks_mut(heads.saturating_mul(head_dim)).zip(rotations.chunks(head_dim / 2));
    for (row, angles) in rows {
        for head in row.chunks_mut(head_dim) {
            for ([a, b], (sin, cos)) in head.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
