//! Looks at a file or folder as a publication would: what it is, and what a worker finds in it. Needs no node; nothing is stored
//! or sent. A hostile file meets the same sandbox as one that is published.

use std::{path::PathBuf, sync::Arc, time::Instant};

use tokio::sync::mpsc;
use zero2ai_proto::{
    manifest::{ConformanceSample, Format},
    rpc::RpcError,
    worker::ModelInfo,
};

use super::{source::Source, trial::into_memory};
use crate::{config::Config, jobs::load::start_worker, node::worker_config, serve::errors::internal};

/// What a file or folder is.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Format of the model as a whole.
    pub format: Format,
    /// Path, bytes and format of each file, in the order of their paths.
    pub files: Vec<(String, u64, Format)>,
    /// What a worker found, or why none looked or could run it.
    pub model: Result<InspectedModel, String>,
}

/// What a worker found in a model that runs here.
#[derive(Clone, Debug)]
pub struct InspectedModel {
    /// What it takes and gives.
    pub info: ModelInfo,
    /// Most memory that the worker had in use until it was ready, bytes; none where the system does not tell.
    pub memory_bytes: Option<u64>,
    /// Milliseconds from the worker's start until it was ready.
    pub load_ms: u64,
}

/// Looks at `path` with a worker of `config`'s limits, which `program` is started as and which is held to `samples`.
///
/// # Errors
/// The files cannot be read or are not whole. A model that does not run is no error: see [`Inspection::model`].
pub async fn inspect(
    path: PathBuf,
    samples: Vec<ConformanceSample>,
    config: &Config,
    program: PathBuf,
) -> Result<Inspection, RpcError> {
    let source = tokio::task::spawn_blocking(move || Source::look(&path)).await.map_err(internal)??;
    let source = Arc::new(source);
    let files = source.files.iter().map(|f| (f.path.clone(), f.size, f.format)).collect();
    let model = match source.run.clone() {
        Ok(run) => try_model(&source, run, samples, config, program).await,
        Err(why) => Err(why),
    };
    Ok(Inspection { format: source.format, files, model })
}

async fn try_model(
    source: &Arc<Source>,
    run: Vec<usize>,
    samples: Vec<ConformanceSample>,
    config: &Config,
    program: PathBuf,
) -> Result<InspectedModel, String> {
    let worker = worker_config(config, program);
    let bytes: u64 = run.iter().map(|i| source.files[*i].size).sum();
    if bytes > worker.memory_bytes {
        let limit = worker.memory_bytes;
        return Err(format!("its {bytes} bytes do not fit the {limit} of a worker (worker.memory_mb in config.toml)"));
    }
    let from = Arc::clone(source);
    // Nobody listens to its progress.
    let (tell, _) = mpsc::channel(1);
    let read = move || run.iter().map(|i| into_memory(&from, *i, &tell)).collect::<Result<Vec<_>, _>>();
    let files = tokio::task::spawn_blocking(read).await.map_err(|e| e.to_string())?.map_err(|e| e.message)?;
    let start = Instant::now();
    let (worker, info) = start_worker(worker, source.format, files, samples).await.map_err(|e| e.message)?;
    let load_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let memory_bytes = worker.pid().and_then(peak_memory);
    worker.stop().await;
    Ok(InspectedModel { info, memory_bytes, load_ms })
}

/// The most memory that a process had in use.
fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
