//! What this store can give to peers. All calls block.

use zero2ai_chunk::{ChunkSet, manifest::read_sealed};
use zero2ai_proto::{Cid, ManifestId, manifest::SealedManifest};
use zero2ai_store::{Store, StoreError};

use crate::error::FetchError;

/// Which chunks of `manifest` are in `store`: one bit each, first chunk in the highest bit of the first byte.
///
/// # Errors
/// [`StoreError::Index`].
pub fn bitfield(store: &Store, manifest: &SealedManifest) -> Result<Vec<u8>, StoreError> {
    Ok(held(store, manifest)?.as_bytes().to_vec())
}

/// Answer to a peer's question what is here of manifest `id`; `None` if not even the manifest is.
///
/// # Errors
/// [`FetchError::Store`] or, if the stored manifest is damaged, [`FetchError::Manifest`].
pub fn have(store: &Store, id: &ManifestId) -> Result<Option<Vec<u8>>, FetchError> {
    let Some(bytes) = store.manifest(id)? else { return Ok(None) };
    Ok(Some(bitfield(store, &read_sealed(&bytes, id)?)?))
}

/// Answer to a peer's wish for a chunk; `None` if it is not here. One that turns out to be damaged never leaves: it is
/// deleted, so that the next fetch brings it again, and counts as not here.
///
/// # Errors
/// [`StoreError::Io`], [`StoreError::Index`].
pub fn serve_chunk(store: &Store, cid: &Cid) -> Result<Option<Vec<u8>>, StoreError> {
    match store.chunk(cid) {
        Err(StoreError::Corrupt { .. }) => {
            tracing::warn!(%cid, "a stored chunk was damaged: it was deleted and will be fetched again");
            store.delete_chunk(cid)?;
            Ok(None)
        }
        other => other,
    }
}

/// [`bitfield`] as a set.
pub(crate) fn held(store: &Store, manifest: &SealedManifest) -> Result<ChunkSet, StoreError> {
    let mut held = ChunkSet::empty(manifest.chunks.len());
    for (nth, chunk) in (0u32..).zip(&manifest.chunks) {
        if store.has_chunk(&chunk.cid)? {
            held.insert(nth);
        }
    }
    Ok(held)
}
