//! One file, streamed: cut, sealed and handed on chunk by chunk; and opened again from its chunks. Memory stays within a few
//! chunks, whatever the file's size.

use std::{
    error::Error,
    io::{self, Read, Seek, Write},
};

use fastcdc::v2020::StreamCDC;
use zero2ai_proto::{
    Cid, Digest,
    limits::{CHUNK_BYTES, MANIFEST_CHUNKS},
    manifest::{ChunkRef, FileEntry, Format, Manifest, Part},
};

use crate::{
    base::{BasePart, BaseVersion},
    cut::{self, Cut, CutError},
    delta::{self, DeltaError},
    seal::{OpenError, SealChunkError, Sealer, open_chunk},
};

/// Content-defined pieces of files that are not cut at tensors: least and average bytes; the most is [`CHUNK_BYTES`]. Smaller
/// ones would share more between versions and make longer lists. Changing either ends sharing with what was published
/// before.
const CONTENT_MIN: usize = 64 * 1024;
const CONTENT_AVERAGE: usize = 256 * 1024;

/// An error of the caller's own, as a sink or source of chunks returned it.
pub(crate) type CallerError = Box<dyn Error + Send + Sync>;

/// Takes each ciphertext that [`seal_file`] makes, with its name.
pub type Sink<'a, E> = dyn FnMut(Cid, &[u8]) -> Result<(), E> + 'a;

/// Why a file could not be sealed. Chunks that were handed to the sink before stay there; no file entry names them.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It could not be read or cut.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// A chunk could not be sealed.
    #[error(transparent)]
    Chunk(#[from] SealChunkError),
    /// It changed while it was read.
    #[error(
        "the file had {expected} bytes and then {read}: it changed while it was read. Let nothing write to it, and publish again"
    )]
    Changed {
        /// Bytes at the start.
        expected: u64,
        /// Bytes read.
        read: u64,
    },
    /// It would have more chunks than a manifest may name.
    #[error("the file has more than {MANIFEST_CHUNKS} chunks. Split it into several models")]
    TooManyChunks,
    /// A chunk of the base version could not be read, or no difference to it could be made.
    #[error("the difference to the base version could not be made: {0}")]
    Base(#[source] CallerError),
    /// The sink refused a chunk.
    #[error("a sealed chunk could not be stored: {0}")]
    Sink(#[source] CallerError),
}

/// Cuts and seals a file. `sink` gets each ciphertext once per occurrence, in file order; `progress` gets the plaintext
/// bytes done and their total. `path` goes into the entry for people to read.
///
/// # Errors
/// [`SealError`].
pub fn seal_file<R: Read + Seek, E: Into<CallerError>>(
    sealer: &Sealer,
    reader: &mut R,
    path: &str,
    format: Format,
    sink: &mut Sink<'_, E>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<FileEntry, SealError> {
    seal_file_against(sealer, reader, path, format, None, sink, progress)
}

/// The same, where a changed piece of a tensor is sealed as its difference to the same piece of `base`, if that is worth it.
///
/// # Errors
/// [`SealError`].
pub fn seal_file_against<R: Read + Seek, E: Into<CallerError>>(
    sealer: &Sealer,
    reader: &mut R,
    path: &str,
    format: Format,
    mut base: Option<&mut BaseVersion<'_>>,
    sink: &mut Sink<'_, E>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<FileEntry, SealError> {
    let size = cut::size_of(reader).map_err(CutError::Read)?;
    let cuts = cut::cuts(reader, format)?;
    reader.rewind().map_err(CutError::Read)?;
    let mut hash = blake3::Hasher::new();
    let (mut done, mut count) = (0u64, 0usize);
    let mut seal = |plain: &[u8], against: Option<&mut BasePart<'_, '_>>| -> Result<ChunkRef, SealError> {
        count += 1;
        if count > MANIFEST_CHUNKS {
            return Err(SealError::TooManyChunks);
        }
        hash.update(plain);
        let (chunk, sealed) = match against.map(|part| part.seal(sealer, plain)).transpose()?.flatten() {
            Some(delta) => delta,
            None => sealer.seal_chunk(plain).map(|(chunk, sealed)| (chunk, Some(sealed)))?,
        };
        if let Some(sealed) = sealed {
            sink(chunk.cid, &sealed).map_err(|e| SealError::Sink(e.into()))?;
        }
        done = done.saturating_add(plain.len() as u64);
        progress(done, size);
        Ok(chunk)
    };
    let parts = match cuts {
        Some(cuts) => {
            let mut parts = Vec::new();
            for cut in cuts {
                let mut against = base.as_mut().and_then(|b| b.part(path, &cut.name, cut.end - cut.start));
                parts.push(seal_part(reader, cut, size, &mut |plain| seal(plain, against.as_mut()))?);
            }
            parts
        }
        None => seal_by_content(reader, &mut |plain| seal(plain, None))?,
    };
    if done != size {
        return Err(SealError::Changed { expected: size, read: done });
    }
    Ok(FileEntry { path: path.to_owned(), size, hash: Digest(*hash.finalize().as_bytes()), parts })
}

fn seal_part<R: Read>(
    reader: &mut R,
    cut: Cut,
    size: u64,
    seal: &mut dyn FnMut(&[u8]) -> Result<ChunkRef, SealError>,
) -> Result<Part, SealError> {
    let mut chunks = Vec::new();
    let mut at = cut.start;
    let mut piece = Vec::new();
    while at < cut.end {
        let wanted = (cut.end - at).min(CHUNK_BYTES as u64);
        piece.clear();
        reader.take(wanted).read_to_end(&mut piece).map_err(CutError::Read)?;
        if piece.len() as u64 != wanted {
            return Err(SealError::Changed { expected: size, read: at + piece.len() as u64 });
        }
        chunks.push(seal(&piece)?);
        at += wanted;
    }
    Ok(Part { name: cut.name, chunks })
}

fn seal_by_content<R: Read>(
    reader: &mut R,
    seal: &mut dyn FnMut(&[u8]) -> Result<ChunkRef, SealError>,
) -> Result<Vec<Part>, SealError> {
    let mut chunks = Vec::new();
    for piece in StreamCDC::new(reader, CONTENT_MIN, CONTENT_AVERAGE, CHUNK_BYTES) {
        let piece = piece.map_err(|e| CutError::Read(io::Error::other(e)))?;
        chunks.push(seal(&piece.data)?);
    }
    Ok(if chunks.is_empty() { Vec::new() } else { vec![Part { name: cut::DATA.into(), chunks }] })
}

/// Why a file could not be opened. What was written before the error must be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum OpenFileError {
    /// The source had no chunk to give.
    #[error("chunk {cid} could not be read: {source}")]
    Source {
        /// The chunk.
        cid: Cid,
        /// The source's own error.
        source: CallerError,
    },
    /// A chunk did not open.
    #[error(transparent)]
    Chunk(#[from] OpenError),
    /// A difference did not turn its base into the piece named.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// The plaintext could not be written.
    #[error("the opened model could not be written: {0}. Check for free memory and disk space")]
    Write(#[from] io::Error),
    /// The chunks are right but the file they make is not the one named.
    #[error(
        "the chunks of {path} do not make the file that the manifest names. Its publisher made it wrongly: do not use it"
    )]
    WrongFile {
        /// The file.
        path: String,
    },
}

/// Opens what `chunk` stands for: its plaintext, or what that makes of its base. `source` returns ciphertexts.
///
/// # Errors
/// [`OpenFileError`], but for the last two.
pub fn open_piece<E: Into<CallerError>>(
    manifest: &Manifest,
    chunk: &ChunkRef,
    source: &mut dyn FnMut(&Cid) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, OpenFileError> {
    let mut open = |chunk: &ChunkRef| {
        let cid = chunk.cid;
        let sealed = source(&cid).map_err(|e| OpenFileError::Source { cid, source: e.into() })?;
        Ok::<_, OpenFileError>(open_chunk(manifest.domain, &manifest.secret, chunk, sealed)?)
    };
    match &chunk.delta {
        None => open(chunk),
        Some(delta) => {
            let base = open(&delta.base.chunk())?;
            Ok(delta::unpack(delta, base, &open(chunk)?)?)
        }
    }
}

/// Opens every piece of `file`, in order, into `out`, and checks the hash of the whole. `source` returns ciphertexts.
///
/// # Errors
/// [`OpenFileError`].
pub fn open_file<E: Into<CallerError>>(
    manifest: &Manifest,
    file: &FileEntry,
    source: &mut dyn FnMut(&Cid) -> Result<Vec<u8>, E>,
    out: &mut dyn Write,
) -> Result<(), OpenFileError> {
    let mut hash = blake3::Hasher::new();
    for chunk in file.parts.iter().flat_map(|p| &p.chunks) {
        let plain = open_piece(manifest, chunk, source)?;
        hash.update(&plain);
        out.write_all(&plain)?;
    }
    out.flush()?;
    if Digest(*hash.finalize().as_bytes()) != file.hash {
        return Err(OpenFileError::WrongFile { path: file.path.clone() });
    }
    Ok(())
}
