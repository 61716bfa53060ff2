//! Making room when the quota is full: first what no held version needs, then copies held for others, the least recently
//! used first. Never goes what is pinned, served, published by this node, or unknown to the ledger; and nothing goes if all
//! that may go would not be enough.

use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};

use zero2ai_proto::{Cid, ManifestId, limits::SEAL_OVERHEAD, rpc::RpcError, state::Version};
use zero2ai_store::Store;

use crate::{
    core::Core,
    jobs::store::{
        gc::{mark, walk},
        stored_manifest,
    },
    models::Held,
    serve::errors::store_error,
};

/// Bytes that a chunk's entry takes in a sealed manifest, its names and shapes included: enough, not exact.
const ENTRY: u64 = 256;

/// What goes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Held versions, in the order in which they go.
    versions: Vec<Held>,
    /// Their chunks, and those that nobody needed before.
    chunks: Vec<Cid>,
}

/// What must go for `short` more bytes to fit: of `held`, those in `may_go` in that order. `spare` is what is being
/// brought: what is here of it stays. `None` if it would not be enough, or is not known to be.
fn plan(
    store: &Store,
    held: &[Held],
    may_go: &[Held],
    spare: Option<ManifestId>,
    short: u64,
) -> Result<Option<Plan>, RpcError> {
    let (_, unreadable) = mark(store, held);
    if !unreadable.is_empty() {
        return Ok(None);
    }
    // How many manifests need each chunk.
    let mut needed: HashMap<Cid, u32> = HashMap::new();
    let manifests: HashSet<ManifestId> = held.iter().map(|h| h.manifest).chain(spare).collect();
    for manifest in manifests {
        for cid in chunks_of(store, &manifest) {
            *needed.entry(cid).or_default() += 1;
        }
    }
    let (mut plan, mut freed, mut lengths) = (Plan::default(), 0u64, HashMap::new());
    walk(store, |cid, len| {
        if needed.contains_key(&cid) {
            lengths.insert(cid, u64::from(len));
        } else if freed < short {
            freed = freed.saturating_add(u64::from(len));
            plan.chunks.push(cid);
        }
        Ok(())
    })?;
    for version in may_go {
        if freed >= short {
            break;
        }
        // Two names may stand for one manifest; what is being brought stays.
        let shared = held.iter().any(|h| h.manifest == version.manifest && h != version);
        if shared || spare == Some(version.manifest) {
            continue;
        }
        for cid in chunks_of(store, &version.manifest) {
            let Some(count) = needed.get_mut(&cid) else { continue };
            *count = count.saturating_sub(1);
            if *count == 0 {
                freed = freed.saturating_add(lengths.remove(&cid).unwrap_or(0));
                plan.chunks.push(cid);
            }
        }
        plan.versions.push(version.clone());
    }
    Ok((freed >= short).then_some(plan))
}

/// The distinct chunks of a stored manifest; none if it is not here.
fn chunks_of(store: &Store, manifest: &ManifestId) -> HashSet<Cid> {
    stored_manifest(store, manifest).map_or_else(|_| HashSet::new(), |m| m.chunks.iter().map(|c| c.cid).collect())
}

/// Bytes that bringing a version adds at most: exactly what is missing if its manifest is here.
fn missing_bytes(store: &Store, entry: &Version) -> Result<u64, RpcError> {
    let Ok(sealed) = stored_manifest(store, &entry.manifest) else {
        let chunks = u64::from(entry.chunks);
        return Ok(entry.bytes.saturating_add(chunks.saturating_mul(ENTRY + SEAL_OVERHEAD as u64)));
    };
    let (mut seen, mut bytes) = (HashSet::new(), 0u64);
    for chunk in &sealed.chunks {
        if seen.insert(chunk.cid) && !store.has_chunk(&chunk.cid).map_err(store_error)? {
            bytes = bytes.saturating_add(u64::from(chunk.len));
        }
    }
    Ok(bytes)
}

impl Core {
    /// Copies held for others alone, in no order.
    pub(crate) fn copies(&self) -> Vec<Held> {
        let mut held = self.models.held();
        held.retain(|h| !h.serve && !self.models.is_pinned(&h.name, h.version));
        let of_others = |h: &Held| {
            self.chain.read(|l| {
                let owned = l.model(&h.name).is_some_and(|m| m.owner == self.id);
                !owned && l.version(&h.name, h.version).is_some_and(|v| v.publisher != self.id)
            })
        };
        held.retain(of_others);
        held
    }

    /// Makes room for a version that is about to be fetched, if the quota is full. Where it cannot, storing says why.
    pub(crate) async fn room_to_fetch(&self, entry: &Version) -> Result<(), RpcError> {
        let (store, entry) = (self.store.clone(), entry.clone());
        let spare = entry.manifest;
        let needed = self.blocking(move || missing_bytes(&store, &entry)).await?;
        self.make_room(needed, Some(spare)).await
    }

    /// Makes room for `needed` more bytes, if the quota is full. Not while anybody brings chunks: then storing says that the
    /// quota is full.
    pub(crate) async fn make_room(&self, needed: u64, spare: Option<ManifestId>) -> Result<(), RpcError> {
        let Some(quota) = self.store.quota() else { return Ok(()) };
        let short = self.store.used().saturating_add(needed).saturating_sub(quota);
        if short == 0 {
            return Ok(());
        }
        let Some(alone) = self.upkeep.try_sweep() else { return Ok(()) };
        let (store, held, mut copies) = (self.store.clone(), self.models.held(), self.copies());
        let planned = self.blocking(move || {
            let used = |h: &Held| store.last_used(&h.manifest).ok().flatten().unwrap_or(SystemTime::UNIX_EPOCH);
            copies.sort_by_cached_key(used);
            plan(&store, &held, &copies, spare, short)
        });
        let Some(Plan { versions, chunks }) = planned.await? else { return Ok(()) };
        for Held { name, version, .. } in &versions {
            tracing::info!(%name, version, "a copy held for others goes: the quota is full");
            // Pinned or served since: it stays, and so does what it needs.
            self.models.forget(name, *version, false)?;
        }
        let store = self.store.clone();
        self.blocking(move || {
            // Inside, since the caller may go away while this runs on.
            let _alone = alone;
            for cid in chunks {
                store.delete_chunk(&cid).map_err(store_error)?;
            }
            versions.iter().try_for_each(|h| store.delete_manifest(&h.manifest).map(drop).map_err(store_error))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::jobs::store::gc::tests::{open, version};

    const A: &[u8] = &[1; 20];
    const B: &[u8] = &[2; 30];
    const C: &[u8] = &[3; 40];
    const D: &[u8] = &[4; 50];

    fn ids(chunks: &[&[u8]]) -> HashSet<Cid> {
        chunks.iter().map(|c| Cid::of(c)).collect()
    }

    #[test]
    fn the_least_recently_used_copies_go_and_no_more_of_them_than_needed() {
        let home = tempfile::tempdir().unwrap();
        let store = open(home.path());
        let [old, mid, own] = [(1, [A, B]), (2, [B, C]), (3, [C, D])].map(|(n, chunks)| version(&store, n, &chunks));
        let held = [own.clone(), mid.clone(), old.clone()];
        let lru = [old.clone(), mid.clone()];
        let plan = |short| plan(&store, &held, &lru, None, short).unwrap();
        // What two share goes with the second alone; what the publisher's own version needs stays.
        let first = plan(20).unwrap();
        assert_eq!((first.versions, first.chunks.into_iter().collect()), (vec![old.clone()], ids(&[A])));
        let both = plan(21).unwrap();
        assert_eq!((both.versions, both.chunks.into_iter().collect()), (lru.to_vec(), ids(&[A, B])));
        assert_eq!(plan(51), None, "nothing goes if it would not be enough");
    }

    #[test]
    fn what_nobody_needs_goes_first_but_not_what_is_being_brought() {
        let home = tempfile::tempdir().unwrap();
        let store = open(home.path());
        let (copy, coming) = (version(&store, 1, &[A]), version(&store, 2, &[B]));
        store.put_chunk(&Cid::of(C), C).unwrap();
        let held = [copy.clone()];
        let got = plan(&store, &held, &held, Some(coming.manifest), 40).unwrap().unwrap();
        assert_eq!((got.versions, got.chunks), (Vec::new(), vec![Cid::of(C)]));
        let got = plan(&store, &held, &held, Some(coming.manifest), 41).unwrap().unwrap();
        assert_eq!((got.versions, got.chunks.into_iter().collect()), (vec![copy.clone()], ids(&[A, C])));
        // It fails closed: what an unreadable manifest needs is not known.
        store.delete_manifest(&copy.manifest).unwrap();
        assert_eq!(plan(&store, &held, &held, None, 1).unwrap(), None);
    }
}
