//! The one thread that owns the model: takes jobs in order, steps running generations in turn, answers through the socket.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvError, TryRecvError},
    },
};

use zero2ai_proto::worker::{
    FailedJob, Fault, FromWorker, GenerateJob, GeneratedJob, LoadModel, LoadedModel, PredictJob, PredictedJob, TokenJob,
};
use zero2ai_proto::{calls::StopReason, manifest::Task};

use super::link::Writer;
use crate::{
    error::{EngineError, chain},
    runtime::{self, Generation, LoadRequest, Runtime, Step},
};

/// Generations that run side by side, one step each in turn. More would each be slower without being more in sum, until
/// steps are batched.
const SIDE_BY_SIDE: usize = 4;
/// Generations that wait for a place. One more is refused: the node should have sent it elsewhere.
const WAITING: usize = 256;

pub(super) enum Job {
    Load(LoadModel, Vec<OwnedFd>),
    Predict(PredictJob),
    Generate(GenerateJob),
    Cancel(u64),
}

pub(super) struct Executor {
    queue: Receiver<Job>,
    writer: Arc<Writer>,
    memory: Option<u64>,
    runtime: Option<Box<dyn Runtime>>,
    running: VecDeque<(u64, Box<dyn Generation>)>,
    waiting: VecDeque<GenerateJob>,
    /// Whether the runtime panicked while it ran.
    panicked: bool,
}

impl Executor {
    pub(super) fn new(queue: Receiver<Job>, writer: Arc<Writer>, memory: Option<u64>) -> Self {
        Self {
            queue,
            writer,
            memory,
            runtime: None,
            running: VecDeque::new(),
            waiting: VecDeque::new(),
            panicked: false,
        }
    }

    /// Until the queue's other end is dropped, the socket fails, or a runtime can no longer be trusted.
    pub(super) fn run(mut self) -> Result<(), EngineError> {
        loop {
            // candle's thread pool stays locked after a panic: such a worker would fail every job to come.
            if self.panicked && self.runtime.as_ref().is_some_and(|r| matches!(r.info().task, Task::Generate { .. })) {
                return Err(EngineError::worker("the runtime broke and cannot be trusted with further jobs"));
            }
            let idle = self.running.is_empty();
            let next = if idle {
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
            Job::Predict(job) => self.predict(&job),
            Job::Generate(job) => {
                if self.waiting.len() >= WAITING {
                    return self.fail(job.job, &EngineError::Busy(WAITING));
                }
                self.waiting.push_back(job);
                self.admit()
            }
            Job::Cancel(id) => {
                self.running.retain(|(job, _)| *job != id);
                self.waiting.retain(|job| job.job != id);
                self.admit()
            }
        }
    }

    fn load(&mut self, load: LoadModel, fds: Vec<OwnedFd>) -> Result<(), EngineError> {
        let LoadModel { job, format, files, conformance } = load;
        if self.runtime.is_some() {
            return self.fail(job, &EngineError::worker("this worker holds a model already; start another worker"));
        }
        let request =
            LoadRequest { format, files: files.into_iter().zip(fds).collect(), conformance, memory: self.memory };
        match guarded(|| runtime::load(request), Fault::Model, &mut false) {
            Ok(runtime) => {
                let info = runtime.info().clone();
                self.runtime = Some(runtime);
                self.writer.send(&FromWorker::Loaded(LoadedModel { job, info }))
            }
            Err(error) => self.fail(job, &error),
        }
    }

    fn predict(&mut self, request: &PredictJob) -> Result<(), EngineError> {
        let job = request.job;
        let Some(runtime) = self.runtime.as_mut() else { return self.fail(job, &no_model()) };
        match guarded(|| runtime.predict(&request.inputs), Fault::Worker, &mut self.panicked) {
            Ok(outputs) => match self.writer.send(&FromWorker::Predicted(PredictedJob { job, outputs })) {
                Err(EngineError::Frame(error)) => {
                    let message = format!("the model's outputs do not fit one answer ({error}); send a smaller batch");
                    self.fail(job, &EngineError::input(message))
                }
                sent => sent,
            },
            Err(error) => self.fail(job, &error),
        }
    }

    /// Starts waiting generations while there is room.
    fn admit(&mut self) -> Result<(), EngineError> {
        while self.running.len() < SIDE_BY_SIDE {
            let Some(request) = self.waiting.front() else { return Ok(()) };
            let job = request.job;
            let Some(runtime) = self.runtime.as_mut() else {
                self.waiting.clear();
                return self.fail(job, &no_model());
            };
            let busy = !self.running.is_empty();
            let started = guarded(|| runtime.start(&request.input, busy), Fault::Worker, &mut self.panicked);
            match started {
                Ok(Some(generation)) => self.running.push_back((job, generation)),
                Ok(None) => return Ok(()), // No memory for it until another ends.
                Err(error) => self.fail(job, &error)?,
            }
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// One step of the generation whose turn it is.
    fn step(&mut self) -> Result<(), EngineError> {
        let (Some((job, mut generation)), Some(runtime)) = (self.running.pop_front(), self.runtime.as_mut()) else {
            return Ok(());
        };
        match guarded(|| runtime.step(generation.as_mut()), Fault::Worker, &mut self.panicked) {
            Ok(Step::Prefilled) => self.running.push_back((job, generation)),
            Ok(Step::Token { piece, end }) => {
                self.writer.send(&FromWorker::Token(TokenJob { job, piece }))?;
                match end {
                    None => self.running.push_back((job, generation)),
                    Some(reason) => self.end(job, reason, generation)?,
                }
            }
            Ok(Step::End(reason)) => self.end(job, reason, generation)?,
            Err(error) => {
                self.fail(job, &error)?;
                drop(generation);
                self.admit()?;
            }
        }
        Ok(())
    }

    fn end(&mut self, job: u64, reason: StopReason, generation: Box<dyn Generation>) -> Result<(), EngineError> {
        let prompt_tokens = generation.prompt_tokens();
        drop(generation);
        self.writer.send(&FromWorker::Generated(GeneratedJob { job, reason, prompt_tokens }))?;
        self.admit()
    }

    fn fail(&self, job: u64, error: &EngineError) -> Result<(), EngineError> {
        let failed = FailedJob { job, fault: error.fault(), message: chain(error) };
        self.writer.send(&FromWorker::Failed(failed))
    }
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
