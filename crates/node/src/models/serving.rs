//! A loaded model: its worker, the memory it counts for, and the calls in hand.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

use futures::FutureExt as _;
use zero2ai_clock::now_ms;
use zero2ai_engine::Worker;
use zero2ai_proto::{prepare::Preparation, worker::ModelInfo};

use crate::models::{Held, VersionKey, table::Room};

/// Calls one model works on or keeps waiting; beyond that the caller hears `Busy` at once and goes elsewhere.
pub(crate) const QUEUE: u32 = 64;

/// A worker that has loaded a model.
pub(crate) struct Loaded {
    pub(crate) worker: Worker,
    pub(crate) info: ModelInfo,
    pub(crate) preparation: Option<Preparation>,
    /// The memory that it is counted for.
    pub(crate) room: Room,
}

/// A loaded model.
pub(crate) struct Serving {
    pub(crate) held: Held,
    pub(crate) info: ModelInfo,
    pub(crate) worker: Worker,
    /// How callers make its tensors of pictures or sounds, as its manifest says.
    pub(crate) preparation: Option<Preparation>,
    /// Given back when the model is evicted, or at last when this is dropped.
    pub(crate) room: Room,
    pub(crate) calls: AtomicU64,
    waiting: AtomicU32,
    mean_us: AtomicU64,
    last_use: AtomicU64,
    last_use_ms: AtomicU64,
}

/// One call's place in a model's queue; given back when dropped. While there is one, the model is not evicted.
pub(crate) struct Place {
    serving: Arc<Serving>,
    start: Instant,
    counts: bool,
}

impl Place {
    pub(crate) fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }

    /// From here on it is a call of a caller: its time and number are told.
    pub(crate) fn begin(&mut self) {
        (self.start, self.counts) = (Instant::now(), true);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let serving = &self.serving;
        if self.counts {
            let took = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
            let depth = u64::from(serving.waiting.load(Ordering::Relaxed).max(1));
            // A running mean over about eight calls, of the time per call and not per caller.
            let old = serving.mean_us.load(Ordering::Relaxed);
            let new = old - old / 8 + (took / depth) / 8;
            serving.mean_us.store(new, Ordering::Relaxed);
            serving.calls.fetch_add(1, Ordering::Relaxed);
        }
        serving.touch();
        if serving.waiting.fetch_sub(1, Ordering::AcqRel) <= 1 {
            serving.room.table().changed();
        }
    }
}

impl Serving {
    pub(crate) fn new(held: Held, loaded: Loaded) -> Self {
        let Loaded { worker, info, preparation, room } = loaded;
        let (calls, waiting, mean_us, last_use, last_use_ms) = Default::default();
        Self { held, info, worker, preparation, room, calls, waiting, mean_us, last_use, last_use_ms }
    }

    pub(crate) fn key(&self) -> VersionKey {
        (self.held.name.clone(), self.held.version)
    }

    /// Takes a place in the queue, or `None` if it is full. Called by the table alone, which evicts nobody meanwhile.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= QUEUE {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        self.touch();
        Some(Place { serving: Arc::clone(self), start: Instant::now(), counts: false })
    }

    /// It is being used.
    pub(super) fn touch(&self) {
        self.last_use.store(self.room.table().tick(), Ordering::Relaxed);
        self.last_use_ms.store(now_ms(), Ordering::Relaxed);
    }

    /// When it was used last: on the table's own clock, and milliseconds since 1970.
    pub(crate) fn last_use(&self) -> (u64, u64) {
        (self.last_use.load(Ordering::Relaxed), self.last_use_ms.load(Ordering::Relaxed))
    }

    /// Calls in hand.
    pub(crate) fn in_hand(&self) -> u32 {
        self.waiting.load(Ordering::Acquire)
    }

    /// True once its worker is gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.worker.exited().now_or_never().is_some()
    }

    /// Calls in hand, and how long a new one would wait, microseconds.
    pub(crate) fn load(&self) -> (u32, u64) {
        let waiting = self.in_hand();
        (waiting, self.mean_us.load(Ordering::Relaxed).saturating_mul(u64::from(waiting)))
    }
}
