//! One sequence's keys and values, and attention over them.

use std::sync::{Mutex, PoisonError};

use candle_core::utils::barrier_pool;

use super::gguf::Config;
use crate::error::EngineError;

/// Numbers summed side by side in a dot product: what one vector register holds, and a fixed order of summation, so that
/// the same inputs give the same bits.
const LANES: usize = 16;

/// Keys and values of every layer, `[layer][kv head][position][head_dim]`, with room for a known number of positions.
pub(super) struct Cache {
    len: usize,
    room: usize,
    kv_heads: usize,
    head_dim: usize,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

impl Cache {
    /// Bytes of a cache for `room` positions.
    pub(super) fn bytes(config: &Config, room: usize) -> u64 {
        let per_position = [2, config.layers, config.kv_heads, config.head_dim, size_of::<f32>()];
        per_position.iter().fold(room as u64, |n, f| n.saturating_mul(*f as u64))
    }

    /// Room for so many positions; an error rather than an abort if memory is short.
    pub(super) fn new(config: &Config, room: usize) -> Result<Self, EngineError> {
        let size = config.kv_heads.saturating_mul(config.head_dim).saturating_mul(room);
        let layer = || {
            let mut values = Vec::new();
            values.try_reserve_exact(size).map_err(|_| {
                EngineError::worker("there is no memory for another text of this length now; try again soon")
            })?;
            values.resize(size, 0.0);
            Ok(values)
        };
        let layers = || (0..config.layers).map(|_| layer()).collect::<Result<Vec<_>, EngineError>>();
        let (kv_heads, head_dim) = (config.kv_heads, config.head_dim);
        Ok(Self { len: 0, room, kv_heads, head_dim, keys: layers()?, values: layers()? })
    }

    /// Positions held.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Positions that still fit.
    pub(super) const fn left(&self) -> usize {
        self.room.saturating_sub(self.len)
    }

    /// Writes rows of one layer behind the positions held. Rows beyond the room are left out: the caller checked it.
    pub(super) fn store(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let (len, room, dim) = (self.len, self.room, self.head_dim);
        for (cache, rows) in [(self.keys.get_mut(layer), keys), (self.values.get_mut(layer), values)] {
            let Some(cache) = cache else { continue };
            for (row, heads) in rows.chunks(self.kv_heads.saturating_mul(dim)).enumerate() {
                for (head, source) in heads.chunks(dim).enumerate() {
                    let start = head.saturating_mul(room).saturating_add(len).saturating_add(row).saturating_mul(dim);
                    if let Some(place) = cache.get_mut(start..start.saturating_add(dim)) {
                        place.copy_from_slice(source);
                    }
                }
            }
        }
    }

    /// Counts rows stored in every layer as held.
    pub(super) const fn advance(&mut self, rows: usize) {
        self.len = self.len.saturating_add(rows);
    }

    /// The first `positions` of one head.
    fn head<'a>(&self, of: &'a [Vec<f32>], layer: usize, head: usize, positions: usize) -> &'a [f32] {
        let start = head.saturating_mul(self.room).saturating_mul(self.head_dim);
        let end = start.saturating_add(positions.saturating_mul(self.head_dim));
        of.get(layer).and_then(|l| l.get(start..end)).unwrap_or_default()
    }
}

/// Attention of `rows` new queries, whose keys and values are stored already, each over itself and all before it. One
/// unit of work a row and head, spread over candle's threads; a unit's result does not depend on who computes it.
pub(super) fn attend(query: &[f32], cache: &Cache, layer: usize, rows: usize, heads: usize) -> Vec<f32> {
    let dim = cache.head_dim;
    let group = heads.checked_div(cache.kv_heads).unwrap_or(1).max(1);
    let mut mixed = vec![0.0; query.len()];
    {
        // Uncontended: each unit locks its own place once.
        let places: Vec<Mutex<&mut [f32]>> = mixed.chunks_mut(dim).map(Mutex::new).collect();
        barrier_pool().execute_chunked(rows.saturating_mul(heads), |units| {
            let mut scores = Vec::new();
            for unit in units {
                let (row, head) = (unit / heads, unit % heads);
                let positions = cache.len.saturating_add(row).saturating_add(1);
                let keys = cache.head(&cache.keys, layer, head / group, positions);
                let values = cache.head(&cache.values, layer, head / group, positions);
                let start = unit.saturating_mul(dim);
                let (Some(query), Some(place)) = (query.get(start..start.saturating_add(dim)), places.get(unit)) else {
                    continue;
                };
                let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
                attend_one(query, keys, values, &mut scores, &mut place);
            }
        });
    }
    mixed
}

fn attend_one(query: &[f32], keys: &[f32], values: &[f32], scores: &mut Vec<f32>, out: &mut [f32]) {
    let dim = query.len();
    let scale = 1.0 / (dim as f32).sqrt();
    scores.clear();
    scores.extend(keys.chunks_exact(dim).map(|key| dot(query, key) * scale));
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        sum += *score;
    }
    for (value, score) in values.chunks_exact(dim).zip(scores.iter()) {
        let weight = score / sum;
        out.iter_mut().zip(value).for_each(|(o, v)| *o += weight * v);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
