//! Loads models that callers ask for and that are not in memory. One load is made for all who wait for it, and it goes on when
//! they leave: the next one finds the model loaded.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use zero2ai_proto::rpc::{ErrorCode, RpcError};

use crate::{
    core::Core,
    jobs::keep::LoadError,
    memory::plan::Evict,
    models::{Absent, Entered, Place, QUEUE, VersionKey},
    serve::errors::{not_found, unavailable},
};

/// What one who waits for a model gets: a place in it, which keeps it from being evicted before he used it.
type Answer = Result<Place, RpcError>;

/// Who waits for which model. About as many wait for one as its queue takes; one more hears `Busy`. Models waited for are held
/// versions, so their number is bounded.
#[derive(Default)]
pub(crate) struct Wishes {
    inner: Mutex<Waiting>,
    come: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Models whose load has not begun, in the order in which they were first asked for.
    queue: VecDeque<VersionKey>,
    callers: BTreeMap<VersionKey, Vec<oneshot::Sender<Answer>>>,
}

impl Wishes {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a model, or for its load if that has begun.
    fn want(&self, key: &VersionKey) -> Result<oneshot::Receiver<Answer>, RpcError> {
        let mut waiting = self.lock();
        let first = !waiting.callers.contains_key(key);
        let callers = waiting.callers.entry(key.clone()).or_default();
        // Who left makes room for who comes.
        callers.retain(|caller| !caller.is_closed());
        // One less than its queue: the loader has a place while it gives them theirs.
        if callers.len().saturating_add(1) >= QUEUE as usize {
            return Err(busy());
        }
        let (caller, answer) = oneshot::channel();
        callers.push(caller);
        if first {
            waiting.queue.push_back(key.clone());
            self.come.notify_one();
        }
        Ok(answer)
    }

    /// The model that has been waited for longest. Callers may still join until it is answered.
    async fn next(&self) -> VersionKey {
        loop {
            if let Some(key) = self.lock().queue.pop_front() {
                return key;
            }
            self.come.notified().await;
        }
    }

    /// Gives everyone who waits for a model an answer.
    fn answer(&self, key: &VersionKey, answer: impl Fn() -> Answer) {
        let callers = self.lock().callers.remove(key).unwrap_or_default();
        for caller in callers {
            // One who left drops the place again.
            drop(caller.send(answer()));
        }
    }
}

pub(crate) fn busy() -> RpcError {
    RpcError::new(ErrorCode::Busy, "this node has as much work on this model as it takes: ask another, or later")
}

impl Core {
    /// A place in a model that is served here. If it is not in memory it is loaded, and waited for for `left`.
    pub(crate) async fn place(&self, key: &VersionKey, left: Duration) -> Answer {
        let (name, version) = key;
        match self.models.table.enter(key) {
            Entered::Place(place) => return Ok(place),
            Entered::Full => return Err(busy()),
            Entered::Absent(_) if !self.models.may_load(key) => {
                return Err(not_found(format!("{name}@{version} is not served here: resolve the name again")));
            }
            Entered::Absent(Some(Absent::Failed(failed))) if !failed.pause().is_zero() => {
                let (why, seconds) = (&failed.why, failed.pause().as_secs().saturating_add(1));
                return Err(unavailable(format!(
                    "{name}@{version} is not served here at the moment, and its load is tried again in {seconds} s. The last \
                     one failed: {why}"
                )));
            }
            Entered::Absent(_) => {}
        }
        match tokio::time::timeout(left, self.wishes.want(key)?).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unavailable("this node is stopping: ask another")),
            Err(_) => {
                let why = format!("{name}@{version} is being loaded and was not ready in time: try again in a moment");
                Err(RpcError::new(ErrorCode::Timeout, why))
            }
        }
    }

    /// Loads one model for those who wait, whoever must go for it.
    async fn load_wanted(&self, key: &VersionKey) -> Result<(), RpcError> {
        let (name, version) = key;
        let _using = self.upkeep.using().await;
        let loading = self.models.loading().await;
        // It may have been dropped, or loaded by another, while this one waited.
        if !self.models.may_load(key) {
            return Err(not_found(format!("{name}@{version} is not served here any more: resolve the name again")));
        }
        let loaded = self.load_and_announce(&loading, name, *version, None, Evict::Idle).await;
        match loaded {
            Ok(place) => {
                // From here to the end of this function nobody else can evict it.
                self.wishes.answer(key, || match self.models.table.enter(key) {
                    Entered::Place(place) => Ok(place),
                    Entered::Full => Err(busy()),
                    Entered::Absent(_) => Err(unavailable("the worker died as soon as it had loaded the model")),
                });
                drop(place);
                Ok(())
            }
            Err(error) => {
                let error = self.load_failed(key, error).await;
                Err(error)
            }
        }
    }
}

/// Loads what callers wait for, one model after another, until `stop`.
pub(crate) async fn keep_demanded(core: Arc<Core>, stop: CancellationToken) {
    loop {
        let key = tokio::select! {
            () = stop.cancelled() => return,
            key = core.wishes.next() => key,
        };
        let loaded = tokio::select! {
            () = stop.cancelled() => return,
            loaded = core.load_wanted(&key) => loaded,
        };
        if let Err(error) = loaded {
            core.wishes.answer(&key, || Err(error.clone()));
        }
    }
}

impl Core {
    /// Notes why a load failed, so that it is left alone for a while, and takes the announcement back. What fits once calls in
    /// hand have ended is no failure.
    pub(crate) async fn load_failed(&self, key: &VersionKey, error: LoadError) -> RpcError {
        let passes = error.passes();
        let error = error.into_rpc(key);
        if passes {
            return error;
        }
        let (name, version) = key;
        let missing = matches!(error.code, ErrorCode::NotFound | ErrorCode::Denied | ErrorCode::Unavailable);
        let pause = self.models.table.failed(key, error.message.clone(), missing).pause();
        let seconds = pause.as_secs().saturating_add(1);
        tracing::warn!(%name, version, %error, "a model is not being served; its load is tried again in {seconds} s");
        self.withdraw_unserved(name).await;
        error
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use futures::FutureExt as _;

    use super::*;

    fn key(version: u32) -> VersionKey {
        ("lab/m".parse().unwrap(), version)
    }

    #[tokio::test]
    async fn one_load_is_made_for_all_who_wait() {
        let wishes = Wishes::default();
        let first = wishes.want(&key(1)).unwrap();
        let other = wishes.want(&key(2)).unwrap();
        let second = wishes.want(&key(1)).unwrap();
        assert_eq!(wishes.next().await, key(1));
        let late = wishes.want(&key(1)).unwrap();
        wishes.answer(&key(1), || Err(busy()));
        for answer in [first, second, late] {
            assert!(answer.await.unwrap().is_err());
        }
        assert_eq!(wishes.next().await, key(2));
        assert!(wishes.next().now_or_never().is_none(), "nothing else is wanted");
        drop(other);
        wishes.answer(&key(2), || Err(busy()));
        let _again = wishes.want(&key(1)).unwrap();
        assert_eq!(wishes.next().await, key(1));
    }

    #[tokio::test]
    async fn no_more_wait_than_the_queue_takes_and_who_left_does_not_count() {
        let wishes = Wishes::default();
        let mut waiting: Vec<_> = (1..QUEUE).map(|_| wishes.want(&key(1)).unwrap()).collect();
        assert_eq!(wishes.want(&key(1)).err().unwrap().code, ErrorCode::Busy);
        waiting.pop();
        assert!(wishes.want(&key(1)).is_ok());
    }
}
