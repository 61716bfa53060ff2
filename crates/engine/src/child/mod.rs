//! The worker process: into the sandbox first, then frames from standard input (one end of a socket pair) until the node
//! closes it. Holds no keys and one model.

mod executor;
mod link;
mod sandbox;

use std::{
    os::{fd::AsFd, unix::net::UnixStream},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use zero2ai_proto::worker::{FromWorker, ToWorker, WORKER_PROTOCOL, WorkerReady};

use self::{
    executor::{Executor, Job},
    link::{Reader, Writer},
};
use crate::error::{EngineError, chain};

pub(crate) use sandbox::{LANDLOCK, SECCOMP};

/// Environment variable with the memory limit, bytes.
pub(crate) const MEMORY_VARIABLE: &str = "ZERO2AI_WORKER_MEMORY_BYTES";
/// Environment variable with the number of computing threads.
pub(crate) const THREADS_VARIABLE: &str = "CANDLE_NUM_THREADS";

/// Jobs read ahead of the one being run. When full, the reader waits, then the socket fills, then the node waits.
const READ_AHEAD: usize = 16;

/// Entry of the worker process: call it first thing in `main`, before any thread is started (a sandbox binds the calling
/// thread and its children). Standard input must be the socket that [`crate::Worker::spawn`] makes. Returns when the node
/// closes it: success, or 1 after an error, which is said on standard error.
#[must_use]
pub fn worker_main() -> ExitCode {
    worker_main_with(WorkerOptions::default())
}

/// What a worker does or leaves out. No answer depends on it.
#[derive(Clone, Copy, Debug)]
pub struct WorkerOptions {
    /// Whether texts' next tokens are guessed from what stood there before (prompt look-up), so that several come out of one
    /// pass where a text repeats itself. Left out only to measure what it is worth.
    pub look_up: bool,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self { look_up: true }
    }
}

/// [`worker_main`], with options.
#[must_use]
pub fn worker_main_with(options: WorkerOptions) -> ExitCode {
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(options: WorkerOptions) -> Result<(), EngineError> {
    let stdin = std::io::stdin();
    let stdin = stdin.as_fd();
    if !rustix::fs::fstat(stdin).is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_socket()) {
        return Err(EngineError::worker(
            "a worker is started by a node, with a socket as its standard input; it is of no use from a terminal",
        ));
    }
    let duplicate = || stdin.try_clone_to_owned().map(UnixStream::from).map_err(EngineError::Socket);
    let (mut reader, writer) = (Reader::new(duplicate()?), Arc::new(Writer::new(duplicate()?)));
    let memory = std::env::var(MEMORY_VARIABLE).ok().and_then(|v| v.parse().ok());
    let _ = rustix::process::nice(NICE); // The node's own work (votes, streams) goes before computing.
    let sandbox = sandbox::enter(memory);
    writer.send(&FromWorker::Ready(WorkerReady { protocol: WORKER_PROTOCOL, sandbox }))?;

    let (jobs, queue) = mpsc::sync_channel(READ_AHEAD);
    let executor = Executor::new(queue, Arc::clone(&writer), memory, options);
    thread::Builder::new()
        .name("executor".to_owned())
        .stack_size(EXECUTOR_STACK)
        .spawn(move || {
            // Nobody else could answer jobs: without the executor the process ends, and the node notices.
            match catch_unwind(AssertUnwindSafe(|| executor.run())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    eprintln!("{}", chain(&error));
                    std::process::exit(1)
                }
                Err(_) => std::process::exit(1),
            }
        })
        .map_err(EngineError::Socket)?;
    while let Some(frame) = reader.next()? {
        let job = match frame {
            ToWorker::Load(load) => {
                let fds = reader.take_fds(load.files.len());
                let fds = fds.ok_or_else(|| EngineError::Protocol("a load came without its files".to_owned()))?;
                Job::Load(load, fds)
            }
            ToWorker::Predict(job) => Job::Predict(until(job.within_ms), job),
            ToWorker::Generate(job) => Job::Generate(until(job.within_ms), job),
            ToWorker::Cancel(id) => Job::Cancel(id),
        };
        if jobs.send(job).is_err() {
            break;
        }
    }
    // When the node is gone nothing computed can be of use: leave without waiting for the job that runs.
    Ok(())
}

/// When a job that came now is to be given up.
fn until(within_ms: u64) -> Instant {
    let now = Instant::now();
    now.checked_add(Duration::from_millis(within_ms)).unwrap_or(now)
}

/// How much the worker gives way to others on a busy machine; 0 is as everyone, 19 the most.
const NICE: i32 = 5;

/// Bytes of stack of the thread that parses and optimises models: graph passes recurse.
const EXECUTOR_STACK: usize = 16 * 1024 * 1024;
