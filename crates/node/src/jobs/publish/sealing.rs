//! A publication's files, cut and sealed one after the other; their chunks go to the disk side by side. Memory stays within
//! some tens of chunks.

use std::{collections::BTreeSet, time::Instant};

use zero2ai_chunk::{BaseVersion, OpenFileError, SealError, Sealer, open_piece, seal_file_against};
use zero2ai_proto::{
    Cid,
    limits::{CHUNK_BYTES, MANIFEST_CHUNKS},
    manifest::{ChunkRef, FileEntry, Manifest},
    rpc::{ErrorCode, RpcError},
};
use zero2ai_store::{Store, Writers, WritersStopped};

use super::source::Source;
use crate::{
    jobs::{Tell, tell},
    serve::errors::{invalid, store_error, unavailable},
};

/// The version that changed tensors are stored as differences to.
pub(super) struct Base {
    /// As it is named.
    pub(super) label: String,
    pub(super) manifest: Manifest,
}

/// Files cut and sealed into the store.
pub(super) struct Sealed {
    pub(super) entries: Vec<FileEntry>,
    /// Distinct chunks that were stored before.
    pub(super) reused: u32,
    /// Chunks that are deltas.
    pub(super) deltas: u32,
    /// Bytes that they are shorter than what they stand for.
    pub(super) saved: u64,
    pub(super) distinct: u32,
    /// Chunks as the manifest lists them, a repeated one each time.
    pub(super) listed: u32,
    pub(super) millis: u64,
}

/// Hands each chunk on once.
struct Sink {
    seen: BTreeSet<Cid>,
    writers: Writers,
}

impl Sink {
    fn put(&mut self, cid: Cid, data: &[u8]) -> Result<(), WritersStopped> {
        if self.seen.insert(cid) { self.writers.put(cid, data.to_vec()) } else { Ok(()) }
    }
}

/// What a failed publication brought goes again: a full disk must not stay full of it.
fn undo(store: &Store, fresh: &[Cid]) {
    for cid in fresh {
        if let Err(error) = store.delete_chunk(cid) {
            tracing::warn!(%cid, %error, "a chunk of a failed publish could not be removed; store gc will");
        }
    }
}

pub(super) fn seal_into(
    store: &Store,
    sealer: &Sealer,
    source: &Source,
    base: Option<&Base>,
    progress: &Tell,
) -> Result<Sealed, RpcError> {
    if source.bytes.div_ceil(CHUNK_BYTES as u64) > MANIFEST_CHUNKS as u64 {
        return Err(invalid(SealError::TooManyChunks));
    }
    let start = Instant::now();
    let mut sink = Sink { seen: BTreeSet::new(), writers: Writers::start(store).map_err(store_error)? };
    let sealed = seal_all(store, sealer, source, base, progress, &mut sink);
    // Why the writers stopped comes before what the sealing then said.
    let (written, stored) = sink.writers.finish();
    let entries = match stored.map_err(store_error).and(sealed) {
        Ok(entries) => entries,
        Err(error) => {
            undo(store, &written.fresh);
            return Err(error);
        }
    };
    let chunks = || entries.iter().flat_map(|f| &f.parts).flat_map(|p| &p.chunks);
    let deltas = || chunks().filter(|c| c.delta.is_some());
    let distinct = chunks().map(|c| c.cid).collect::<BTreeSet<_>>().len();
    let count = |n: usize| u32::try_from(n).map_err(|_| unavailable("too many chunks"));
    Ok(Sealed {
        reused: count(distinct.saturating_sub(written.fresh.len()))?,
        deltas: count(deltas().count())?,
        saved: deltas().map(|c| u64::from(c.piece_len().saturating_sub(c.len))).sum(),
        distinct: count(distinct)?,
        listed: count(chunks().count())?,
        millis: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        entries,
    })
}

fn seal_all(
    store: &Store,
    sealer: &Sealer,
    source: &Source,
    base: Option<&Base>,
    progress: &Tell,
    sink: &mut Sink,
) -> Result<Vec<FileEntry>, RpcError> {
    let mut base = base.map(|base| compare_with(store, sealer, base)).transpose()?;
    let (mut entries, mut before, mut chunks) = (Vec::new(), 0u64, 0usize);
    for (index, file) in source.files.iter().enumerate() {
        let entry = seal_file_against(
            sealer,
            &mut source.open(index)?,
            &file.path,
            file.format,
            base.as_mut(),
            &mut |cid, data| sink.put(cid, data),
            &mut |done, _| tell(progress, "bytes sealed", before.saturating_add(done), source.bytes),
        )
        .map_err(|e| RpcError::new(ErrorCode::Invalid, format!("{}: {e}", file.path)))?;
        if entry.size != file.size {
            return Err(invalid(format!("{}: {}", file.path, changed(file.size, entry.size))));
        }
        chunks = chunks.saturating_add(entry.parts.iter().map(|p| p.chunks.len()).sum());
        if chunks > MANIFEST_CHUNKS {
            return Err(invalid(SealError::TooManyChunks));
        }
        before = before.saturating_add(entry.size);
        entries.push(entry);
    }
    Ok(entries)
}

fn changed(expected: u64, read: u64) -> SealError {
    SealError::Changed { expected, read }
}

fn compare_with<'a>(store: &'a Store, sealer: &Sealer, base: &'a Base) -> Result<BaseVersion<'a>, RpcError> {
    let open = |chunk: &ChunkRef| {
        let mut read = |cid: &Cid| match zero2ai_swarm::serve_chunk(store, cid) {
            Ok(Some(sealed)) => Ok(sealed),
            Ok(None) => Err("it is missing from the store".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        open_piece(&base.manifest, chunk, &mut read).map_err(Box::<OpenFileError>::from).map_err(Into::into)
    };
    BaseVersion::new(&base.manifest, sealer, open).ok_or_else(|| {
        invalid(format!(
            "{} was sealed in another domain or with another secret than this version: those who may open this version could \
             not open its chunks. Publish without --base, or in the base's own domain",
            base.label
        ))
    })
}
