//! Collecting: marks what held versions need, from their manifests, and deletes every other chunk and manifest. It fails
//! closed: if one held version's manifest cannot be read, nothing is deleted.

use std::collections::HashSet;

use zero2ai_proto::{
    Cid, ManifestId,
    local::GcReport,
    rpc::{ErrorCode, RpcError},
};
use zero2ai_store::Store;

use crate::{
    core::Core,
    jobs::{Tell, store::stored_manifest, tell},
    models::Held,
    serve::errors::store_error,
};

/// Chunks looked at between two words of progress.
const PAGE: usize = 256;

/// What held versions need: 32 bytes of memory an entry, so about 50 MB for 1.5 TB of models.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    pub(crate) chunks: HashSet<Cid>,
    pub(crate) manifests: HashSet<ManifestId>,
}

/// What these versions need, and those of them whose manifests cannot be read, with why.
pub(crate) fn mark(store: &Store, held: &[Held]) -> (Needed, Vec<(Held, String)>) {
    let (mut needed, mut unreadable) = (Needed::default(), Vec::new());
    for version in held {
        if !needed.manifests.insert(version.manifest) {
            continue;
        }
        match stored_manifest(store, &version.manifest) {
            Ok(sealed) => needed.chunks.extend(sealed.chunks.iter().map(|c| c.cid)),
            Err(why) => unreadable.push((version.clone(), why)),
        }
    }
    (needed, unreadable)
}

/// Calls `f` with every stored chunk and its length.
pub(crate) fn walk(store: &Store, mut f: impl FnMut(Cid, u32) -> Result<(), RpcError>) -> Result<(), RpcError> {
    let mut after = None;
    loop {
        let page = store.chunk_ids(after.as_ref(), PAGE).map_err(store_error)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(*last);
        for (cid, len) in page {
            f(cid, len)?;
        }
    }
}

/// Deletes every chunk and manifest that `held` does not need; with `dry_run` only counts them. The caller keeps away
/// whoever brings chunks.
pub(crate) fn collect(store: &Store, held: &[Held], dry_run: bool, progress: &Tell) -> Result<GcReport, RpcError> {
    let (needed, unreadable) = mark(store, held);
    if let Some((version, why)) = unreadable.first() {
        let (name, n) = (&version.name, version.version);
        let text = format!(
            "nothing was deleted: what {name}@{n} needs is not known, since its manifest cannot be read ({why}). Bring it \
             back with 'zero2ai store verify', or let the version go with 'zero2ai store drop {name}@{n}'"
        );
        return Err(RpcError::new(ErrorCode::Storage, text));
    }
    let (mut report, mut looked, total) = (GcReport::default(), 0u64, store.stats().chunks);
    walk(store, |cid, len| {
        looked = looked.saturating_add(1);
        if looked.is_multiple_of(PAGE as u64) {
            tell(progress, "chunks looked at", looked, total);
        }
        let (chunks, bytes) = if needed.chunks.contains(&cid) {
            (&mut report.kept_chunks, &mut report.kept_bytes)
        } else {
            if !dry_run {
                store.delete_chunk(&cid).map_err(store_error)?;
            }
            (&mut report.chunks, &mut report.bytes)
        };
        *chunks = chunks.saturating_add(1);
        *bytes = bytes.saturating_add(u64::from(len));
        Ok(())
    })?;
    for id in store.manifests().map_err(store_error)? {
        if !needed.manifests.contains(&id) {
            if !dry_run {
                store.delete_manifest(&id).map_err(store_error)?;
            }
            report.manifests = report.manifests.saturating_add(1);
        }
    }
    Ok(report)
}

impl Core {
    /// See the module. Says so at once if a publication, fetch or validation is under way.
    pub(crate) async fn collect(&self, dry_run: bool, progress: &Tell) -> Result<GcReport, RpcError> {
        let busy = "a model is being published, fetched, loaded, validated or verified on this node, and what it brings must \
                    not be swept away: try again when that is done";
        let alone = self.upkeep.try_sweep().ok_or_else(|| RpcError::new(ErrorCode::Busy, busy))?;
        let (store, held, progress) = (self.store.clone(), self.models.held(), progress.clone());
        self.blocking(move || {
            // Inside, since the caller may go away while this runs on.
            let _alone = alone;
            collect(&store, &held, dry_run, &progress)
        })
        .await
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use zero2ai_proto::{
        ByteBuf, encode,
        manifest::{SealedChunk, SealedManifest},
    };
    use zero2ai_store::{Stats, StoreConfig};

    use super::*;

    /// A held version of these chunks, stored.
    pub(crate) fn version(store: &Store, version: u32, chunks: &[&[u8]]) -> Held {
        let mut list = Vec::new();
        for bytes in chunks {
            let cid = Cid::of(bytes);
            store.put_chunk(&cid, bytes).unwrap();
            list.push(SealedChunk { cid, len: u32::try_from(bytes.len()).unwrap() });
        }
        let sealed = SealedManifest { version: 1, chunks: list, body: ByteBuf::from(version.to_be_bytes()) };
        let manifest = store.put_manifest(&encode(&sealed).unwrap()).unwrap();
        Held { name: "lab/m".parse().unwrap(), version, manifest, serve: false, copies: None }
    }

    pub(crate) fn open(home: &std::path::Path) -> Store {
        Store::open(home, StoreConfig { cache_bytes: 1 << 20, quota_bytes: None, ..StoreConfig::default() }).unwrap()
    }

    const A: &[u8] = &[1; 20];
    const B: &[u8] = &[2; 30];
    const C: &[u8] = &[3; 40];

    #[test]
    fn what_two_versions_share_stays_until_neither_is_held() {
        let home = tempfile::tempdir().unwrap();
        let store = open(home.path());
        let (one, two) = (version(&store, 1, &[A, B]), version(&store, 2, &[B, C]));
        let (tell, _heard) = tokio::sync::mpsc::channel(1);
        let both = [one, two.clone()];
        let report = collect(&store, &both, false, &tell).unwrap();
        assert_eq!(report, GcReport { kept_chunks: 3, kept_bytes: 90, ..GcReport::default() });

        let would = GcReport { chunks: 1, bytes: 20, manifests: 1, kept_chunks: 2, kept_bytes: 70 };
        assert_eq!(collect(&store, &both[1..], true, &tell).unwrap(), would);
        assert_eq!(store.stats(), Stats { chunks: 3, bytes: 90 }, "a dry run deletes nothing");
        assert_eq!(collect(&store, &both[1..], false, &tell).unwrap(), would);
        assert!(!store.has_chunk(&Cid::of(A)).unwrap() && store.has_chunk(&Cid::of(B)).unwrap());
        assert_eq!(store.manifests().unwrap(), [two.manifest]);

        collect(&store, &[], false, &tell).unwrap();
        assert_eq!(store.stats(), Stats::default());
        assert_eq!(store.manifests().unwrap(), []);
    }

    #[test]
    fn nothing_goes_while_one_manifest_cannot_be_read() {
        let home = tempfile::tempdir().unwrap();
        let store = open(home.path());
        let held = [version(&store, 1, &[A]), version(&store, 2, &[B])];
        store.put_chunk(&Cid::of(C), C).unwrap();
        store.delete_manifest(&held[0].manifest).unwrap();
        let (tell, _heard) = tokio::sync::mpsc::channel(1);
        let error = collect(&store, &held, false, &tell).unwrap_err();
        assert!(error.code == ErrorCode::Storage && error.message.contains("lab/m@1"), "{error}");
        assert_eq!(store.stats().chunks, 3);
    }

    #[tokio::test]
    async fn a_collection_and_those_who_bring_chunks_keep_apart() {
        let upkeep = crate::jobs::store::Upkeep::default();
        let outer = upkeep.using().await;
        assert!(upkeep.try_sweep().is_none());
        // A validation fetches: it enters twice, also after a collection was turned away.
        let inner = upkeep.using().await;
        drop(outer);
        assert!(upkeep.try_sweep().is_none());
        drop(inner);
        let alone = upkeep.try_sweep().unwrap();
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), upkeep.using()).await.is_err());
        drop(alone);
        upkeep.using().await;
    }
}
