//! The caller's side: starts a worker process, multiplexes jobs over its socket, notices its death.

mod jobs;
mod link;
mod stream;

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use tokio::{
    net::UnixStream,
    process::{Child, Command},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use zero2ai_proto::{
    calls::GenerateInput,
    limits::PROMPT_BYTES,
    manifest::{ConformanceSample, Format},
    tensor::Tensor,
    texts::{Embeddings, Texts},
    worker::{FromWorker, GenerateJob, LoadModel, ModelInfo, PredictJob, ToWorker, WORKER_PROTOCOL},
};

use self::jobs::{Jobs, Outcome};
pub use self::stream::{GenEvent, GenerateStream};
use crate::{
    child::{LANDLOCK, MEMORY_VARIABLE, SECCOMP, THREADS_VARIABLE},
    error::EngineError,
    file::ModelFile,
    frame::MODEL_FILES,
};

/// How long a new process may take to say that its sandbox stands. It does so before it reads anything; a machine under
/// heavy load starts a process in seconds.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The longest that a job may take.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Bytes that name a caller, at most: a key or a hash.
const CALLER_BYTES: usize = 64;

/// How to start a worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The program that calls [`crate::worker_main`].
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Threads that compute, at least 1. One fewer than there are cores serves best on a busy machine.
    pub threads: usize,
    /// Bytes of memory the process may write to. Beyond it the process dies, and its callers get [`EngineError::Died`].
    pub memory_bytes: u64,
    /// Go on where the host has no Landlock or no seccomp.
    pub allow_unsandboxed: bool,
}

/// One worker process with at most one model. Jobs of any number of callers run at a time, up to 256; one more is
/// [`EngineError::Busy`]. Dropping the handle kills the process.
#[derive(Debug)]
pub struct Worker {
    jobs: Arc<Jobs>,
    stop: CancellationToken,
    end: watch::Receiver<Option<Arc<str>>>,
    sandbox: Vec<String>,
    pid: Option<u32>,
}

impl Worker {
    /// Starts a process and waits until its sandbox stands (30 s at most).
    ///
    /// # Errors
    /// [`EngineError::Spawn`], [`EngineError::Unsandboxed`], [`EngineError::Protocol`] for a program that is no worker or
    /// one of another version, [`EngineError::Died`].
    pub async fn spawn(config: WorkerConfig) -> Result<Self, EngineError> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(EngineError::Socket)?;
        ours.set_nonblocking(true).map_err(EngineError::Socket)?;
        let socket = UnixStream::from_std(ours).map_err(EngineError::Socket)?;
        let mut child = start(&config, theirs.into())?;
        let mut reader = link::Reader::new(&socket);
        let ready = match timeout(READY_WITHIN, reader.next()).await {
            Ok(Ok(FromWorker::Ready(ready))) => ready,
            Ok(Err(EngineError::Died(_))) => {
                return Err(EngineError::Died(link::obituary(&mut child).await));
            }
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) => return Err(EngineError::Protocol("its first frame was not Ready".to_owned())),
            Err(_) => return Err(EngineError::Protocol(format!("it was not ready within {READY_WITHIN:?}"))),
        };
        if ready.protocol != WORKER_PROTOCOL {
            let message =
                format!("it speaks version {}, not {WORKER_PROTOCOL}; install both from one release", ready.protocol);
            return Err(EngineError::Protocol(message));
        }
        let sandboxed = [LANDLOCK, SECCOMP].iter().all(|part| ready.sandbox.iter().any(|s| s == part));
        if !sandboxed && !config.allow_unsandboxed {
            return Err(EngineError::Unsandboxed { sandbox: ready.sandbox });
        }
        let pid = child.id();
        let (jobs, stop) = (Arc::new(Jobs::default()), CancellationToken::new());
        let (ended, end) = watch::channel(None);
        // Owned by this handle through `stop`; its end shows in `end`.
        tokio::spawn(link::run(socket, child, Arc::clone(&jobs), stop.clone(), ended));
        Ok(Self { jobs, stop, end, sandbox: ready.sandbox, pid })
    }

    /// The process's id, for operators; it may be gone.
    #[must_use]
    pub const fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Which restrictions hold in the process: `limits`, `landlock`, `seccomp`.
    #[must_use]
    pub fn sandbox(&self) -> &[String] {
        &self.sandbox
    }

    /// Hands a model to the process and waits until it is loaded and has reproduced its conformance samples. Seals the
    /// files; they are freed when this returns. A worker loads one model in its life.
    ///
    /// # Errors
    /// A failure whose [`EngineError::fault`] is `Model` if the files are damaged, of a kind that is not run, or do not
    /// reproduce the samples; otherwise as [`Self::predict`].
    pub async fn load(
        &self,
        format: Format,
        mut files: Vec<ModelFile>,
        conformance: Vec<ConformanceSample>,
    ) -> Result<ModelInfo, EngineError> {
        if files.is_empty() || files.len() > MODEL_FILES {
            return Err(EngineError::model(format!("a model of {} files; 1 to {MODEL_FILES} can be run", files.len())));
        }
        files.iter_mut().try_for_each(ModelFile::seal)?;
        let names = files.iter().map(|f| f.name().to_owned()).collect();
        let (job, answer) = self.jobs.ask()?;
        self.jobs.send(&ToWorker::Load(LoadModel { job: job.id(), format, files: names, conformance }), files).await?;
        match answer.await {
            Ok(outcome) => match outcome? {
                Outcome::Loaded(info) => Ok(info),
                Outcome::Predicted(_) => Err(wrong_answer()),
            },
            Err(_) => Err(self.died()),
        }
    }

    /// [`Self::predict_within`] an hour.
    ///
    /// # Errors
    /// As there.
    pub async fn predict(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, EngineError> {
        self.predict_within(inputs, LONGEST).await
    }

    /// Runs one prediction. Dropping the future gives the job up. One that waits or, of a text model, runs when its time is
    /// over fails with [`Fault::Late`](zero2ai_proto::worker::Fault::Late). One that still runs ten seconds after its time, with
    /// no word from the worker meanwhile, ends the process: nothing else stops a model that does not come to an end.
    ///
    /// A text model takes `tokens` I64 `[n]`, or `text` U8 `[bytes]`, and gives `logits` F32 `[vocabulary]`, the scores after
    /// them. With `from` I64 `[1]` beside it, it also gives `logprobs` F32 `[n - from]`: the natural logarithm of the
    /// probability of each token from that position (1 or more) on, after those before it. With `among` I64 `[n - from, k]`
    /// behind these, it also gives `likeliest` F32 `[n - from]`, the highest there is at each position, and `among` F32
    /// `[n - from, k]`, those of these tokens. Where a text was given, `tokens` I64 `[n]` is what it became.
    ///
    /// # Errors
    /// [`EngineError::Failed`] from the worker, with its fault; [`EngineError::Busy`], [`EngineError::Died`],
    /// [`EngineError::Frame`] for inputs beyond 32 MiB.
    pub async fn predict_within(&self, inputs: Vec<Tensor>, within: Duration) -> Result<Vec<Tensor>, EngineError> {
        let (job, answer) = self.jobs.ask()?;
        let predict = PredictJob { job: job.id(), inputs, within_ms: millis(within) };
        self.jobs.send(&ToWorker::Predict(predict), Vec::new()).await?;
        match answer.await {
            Ok(outcome) => match outcome? {
                Outcome::Predicted(outputs) => Ok(outputs),
                Outcome::Loaded(_) => Err(wrong_answer()),
            },
            Err(_) => Err(self.died()),
        }
    }

    /// Embeds texts, within an hour; calls that wait together run in one pass, which changes no bit of an answer.
    ///
    /// # Errors
    /// As [`Self::predict`]; an input error too for texts beyond their bounds, or longer than the model takes unless they may
    /// be cut.
    pub async fn embed(&self, texts: &Texts<'_>) -> Result<Embeddings, EngineError> {
        let inputs = texts.to_tensors().map_err(|e| EngineError::input(e.to_string()))?;
        let outputs = self.predict(inputs).await?;
        Embeddings::from_tensors(&outputs, texts.texts.len()).map_err(|e| EngineError::input(e.to_string()))
    }

    /// [`Self::generate_within`] an hour.
    ///
    /// # Errors
    /// As there.
    pub async fn generate(&self, caller: &[u8], input: GenerateInput) -> Result<GenerateStream, EngineError> {
        self.generate_within(caller, input, LONGEST).await
    }

    /// Starts generating text. The stream gives every token, the end-of-text one included, then the end. Dropping it
    /// stops the work within one step; so does its time, after which the stream ends with
    /// [`Fault::Late`](zero2ai_proto::worker::Fault::Late).
    ///
    /// Texts run together, and `caller` (64 bytes at most; empty is nobody) says whose this one is: callers are served alike
    /// however many texts they send, and what was computed for a text's beginning is used again for the same caller's later
    /// texts only. Neither changes any answer.
    ///
    /// `sampling.max_tokens` bounds the whole answer, `resume` included: to go on after a fail-over the same request is
    /// sent with the tokens got so far, and only tokens after those come back.
    ///
    /// # Errors
    /// As [`Self::predict`]; what is wrong with the input itself comes as the stream's first item.
    pub async fn generate_within(
        &self,
        caller: &[u8],
        input: GenerateInput,
        within: Duration,
    ) -> Result<GenerateStream, EngineError> {
        if caller.len() > CALLER_BYTES {
            return Err(EngineError::input(format!("a caller is named by at most {CALLER_BYTES} bytes")));
        }
        let bytes = match &input.prompt {
            zero2ai_proto::calls::Prompt::Text(text) => text.len(),
            zero2ai_proto::calls::Prompt::Chat(messages) => messages.iter().map(|m| m.content.len()).sum(),
        };
        if bytes > PROMPT_BYTES {
            return Err(EngineError::input(format!("the prompt has {bytes} bytes; at most {PROMPT_BYTES} are taken")));
        }
        let (job, events) = self.jobs.follow()?;
        let caller = caller.to_vec().into();
        let generate = GenerateJob { job: job.id(), input, caller, within_ms: millis(within) };
        self.jobs.send(&ToWorker::Generate(generate), Vec::new()).await?;
        Ok(GenerateStream::new(job, events, self.end.clone()))
    }

    /// Jobs that run or wait.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.jobs.len()
    }

    /// Waits until the process is gone, and says why.
    pub async fn exited(&self) -> EngineError {
        let mut end = self.end.clone();
        let why = end.wait_for(Option::is_some).await.ok().and_then(|w| w.clone());
        EngineError::Died(why.as_deref().unwrap_or("its supervisor ended").to_owned())
    }

    /// Kills the process and waits until it is gone; jobs that run get [`EngineError::Died`].
    pub async fn stop(&self) {
        self.stop.cancel();
        self.exited().await;
    }

    fn died(&self) -> EngineError {
        EngineError::Died(self.end.borrow().as_deref().unwrap_or("it is being stopped").to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn millis(within: Duration) -> u64 {
    u64::try_from(within.min(LONGEST).as_millis()).unwrap_or(u64::MAX)
}

fn wrong_answer() -> EngineError {
    EngineError::Protocol("it answered another question than it was asked".to_owned())
}

fn start(config: &WorkerConfig, socket: std::os::fd::OwnedFd) -> Result<Child, EngineError> {
    let threads = config.threads.max(1).to_string();
    Command::new(&config.program)
        .args(&config.args)
        // The node's environment may hold secrets; the child needs none of it.
        .env_clear()
        .env(MEMORY_VARIABLE, config.memory_bytes.to_string())
        .env(THREADS_VARIABLE, &threads)
        .env("RAYON_NUM_THREADS", &threads)
        // candle's threads spin between products; a low bound keeps that from starving other processes.
        .env("CANDLE_BARRIER_POOL_SPIN_LIMIT", "2000")
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0) // Ctrl-C in a terminal is for the node, which stops its workers in order.
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| EngineError::Spawn { program: config.program.clone(), source })
}
