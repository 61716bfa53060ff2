//! The version that a new one is compared with: the pieces of its tensors, found by name and size.

use std::collections::BTreeMap;

use zero2ai_proto::{
    Digest,
    limits::CHUNK_BYTES,
    manifest::{BaseChunk, ChunkRef, Manifest, Part},
};

use crate::{
    delta::{DeltaPacker, delta_chunk},
    file::{CallerError, SealError},
    seal::Sealer,
};

/// Opens a chunk of the base version.
type Opener<'a> = dyn FnMut(&ChunkRef) -> Result<Vec<u8>, CallerError> + 'a;

/// A piece's reference, and its ciphertext if it is a new one.
pub(crate) type SealedPiece = (ChunkRef, Option<Vec<u8>>);

/// Parts under a name; `None` where several have it.
type Named<'a, K> = BTreeMap<K, Option<&'a Part>>;

/// A version whose chunks differences may start from.
pub struct BaseVersion<'a> {
    /// By file and part.
    in_file: Named<'a, (&'a str, &'a str)>,
    /// By part alone: a tensor may have moved to another shard, and a file may have another name.
    anywhere: Named<'a, &'a str>,
    open: Box<Opener<'a>>,
}

impl<'a> BaseVersion<'a> {
    /// The version of `manifest`, for what `sealer` seals. `open` opens its chunks. `None` if it was sealed in another domain
    /// or with another secret: those who may open the new version could not open its chunks.
    pub fn new(
        manifest: &'a Manifest,
        sealer: &Sealer,
        open: impl FnMut(&ChunkRef) -> Result<Vec<u8>, CallerError> + 'a,
    ) -> Option<Self> {
        if (manifest.domain, &manifest.secret) != (sealer.domain(), sealer.secret()) {
            return None;
        }
        let (mut in_file, mut anywhere) = (BTreeMap::new(), BTreeMap::new());
        for file in &manifest.files {
            for part in &file.parts {
                add(&mut in_file, (file.path.as_str(), part.name.as_str()), part);
                // Headers and gaps are many under one name.
                if !part.name.starts_with('#') {
                    add(&mut anywhere, part.name.as_str(), part);
                }
            }
        }
        Some(Self { in_file, anywhere, open: Box::new(open) })
    }

    /// The part to compare `name` of `path` with: of the same name, and cut into the same pieces.
    pub(crate) fn part(&mut self, path: &str, name: &str, len: u64) -> Option<BasePart<'a, '_>> {
        let found = self.in_file.get(&(path, name)).or_else(|| self.anywhere.get(name));
        let part = found.copied().flatten().filter(|part| is_cut_alike(part, len))?;
        Some(BasePart { chunks: part.chunks.iter(), packer: DeltaPacker::default(), open: &mut *self.open })
    }
}

fn add<'a, K: Ord>(parts: &mut Named<'a, K>, name: K, part: &'a Part) {
    parts.entry(name).and_modify(|p| *p = None).or_insert(Some(part));
}

/// True if the pieces are those that a part of `len` bytes is cut into.
fn is_cut_alike(part: &Part, len: u64) -> bool {
    let mut left = len;
    let fits = part.chunks.iter().all(|chunk| {
        let piece = u64::from(chunk.piece_len());
        let alike = piece == left.min(CHUNK_BYTES as u64);
        left = left.saturating_sub(piece);
        alike
    });
    fits && left == 0
}

/// One tensor of the base version, walked beside the new one.
pub(crate) struct BasePart<'a, 'o> {
    chunks: std::slice::Iter<'a, ChunkRef>,
    packer: DeltaPacker,
    open: &'o mut Opener<'a>,
}

impl BasePart<'_, '_> {
    /// The next piece: as a delta with its ciphertext, as the delta that the base has for the same bytes (which is stored), or
    /// `None` where it is better sealed as it is.
    pub(crate) fn seal(&mut self, sealer: &Sealer, piece: &[u8]) -> Result<Option<SealedPiece>, SealError> {
        let Some(old) = self.chunks.next() else { return Ok(None) };
        let hash = Digest::of(piece);
        if *old.piece_hash() == hash {
            return Ok(old.delta.is_some().then(|| (old.clone(), None)));
        }
        // A delta of a delta starts from the same plain chunk, so that chains stay one link long.
        let base = old.delta.as_ref().map_or_else(|| plain(old), |d| d.base.clone());
        if base.plain == hash {
            return Ok(None);
        }
        let bytes = (self.open)(&base.chunk()).map_err(SealError::Base)?;
        let packed = self.packer.pack(&bytes, piece).map_err(|e| SealError::Base(e.into()))?;
        let Some((packed, width)) = packed else { return Ok(None) };
        let (difference, sealed) = sealer.seal_chunk(&packed)?;
        Ok(Some((delta_chunk(difference, base, hash, width), Some(sealed))))
    }
}

fn plain(chunk: &ChunkRef) -> BaseChunk {
    BaseChunk { cid: chunk.cid, plain: chunk.plain, len: chunk.len }
}
