//! Frames between a node and its worker process, over a Unix socket pair: a big-endian `u32` length and canonical CBOR.
//! A worker holds no keys; model files come as sealed memory file descriptors beside the `Load` frame.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    calls::{GenerateInput, StopReason, TokenPiece},
    manifest::{ConformanceSample, Format, Task},
    tensor::{Tensor, TensorSpec},
};

/// Version of these frames; a worker of another version is refused at its `Ready`.
pub const WORKER_PROTOCOL: u16 = 3;

/// Node to worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Load a model; the file descriptors travel beside this frame, one a file, in order.
    Load(LoadModel),
    /// Run one prediction.
    Predict(PredictJob),
    /// Generate text.
    Generate(GenerateJob),
    /// The caller of this job went away.
    Cancel(u64),
}

/// See [`ToWorker::Load`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadModel {
    /// Names the answer.
    pub job: u64,
    /// Format of the files.
    pub format: Format,
    /// Names of the files.
    pub files: Vec<String>,
    /// Run after loading; a mismatch fails the load.
    pub conformance: Vec<ConformanceSample>,
}

/// See [`ToWorker::Predict`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictJob {
    /// Names the answer.
    pub job: u64,
    /// The inputs.
    pub inputs: Vec<Tensor>,
    /// Milliseconds, from the frame's arrival on, after which the job is given up with [`Fault::Late`].
    pub within_ms: u64,
}

/// See [`ToWorker::Generate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateJob {
    /// Names the answer.
    pub job: u64,
    /// The input.
    pub input: GenerateInput,
    /// Whose it is, 64 bytes at most; empty for nobody. Callers are served alike, and none profits from what was computed for
    /// another; answers do not depend on it.
    pub caller: ByteBuf,
    /// As in [`PredictJob`].
    pub within_ms: u64,
}

/// Worker to node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// First frame: the sandbox stands.
    Ready(WorkerReady),
    /// A model is loaded and reproduced its conformance samples.
    Loaded(LoadedModel),
    /// Answer to a prediction.
    Predicted(PredictedJob),
    /// One token.
    Token(TokenJob),
    /// A generation ended.
    Generated(GeneratedJob),
    /// A job failed; the worker goes on.
    Failed(FailedJob),
}

/// See [`FromWorker::Ready`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReady {
    /// [`WORKER_PROTOCOL`] of the worker.
    pub protocol: u16,
    /// Which restrictions hold, for people and logs; empty means none.
    pub sandbox: Vec<String>,
}

/// See [`FromWorker::Loaded`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModel {
    /// The load job.
    pub job: u64,
    /// What the model does, as found in its files.
    pub info: ModelInfo,
}

/// What a model takes and gives, as found in its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// What it does.
    pub task: Task,
    /// The architecture's name in its own format, such as `llama` or `onnx`.
    pub architecture: String,
    /// The runtime that runs it.
    pub runtime: String,
    /// Inputs.
    pub inputs: Vec<TensorSpec>,
    /// Outputs.
    pub outputs: Vec<TensorSpec>,
    /// Number of parameters, where the format says.
    pub parameters: u64,
}

/// See [`FromWorker::Predicted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredictedJob {
    /// The job.
    pub job: u64,
    /// The outputs.
    pub outputs: Vec<Tensor>,
}

/// See [`FromWorker::Token`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenJob {
    /// The job.
    pub job: u64,
    /// The token.
    pub piece: TokenPiece,
}

/// See [`FromWorker::Generated`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratedJob {
    /// The job.
    pub job: u64,
    /// Why it ended.
    pub reason: StopReason,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
}

/// See [`FromWorker::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedJob {
    /// The job.
    pub job: u64,
    /// Whose fault it is.
    pub fault: Fault,
    /// One paragraph: what failed, why, what to do.
    pub message: String,
}

/// Whose fault a failed job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The caller's input: wrong shape, prompt too long.
    Input,
    /// The model's files.
    Model,
    /// The worker's own.
    Worker,
    /// Nobody's: too much work at the moment, at another node or later it may be done.
    Busy,
    /// Nobody's: the time set for the job was over first.
    Late,
}
