//! Verifying: reads and hashes everything stored, deletes what is damaged, and lets held versions fetch it again.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use zero2ai_proto::{
    Cid, ManifestId,
    limits::BROKEN_VERSIONS,
    local::{BrokenVersion, VerifyReport},
    rpc::RpcError,
};
use zero2ai_store::{Store, StoreError};

use crate::{
    core::Core,
    jobs::{
        Tell,
        store::{gc::mark, present, stored_manifest},
        tell,
    },
    models::Held,
    serve::errors::store_error,
};

/// Chunks hashed in one go, at most 64 MiB: between two of them the caller may stop it.
const PAGE: usize = 64;

/// What was seen so far.
#[derive(Default)]
struct Seen {
    checked: u64,
    bytes: u64,
    chunks: HashSet<Cid>,
    manifests: HashSet<ManifestId>,
}

/// True if these bytes are gone: changed, or on a broken part of the disk. Anything else (rights, open files) says nothing
/// about them and must not delete them.
fn is_damage(error: &StoreError) -> bool {
    let broken_disk = |e: &std::io::Error| e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    match error {
        StoreError::Corrupt { .. } | StoreError::Damaged { .. } => true,
        StoreError::Io { source, .. } => broken_disk(source),
        _ => false,
    }
}

/// Hashes every manifest; the damaged ones are deleted.
fn check_manifests(store: &Store) -> Result<Seen, StoreError> {
    let mut seen = Seen::default();
    for id in store.manifests()? {
        seen.checked = seen.checked.saturating_add(1);
        match store.manifest(&id) {
            Ok(_) => {}
            Err(e) if is_damage(&e) => {
                tracing::warn!(manifest = %id, error = %e, "a stored manifest was damaged: it was deleted");
                store.delete_manifest(&id)?;
                seen.manifests.insert(id);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(seen)
}

/// Hashes one page of chunks; the damaged ones are deleted. Gives the page's last chunk, or `None` behind the last page.
fn check_page(store: &Store, after: Option<&Cid>) -> Result<(Seen, Option<Cid>), StoreError> {
    let page = store.chunk_ids(after, PAGE)?;
    let mut seen = Seen::default();
    for (cid, len) in &page {
        seen.checked = seen.checked.saturating_add(1);
        seen.bytes = seen.bytes.saturating_add(u64::from(*len));
        match store.chunk(cid) {
            // One that is not there was forgotten just now, and counts as missing where it is needed.
            Ok(_) => {}
            Err(e) if is_damage(&e) => {
                tracing::warn!(%cid, error = %e, "a stored chunk was damaged: it was deleted");
                store.delete_chunk(cid)?;
                seen.chunks.insert(*cid);
            }
            Err(e) => return Err(e),
        }
    }
    Ok((seen, page.last().map(|(cid, _)| *cid)))
}

/// How long reading so many bytes must take; no time at all without a rate.
fn rest(bytes: u64, rate: Option<u64>) -> Duration {
    let millis = rate.and_then(|rate| bytes.saturating_mul(1000).checked_div(rate));
    Duration::from_millis(millis.unwrap_or(0))
}

/// Chunks and manifests that held versions need and that are not here.
type Absent = (HashSet<Cid>, HashSet<ManifestId>);

fn absent(store: &Store, held: &[Held]) -> Result<Absent, RpcError> {
    let (needed, unreadable) = mark(store, held);
    let mut chunks = HashSet::new();
    for cid in needed.chunks {
        if !store.has_chunk(&cid).map_err(store_error)? {
            chunks.insert(cid);
        }
    }
    Ok((chunks, unreadable.into_iter().map(|(held, _)| held.manifest).collect()))
}

/// Adds it up: what was seen, what was absent before healing and is after it.
fn tally(
    store: &Store,
    held: &[Held],
    seen: Seen,
    before: &Absent,
    after: &Absent,
    broken: Vec<BrokenVersion>,
) -> Result<VerifyReport, RpcError> {
    let (mut healed, mut unneeded) = (0, 0);
    for cid in seen.chunks.union(&before.0) {
        if store.has_chunk(cid).map_err(store_error)? {
            healed += 1;
        } else if !after.0.contains(cid) {
            unneeded += 1;
        }
    }
    for id in seen.manifests.union(&before.1).filter(|id| !after.1.contains(*id)) {
        *if held.iter().any(|h| h.manifest == *id) { &mut healed } else { &mut unneeded } += 1;
    }
    Ok(VerifyReport {
        checked: seen.checked,
        bytes: seen.bytes,
        damaged: (seen.chunks.len() + seen.manifests.len()) as u64,
        missing: (before.0.difference(&seen.chunks).count() + before.1.difference(&seen.manifests).count()) as u64,
        healed,
        unneeded,
        lost: (after.0.len() + after.1.len()) as u64,
        broken,
    })
}

impl Core {
    /// See the module.
    pub(crate) async fn verify_store(&self, progress: &Tell) -> Result<VerifyReport, RpcError> {
        // A collection meanwhile would delete what is being healed.
        let _using = self.upkeep.using().await;
        self.check_store(progress, None).await
    }

    /// The same beside collections, reading at most `rate` bytes a second if there is one.
    pub(super) async fn check_store(&self, progress: &Tell, rate: Option<u64>) -> Result<VerifyReport, RpcError> {
        let store = self.store.clone();
        let mut seen = self.blocking(move || check_manifests(&store).map_err(store_error)).await?;
        let (mut after, total) = (None, self.store.stats().chunks);
        let mut chunks = 0u64;
        loop {
            tell(progress, "chunks hashed", chunks, total.max(chunks));
            let (store, begun) = (self.store.clone(), Instant::now());
            let (page, last) = self.blocking(move || check_page(&store, after.as_ref()).map_err(store_error)).await?;
            chunks = chunks.saturating_add(page.checked);
            seen.checked = seen.checked.saturating_add(page.checked);
            seen.bytes = seen.bytes.saturating_add(page.bytes);
            seen.chunks.extend(page.chunks);
            let Some(last) = last else { break };
            after = Some(last);
            tokio::time::sleep(rest(page.bytes, rate).saturating_sub(begun.elapsed())).await;
        }
        let before = self.absent().await?;
        let broken = self.heal(progress).await?;
        let after = self.absent().await?;
        let (store, held) = (self.store.clone(), self.models.held());
        self.blocking(move || tally(&store, &held, seen, &before, &after, broken)).await
    }

    async fn absent(&self) -> Result<Absent, RpcError> {
        let (store, held) = (self.store.clone(), self.models.held());
        self.blocking(move || absent(&store, &held)).await
    }

    /// Fetches held versions that are not whole again, and gives those that still are not.
    async fn heal(&self, progress: &Tell) -> Result<Vec<BrokenVersion>, RpcError> {
        let mut broken = Vec::new();
        for held in self.models.held() {
            if self.missing_of(&held).await? == Some(0) {
                continue;
            }
            tell(progress, format!("fetching {}@{} again", held.name, held.version), 0, 0);
            let why = match self.fetch(&held.name, held.version, None, progress).await {
                Ok(_) => "it was damaged again as soon as it came: check the disk".to_owned(),
                Err(error) => error.message,
            };
            match self.missing_of(&held).await? {
                Some(0) => {}
                missing if broken.len() < BROKEN_VERSIONS => broken.push(BrokenVersion {
                    name: held.name,
                    version: held.version,
                    missing: missing.unwrap_or(0),
                    why,
                }),
                _ => {}
            }
        }
        Ok(broken)
    }

    /// How many of a version's chunks are not here; `None` if its manifest is not.
    async fn missing_of(&self, held: &Held) -> Result<Option<u32>, RpcError> {
        let (store, id) = (self.store.clone(), held.manifest);
        let count = move || {
            let Ok(sealed) = stored_manifest(&store, &id) else { return Ok(None) };
            let all = u32::try_from(sealed.chunks.len()).unwrap_or(u32::MAX);
            Ok(Some(all.saturating_sub(present(&store, &sealed)?)))
        };
        self.blocking(count).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use zero2ai_store::StoreConfig;

    use super::*;

    #[test]
    fn damage_is_found_and_deleted_and_nothing_else_is() {
        let home = tempfile::tempdir().unwrap();
        let store =
            Store::open(home.path(), StoreConfig { cache_bytes: 1 << 20, quota_bytes: None, ..StoreConfig::default() })
                .unwrap();
        let all: Vec<Vec<u8>> = (0..150u8).map(|n| vec![n; 10]).collect();
        for bytes in &all {
            store.put_chunk(&Cid::of(bytes), bytes).unwrap();
        }
        let victim = Cid::of(&all[77]);
        let name = victim.to_string();
        std::fs::write(home.path().join("chunks").join(&name[..2]).join(&name), b"other").unwrap();
        let (mut after, mut seen) = (None, Seen::default());
        loop {
            let (page, last) = check_page(&store, after.as_ref()).unwrap();
            seen.checked += page.checked;
            seen.chunks.extend(page.chunks);
            let Some(last) = last else { break };
            after = Some(last);
        }
        assert_eq!((seen.checked, seen.chunks), (150, [victim].into()));
        assert_eq!(store.stats().chunks, 149);

        let (good, bad) = (store.put_manifest(b"good").unwrap(), store.put_manifest(b"bad").unwrap());
        std::fs::write(home.path().join("manifests").join(bad.to_string()), b"bat").unwrap();
        assert_eq!(check_manifests(&store).unwrap().manifests, [bad].into());
        assert_eq!(store.manifests().unwrap(), [good]);
    }

    #[test]
    fn a_rate_makes_pages_take_their_time() {
        assert_eq!(rest(64 << 20, Some(32 << 20)), Duration::from_secs(2));
        assert_eq!(rest(64 << 20, None), Duration::ZERO);
        assert_eq!(rest(1, Some(0)), Duration::ZERO);
    }

    #[test]
    fn only_damage_is_damage() {
        let io = |code: i32| StoreError::Io {
            what: "read",
            path: "x".into(),
            source: std::io::Error::from_raw_os_error(code),
        };
        assert!(is_damage(&io(rustix::io::Errno::IO.raw_os_error())));
        for code in [rustix::io::Errno::MFILE, rustix::io::Errno::ACCESS, rustix::io::Errno::NOSPC] {
            assert!(!is_damage(&io(code.raw_os_error())));
        }
    }
}
