//! The models this node holds: which, whether each is to be served, and the worker that runs it. What is to be served
//! is written down; [`Models::missing`] says what is not loaded yet, and the keeper (jobs/keep) brings it about.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use zero2ai_engine::Worker;
use zero2ai_proto::{ManifestId, ModelName, decode, encode, local::HeldModel, manifest::Task, rpc::RpcError};
use zero2ai_store::atomic_write;

use crate::{
    error::NodeError,
    serve::errors::{internal, store_error},
};

/// Calls one model works on or keeps waiting; beyond that the caller hears `Busy` at once and goes elsewhere.
pub(crate) const QUEUE: u32 = 64;

/// Bytes of the list of held models: tens of thousands of them.
const LIST_BYTES: usize = 16 * 1024 * 1024;

/// A version of a model.
pub(crate) type VersionKey = (ModelName, u32);

/// One held version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) name: ModelName,
    pub(crate) version: u32,
    pub(crate) manifest: ManifestId,
    pub(crate) serve: bool,
}

/// A loaded model.
pub(crate) struct Serving {
    pub(crate) held: Held,
    pub(crate) task: Task,
    pub(crate) worker: Worker,
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
    pub(crate) fn new(held: Held, task: Task, worker: Worker) -> Self {
        let (calls, waiting, mean_us) = Default::default();
        Self { held, task, worker, calls, waiting, mean_us }
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

/// See the module.
pub(crate) struct Models {
    file: PathBuf,
    rows: Mutex<BTreeMap<VersionKey, Held>>,
    loaded: Mutex<BTreeMap<VersionKey, Arc<Serving>>>,
    pub(crate) loading: tokio::sync::Mutex<()>,
}

impl Models {
    /// Reads the list of held models; a missing file is an empty list.
    pub(crate) fn open(file: PathBuf) -> Result<Self, NodeError> {
        let rows: Vec<Held> = match std::fs::read(&file) {
            Ok(bytes) => {
                decode(&bytes, LIST_BYTES).map_err(|e| NodeError::Storage(format!("{}: {e}", file.display())))?
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(NodeError::Storage(format!("{}: {e}", file.display()))),
        };
        let rows = rows.into_iter().map(|r| ((r.name.clone(), r.version), r)).collect();
        Ok(Self { file, rows: Mutex::new(rows), loaded: Mutex::default(), loading: tokio::sync::Mutex::default() })
    }

    fn loaded<T>(&self, f: impl FnOnce(&mut BTreeMap<VersionKey, Arc<Serving>>) -> T) -> T {
        f(&mut self.loaded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn rows(&self) -> Vec<Held> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Writes down that a version is held, and whether it is to be served. Serving is never taken back here.
    pub(crate) fn hold(&self, mut held: Held) -> Result<(), RpcError> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (held.name.clone(), held.version);
        held.serve |= rows.get(&key).is_some_and(|old| old.serve);
        let mut next = rows.clone();
        next.insert(key, held);
        let list: Vec<&Held> = next.values().collect();
        atomic_write(&self.file, &encode(&list).map_err(internal)?).map_err(store_error)?;
        *rows = next;
        Ok(())
    }

    /// What is to be served and is not loaded.
    pub(crate) fn missing(&self) -> Vec<Held> {
        let mut rows = self.rows();
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
        self.rows().into_iter().map(one).collect()
    }
}
