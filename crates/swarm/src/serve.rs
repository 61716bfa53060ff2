//! What this store can give to peers. All calls but those of [`HaveStream`] block.

use tokio::task::spawn_blocking;
use zero2ai_chunk::{ChunkSet, manifest::read_sealed};
use zero2ai_proto::{
    ByteBuf, Cid, ManifestId,
    calls::{Bitfield, HaveNews},
    manifest::SealedManifest,
};
use zero2ai_store::{Store, StoreError};

use crate::{
    board::{Board, Listener, News},
    error::FetchError,
};

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

/// Answer to a peer that wants to hear what is here of a manifest, and what comes while a transfer of it is open.
pub struct HaveStream {
    first: Option<Vec<u8>>,
    listener: Option<Listener>,
}

impl HaveStream {
    /// Begins the answer; `None` if not even the manifest is here.
    ///
    /// # Errors
    /// As [`have`].
    pub async fn open(store: &Store, board: &Board, id: ManifestId) -> Result<Option<Self>, FetchError> {
        // Listened to before the bits are taken: what comes in between is told twice rather than never.
        let listener = board.listen(&id);
        let first = match listener.as_ref().and_then(Listener::held) {
            Some(held) => Some(held.as_bytes().to_vec()),
            None => {
                let store = store.clone();
                spawn_blocking(move || have(&store, &id)).await??
            }
        };
        Ok(first.map(|first| Self { first: Some(first), listener }))
    }

    /// The next item: a bit field first, then chunks as they come, some times a second; `None` at the end. Not to be dropped
    /// halfway.
    pub async fn next(&mut self) -> Option<HaveNews> {
        if let Some(bits) = self.first.take() {
            return Some(HaveNews::Held(Bitfield { bits: ByteBuf::from(bits) }));
        }
        match self.listener.as_mut()?.next_gathered().await? {
            News::Held(held) => Some(HaveNews::Held(Bitfield { bits: ByteBuf::from(held.as_bytes()) })),
            News::Gained(chunks) => Some(HaveNews::Gained(chunks)),
        }
    }
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
