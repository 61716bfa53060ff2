//! The BERT encoder's forward pass: rows of many texts of any lengths go through the same products together, without padding.
//! Weights of matrices are rounded to Q8_0 as they are loaded.

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use zero2ai_kernels::{
    Bidirectional, Format, KernelError, Packed, Path, Pool, Product, Rows, add, add_bias, gelu, layer_norm, multiply,
};

use super::{
    config::{Config, Pooling},
    safetensors::Safetensors,
};
use crate::error::EngineError;

/// The largest number that a block of Q8_0 holds: 127 times the largest scale in half precision.
const LARGEST: f32 = 127.0 * 65_504.0;

/// A matrix and its bias.
struct Dense {
    weights: Packed,
    bias: Vec<f32>,
}

/// A norm's factors and its bias.
struct Norm {
    weights: Vec<f32>,
    bias: Vec<f32>,
}

struct Layer {
    query: Dense,
    key: Dense,
    value: Dense,
    output: Dense,
    attention_norm: Norm,
    inner: Dense,
    outer: Dense,
    norm: Norm,
}

/// Weights of an encoder, and what computes with them.
pub(super) struct Model {
    config: Config,
    pool: Pool,
    path: Path,
    words: Packed,
    /// One row a position, the row of the first type added: a text of its own is all of that type.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

impl Model {
    /// Reads the weights; `threads` and `path` will compute with them, and change no bit of a row.
    pub(super) fn load(
        file: &Safetensors<'_>,
        config: Config,
        threads: usize,
        path: Path,
    ) -> Result<Self, EngineError> {
        let pool = Pool::new(threads).map_err(broken)?;
        let width = config.width;
        let words = matrix(file, "embeddings.word_embeddings.weight", config.vocabulary, width)?;
        let mut positions = file.numbers("embeddings.position_embeddings.weight", &[config.positions, width])?;
        let types = file.numbers("embeddings.token_type_embeddings.weight", &[config.types, width])?;
        for row in positions.chunks_exact_mut(width) {
            row.iter_mut().zip(&types).for_each(|(position, first)| *position += first);
        }
        let norm = load_norm(file, "embeddings.LayerNorm", width)?;
        let layers = (0..config.layers).map(|index| load_layer(file, &config, index)).collect::<Result<_, _>>()?;
        Ok(Self { config, pool, path, words, positions, norm, layers })
    }

    /// Bytes that one pass of so many tokens works with, about.
    pub(super) fn pass_bytes(config: &Config, tokens: usize) -> u64 {
        let row = config.width.saturating_mul(8).saturating_add(config.inside.saturating_mul(2));
        (tokens as u64).saturating_mul(row as u64).saturating_mul(4)
    }

    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    pub(super) const fn path(&self) -> Path {
        self.path
    }

    /// Numbers that were trained.
    pub(super) fn parameters(&self) -> u64 {
        let dense =
            |d: &Dense| (d.weights.n() as u64).saturating_mul(d.weights.k() as u64).saturating_add(d.bias.len() as u64);
        let norms =
            (self.layers.len() as u64).saturating_mul(4).saturating_add(2).saturating_mul(self.config.width as u64);
        let layers = self.layers.iter().flat_map(|l| [&l.query, &l.key, &l.value, &l.output, &l.inner, &l.outer]);
        let words = (self.config.vocabulary as u64).saturating_mul(self.config.width as u64);
        let types = (self.config.types as u64).saturating_mul(self.config.width as u64);
        layers
            .map(dense)
            .fold(norms, u64::saturating_add)
            .saturating_add(words)
            .saturating_add(types)
            .saturating_add(self.positions.len() as u64)
    }

    /// One row for each text. Every text has 1 to as many tokens as there are positions, all of the vocabulary.
    pub(super) fn embed(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, EngineError> {
        let x = self.encode(texts).map_err(broken)?;
        let (width, mut rest) = (self.config.width, x.as_slice());
        let mut rows = Vec::with_capacity(texts.len());
        for text in texts {
            let (own, after) = rest.split_at(text.len().saturating_mul(width).min(rest.len()));
            rest = after;
            rows.push(self.pool_rows(own));
        }
        Ok(rows)
    }

    /// Rows of all tokens after the last layer.
    fn encode(&self, texts: &[&[u32]]) -> Result<Vec<f32>, KernelError> {
        let Self { pool, path, layers, .. } = self;
        let Config { width, inside, heads, eps, .. } = self.config;
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let rows = lengths.iter().fold(0_usize, |n, length| n.saturating_add(*length));
        let mut x = self.look_up(texts, rows)?;
        layer_norm(pool, *path, &mut x, &self.norm.weights, &self.norm.bias, eps)?;
        let zeros = |width: usize| vec![0.0_f32; rows.saturating_mul(width)];
        let (mut query, mut key, mut value, mut mixed) = (zeros(width), zeros(width), zeros(width), zeros(width));
        let (mut inner, mut rounded) = (zeros(inside), Rows::new(*path));
        let mut attention = Bidirectional::new(heads, width / heads, &lengths)?;
        for layer in layers {
            rounded.fill(pool, &x, width)?;
            let mut products = [
                Product { weights: &layer.query.weights, out: &mut query },
                Product { weights: &layer.key.weights, out: &mut key },
                Product { weights: &layer.value.weights, out: &mut value },
            ];
            multiply(pool, &rounded, &mut products)?;
            for (numbers, dense) in [(&mut query, &layer.query), (&mut key, &layer.key), (&mut value, &layer.value)] {
                add_bias(pool, *path, numbers, &dense.bias)?;
            }
            attention.attend(pool, *path, &query, &key, &value, &mut mixed)?;
            // The queries are through: their memory takes what is added to the rows.
            self.residual(&layer.output, &layer.attention_norm, &mixed, &mut query, &mut x, &mut rounded)?;
            rounded.fill(pool, &x, width)?;
            multiply(pool, &rounded, &mut [Product { weights: &layer.inner.weights, out: &mut inner }])?;
            gelu(pool, *path, &mut inner, &layer.inner.bias)?;
            self.residual(&layer.outer, &layer.norm, &inner, &mut query, &mut x, &mut rounded)?;
        }
        Ok(x)
    }

    /// `x = norm(x + dense(from))`; `by` is memory for the product.
    fn residual(
        &self,
        dense: &Dense,
        norm: &Norm,
        from: &[f32],
        by: &mut [f32],
        x: &mut [f32],
        rounded: &mut Rows,
    ) -> Result<(), KernelError> {
        let Self { pool, path, .. } = self;
        rounded.fill(pool, from, dense.weights.k())?;
        multiply(pool, rounded, &mut [Product { weights: &dense.weights, out: by }])?;
        add_bias(pool, *path, by, &dense.bias)?;
        add(pool, *path, x, by)?;
        layer_norm(pool, *path, x, &norm.weights, &norm.bias, self.config.eps)
    }

    /// Rows of words and positions, added.
    fn look_up(&self, texts: &[&[u32]], rows: usize) -> Result<Vec<f32>, KernelError> {
        let width = self.config.width;
        let mut x = vec![0.0; rows.saturating_mul(width)];
        let places = texts.iter().flat_map(|text| text.iter().zip(self.positions.chunks_exact(width)));
        for (row, (id, position)) in x.chunks_exact_mut(width).zip(places) {
            self.words.row(*id as usize, row)?;
            row.iter_mut().zip(position).for_each(|(v, position)| *v += position);
        }
        Ok(x)
    }

    /// The rows of one text made one. Sums go over rows in order, on one thread: the same bits everywhere.
    fn pool_rows(&self, rows: &[f32]) -> Vec<f32> {
        let width = self.config.width;
        let mut pooled = vec![0.0_f32; width];
        match self.config.pooling {
            Pooling::First => pooled.iter_mut().zip(rows).for_each(|(v, first)| *v = *first),
            Pooling::Mean => {
                for row in rows.chunks_exact(width) {
                    pooled.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
                }
                let count = (rows.len() / width).max(1) as f32;
                pooled.iter_mut().for_each(|v| *v /= count);
            }
        }
        if self.config.normalise {
            // In double precision: the sum's order is fixed, and nothing overflows.
            let squares: f64 = pooled.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
            let length = squares.sqrt().max(1e-12);
            pooled.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
        }
        pooled
    }
}

fn load_layer(file: &Safetensors<'_>, config: &Config, index: usize) -> Result<Layer, EngineError> {
    let (width, inside) = (config.width, config.inside);
    let dense = |part: &str, rows: usize, columns: usize| {
        let name = format!("encoder.layer.{index}.{part}");
        let weights = matrix(file, &format!("{name}.weight"), rows, columns)?;
        Ok::<_, EngineError>(Dense { weights, bias: file.numbers(&format!("{name}.bias"), &[rows])? })
    };
    let norm = |part: &str| load_norm(file, &format!("encoder.layer.{index}.{part}.LayerNorm"), width);
    Ok(Layer {
        query: dense("attention.self.query", width, width)?,
        key: dense("attention.self.key", width, width)?,
        value: dense("attention.self.value", width, width)?,
        output: dense("attention.output.dense", width, width)?,
        attention_norm: norm("attention.output")?,
        inner: dense("intermediate.dense", inside, width)?,
        outer: dense("output.dense", width, inside)?,
        norm: norm("output")?,
    })
}

fn load_norm(file: &Safetensors<'_>, name: &str, width: usize) -> Result<Norm, EngineError> {
    let numbers = |part: &str| file.numbers(&format!("{name}.{part}"), &[width]);
    Ok(Norm { weights: numbers("weight")?, bias: numbers("bias")? })
}

/// A matrix, rounded to Q8_0 and packed.
fn matrix(file: &Safetensors<'_>, name: &str, rows: usize, columns: usize) -> Result<Packed, EngineError> {
    let numbers = file.numbers(name, &[rows, columns])?;
    if numbers.iter().any(|v| v.abs() > LARGEST) {
        return Err(EngineError::model(format!("the tensor '{name}' has numbers beyond {LARGEST}: it is damaged")));
    }
    let round = || {
        let plain = Tensor::from_vec(numbers, (rows, columns), &Device::Cpu)?;
        QTensor::quantize(&plain, GgmlDType::Q8_0)
    };
    let rounded = round().map_err(|e| EngineError::model(format!("the tensor '{name}' cannot be rounded: {e}")))?;
    let blocks = rounded.data().map_err(|e| EngineError::model(format!("the tensor '{name}' cannot be read: {e}")))?;
    Packed::new(Format::Q8_0, &blocks, rows, columns).map_err(|e| match e {
        KernelError::Memory { .. } => EngineError::worker(format!("the tensor '{name}' cannot be loaded: {e}")),
        _ => EngineError::model(format!("the tensor '{name}' cannot be used: {e}")),
    })
}

/// A kernel's error: sizes were checked at load, so it is not the caller's fault.
fn broken(error: KernelError) -> EngineError {
    EngineError::worker(format!("the model could not be computed: {error}"))
}
