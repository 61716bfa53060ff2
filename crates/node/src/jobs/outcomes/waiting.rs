//! Which of this node's own outcomes wait for their owner, and when an owner that was away, or one that an owner did not take yet, is
//! tried again: after five seconds, then each time twice as long up to a quarter of an hour, somewhat more or less, so that senders do not
//! come back all at once. After a restart everything is tried at once. What waits is read from disk when it is sent, and not before.

use std::{
    borrow::Borrow,
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zero2ai_proto::{
    ModelName, NodeId,
    limits::OUTCOME_BYTES,
    outcome::OutcomeReport,
    rpc::{ErrorCode, RpcError},
};

use super::files;

/// Outcomes that wait here at most, over all owners: more are refused.
const WAITING: usize = 1_000;
/// Bytes of them.
const WAITING_BYTES: u64 = 256 * 1024 * 1024;
/// How long an owner rests that was away once.
const FIRST: Duration = Duration::from_secs(5);
/// And at most, before the jitter.
const LONGEST: Duration = Duration::from_secs(900);

/// One that waits, as it stands on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct Waits {
    pub(super) since_ms: u64,
    pub(super) report: OutcomeReport,
}

impl Waits {
    /// Reads one.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        files::read(path, OUTCOME_BYTES.saturating_mul(2))
    }
}

/// How often something was tried in vain, and until when it rests.
#[derive(Clone, Copy, Debug)]
struct Rest {
    tries: u32,
    until: Instant,
}

/// What rests.
#[derive(Debug)]
pub(super) struct Rests<K>(BTreeMap<K, Rest>);

impl<K: Ord> Rests<K> {
    /// True while it is left alone.
    pub(super) fn has<Q: Ord + ?Sized>(&self, key: &Q, now: Instant) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.get(key).is_some_and(|rest| now < rest.until)
    }

    /// It was tried in vain. `share` is from 0 to 1: the jitter.
    pub(super) fn add(&mut self, key: K, now: Instant, share: f64) {
        let tries = self.0.get(&key).map_or(0, |rest| rest.tries);
        let pause = FIRST.saturating_mul(1 << tries.min(10)).min(LONGEST).mul_f64(0.5 + share.clamp(0.0, 1.0));
        let until = now.checked_add(pause).unwrap_or(now);
        self.0.insert(key, Rest { tries: tries.saturating_add(1), until });
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.0.remove(key);
    }
}

impl<K> Default for Rests<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// By file: of which model, and its size.
    files: BTreeMap<PathBuf, (ModelName, u64)>,
    /// Owners that were away.
    pub(super) owners: Rests<NodeId>,
    /// Outcomes that their owner does not take yet: they hold up no others.
    pub(super) each: Rests<PathBuf>,
}

impl Waiting {
    /// What waits on disk; what cannot be read is told, stays there, and is not sent.
    pub(super) fn open(home: &Path) -> Self {
        let mut waiting = Self::default();
        for path in files::list(&files::out_folder(home), "cbor") {
            let read = Waits::read(&path).and_then(|waits| {
                waits.report.receipt.request.read_unverified().map(|request| request.name).map_err(|e| e.to_string())
            });
            match read {
                Ok(name) => {
                    let bytes = path.metadata().map_or(0, |meta| meta.len());
                    waiting.files.insert(path, (name, bytes));
                }
                Err(error) => tracing::warn!(file = %path.display(), error, "an outcome that waits is not read"),
            }
        }
        waiting
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether one more may wait.
    ///
    /// # Errors
    /// As many wait as may: `Busy`.
    pub(super) fn room_for(&self, path: &Path) -> Result<(), RpcError> {
        let bytes: u64 = self.files.values().map(|(_, bytes)| *bytes).sum();
        if !self.files.contains_key(path) && (self.files.len() >= WAITING || bytes >= WAITING_BYTES) {
            let why = format!("{} outcomes wait here already, which is as many as there may be", self.files.len());
            return Err(RpcError::new(ErrorCode::Busy, why));
        }
        Ok(())
    }

    pub(super) fn add(&mut self, path: PathBuf, name: ModelName, bytes: u64) {
        self.files.insert(path, (name, bytes));
    }

    pub(super) fn remove(&mut self, path: &Path) {
        self.files.remove(path);
        self.each.remove(path);
    }

    /// All, with their models.
    pub(super) fn all(&self) -> Vec<(PathBuf, ModelName)> {
        self.files.iter().map(|(path, (name, _))| (path.clone(), name.clone())).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use zero2ai_proto::PublicKey;

    use super::*;

    #[test]
    fn an_owner_that_is_away_is_tried_less_and_less_often_but_at_least_every_quarter_of_an_hour() {
        let (mut rests, owner, mut now) = (Rests::default(), PublicKey([1; 32]), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..40 {
            assert!(!rests.has(&owner, now));
            rests.add(owner, now, 0.5);
            let until = rests.0[&owner].until;
            pauses.push((until - now).as_secs());
            assert!(rests.has(&owner, until - Duration::from_millis(1)));
            now = until;
        }
        assert_eq!(pauses[..9], [5, 10, 20, 40, 80, 160, 320, 640, 900]);
        assert!(pauses[9..].iter().all(|pause| *pause == 900));
        rests.remove(&owner);
        rests.add(owner, now, 1.0);
        assert_eq!((rests.0[&owner].until - now).as_millis(), 7_500, "from the beginning, half as much later");
        assert!(!rests.has(&PublicKey([2; 32]), now));
    }

    #[test]
    fn only_so_many_wait() {
        let mut waiting = Waiting::default();
        let (name, path): (ModelName, _) = ("lab/m".parse().unwrap(), |i: usize| PathBuf::from(i.to_string()));
        (0..WAITING).for_each(|i| waiting.add(path(i), name.clone(), 1));
        assert_eq!(waiting.room_for(&path(WAITING)).unwrap_err().code, ErrorCode::Busy);
        waiting.room_for(&path(3)).unwrap();
        waiting.remove(&path(7));
        waiting.room_for(&path(WAITING)).unwrap();
        waiting.add(path(7), name, WAITING_BYTES);
        waiting.remove(&path(8));
        assert_eq!(waiting.room_for(&path(8)).unwrap_err().code, ErrorCode::Busy);
    }

    #[test]
    fn what_cannot_be_read_does_not_wait_and_hinders_nothing() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(files::out_folder(home.path())).unwrap();
        std::fs::write(files::out_folder(home.path()).join("x.cbor"), b"no outcome").unwrap();
        assert_eq!(Waiting::open(home.path()).len(), 0);
    }
}
