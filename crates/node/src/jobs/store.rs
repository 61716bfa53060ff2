//! The node's own store as a user sees it: what is held, pinned, dropped; the lock between those who write chunks and
//! the one who deletes them. Counting, collecting and verifying are rooms of their own.
//!
//! | module | owns |
//! |---|---|
//! | [`gc`] | what held versions need, and deleting the rest |
//! | [`verify`] | hashing everything again, and healing what is damaged |
//! | [`scrub`] | the same on a schedule |
//! | [`room`] | what goes when the quota is full |
//! | [`rebuild`] | the index from the files |

pub(crate) mod gc;
pub(crate) mod rebuild;
pub(crate) mod room;
pub(crate) mod scrub;
pub(crate) mod verify;

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use zero2ai_chunk::manifest::read_sealed;
use zero2ai_proto::{
    ManifestId,
    local::{DropCall, PinCall, StoreStatsReply, StoredVersion},
    manifest::SealedManifest,
    rpc::RpcError,
};
use zero2ai_store::Store;

use crate::{core::Core, jobs::store::gc::mark, models::Held, serve::errors::store_error};

/// Keeps a collection apart from whatever brings chunks that no held version needs yet. A collection never waits its
/// turn (it is told that the store is in use), so those who bring chunks may enter again while they are in.
#[derive(Default)]
pub(crate) struct Upkeep(Arc<RwLock<()>>);

impl Upkeep {
    /// For as long as chunks are brought and the version they belong to is not held yet. Waits for a running collection.
    pub(crate) async fn using(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.0).read_owned().await
    }

    /// For a collection; `None` while anyone brings chunks.
    pub(crate) fn try_sweep(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        Arc::clone(&self.0).try_write_owned().ok()
    }
}

/// The open half of a stored manifest, or why it cannot be read.
pub(super) fn stored_manifest(store: &Store, id: &ManifestId) -> Result<SealedManifest, String> {
    let bytes = store.manifest(id).map_err(|e| e.to_string())?;
    let bytes = bytes.ok_or_else(|| format!("manifest {id} is not here"))?;
    read_sealed(&bytes, id).map_err(|e| e.to_string())
}

/// How many of a manifest's chunks are here.
pub(super) fn present(store: &Store, manifest: &SealedManifest) -> Result<u32, RpcError> {
    let mut present = 0u32;
    for chunk in &manifest.chunks {
        present = present.saturating_add(u32::from(store.has_chunk(&chunk.cid).map_err(store_error)?));
    }
    Ok(present)
}

impl Core {
    /// The versions held.
    pub(crate) fn held(&self) -> Vec<Held> {
        self.models.held()
    }

    /// What is here of a held version.
    pub(crate) async fn stored_version(&self, held: Held) -> Result<StoredVersion, RpcError> {
        let (store, id) = (self.store.clone(), held.manifest);
        let read = move || match stored_manifest(&store, &id) {
            Ok(sealed) => {
                let chunks = u32::try_from(sealed.chunks.len()).unwrap_or(u32::MAX);
                Ok((present(&store, &sealed)?, chunks, sealed.sealed_bytes(), None))
            }
            Err(why) => Ok((0, 0, 0, Some(why))),
        };
        let (present, chunks, sealed_bytes, problem) = self.blocking(read).await?;
        let (serving, pinned) = (held.serve, self.models.is_pinned(&held.name, held.version));
        let Held { name, version, manifest, .. } = held;
        Ok(StoredVersion { name, version, manifest, present, chunks, sealed_bytes, serving, pinned, problem })
    }

    /// How much is stored, and how much of it nobody here needs.
    pub(crate) async fn store_stats(&self) -> Result<StoreStatsReply, RpcError> {
        let (store, held) = (self.store.clone(), self.models.held());
        let versions = held.len() as u64;
        let pinned = held.iter().filter(|h| self.models.is_pinned(&h.name, h.version)).count() as u64;
        let (evictable, scrub) = (self.copies().len() as u64, self.last_scrub());
        self.blocking(move || {
            let (needed, unreadable) = mark(&store, &held);
            let (mut unneeded_chunks, mut unneeded_bytes) = (0u64, 0u64);
            gc::walk(&store, |cid, len| {
                if !needed.chunks.contains(&cid) {
                    unneeded_chunks = unneeded_chunks.saturating_add(1);
                    unneeded_bytes = unneeded_bytes.saturating_add(u64::from(len));
                }
                Ok(())
            })?;
            let (stats, quota) = (store.stats(), store.quota());
            let manifests = store.manifests().map_err(store_error)?.len() as u64;
            let (chunks, bytes, unreadable) = (stats.chunks, stats.bytes, unreadable.len() as u64);
            let (used, reserve) = (store.used(), store.reserve());
            #[rustfmt::skip]
            let reply = StoreStatsReply {
                chunks, bytes, quota, manifests, versions, pinned, unneeded_chunks, unneeded_bytes, unreadable,
                used, reserve, evictable, scrub,
            };
            Ok(reply)
        })
        .await
    }

    /// Pins a held version, or takes the pin away.
    pub(crate) fn pin(&self, call: &PinCall) -> Result<(), RpcError> {
        self.models.pin(&call.name, call.version, call.pinned)
    }

    /// Forgets a held version; its worker goes when the calls in hand are done. Its key stays: 200 bytes, and a later
    /// fetch needs no grant.
    pub(crate) async fn drop_version(&self, call: &DropCall) -> Result<(), RpcError> {
        // Not while it is being loaded: it would be held again as soon as it is.
        let _loading = self.models.loading().await;
        self.models.forget(&call.name, call.version, call.stop_serving)?;
        self.unload(&call.name, call.version).await;
        Ok(())
    }
}
