//! The one thread that owns the model: takes jobs as they come, lets running generations step together between them, answers
//! through the socket.

use std::{
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvError, TryRecvError},
    },
    time::Instant,
};

use zero2ai_proto::{
    manifest::Task,
    tensor::Tensor,
    worker::{
        FailedJob, Fault, FromWorker, GenerateJob, GeneratedJob, LoadModel, LoadedModel, PredictJob, PredictedJob,
        TokenJob,
    },
};

use super::{WorkerOptions, link::Writer};
use crate::{
    error::{EngineError, chain},
    runtime::{self, Ask, Event, Given, LoadRequest, Meanwhile, Runtime},
};

/// Predictions done in one go, at most.
const TOGETHER: usize = 32;

pub(super) enum Job {
    Load(LoadModel, Vec<OwnedFd>),
    /// With the time when it is to be given up.
    Predict(Instant, PredictJob),
    /// As above.
    Generate(Instant, GenerateJob),
    Cancel(u64),
}

pub(super) struct Executor {
    queue: Receiver<Job>,
    writer: Arc<Writer>,
    memory: Option<u64>,
    options: WorkerOptions,
    runtime: Option<Box<dyn Runtime>>,
    /// Taken from the queue behind predictions that went together, and to be done next.
    put_back: Option<Job>,
    /// Whether the runtime panicked while it ran.
    panicked: bool,
}

impl Executor {
    pub(super) fn new(queue: Receiver<Job>, writer: Arc<Writer>, memory: Option<u64>, options: WorkerOptions) -> Self {
        Self { queue, writer, memory, options, runtime: None, put_back: None, panicked: false }
    }

    /// Until the queue's other end is dropped, the socket fails, or a runtime can no longer be trusted.
    pub(super) fn run(mut self) -> Result<(), EngineError> {
        loop {
            // candle's thread pool stays locked after a panic, and a tokenizer may be left set to cut texts: such a worker would
            // fail every job to come, or answer wrongly.
            let kept = |r: &dyn Runtime| matches!(r.info().task, Task::Generate { .. } | Task::Embed { .. });
            if self.panicked && self.runtime.as_deref().is_some_and(kept) {
                return Err(EngineError::worker("the runtime broke and cannot be trusted with further jobs"));
            }
            let idle = !self.runtime.as_ref().is_some_and(|r| r.has_work());
            let next = if let Some(job) = self.put_back.take() {
                Ok(job)
            } else if idle {
                self.queue.recv().map_err(|RecvError| TryRecvError::Disconnected)
            } else {
                self.queue.try_recv()
            };
            match next {
                Ok(job) => self.take(job)?,
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => self.step()?,
            }
        }
    }

    fn take(&mut self, job: Job) -> Result<(), EngineError> {
        match job {
            Job::Load(load, fds) => self.load(load, fds),
            Job::Predict(until, job) => self.predict(until, job),
            Job::Generate(until, job) => self.generate(until, &job),
            Job::Cancel(id) => {
                if let Some(runtime) = self.runtime.as_mut() {
                    runtime.leave(id);
                }
                Ok(())
            }
        }
    }

    fn load(&mut self, load: LoadModel, fds: Vec<OwnedFd>) -> Result<(), EngineError> {
        let LoadModel { job, format, files, conformance } = load;
        if self.runtime.is_some() {
            return self.fail(job, &EngineError::worker("this worker holds a model already; start another worker"));
        }
        let files = files.into_iter().zip(fds).collect();
        let (memory, look_up) = (self.memory, self.options.look_up);
        let request = LoadRequest { format, files, conformance, memory, look_up };
        match guarded(|| runtime::load(request), Fault::Model, &mut false) {
            Ok(runtime) => {
                let info = runtime.info().clone();
                self.runtime = Some(runtime);
                self.writer.send(&FromWorker::Loaded(LoadedModel { job, info }))
            }
            Err(error) => self.fail(job, &error),
        }
    }

    /// Predictions that wait behind this one go with it, where the runtime does several in one go.
    fn predict(&mut self, until: Instant, request: PredictJob) -> Result<(), EngineError> {
        if self.runtime.as_mut().is_none_or(|runtime| runtime.together().is_none()) {
            return self.predict_one(until, &request);
        }
        let mut requests = vec![(until, request)];
        while requests.len() < TOGETHER {
            match self.queue.try_recv() {
                Ok(Job::Predict(until, request)) => requests.push((until, request)),
                Ok(Job::Cancel(id)) => {
                    // Answered all the same: the node watches for predictions that never are.
                    if let Some(index) = requests.iter().position(|(_, request)| request.job == id) {
                        requests.remove(index);
                        self.fail(id, &EngineError::late())?;
                    }
                }
                Ok(other) => {
                    self.put_back = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let jobs: Vec<u64> = requests.iter().map(|(_, request)| request.job).collect();
        let asks: Vec<Ask<'_>> =
            requests.iter().map(|(until, request)| Ask { inputs: &request.inputs, until: Some(*until) }).collect();
        let (writer, mut told, mut open) = (&self.writer, Ok(()), vec![true; jobs.len()]);
        let mut answer = |index: usize, outcome: Result<Vec<Tensor>, EngineError>| {
            let (Some(job), Some(open)) = (jobs.get(index), open.get_mut(index)) else { return };
            if std::mem::take(open) && told.is_ok() {
                told = tell(writer, *job, outcome);
            }
        };
        let Some(together) = self.runtime.as_mut().and_then(|runtime| runtime.together()) else { return Ok(()) };
        let work = || {
            together.predict_all(&asks, &mut answer);
            Ok(())
        };
        let broke = guarded(work, Fault::Worker, &mut self.panicked).err();
        told?;
        // A panic leaves some without an answer.
        for (job, _) in jobs.iter().zip(open).filter(|(_, open)| *open) {
            let message = broke.as_ref().map_or_else(|| "the runtime gave no answer".to_owned(), ToString::to_string);
            self.fail(*job, &EngineError::worker(message))?;
        }
        Ok(())
    }

    fn predict_one(&mut self, until: Instant, request: &PredictJob) -> Result<(), EngineError> {
        let job = request.job;
        let Some(runtime) = self.runtime.as_mut() else { return self.fail(job, &no_model()) };
        let (writer, mut told) = (&self.writer, Ok(()));
        let mut tell_of = |events| {
            if told.is_ok() {
                told = writer.send_all(&frames(events));
            }
        };
        let mut meanwhile = Meanwhile { until: Some(until), tell: &mut tell_of };
        let predicted = guarded(|| runtime.predict(&request.inputs, &mut meanwhile), Fault::Worker, &mut self.panicked);
        told?;
        tell(&self.writer, job, predicted)
    }

    fn generate(&mut self, until: Instant, request: &GenerateJob) -> Result<(), EngineError> {
        let job = request.job;
        let Some(runtime) = self.runtime.as_mut() else { return self.fail(job, &no_model()) };
        match guarded(|| runtime.enter(request, until), Fault::Worker, &mut self.panicked) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(job, &error),
        }
    }

    /// One step of all generations that run.
    fn step(&mut self) -> Result<(), EngineError> {
        let Some(runtime) = self.runtime.as_mut() else { return Ok(()) };
        // A panic leaves nothing to go on with: `run` ends the process, and with it every job.
        let events = guarded(|| Ok(runtime.step()), Fault::Worker, &mut self.panicked).unwrap_or_default();
        self.writer.send_all(&frames(events))
    }

    fn fail(&self, job: u64, error: &EngineError) -> Result<(), EngineError> {
        self.writer.send(&failed(job, error))
    }
}

/// Sends what a prediction came to.
fn tell(writer: &Writer, job: u64, predicted: Result<Vec<Tensor>, EngineError>) -> Result<(), EngineError> {
    match predicted {
        Ok(outputs) => match writer.send(&FromWorker::Predicted(PredictedJob { job, outputs })) {
            Err(EngineError::Frame(error)) => {
                let message = format!("the model's outputs do not fit one answer ({error}); send a smaller batch");
                writer.send(&failed(job, &EngineError::input(message)))
            }
            sent => sent,
        },
        Err(error) => writer.send(&failed(job, &error)),
    }
}

fn frames(events: Vec<Event>) -> Vec<FromWorker> {
    let mut frames = Vec::with_capacity(events.len());
    for event in events {
        match event {
            Event::Given(Given { job, piece, end }) => {
                frames.extend(piece.map(|piece| FromWorker::Token(TokenJob { job, piece })));
                let end = end.map(|(reason, prompt_tokens)| GeneratedJob { job, reason, prompt_tokens });
                frames.extend(end.map(FromWorker::Generated));
            }
            Event::Failed { job, error } => frames.push(failed(job, &error)),
        }
    }
    frames
}

fn failed(job: u64, error: &EngineError) -> FromWorker {
    FromWorker::Failed(FailedJob { job, fault: error.fault(), message: chain(error) })
}

fn no_model() -> EngineError {
    EngineError::worker("this worker holds no model; load one first")
}

/// Runs code that works on a hostile model: its panic is this job's failure, not the worker's end.
fn guarded<T>(
    work: impl FnOnce() -> Result<T, EngineError>,
    fault: Fault,
    panicked: &mut bool,
) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        *panicked = true;
        let why = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no reason given");
        let what = if fault == Fault::Model { "the model's files broke the runtime" } else { "the runtime broke" };
        Err(EngineError::Failed {
            fault,
            message: format!("{what}: {why}; the model is damaged or beyond what this version runs"),
        })
    })
}
