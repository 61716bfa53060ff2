//! A changed piece as the difference to the piece it replaces: XOR, bytes grouped by their place in an element, zstd. Training
//! some more moves most weights a little: signs, exponents and high bits stay, so their bytes of the XOR are zeros, and
//! they compress once they stand beside each other.
//!
//! Opening meets bytes of strangers. The most that decompression may give is the base chunk's length, which the manifest says
//! and whose bounds were checked; the base is opened and hashed first; and what comes out has the hash that the manifest
//! says, or is thrown away.

use std::io;

use zero2ai_proto::{
    Digest,
    manifest::{BaseChunk, ChunkRef, Delta},
};

/// zstd's level: 3 is its default. Higher ones gain little on XORed weights and cost several times as much.
const LEVEL: i32 = 3;
/// Widths tried on the first piece of a tensor: bytes, half floats, floats.
const WIDTHS: [u8; 3] = [1, 2, 4];
/// A delta must save this part of the piece at least: it costs a larger manifest, a second read at opening, and a fetch of
/// the base by those who have not got it.
const WORTHWHILE: usize = 8;

/// Why a piece could not be restored. Nothing of it is returned.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// It does not decompress to as many bytes as the base has.
    #[error(
        "the difference stored for a piece of {len} bytes cannot be unpacked: {source}. The manifest was made wrongly; ask its \
         publisher to publish again"
    )]
    Unpack {
        /// Bytes expected.
        len: u32,
        /// The decompressor's own error.
        source: io::Error,
    },
    /// What it makes of the base is not the piece named.
    #[error(
        "a difference and its base do not make the piece that the manifest names: one of them is not the right one. The \
         manifest was made wrongly; ask its publisher to publish again"
    )]
    WrongPiece,
}

/// Packs differences of one tensor's pieces. The width of its elements is found on the first one and kept.
#[derive(Debug, Default)]
pub struct DeltaPacker {
    width: Option<u8>,
}

impl DeltaPacker {
    /// The difference of `piece` to `base`, and the width it is grouped by; `None` if it is not worth keeping.
    ///
    /// # Errors
    /// zstd refused: no memory.
    pub fn pack(&mut self, base: &[u8], piece: &[u8]) -> io::Result<Option<(Vec<u8>, u8)>> {
        if base.len() != piece.len() || piece.is_empty() {
            return Ok(None);
        }
        let known = self.width.map(|w| [w]);
        let widths: &[u8] = known.as_ref().map_or(&WIDTHS, |w| w);
        let mut best: Option<(Vec<u8>, u8)> = None;
        for width in widths {
            let packed = zstd::bulk::compress(&grouped(base, piece, *width), LEVEL)?;
            if best.as_ref().is_none_or(|(b, _)| packed.len() < b.len()) {
                best = Some((packed, *width));
            }
        }
        self.width = best.as_ref().map(|(_, width)| *width);
        Ok(best.filter(|(packed, _)| packed.len() <= piece.len() - piece.len().div_ceil(WORTHWHILE)))
    }
}

/// The reference of a delta, from that of its sealed difference.
#[must_use]
pub fn delta_chunk(difference: ChunkRef, base: BaseChunk, piece: Digest, width: u8) -> ChunkRef {
    ChunkRef { delta: Some(Delta { base, piece, width }), ..difference }
}

/// Restores a piece. `base` and `packed` are opened chunks, so their bytes are those that the manifest names.
///
/// # Errors
/// [`DeltaError`].
pub fn unpack(delta: &Delta, mut base: Vec<u8>, packed: &[u8]) -> Result<Vec<u8>, DeltaError> {
    // The capacity bounds the output; a bomb is an error, and so is less than the base's length.
    let grouped = zstd::bulk::decompress(packed, base.len())
        .map_err(|source| DeltaError::Unpack { len: delta.base.len, source })?;
    if grouped.len() != base.len() {
        let short = io::Error::new(io::ErrorKind::UnexpectedEof, format!("it has {} bytes", grouped.len()));
        return Err(DeltaError::Unpack { len: delta.base.len, source: short });
    }
    let mut bytes = grouped.into_iter();
    for plane in 0..usize::from(delta.width.max(1)) {
        let places = base.iter_mut().skip(plane).step_by(usize::from(delta.width.max(1)));
        places.zip(&mut bytes).for_each(|(b, difference)| *b ^= difference);
    }
    if Digest::of(&base) != delta.piece {
        return Err(DeltaError::WrongPiece);
    }
    Ok(base)
}

/// The XOR: first every element's byte 0, then every element's byte 1, and so on; an element may be cut short at the end.
fn grouped(base: &[u8], piece: &[u8], width: u8) -> Vec<u8> {
    let width = usize::from(width.max(1));
    let mut out = Vec::with_capacity(piece.len());
    for plane in 0..width {
        let pairs = base.iter().zip(piece).skip(plane).step_by(width);
        out.extend(pairs.map(|(b, p)| b ^ p));
    }
    out
}
