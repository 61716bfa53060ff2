//! The llama forward pass over per-sequence caches: rows of many sequences, at any position of each, go through the same
//! products together.

use zero2ai_kernels::{Attend, KernelError, KeyValues, Path, Rows, add, attend_window, gate_silu, rms_norm, rotate};

use super::{
    cache::Cache,
    gguf::{Config, Gguf},
    linear::{Linear, Machine, Weights, broken},
};
use crate::error::EngineError;

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

impl Layer {
    const fn linears(&self) -> [&Linear; 7] {
        [&self.query, &self.key, &self.value, &self.output, &self.gate, &self.up, &self.down]
    }
}

/// Weights of a llama model, and what computes with them.
pub(super) struct Model {
    pub(super) config: Config,
    machine: Machine,
    embedding: Weights,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Linear,
    /// One angle per position for each pair of a head.
    frequencies: Vec<f32>,
}

/// One sequence's part of a pass.
pub(super) struct Part<'a> {
    /// Tokens, one a row, the first at the cache's end.
    pub(super) tokens: &'a [u32],
    /// Grows by them; there is room.
    pub(super) cache: &'a mut Cache,
    /// After how many of them, counted from the last, the scores are wanted.
    pub(super) scored: usize,
}

impl Model {
    pub(super) fn load(gguf: &Gguf<'_>, vocabulary: usize, machine: Machine) -> Result<Self, EngineError> {
        let config = gguf.config()?;
        let width = config.width;
        let embedding = gguf.matrix("token_embd.weight", vocabulary, width)?;
        // Models that tie their head to the embedding store it once, and so do we.
        let head = if gguf.has("output.weight") {
            gguf.matrix("output.weight", vocabulary, width)?
        } else {
            embedding.clone()
        };
        let head = Linear::new(head)?;
        let factors = if gguf.has("rope_freqs.weight") {
            gguf.vector("rope_freqs.weight", config.head_dim / 2)?
        } else {
            vec![1.0; config.head_dim / 2]
        };
        // `libm` rather than the system's: that one may differ between CPUs in its last bit.
        let exponent = |pair: usize| 2.0 * pair as f64 / config.head_dim as f64;
        let frequency = |pair: usize| libm::pow(f64::from(config.rope_base), -exponent(pair)) as f32;
        let frequencies = factors.iter().enumerate().map(|(pair, factor)| frequency(pair) / factor).collect();
        let layers = load_layers(gguf, &config, &machine)?;
        let norm = gguf.vector("output_norm.weight", width)?;
        Ok(Self { config, machine, embedding, layers, norm, head, frequencies })
    }

    /// The instruction set our kernels use, and whether they do all products.
    pub(super) fn computed_by(&self) -> (&'static str, bool) {
        let mut linears = self.layers.iter().flat_map(Layer::linears).chain([&self.head]);
        (self.machine.path.name(), linears.all(|linear| matches!(linear, Linear::Packed(_))))
    }

    /// Whether a row's results depend on nothing but what stands before it in its own sequence, to the last bit: so it is with
    /// our kernels, not with all of candle's.
    pub(super) fn keeps_bits(&self) -> bool {
        self.computed_by().1
    }

    /// What computes, for work between two passes.
    pub(super) const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Numbers of one row of scores.
    pub(super) fn vocabulary(&self) -> usize {
        self.head.outputs()
    }

    /// Runs the rows of all parts. Answers the scores that the parts want, one row after the other.
    pub(super) fn forward(&self, parts: &mut [Part<'_>]) -> Result<Vec<f32>, EngineError> {
        if self.keeps_bits() || parts.len() < 2 {
            return self.pass(parts);
        }
        let mut scores = Vec::new();
        for part in parts {
            scores.extend(self.pass(std::slice::from_mut(part))?);
        }
        Ok(scores)
    }

    fn pass(&self, parts: &mut [Part<'_>]) -> Result<Vec<f32>, EngineError> {
        let Config { width, eps, .. } = self.config;
        let Machine { pool, path, .. } = &self.machine;
        let tokens: Vec<u32> = parts.iter().flat_map(|part| part.tokens).copied().collect();
        let rows = tokens.len();
        let mut x = self.embedding.look_up(&tokens, width)?;
        let angles = self.angles(parts);
        let mut work = Work::new(*path, rows, &self.config);
        for (index, layer) in self.layers.iter().enumerate() {
            rms_norm(pool, *path, &x, &layer.attention_norm, eps, &mut work.normed).map_err(broken)?;
            self.attention(layer, index, parts, &angles, &mut work)?;
            add(pool, *path, &mut x, &work.normed).map_err(broken)?;
            rms_norm(pool, *path, &x, &layer.ffn_norm, eps, &mut work.normed).map_err(broken)?;
            self.feed_forward(layer, rows, &mut work)?;
            add(pool, *path, &mut x, &work.normed).map_err(broken)?;
        }
        parts.iter_mut().for_each(|part| part.cache.advance(part.tokens.len()));
        self.scores(parts, &x, &mut work.rounded)
    }

    /// Scores after the last rows of each part, as many as it wants.
    fn scores(&self, parts: &[Part<'_>], x: &[f32], rounded: &mut Rows) -> Result<Vec<f32>, EngineError> {
        let Config { width, eps, .. } = self.config;
        let Machine { pool, path, .. } = &self.machine;
        let (mut last, mut rest) = (Vec::new(), x);
        for part in parts {
            let (own, after) = rest.split_at(part.tokens.len().saturating_mul(width).min(rest.len()));
            rest = after;
            let wanted = part.scored.saturating_mul(width);
            last.extend_from_slice(own.get(own.len().saturating_sub(wanted)..).unwrap_or_default());
        }
        if last.is_empty() {
            return Ok(Vec::new());
        }
        let mut normed = vec![0.0; last.len()];
        rms_norm(pool, *path, &last, &self.norm, eps, &mut normed).map_err(broken)?;
        let rows = last.len().checked_div(width).unwrap_or(0);
        let mut scores = vec![0.0; rows.saturating_mul(self.vocabulary())];
        self.machine.multiply(rounded, &normed, width, &mut [(&self.head, &mut scores)])?;
        Ok(scores)
    }

    /// From `work.normed` to `work.normed`.
    fn attention(
        &self,
        layer: &Layer,
        index: usize,
        parts: &mut [Part<'_>],
        angles: &[[f32; 2]],
        work: &mut Work,
    ) -> Result<(), EngineError> {
        let Config { heads, kv_heads, head_dim, width, window, .. } = self.config;
        let Machine { pool, path, .. } = &self.machine;
        let Work { rounded, normed, query, key, value, mixed, .. } = work;
        let mut products: [(&Linear, &mut [f32]); 3] =
            [(&layer.query, query), (&layer.key, key), (&layer.value, value)];
        self.machine.multiply(rounded, normed, width, &mut products)?;
        let (queries, keys) = (heads.saturating_mul(head_dim), kv_heads.saturating_mul(head_dim));
        let mut turn = || -> Result<(), KernelError> {
            rotate(pool, *path, query, queries, angles)?;
            rotate(pool, *path, key, keys, angles)
        };
        turn().map_err(broken)?;
        let mut at = 0_usize;
        for part in parts.iter_mut() {
            let place = at..at.saturating_add(part.tokens.len().saturating_mul(keys));
            let (key, value) =
                (key.get(place.clone()).unwrap_or_default(), value.get(place.clone()).unwrap_or_default());
            part.cache.store(index, key, value, keys)?;
            at = place.end;
        }
        let pages: Vec<Vec<&KeyValues>> = parts.iter().map(|part| part.cache.layer(index)).collect();
        let attends = parts.iter().zip(&pages);
        let sequences: Vec<Attend<'_>> =
            attends.map(|(part, pages)| Attend { pages, rows: part.tokens.len(), first: part.cache.len() }).collect();
        attend_window(pool, *path, query, heads, &sequences, window, mixed).map_err(broken)?;
        self.machine.multiply(rounded, mixed, queries, &mut [(&layer.output, normed)])
    }

    /// From `work.normed` to `work.normed`.
    fn feed_forward(&self, layer: &Layer, rows: usize, work: &mut Work) -> Result<(), EngineError> {
        let Machine { pool, path, .. } = &self.machine;
        let hidden = layer.gate.outputs();
        let Work { rounded, normed, gate, up, .. } = work;
        gate.resize(rows.saturating_mul(hidden), 0.0);
        up.resize(rows.saturating_mul(hidden), 0.0);
        let mut products: [(&Linear, &mut [f32]); 2] = [(&layer.gate, gate), (&layer.up, up)];
        self.machine.multiply(rounded, normed, self.config.width, &mut products)?;
        gate_silu(pool, *path, gate, up).map_err(broken)?;
        self.machine.multiply(rounded, gate, hidden, &mut [(&layer.down, normed)])
    }

    /// Sine and cosine of every pair at every row's position.
    fn angles(&self, parts: &[Part<'_>]) -> Vec<[f32; 2]> {
        let turn = |angle: f32| {
            let (sin, cos) = libm::sincos(angle.into());
            [sin as f32, cos as f32]
        };
        let positions = parts.iter().flat_map(|part| {
            let first = part.cache.len();
            first..first.saturating_add(part.tokens.len())
        });
        positions.flat_map(|p| self.frequencies.iter().map(move |f| turn(p as f32 * f))).collect()
    }
}

/// Memory of one pass, used by every layer in turn.
struct Work {
    rounded: Rows,
    normed: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    mixed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
}

impl Work {
    fn new(path: Path, rows: usize, config: &Config) -> Self {
        let zeros = |width: usize| vec![0.0; rows.saturating_mul(width)];
        let queries = config.heads.saturating_mul(config.head_dim);
        let keys = config.kv_heads.saturating_mul(config.head_dim);
        Self {
            rounded: Rows::new(path),
            normed: zeros(config.width),
            query: zeros(queries),
            key: zeros(keys),
            value: zeros(keys),
            mixed: zeros(queries),
            gate: Vec::new(),
            up: Vec::new(),
        }
    }
}

/// Layers on all threads: packing is most of the time a load takes.
fn load_layers(gguf: &Gguf<'_>, config: &Config, machine: &Machine) -> Result<Vec<Layer>, EngineError> {
    let mut layers: Vec<_> = (0..config.layers).map(|_| None).collect();
    machine
        .pool
        .for_each_chunk(&mut layers, 1, 1, &|index, place| place.fill_with(|| Some(load_layer(gguf, config, index))))
        .map_err(|e| EngineError::model(format!("a layer cannot be read: {e}")))?;
    let missing = || Err(EngineError::worker("a layer was not loaded"));
    layers.into_iter().map(|layer| layer.unwrap_or_else(missing)).collect()
}

fn load_layer(gguf: &Gguf<'_>, config: &Config, index: usize) -> Result<Layer, EngineError> {
    let width = config.width;
    let name = |part: &str| format!("blk.{index}.{part}.weight");
    let matrix = |part: &str, rows: usize, columns: usize| Linear::new(gguf.matrix(&name(part), rows, columns)?);
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
