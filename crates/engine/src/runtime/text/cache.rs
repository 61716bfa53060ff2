//! One sequence's keys and values in every layer.

use zero2ai_kernels::KeyValues;

use super::gguf::Config;
use crate::error::EngineError;

/// Keys and values of every layer, with room for a known number of positions.
pub(super) struct Cache {
    len: usize,
    room: usize,
    layers: Vec<KeyValues>,
}

impl Cache {
    /// Bytes of a cache for `room` positions.
    pub(super) fn bytes(config: &Config, room: usize) -> u64 {
        KeyValues::bytes(config.kv_heads, config.head_dim, room).saturating_mul(config.layers as u64)
    }

    /// Room for so many positions; an error rather than an abort if memory is short.
    pub(super) fn new(config: &Config, room: usize) -> Result<Self, EngineError> {
        let layer = |_| KeyValues::new(config.kv_heads, config.head_dim, room);
        let layers = (0..config.layers).map(layer).collect::<Result<_, _>>().map_err(|_| {
            EngineError::worker("there is no memory for another text of this length now; try again soon")
        })?;
        Ok(Self { len: 0, room, layers })
    }

    /// Positions held.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Positions that still fit.
    pub(super) const fn left(&self) -> usize {
        self.room.saturating_sub(self.len)
    }

    /// One layer's part.
    pub(super) fn layer(&mut self, index: usize) -> Result<&mut KeyValues, EngineError> {
        self.layers.get_mut(index).ok_or_else(|| EngineError::worker("a text's memory is of another model"))
    }

    /// Counts rows stored in every layer as held.
    pub(super) const fn advance(&mut self, rows: usize) {
        self.len = self.len.saturating_add(rows);
    }
}
