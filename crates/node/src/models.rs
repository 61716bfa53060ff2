//! The models this node holds: which, whether each is to be served, and the worker that runs it. What is to be served
//! is written down; [`Models::missing`] says what is not loaded yet, and the keeper (jobs/keep) brings it about.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use zero2ai_engine::Worker;
use zero2ai_proto::{
    ManifestId, ModelName, decode, encode, local::HeldModel, prepare::Preparation, rpc::RpcError, worker::ModelInfo,
};
use zero2ai_store::atomic_write;

use crate::{
    error::NodeError,
    serve::errors::{internal, invalid, not_found, store_error},
};

/// Calls one model works on or keeps waiting; beyond that the caller hears `Busy` at once and goes elsewhere.
pub(crate) const QUEUE: u32 = 64;

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

/// A worker that has loaded a model.
pub(crate) struct Loaded {
    pub(crate) worker: Worker,
    pub(crate) info: ModelInfo,
    pub(crate) preparation: Option<Preparation>,
}

/// A loaded model.
pub(crate) struct Serving {
    pub(crate) held: Held,
    pub(crate) info: ModelInfo,
    pub(crate) worker: Worker,
    /// How callers make its tensors of pictures or sounds, as its manifest says.
    pub(crate) preparation: Option<Preparation>,
    pub(crate) calls: AtomicU64,
    waiting: AtomicU32,
    mean_us: AtomicU64,
}

/// One call's place in a model's queue; given back when dropped.
pub(crate) struct Place {
    serving: Arc<Serving>,
    start: std::time::Instant,
}

impl Drop for Place {
    fn drop(&mut self) {
        let took = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let depth = u64::from(self.serving.waiting.fetch_sub(1, Ordering::Relaxed).max(1));
        // A running mean over about eight calls, of the time per call and not per caller.
        let old = self.serving.mean_us.load(Ordering::Relaxed);
        let new = old - old / 8 + (took / depth) / 8;
        self.serving.mean_us.store(new, Ordering::Relaxed);
        self.serving.calls.fetch_add(1, Ordering::Relaxed);
    }
}

impl Serving {
    pub(crate) fn new(held: Held, loaded: Loaded) -> Self {
        let Loaded { worker, info, preparation } = loaded;
        let (calls, waiting, mean_us) = Default::default();
        Self { held, info, worker, preparation, calls, waiting, mean_us }
    }

    /// Takes a place in the queue, or `None` if it is full.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place { serving: Arc::clone(self), start: std::time::Instant::now() })
    }

    /// True once its worker is gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.worker.exited().now_or_never().is_some()
    }

    fn load(&self) -> (u32, u64) {
        let waiting = self.waiting.load(Ordering::Relaxed);
        (waiting, self.mean_us.load(Ordering::Relaxed).saturating_mul(u64::from(waiting)))
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
    loaded: Mutex<BTreeMap<VersionKey, Arc<Serving>>>,
    pub(crate) loading: tokio::sync::Mutex<()>,
}

impl Models {
    /// Reads the list of held models and the one of pins beside it; a missing file is an empty list.
    pub(crate) fn open(file: PathBuf) -> Result<Self, NodeError> {
        let rows: Vec<Held> = read_list(&file)?;
        let pins: Vec<VersionKey> = read_list(&pins_file(&file))?;
        let rows = rows.into_iter().map(|r| ((r.name.clone(), r.version), r)).collect();
        let pins = Mutex::new(pins.into_iter().collect());
        let (publishing, loaded, loading) = Default::default();
        Ok(Self { file, rows: Mutex::new(rows), pins, publishing, loaded, loading })
    }

    fn loaded<T>(&self, f: impl FnOnce(&mut BTreeMap<VersionKey, Arc<Serving>>) -> T) -> T {
        f(&mut self.loaded.lock().unwrap_or_else(PoisonError::into_inner))
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

    /// What is to be served and is not loaded, and no publication is bringing.
    pub(crate) fn missing(&self) -> Vec<Held> {
        let mut rows = self.held();
        let under_way = self.under_way().clone();
        rows.retain(|r| !under_way.contains(&(r.name.clone(), r.version)));
        self.loaded(|l| rows.retain(|r| r.serve && !l.contains_key(&(r.name.clone(), r.version))));
        rows
    }

    pub(crate) fn insert(&self, serving: Serving) {
        let key = (serving.held.name.clone(), serving.held.version);
        self.loaded(|l| l.insert(key, Arc::new(serving)));
    }

    /// Forgets a model whose worker died, so that the keeper loads it again.
    pub(crate) fn remove(&self, name: &ModelName, version: u32) -> Option<Arc<Serving>> {
        self.loaded(|l| l.remove(&(name.clone(), version)))
    }

    pub(crate) fn get(&self, name: &ModelName, version: u32) -> Option<Arc<Serving>> {
        self.loaded(|l| l.get(&(name.clone(), version)).cloned())
    }

    pub(crate) fn all_loaded(&self) -> Vec<Arc<Serving>> {
        self.loaded(|l| l.values().cloned().collect())
    }

    /// Stops every worker.
    pub(crate) fn clear(&self) {
        self.loaded(BTreeMap::clear);
    }

    /// Calls in hand over all models, and how long a new one would wait, microseconds.
    pub(crate) fn load(&self) -> (u32, u64) {
        let loads = self.all_loaded();
        loads.iter().map(|s| s.load()).fold((0, 0), |a, b| (a.0.saturating_add(b.0), a.1.max(b.1)))
    }

    /// For status.
    pub(crate) fn list(&self) -> Vec<HeldModel> {
        let one = |r: Held| {
            let serving = self.get(&r.name, r.version);
            let calls = serving.as_ref().map_or(0, |s| s.calls.load(Ordering::Relaxed));
            HeldModel { name: r.name, version: r.version, serving: serving.is_some(), calls }
        };
        self.held().into_iter().map(one).collect()
    }
}

fn not_held(name: &ModelName, version: u32) -> RpcError {
    not_found(format!("{name}@{version} is not held by this node: 'zero2ai store ls' lists what is"))
}

fn pins_file(models: &Path) -> PathBuf {
    models.with_file_name("pins.cbor")
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
        let open = || Models::open(home.path().join("models.cbor")).unwrap();
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
    fn what_is_being_published_is_left_to_its_publication_and_served_after_a_crash() {
        let home = tempfile::tempdir().unwrap();
        let open = || Models::open(home.path().join("models.cbor")).unwrap();
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
        let models = Models::open(home.path().join("models.cbor")).unwrap();
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
