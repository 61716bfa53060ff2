//! Jobs between their callers and the worker: who waits for which answer, and what is to be sent.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use zero2ai_proto::{
    limits::NEW_TOKENS,
    tensor::Tensor,
    worker::{FailedJob, FromWorker, ModelInfo, PredictedJob, ToWorker},
};

use super::stream::GenEvent;
use crate::{error::EngineError, file::ModelFile, frame::to_bytes};

/// Jobs in flight in one worker. One more is refused, not queued: its caller can go to another node.
const IN_FLIGHT: usize = 256;
/// Frames encoded but not yet written. When reached, callers wait here.
const UNSENT: usize = 8;
/// Items of one stream that wait for their caller: every token a generation may give, and its end. So a slow caller never
/// holds the socket up, and a worker that gives more breaks the protocol.
const EVENTS: usize = NEW_TOKENS as usize + 2;

/// How long after its time a prediction may go unanswered while the worker says nothing at all. Runtimes that can stop do so
/// in time; one that cannot holds up everybody behind it, for a caller who is long gone.
const OVERDUE: Duration = Duration::from_secs(10);

/// What a job that is answered once gave.
pub(super) enum Outcome {
    Loaded(ModelInfo),
    Predicted(Vec<Tensor>),
}

/// A frame to be written, with the files that travel beside it.
pub(super) struct Outgoing {
    pub(super) bytes: Vec<u8>,
    pub(super) files: Vec<ModelFile>,
    /// Whether it took one of the [`UNSENT`] places.
    placed: bool,
}

enum Waiter {
    Once(oneshot::Sender<Result<Outcome, EngineError>>),
    Stream(mpsc::Sender<Result<GenEvent, EngineError>>),
}

struct State {
    waiters: HashMap<u64, Waiter>,
    outgoing: VecDeque<Outgoing>,
    closed: bool,
    /// When each prediction's time is over, in the order in which they were sent: of all that were not answered, those too whose
    /// caller went away.
    predicting: VecDeque<(u64, Instant)>,
    /// The longest that the worker was seen to say nothing while it predicted, and then went on.
    longest: Duration,
    /// When the worker last said something.
    heard: Instant,
}

impl Default for State {
    fn default() -> Self {
        let (waiters, outgoing, closed, predicting, longest) = Default::default();
        Self { waiters, outgoing, closed, predicting, longest, heard: Instant::now() }
    }
}

/// The table of jobs. Locked for moments only, never across an await.
pub(super) struct Jobs {
    state: Mutex<State>,
    next: AtomicU64,
    ready: Notify,
    room: Semaphore,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jobs({})", self.len())
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self { state: Mutex::default(), next: AtomicU64::new(1), ready: Notify::new(), room: Semaphore::new(UNSENT) }
    }
}

/// A job in flight. Dropped before its answer came, it cancels the job.
#[derive(Debug)]
pub(super) struct JobGuard {
    id: u64,
    jobs: Arc<Jobs>,
}

impl JobGuard {
    pub(super) const fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for JobGuard {
    fn drop(&mut self) {
        let mut state = self.jobs.lock();
        if state.waiters.remove(&self.id).is_some() && !state.closed {
            // Small, and at most one for each job: it needs no place among the unsent.
            if let Ok(bytes) = to_bytes(&ToWorker::Cancel(self.id)) {
                state.outgoing.push_back(Outgoing { bytes, files: Vec::new(), placed: false });
                self.jobs.ready.notify_one();
            }
        }
    }
}

impl Jobs {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiters.len()
    }

    fn enter(self: &Arc<Self>, waiter: Waiter) -> Result<JobGuard, EngineError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        if state.closed {
            return Err(EngineError::Died("it is gone".to_owned()));
        }
        if state.waiters.len() >= IN_FLIGHT {
            return Err(EngineError::Busy(IN_FLIGHT));
        }
        state.waiters.insert(id, waiter);
        Ok(JobGuard { id, jobs: Arc::clone(self) })
    }

    /// A job that is answered once.
    pub(super) fn ask(
        self: &Arc<Self>,
    ) -> Result<(JobGuard, oneshot::Receiver<Result<Outcome, EngineError>>), EngineError> {
        let (sender, receiver) = oneshot::channel();
        Ok((self.enter(Waiter::Once(sender))?, receiver))
    }

    /// A job that is answered by a stream.
    pub(super) fn follow(
        self: &Arc<Self>,
    ) -> Result<(JobGuard, mpsc::Receiver<Result<GenEvent, EngineError>>), EngineError> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        Ok((self.enter(Waiter::Stream(sender))?, receiver))
    }

    /// Queues a frame, waiting for room.
    pub(super) async fn send(&self, frame: &ToWorker, files: Vec<ModelFile>) -> Result<(), EngineError> {
        let bytes = to_bytes(frame)?;
        let place = self.room.acquire().await.map_err(|_| EngineError::Died("it is gone".to_owned()))?;
        place.forget(); // Given back when the frame is taken for writing.
        let mut state = self.lock();
        if let ToWorker::Predict(job) = frame {
            // The worker's clock starts a moment later; far less than what it is given beyond.
            let over = Instant::now().checked_add(Duration::from_millis(job.within_ms));
            state.predicting.extend(over.map(|over| (job.job, over)));
        }
        state.outgoing.push_back(Outgoing { bytes, files, placed: true });
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// The next frame to write.
    pub(super) async fn outgoing(&self) -> Outgoing {
        loop {
            let taken = self.lock().outgoing.pop_front();
            if let Some(outgoing) = taken {
                self.room.add_permits(usize::from(outgoing.placed));
                return outgoing;
            }
            self.ready.notified().await;
        }
    }

    /// Waits until a prediction is [`OVERDUE`]. The worker takes them in their order: it is the oldest that runs.
    pub(super) async fn overdue(&self) -> EngineError {
        loop {
            let left = {
                let state = self.lock();
                let since = state.predicting.front().map(|(_, over)| state.heard.max(*over));
                // A model whose predictions take long is slow, and not without end.
                let grace = OVERDUE.max(state.longest.saturating_mul(2));
                let end = since.and_then(|since| since.checked_add(grace));
                end.map_or(OVERDUE, |end| end.saturating_duration_since(Instant::now()))
            };
            if left.is_zero() {
                return EngineError::Protocol(format!(
                    "a prediction still ran {} s and more after its time: it does not come to an end, or takes far longer than \
                     its callers wait",
                    OVERDUE.as_secs()
                ));
            }
            // The oldest may be another by then, with less time.
            tokio::time::sleep(left.min(OVERDUE)).await;
        }
    }

    /// Gives a frame to who waits for it. Frames of jobs that were given up are dropped.
    pub(super) fn deliver(&self, frame: FromWorker) -> Result<(), EngineError> {
        let mut state = self.lock();
        let silent = state.heard.elapsed();
        if let FromWorker::Predicted(PredictedJob { job, .. }) | FromWorker::Failed(FailedJob { job, .. }) = &frame
            && let Some(place) = state.predicting.iter().position(|(sent, _)| sent == job)
        {
            state.predicting.remove(place);
            state.longest = state.longest.max(silent);
        }
        state.heard = Instant::now();
        match frame {
            FromWorker::Ready(_) => return Err(EngineError::Protocol("it said Ready twice".to_owned())),
            FromWorker::Loaded(l) => answer(&mut state, l.job, Ok(Outcome::Loaded(l.info)))?,
            FromWorker::Predicted(p) => answer(&mut state, p.job, Ok(Outcome::Predicted(p.outputs)))?,
            FromWorker::Failed(f) => {
                let error = EngineError::Failed { fault: f.fault, message: f.message };
                match state.waiters.remove(&f.job) {
                    Some(Waiter::Once(waiter)) => drop(waiter.send(Err(error))),
                    Some(Waiter::Stream(events)) => drop(events.try_send(Err(error))),
                    None => {}
                }
            }
            FromWorker::Token(t) => match state.waiters.get(&t.job) {
                Some(Waiter::Stream(events)) => {
                    if let Err(mpsc::error::TrySendError::Full(_)) = events.try_send(Ok(GenEvent::Token(t.piece))) {
                        return Err(EngineError::Protocol("it gave more tokens than a job may have".to_owned()));
                    }
                }
                Some(Waiter::Once(_)) => return Err(super::wrong_answer()),
                None => {}
            },
            FromWorker::Generated(g) => match state.waiters.remove(&g.job) {
                Some(Waiter::Stream(events)) => {
                    drop(events.try_send(Ok(GenEvent::End { reason: g.reason, prompt_tokens: g.prompt_tokens })));
                }
                Some(Waiter::Once(_)) => return Err(super::wrong_answer()),
                None => {}
            },
        }
        Ok(())
    }

    /// Ends every job: callers see their channel close, and the reason in the worker's end.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiters.clear();
        state.outgoing.clear();
        self.room.close();
    }
}

fn answer(state: &mut State, job: u64, outcome: Result<Outcome, EngineError>) -> Result<(), EngineError> {
    match state.waiters.remove(&job) {
        Some(Waiter::Once(waiter)) => drop(waiter.send(outcome)),
        Some(Waiter::Stream(_)) => return Err(super::wrong_answer()),
        None => {}
    }
    Ok(())
}
