//! A set of chunk numbers of one manifest, as peers send it: one bit each, first chunk in the highest bit of the first
//! byte.

use zero2ai_proto::limits::MANIFEST_CHUNKS;

/// Which chunks of a manifest somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkSet {
    bits: Vec<u8>,
    chunks: u32,
    count: u32,
}

/// A bit field that does not fit its manifest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a bit field of {bytes} bytes does not fit a manifest of {chunks} chunks. The peer that sent it was not used")]
pub struct BadChunkSet {
    /// Bytes received.
    pub bytes: usize,
    /// Chunks of the manifest.
    pub chunks: usize,
}

impl ChunkSet {
    /// The empty set over `chunks` chunks; more than [`MANIFEST_CHUNKS`] are counted as that many.
    #[must_use]
    pub fn empty(chunks: usize) -> Self {
        let chunks = chunks.min(MANIFEST_CHUNKS);
        Self { bits: vec![0; chunks.div_ceil(8)], chunks: u32::try_from(chunks).unwrap_or(u32::MAX), count: 0 }
    }

    /// The set of all of `chunks` chunks.
    #[must_use]
    pub fn full(chunks: usize) -> Self {
        let mut set = Self::empty(chunks);
        for chunk in 0..set.chunks {
            set.insert(chunk);
        }
        set
    }

    /// Reads a peer's bit field.
    ///
    /// # Errors
    /// The wrong length, or spare bits that are set.
    pub fn from_bytes(bytes: &[u8], chunks: usize) -> Result<Self, BadChunkSet> {
        let bad = BadChunkSet { bytes: bytes.len(), chunks };
        if chunks > MANIFEST_CHUNKS || bytes.len() != chunks.div_ceil(8) {
            return Err(bad);
        }
        let spare = bytes.len() * 8 - chunks;
        if bytes.last().is_some_and(|last| u32::from(*last).trailing_zeros() < spare as u32) {
            return Err(bad);
        }
        let count = bytes.iter().map(|b| b.count_ones()).sum();
        Ok(Self { bits: bytes.to_vec(), chunks: u32::try_from(chunks).unwrap_or(u32::MAX), count })
    }

    /// The bit field.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// Number of chunks of the manifest.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Number of chunks in the set.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// True if every chunk is in the set.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.count == self.chunks
    }

    /// True if `chunk` is in the set; false beyond the manifest's end.
    #[must_use]
    pub fn contains(&self, chunk: u32) -> bool {
        let (byte, mask) = place(chunk);
        chunk < self.chunks && self.bits.get(byte).is_some_and(|b| b & mask != 0)
    }

    /// Adds `chunk`; true if it was not in the set. Nothing happens beyond the manifest's end.
    pub fn insert(&mut self, chunk: u32) -> bool {
        let (byte, mask) = place(chunk);
        match self.bits.get_mut(byte) {
            Some(b) if chunk < self.chunks && *b & mask == 0 => {
                *b |= mask;
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    /// Takes `chunk` out; true if it was in the set.
    pub fn remove(&mut self, chunk: u32) -> bool {
        let (byte, mask) = place(chunk);
        match self.bits.get_mut(byte) {
            Some(b) if chunk < self.chunks && *b & mask != 0 => {
                *b &= !mask;
                self.count -= 1;
                true
            }
            _ => false,
        }
    }
}

fn place(chunk: u32) -> (usize, u8) {
    ((chunk / 8) as usize, 0x80 >> (chunk % 8))
}
