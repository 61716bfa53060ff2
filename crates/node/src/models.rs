//! The models this node holds: which, whether each is to be served, and the worker that runs it. What is to be served
//! is written down; [`Models::missing`] says what is not loaded yet, and the keeper (jobs/keep) brings it about.
//!
//! | module | owns |
//! |---|---|
//! | [`serving`] | a loaded model, and the calls in hand |
//! | [`table`] | which models are in memory, counted against the budget |

mod serving;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use zero2ai_proto::{ManifestId, ModelName, decode, encode, local::HeldModel, rpc::RpcError};
use zero2ai_store::atomic_write;

pub(crate) use self::{
    serving::{Loaded, Place, QUEUE, Serving},
    table::{Absent, Counts, Entered, Room, Table},
};
use crate::{
    error::NodeError,
    serve::errors::{internal, invalid, not_found, store_error},
};

/// Bytes of the list of held models: tens of thousands of them.
const LIST_BYTES: usize = 16 * 1024 * 1024;

/// A version of a model.
pub(crate) type VersionKey = (ModelName, u32);
type Rows = BTreeMap<VersionKey, Held>;

/// One held version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) name: ModelName,
    pub(crate) version: u32,
    pub(crate) manifest: ManifestId,
    pub(crate) serve: bool,
    /// Copies there should be in the pool, this one among them, as its publisher said on this node; none is the node's own
    /// setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) copies: Option<u32>,
}

impl Held {
    pub(crate) fn key(&self) -> VersionKey {
        (self.name.clone(), self.version)
    }
}

/// While it lives, the keeper leaves the version to its publication.
pub(crate) struct Publishing<'a> {
    models: &'a Models,
    key: VersionKey,
    /// No other publication of the same version is under way.
    pub(crate) alone: bool,
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        if self.alone {
            self.models.under_way().remove(&self.key);
        }
    }
}

/// See the module.
pub(crate) struct Models {
    file: PathBuf,
    /// Locked before `pins` where both are.
    rows: Mutex<Rows>,
    /// In a file of their own: the list of held versions kept its shape when pins came.
    pins: Mutex<BTreeSet<VersionKey>>,
    /// Versions whose publication is under way: it brings their worker itself.
    publishing: Mutex<BTreeSet<VersionKey>>,
    /// Those in memory. Which of them are pinned there is in a file of its own; its lock is held while that is written.
    pub(crate) table: Arc<Table>,
    writing_pins: Mutex<()>,
    /// The version whose load is under way; one at a time is.
    now_loading: Mutex<Option<VersionKey>>,
    loading: tokio::sync::Mutex<()>,
}

/// The right to load models, which one task has at a time: two callers who want one model must not start two workers.
pub(crate) struct Loading<'a> {
    models: &'a Models,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl Loading<'_> {
    /// Tells which version is being loaded.
    pub(crate) fn tell(&self, key: &VersionKey) {
        *self.models.now_loading() = Some(key.clone());
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        *self.models.now_loading() = None;
    }
}

impl Models {
    /// Reads the list of held models and those of pins beside it; a missing file is an empty list. All loaded models together
    /// may take `budget` bytes.
    pub(crate) fn open(file: PathBuf, budget: u64) -> Result<Self, NodeError> {
        let rows: Vec<Held> = read_list(&file)?;
        let pins: Vec<VersionKey> = read_list(&pins_file(&file))?;
        let in_memory: Vec<VersionKey> = read_list(&memory_pins_file(&file))?;
        let rows = rows.into_iter().map(|r| ((r.name.clone(), r.version), r)).collect();
        let pins = Mutex::new(pins.into_iter().collect());
        let table = Table::new(budget, in_memory.into_iter().collect());
        let (publishing, writing_pins, now_loading, loading) = Default::default();
        Ok(Self { file, rows: Mutex::new(rows), pins, publishing, table, writing_pins, now_loading, loading })
    }

    /// Waits for the right to load.
    pub(crate) async fn loading(&self) -> Loading<'_> {
        Loading { _turn: self.loading.lock().await, models: self }
    }

    fn now_loading(&self) -> MutexGuard<'_, Option<VersionKey>> {
        self.now_loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while this version is being loaded.
    pub(crate) fn is_loading(&self, key: &VersionKey) -> bool {
        self.now_loading().as_ref() == Some(key)
    }

    /// The versions held.
    pub(crate) fn held(&self) -> Vec<Held> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `next` the list, on disk first.
    fn keep(&self, rows: &mut Rows, next: Rows) -> Result<(), RpcError> {
        write_list(&self.file, next.values())?;
        *rows = next;
        Ok(())
    }

    /// Writes down that a version is held, and whether it is to be served. Serving is never taken back here.
    pub(crate) fn hold(&self, mut held: Held) -> Result<(), RpcError> {
        let mut rows = self.lock();
        let key = (held.name.clone(), held.version);
        if let Some(old) = rows.get(&key) {
            held.serve |= old.serve;
            held.copies = held.copies.or(old.copies);
        }
        let mut next = rows.clone();
        next.insert(key, held);
        self.keep(&mut rows, next)
    }

    /// Writes down how many copies of a held version the pool is to hold. The owner's word replaces what was known.
    pub(crate) fn wish(&self, name: &ModelName, version: u32, copies: u32, by_owner: bool) -> Result<(), RpcError> {
        let mut rows = self.lock();
        let mut next = rows.clone();
        match next.get_mut(&(name.clone(), version)) {
            Some(held) if by_owner || held.copies.is_none() => held.copies = Some(copies),
            _ => return Ok(()),
        }
        self.keep(&mut rows, next)
    }

    /// Writes down that a held version is not to be served any more.
    pub(crate) fn stop_serving(&self, name: &ModelName, version: u32) -> Result<(), RpcError> {
        let mut rows = self.lock();
        let mut next = rows.clone();
        if let Some(held) = next.get_mut(&(name.clone(), version)) {
            held.serve = false;
        }
        self.keep(&mut rows, next)
    }

    /// Holds a version that is about to be put on the ledger, so that whatever becomes of the call or of this process, its
    /// chunks are not swept away while it may still become final, and it is served once it is. False if the version is held
    /// already: another call is publishing it. With `stale` what is held is left from a publication that was cut off
    /// before the ledger took it, and gives way.
    pub(crate) fn reserve(&self, held: &Held, stale: bool) -> Result<bool, RpcError> {
        let mut rows = self.lock();
        let key = (held.name.clone(), held.version);
        if rows.contains_key(&key) && !stale {
            return Ok(false);
        }
        let mut next = rows.clone();
        next.insert(key, held.clone());
        self.keep(&mut rows, next).map(|()| true)
    }

    /// Takes back [`Models::reserve`]: the ledger refused the version for good.
    pub(crate) fn unreserve(&self, held: &Held) -> Result<(), RpcError> {
        let mut rows = self.lock();
        let key = (held.name.clone(), held.version);
        if rows.get(&key) != Some(held) {
            return Ok(());
        }
        let mut next = rows.clone();
        next.remove(&key);
        self.keep(&mut rows, next)
    }

    /// Forgets a held version that is neither pinned nor (unless `stop_serving`) to be served.
    pub(crate) fn forget(&self, name: &ModelName, version: u32, stop_serving: bool) -> Result<(), RpcError> {
        let mut rows = self.lock();
        let key = (name.clone(), version);
        let Some(held) = rows.get(&key) else { return Err(not_held(name, version)) };
        if self.pins().contains(&key) {
            return Err(invalid(format!(
                "{name}@{version} is pinned, and a pinned version is never dropped: take the pin away first with 'zero2ai \
                 store unpin {name}@{version}'"
            )));
        }
        if held.serve && !stop_serving {
            return Err(invalid(format!(
                "{name}@{version} is being served by this node: to stop serving it and then drop it, add --stop-serving"
            )));
        }
        let mut next = rows.clone();
        next.remove(&key);
        self.keep(&mut rows, next)
    }

    /// Pins a held version, or takes its pin away.
    pub(crate) fn pin(&self, name: &ModelName, version: u32, pinned: bool) -> Result<(), RpcError> {
        let rows = self.lock();
        let key = (name.clone(), version);
        if !rows.contains_key(&key) {
            return Err(not_held(name, version));
        }
        let mut pins = self.pins();
        let mut next = pins.clone();
        if pinned {
            next.insert(key)
        } else {
            next.remove(&key)
        };
        write_list(&pins_file(&self.file), next.iter())?;
        *pins = next;
        Ok(())
    }

    fn pins(&self) -> MutexGuard<'_, BTreeSet<VersionKey>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_pinned(&self, name: &ModelName, version: u32) -> bool {
        self.pins().contains(&(name.clone(), version))
    }

    /// Says that a publication brings this version and its worker, until the returned word is dropped.
    pub(crate) fn publishing(&self, name: &ModelName, version: u32) -> Publishing<'_> {
        let key = (name.clone(), version);
        let alone = self.under_way().insert(key.clone());
        Publishing { models: self, key, alone }
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeSet<VersionKey>> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if a version may be loaded because a caller asks for it.
    pub(crate) fn may_load(&self, key: &VersionKey) -> bool {
        self.to_serve(key).is_some() && !self.under_way().contains(key)
    }

    /// A version that is held and to be served.
    pub(crate) fn to_serve(&self, key: &VersionKey) -> Option<Held> {
        self.lock().get(key).filter(|r| r.serve).cloned()
    }

    /// What is to be loaded: it is to be served, not in memory, neither evicted nor lately failed, and no publication is
    /// bringing it. What is pinned in memory comes first.
    pub(crate) fn missing(&self) -> Vec<Held> {
        let mut rows = self.held();
        let under_way = self.under_way().clone();
        let wanted = |r: &Held| {
            let key = r.key();
            let absent = match self.table.absent(&key) {
                // What is pinned gave way while it was not in memory, and comes back.
                Some(Absent::Evicted(_)) => self.table.is_pinned(&key),
                Some(Absent::Failed(failed)) => failed.pause().is_zero(),
                None => true,
            };
            r.serve && absent && !under_way.contains(&key) && self.table.get(&key).is_none()
        };
        rows.retain(wanted);
        rows.sort_by_key(|r| !self.table.is_pinned(&r.key()));
        rows
    }

    /// What callers may ask this node for: it is to be served, and in memory or loaded by the first call.
    pub(crate) fn served(&self) -> Vec<Held> {
        let mut rows = self.held();
        rows.retain(|r| r.serve && self.is_served(&r.key()));
        rows
    }

    /// True if a version is in memory, or would be loaded by a call.
    pub(crate) fn is_served(&self, key: &VersionKey) -> bool {
        let evicted = || matches!(self.table.absent(key), Some(Absent::Evicted(_)));
        self.table.get(key).is_some() || (evicted() && self.to_serve(key).is_some())
    }

    /// A place in a loaded model, whatever is said of it by callers.
    pub(crate) fn use_now(&self, name: &ModelName, version: u32) -> Option<Place> {
        match self.table.enter(&(name.clone(), version)) {
            Entered::Place(place) => Some(place),
            Entered::Full | Entered::Absent(_) => None,
        }
    }

    pub(crate) fn get(&self, name: &ModelName, version: u32) -> Option<Arc<Serving>> {
        self.table.get(&(name.clone(), version))
    }

    /// Pins a version in memory, or takes the pin away.
    pub(crate) fn pin_in_memory(&self, key: &VersionKey, pinned: bool) -> Result<(), RpcError> {
        let _writing = self.writing_pins.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.table.pinned();
        let changes = if pinned { next.insert(key.clone()) } else { next.remove(key) };
        if changes {
            write_list(&memory_pins_file(&self.file), next.iter())?;
            self.table.set_pinned(next);
        }
        Ok(())
    }

    /// Calls in hand over all models, and how long a new one would wait, microseconds.
    pub(crate) fn load(&self) -> (u32, u64) {
        let loads = self.table.all();
        loads.iter().map(|s| s.load()).fold((0, 0), |a, b| (a.0.saturating_add(b.0), a.1.max(b.1)))
    }

    /// For status.
    pub(crate) fn list(&self) -> Vec<HeldModel> {
        let one = |r: Held| {
            let key = r.key();
            let calls = self.calls(&key);
            HeldModel { serving: self.is_served(&key), name: r.name, version: r.version, calls }
        };
        self.held().into_iter().map(one).collect()
    }

    /// Calls answered since the node started.
    pub(crate) fn calls(&self, key: &VersionKey) -> u64 {
        let now = self.table.get(key).map_or(0, |s| s.calls.load(std::sync::atomic::Ordering::Relaxed));
        now.saturating_add(self.table.known(key).map_or(0, |k| k.calls))
    }
}

fn not_held(name: &ModelName, version: u32) -> RpcError {
    not_found(format!("{name}@{version} is not held by this node: 'zero2ai store ls' lists what is"))
}

fn pins_file(models: &Path) -> PathBuf {
    models.with_file_name("pins.cbor")
}

fn memory_pins_file(models: &Path) -> PathBuf {
    models.with_file_name("memory-pins.cbor")
}

fn read_list<T: Serialize + serde::de::DeserializeOwned>(file: &Path) -> Result<Vec<T>, NodeError> {
    let fail = |e: &dyn std::fmt::Display| NodeError::Storage(format!("{}: {e}", file.display()));
    match std::fs::read(file) {
        Ok(bytes) => decode(&bytes, LIST_BYTES).map_err(|e| fail(&e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(fail(&e)),
    }
}

fn write_list<'a, T: Serialize + 'a>(file: &Path, list: impl Iterator<Item = &'a T>) -> Result<(), RpcError> {
    let bytes = encode(&list.collect::<Vec<_>>()).map_err(internal)?;
    atomic_write(file, &bytes).map_err(store_error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use zero2ai_proto::rpc::ErrorCode;

    use super::*;

    fn held(version: u32, serve: bool) -> Held {
        Held { name: "lab/m".parse().unwrap(), version, manifest: ManifestId([7; 32]), serve, copies: None }
    }

    #[test]
    fn what_is_pinned_or_served_is_not_dropped_and_all_of_it_survives_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let open = || Models::open(home.path().join("models.cbor"), u64::MAX).unwrap();
        let name: ModelName = "lab/m".parse().unwrap();
        let models = open();
        assert_eq!(models.pin(&name, 1, true).unwrap_err().code, ErrorCode::NotFound);
        models.hold(held(1, false)).unwrap();
        models.hold(held(2, true)).unwrap();
        models.pin(&name, 1, true).unwrap();

        let models = open();
        assert!(models.is_pinned(&name, 1) && !models.is_pinned(&name, 2));
        assert_eq!(models.held(), [held(1, false), held(2, true)]);
        for stop_serving in [false, true] {
            let error = models.forget(&name, 1, stop_serving).unwrap_err();
            assert!(error.message.contains("unpin"), "{error}");
        }
        assert!(models.forget(&name, 2, false).unwrap_err().message.contains("--stop-serving"));
        models.forget(&name, 2, true).unwrap();
        models.pin(&name, 1, false).unwrap();
        models.forget(&name, 1, false).unwrap();
        assert_eq!(models.forget(&name, 1, false).unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(open().held(), []);
    }

    #[test]
    fn pins_in_memory_come_first_and_survive_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let open = || Models::open(home.path().join("models.cbor"), 1).unwrap();
        let models = open();
        models.hold(held(1, true)).unwrap();
        models.hold(held(2, true)).unwrap();
        models.hold(held(3, false)).unwrap();
        models.pin_in_memory(&held(2, true).key(), true).unwrap();
        let models = open();
        assert_eq!(models.missing(), [held(2, true), held(1, true)]);
        models.pin_in_memory(&held(2, true).key(), false).unwrap();
        assert_eq!(open().missing(), [held(1, true), held(2, true)]);

        // What was evicted, and what lately failed, is not loaded again by itself; but the first is served all the same.
        models.table.leave_out(&held(1, true).key());
        models.table.failed(&held(2, true).key(), "why".into(), false);
        models.table.leave_out(&held(3, false).key());
        assert_eq!(models.missing(), []);
        assert_eq!(models.served(), [held(1, true)]);
        models.table.hope(&held(2, true).key());
        assert_eq!(models.missing(), [held(2, true)]);
    }

    #[test]
    fn what_is_being_published_is_left_to_its_publication_and_served_after_a_crash() {
        let home = tempfile::tempdir().unwrap();
        let open = || Models::open(home.path().join("models.cbor"), u64::MAX).unwrap();
        let models = open();
        let under_way = models.publishing(&held(1, true).name, 1);
        assert!(models.reserve(&held(1, true), false).unwrap());
        assert_eq!(models.missing(), []);
        assert_eq!(open().missing(), [held(1, true)], "another process, after this one was killed");
        assert!(!models.publishing(&held(1, true).name, 1).alone);
        assert_eq!(models.missing(), [], "the first is under way still");
        drop(under_way);
        assert_eq!(models.missing(), [held(1, true)]);

        // What was cut off gives way to the next try, which brings another manifest.
        let next = Held { manifest: ManifestId([8; 32]), ..held(1, true) };
        assert!(!models.reserve(&next, false).unwrap());
        assert!(models.reserve(&next, true).unwrap());
        assert_eq!(open().held(), [next]);
    }

    #[test]
    fn a_reservation_goes_only_by_its_owner() {
        let home = tempfile::tempdir().unwrap();
        let models = Models::open(home.path().join("models.cbor"), u64::MAX).unwrap();
        let other = Held { manifest: ManifestId([8; 32]), ..held(1, false) };
        assert!(models.reserve(&held(1, false), false).unwrap());
        assert!(!models.reserve(&other, false).unwrap(), "another call publishes the same version");
        models.unreserve(&other).unwrap();
        assert_eq!(models.held(), [held(1, false)]);
        models.unreserve(&held(1, false)).unwrap();
        assert_eq!(models.held(), []);
        // Once it is final it is held as served, and stays.
        assert!(models.reserve(&held(1, false), false).unwrap());
        models.hold(held(1, true)).unwrap();
        models.unreserve(&held(1, false)).unwrap();
        assert_eq!(models.held(), [held(1, true)]);
    }
}
