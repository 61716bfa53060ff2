//! Which models are in memory, what each takes, and what became of those that are not: one lock, so that nobody enters a
//! model while it is evicted and no two loads take the same memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, futures::OwnedNotified};
use zero2ai_proto::{prepare::Preparation, worker::ModelInfo};

use super::{
    VersionKey,
    serving::{Place, Serving},
};
use crate::memory::plan::{Evict, NoRoom, Resident, plan};

/// Pause after the first load that failed; it doubles with each one after it.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause where the model itself or this machine is at fault: its load is tried for as long as the node runs, but
/// costs next to nothing.
const LONG_PAUSE: Duration = Duration::from_secs(300);
/// The longest where something is only missing (a chunk, a key, the chain's word) that others may bring any time.
const SHORT_PAUSE: Duration = Duration::from_secs(8);

/// Why a model that is to be served is not in memory.
#[derive(Clone, Debug)]
pub(crate) enum Absent {
    /// Others needed the room, or there was none for it: the next call loads it. With how the last load failed, if it did.
    Evicted(Option<Failed>),
    /// Its load failed.
    Failed(Failed),
}

/// See [`Absent::Failed`].
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) why: String,
    /// Something was not there that may come any time: a chunk, a key.
    pub(crate) missing: bool,
    tries: u32,
    again: Instant,
}

impl Failed {
    fn after(old: Option<&Absent>, why: String, missing: bool) -> Self {
        let tries = match old {
            Some(Absent::Failed(old) | Absent::Evicted(Some(old))) => old.tries.saturating_add(1),
            _ => 1,
        };
        let now = Instant::now();
        Self { why, missing, tries, again: now.checked_add(pause_after(tries, missing)).unwrap_or(now) }
    }

    /// How long it is left alone from now on.
    pub(crate) fn pause(&self) -> Duration {
        self.again.saturating_duration_since(Instant::now())
    }
}

/// How long a model is left alone after so many loads that failed one after another.
fn pause_after(tries: u32, missing: bool) -> Duration {
    let most = if missing { SHORT_PAUSE } else { LONG_PAUSE };
    // Long before the factor is at its end, the pause is.
    let factor = 1u32.checked_shl(tries.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(factor).min(most)
}

/// What is remembered of a model that was in memory since this node started.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) info: ModelInfo,
    pub(crate) preparation: Option<Preparation>,
    /// Bytes it took at last.
    pub(crate) bytes: u64,
    /// Milliseconds since 1970.
    pub(crate) last_use_ms: u64,
    /// Calls that workers answered which are gone.
    pub(crate) calls: u64,
}

#[derive(Default)]
struct Inner {
    loaded: BTreeMap<VersionKey, Arc<Serving>>,
    absent: BTreeMap<VersionKey, Absent>,
    known: BTreeMap<VersionKey, Known>,
    /// Bytes of models that turned out too large when they were loaded.
    too_big: BTreeMap<VersionKey, u64>,
    pinned: BTreeSet<VersionKey>,
}

/// See the module.
pub(crate) struct Table {
    inner: Mutex<Inner>,
    /// Bytes that all models together may take.
    budget: u64,
    /// Bytes that all rooms together count for. Grows under the lock only, so a plan made there holds.
    taken: AtomicU64,
    clock: AtomicU64,
    /// Told when something may fit that did not.
    freed: Arc<Notify>,
    loads: AtomicU64,
    failures: AtomicU64,
    evictions: AtomicU64,
}

/// Memory counted for one worker; given back when dropped.
pub(crate) struct Room {
    table: Arc<Table>,
    bytes: AtomicU64,
}

impl Room {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Counts for `bytes` from now on.
    fn set(&self, bytes: u64) {
        let old = self.bytes.swap(bytes, Ordering::Relaxed);
        let taken = &self.table.taken;
        if let Some(more) = bytes.checked_sub(old) {
            taken.fetch_add(more, Ordering::Relaxed);
        } else {
            taken.fetch_sub(old.saturating_sub(bytes), Ordering::Relaxed);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.set(0);
        self.table.changed();
    }
}

/// What came of asking for a place.
pub(crate) enum Entered {
    Place(Place),
    /// As many calls as it takes are in hand.
    Full,
    /// It is not in memory; why, if that is known.
    Absent(Option<Absent>),
}

/// Figures since the node started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) budget: u64,
    pub(crate) taken: u64,
    pub(crate) loads: u64,
    pub(crate) failures: u64,
    pub(crate) evictions: u64,
}

impl Table {
    pub(crate) fn new(budget: u64, pinned: BTreeSet<VersionKey>) -> Arc<Self> {
        let inner = Mutex::new(Inner { pinned, ..Inner::default() });
        let (taken, clock, freed, loads, failures, evictions) = Default::default();
        Arc::new(Self { inner, budget, taken, clock, freed, loads, failures, evictions })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn budget(&self) -> u64 {
        self.budget
    }

    pub(crate) fn counts(&self) -> Counts {
        let [taken, loads, failures, evictions] =
            [&self.taken, &self.loads, &self.failures, &self.evictions].map(|n| n.load(Ordering::Relaxed));
        Counts { budget: self.budget, taken, loads, failures, evictions }
    }

    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Something may fit now that did not before.
    pub(super) fn changed(&self) {
        self.freed.notify_waiters();
    }

    /// Ends when something may fit that did not when this was called.
    pub(crate) fn freed(&self) -> OwnedNotified {
        Arc::clone(&self.freed).notified_owned()
    }

    /// Takes `need` bytes. Whoever must go for it is out of the table and its memory counted as free: the caller stops its worker
    /// before it uses the room. With `least`, `need` is a guess: if it cannot be had, all that can is taken, from so much on.
    ///
    /// # Errors
    /// See [`NoRoom`].
    pub(crate) fn reserve(
        self: &Arc<Self>,
        need: u64,
        least: Option<u64>,
        evict: Evict,
    ) -> Result<(Room, Vec<Arc<Serving>>), NoRoom> {
        let mut inner = self.lock();
        let (need, gone) = match (self.evict_for(&mut inner, 0, need, evict), least) {
            (Ok(gone), _) => (need, gone),
            (Err(why), Some(least)) if evict == Evict::Idle && why.available() >= least => {
                let most = why.available();
                (most, self.evict_for(&mut inner, 0, most, evict)?)
            }
            (Err(why), _) => return Err(why),
        };
        let room = Room { table: Arc::clone(self), bytes: AtomicU64::new(0) };
        room.set(need);
        Ok((room, gone))
    }

    /// Makes a room that no loaded model has yet count for what its worker turned out to take. As [`Table::reserve`].
    pub(crate) fn settle(&self, room: &Room, bytes: u64) -> Result<Vec<Arc<Serving>>, NoRoom> {
        let mut inner = self.lock();
        let gone = self.evict_for(&mut inner, room.bytes(), bytes, Evict::Idle)?;
        room.set(bytes);
        Ok(gone)
    }

    /// Counts what workers take by now; evicts idle ones if that is too much, all of them if that is still not enough.
    pub(crate) fn grow(&self, measured: &[(Arc<Serving>, u64)]) -> Vec<Arc<Serving>> {
        let mut inner = self.lock();
        for (serving, bytes) in measured {
            // Not one that was evicted meanwhile: its memory is given back.
            if inner.loaded.get(&serving.key()).is_some_and(|s| Arc::ptr_eq(s, serving)) {
                serving.room.set(*bytes);
            }
        }
        self.evict_for(&mut inner, 0, 0, Evict::Idle).unwrap_or_else(|_| {
            let idle = |(key, s): (&VersionKey, &Arc<Serving>)| {
                (s.in_hand() == 0 && !inner.pinned.contains(key)).then(|| key.clone())
            };
            let idle: Vec<_> = inner.loaded.iter().filter_map(idle).collect();
            idle.iter().filter_map(|key| self.take_out(&mut inner, key)).collect()
        })
    }

    /// Evicts one model.
    ///
    /// # Errors
    /// The calls it has in hand.
    pub(crate) fn evict(&self, key: &VersionKey) -> Result<Option<Arc<Serving>>, u32> {
        let mut inner = self.lock();
        match inner.loaded.get(key).map(|s| s.in_hand()) {
            Some(0) => Ok(self.take_out(&mut inner, key)),
            Some(calls) => Err(calls),
            None => Ok(None),
        }
    }

    fn evict_for(&self, inner: &mut Inner, own: u64, need: u64, evict: Evict) -> Result<Vec<Arc<Serving>>, NoRoom> {
        let one = |(key, s): (&VersionKey, &Arc<Serving>)| Resident {
            key: key.clone(),
            bytes: s.room.bytes(),
            last_use: s.last_use().0,
            pinned: inner.pinned.contains(key),
            calls: s.in_hand(),
        };
        let residents: Vec<_> = inner.loaded.iter().map(one).collect();
        let counted = residents.iter().fold(own, |sum, r| sum.saturating_add(r.bytes));
        let loading = self.taken.load(Ordering::Relaxed).saturating_sub(counted);
        let gone = plan(self.budget, loading, &residents, need, evict)?;
        Ok(gone.iter().filter_map(|key| self.take_out(inner, key)).collect())
    }

    fn take_out(&self, inner: &mut Inner, key: &VersionKey) -> Option<Arc<Serving>> {
        let serving = inner.loaded.remove(key)?;
        remember(inner, &serving);
        inner.absent.insert(key.clone(), Absent::Evicted(None));
        serving.room.set(0);
        self.evictions.fetch_add(1, Ordering::Relaxed);
        Some(serving)
    }

    /// A place in the queue of a loaded model.
    pub(crate) fn enter(&self, key: &VersionKey) -> Entered {
        let inner = self.lock();
        match inner.loaded.get(key) {
            Some(serving) => serving.enter().map_or(Entered::Full, Entered::Place),
            None => Entered::Absent(inner.absent.get(key).cloned()),
        }
    }

    pub(crate) fn get(&self, key: &VersionKey) -> Option<Arc<Serving>> {
        self.lock().loaded.get(key).cloned()
    }

    pub(crate) fn absent(&self, key: &VersionKey) -> Option<Absent> {
        self.lock().absent.get(key).cloned()
    }

    pub(crate) fn known(&self, key: &VersionKey) -> Option<Known> {
        self.lock().known.get(key).cloned()
    }

    /// Bytes that a version took last, at the end of its calls; or when it was loaded and turned out too large, if that was more.
    pub(crate) fn known_bytes(&self, key: &VersionKey) -> Option<u64> {
        let inner = self.lock();
        inner.known.get(key).map(|k| k.bytes).max(inner.too_big.get(key).copied())
    }

    /// True if a version turned out too large when it was loaded last: it is not loaded again to find out.
    pub(crate) fn is_too_big(&self, key: &VersionKey) -> bool {
        self.lock().too_big.contains_key(key)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Serving>> {
        self.lock().loaded.values().cloned().collect()
    }

    /// Puts a model that was just loaded into the table, and takes a place in it.
    pub(crate) fn insert(&self, serving: &Arc<Serving>) -> Option<Place> {
        let key = serving.key();
        let mut inner = self.lock();
        inner.absent.remove(&key);
        inner.too_big.remove(&key);
        let place = serving.enter();
        remember(&mut inner, serving);
        let replaced = inner.loaded.insert(key, Arc::clone(serving));
        drop(inner);
        drop(replaced);
        self.loads.fetch_add(1, Ordering::Relaxed);
        place
    }

    /// Lets a version go for good: what was known of it is forgotten too.
    pub(crate) fn forget(&self, key: &VersionKey) -> Option<Arc<Serving>> {
        let mut inner = self.lock();
        inner.absent.remove(key);
        inner.known.remove(key);
        inner.too_big.remove(key);
        inner.loaded.remove(key)
    }

    /// Takes a model out whose worker died. False if another worker has taken its place, or it is gone already.
    pub(crate) fn remove_dead(&self, serving: &Arc<Serving>) -> bool {
        let mut inner = self.lock();
        let key = serving.key();
        let same = inner.loaded.get(&key).is_some_and(|s| Arc::ptr_eq(s, serving));
        if same {
            remember(&mut inner, serving);
            inner.loaded.remove(&key);
        }
        same
    }

    /// Notes that there was no room for a version without evicting another: the next call loads it.
    pub(crate) fn leave_out(&self, key: &VersionKey) {
        let mut inner = self.lock();
        let last = match inner.absent.remove(key) {
            Some(Absent::Failed(failed)) => Some(failed),
            _ => None,
        };
        inner.absent.insert(key.clone(), Absent::Evicted(last));
    }

    /// Notes that a load failed, and why; `missing` is as in [`Failed`].
    pub(crate) fn failed(&self, key: &VersionKey, why: String, missing: bool) -> Failed {
        let mut inner = self.lock();
        let failed = Failed::after(inner.absent.get(key), why, missing);
        inner.absent.insert(key.clone(), Absent::Failed(failed.clone()));
        drop(inner);
        self.failures.fetch_add(1, Ordering::Relaxed);
        failed
    }

    /// Remembers what a version took that did not fit, so that it is not loaded again to find out.
    pub(crate) fn note_size(&self, key: &VersionKey, bytes: u64) {
        self.lock().too_big.insert(key.clone(), bytes);
    }

    /// Loads may be tried again at once: what stood in the way may be gone.
    pub(crate) fn hope(&self, key: &VersionKey) {
        let mut inner = self.lock();
        if matches!(inner.absent.get(key), Some(Absent::Failed(_))) {
            inner.absent.remove(key);
        }
    }

    pub(crate) fn is_pinned(&self, key: &VersionKey) -> bool {
        self.lock().pinned.contains(key)
    }

    pub(super) fn pinned(&self) -> BTreeSet<VersionKey> {
        self.lock().pinned.clone()
    }

    pub(super) fn set_pinned(&self, pinned: BTreeSet<VersionKey>) {
        self.lock().pinned = pinned;
        self.changed();
    }

    /// Stops every worker.
    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut self.lock().loaded);
        drop(all);
    }
}

fn remember(inner: &mut Inner, serving: &Serving) {
    let key = serving.key();
    let calls = inner.known.get(&key).map_or(0, |k| k.calls).saturating_add(serving.calls.swap(0, Ordering::Relaxed));
    let (info, preparation) = (serving.info.clone(), serving.preparation.clone());
    let (bytes, last_use_ms) = (serving.room.bytes(), serving.last_use().1);
    inner.known.insert(key, Known { info, preparation, bytes, last_use_ms, calls });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn rooms_are_counted_and_given_back() {
        let table = Table::new(100, BTreeSet::new());
        let (first, _) = table.reserve(60, None, Evict::Idle).unwrap();
        assert!(matches!(table.reserve(50, None, Evict::Idle), Err(NoRoom::Taken { loading: 60, .. })));
        assert!(table.settle(&first, 120).is_err() && first.bytes() == 60);
        assert!(table.settle(&first, 30).unwrap().is_empty());
        // A guess that is too large takes what there is.
        let (second, _) = table.reserve(90, Some(60), Evict::Idle).unwrap();
        assert_eq!((second.bytes(), table.counts().taken), (70, 100));
        drop(second);
        assert!(table.reserve(90, Some(80), Evict::Idle).is_err());
        assert!(table.reserve(90, Some(60), Evict::Nothing).is_err());
        drop(first);
        assert_eq!(table.counts().taken, 0);
    }

    #[test]
    fn a_failed_load_is_left_alone_for_longer_each_time() {
        let pauses: Vec<u64> = (1..60).map(|tries| pause_after(tries, false).as_secs()).collect();
        assert_eq!(pauses[..4], [2, 4, 8, 16]);
        assert!(pauses.windows(2).all(|w| w[0] <= w[1]) && pauses[58] == 300, "{pauses:?}");
        assert!((1..60).all(|tries| pause_after(tries, true) <= SHORT_PAUSE));

        let (table, key) = (Table::new(100, BTreeSet::new()), ("lab/m".parse().unwrap(), 1));
        for _ in 0..3 {
            table.failed(&key, "why".into(), false);
        }
        // Left out for want of room, it is not forgotten that it failed.
        table.leave_out(&key);
        assert!(
            matches!(table.absent(&key), Some(Absent::Evicted(Some(last))) if last.tries == 3 && last.why == "why")
        );
        assert_eq!(table.failed(&key, "why".into(), false).tries, 4);
        table.hope(&key);
        assert!(table.absent(&key).is_none());
    }
}
