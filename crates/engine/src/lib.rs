//! Loading and running models in sandboxed worker processes.
//!
//! A model file is hostile until shown otherwise, so no model runs in the process that uses this crate: each runs in a
//! child process without keys, network or file system, which gets the model's bytes as sealed memory and speaks frames of
//! [`zero2ai_proto::worker`] over one socket. When the child dies, its callers get an error and nothing else happens.
//!
//! This crate knows nothing of names, peers, the ledger or where a model's bytes come from. It is the only one that names
//! candle, tract or cudarc.
//!
//! | module | owns |
//! |---|---|
//! | `worker` | the caller's side: [`Worker`] starts the process, multiplexes jobs over its socket, notices its death |
//! | `file` | [`ModelFile`]: a model's bytes as a sealed memory file |
//! | `child` | the process's side: [`worker_main`], its sandbox and its job loop |
//! | `runtime` | what runs a model, behind one trait: ONNX on tract, text from GGUF and embeddings from safetensors on
//! | | `zero2ai-kernels` |
//! | `hardware` | what this machine has: [`hardware()`] |
//! | `frame` | frames on the socket, both sides |
//! | `error` | [`EngineError`] |

mod child;
mod error;
mod file;
mod frame;
mod hardware;
mod runtime;
mod worker;

pub use child::{WorkerOptions, worker_main, worker_main_with};
pub use error::EngineError;
pub use file::ModelFile;
pub use hardware::{Gpu, Hardware, hardware};
pub use runtime::{is_embedder_file, load_here};
pub use worker::{GenEvent, GenerateStream, Worker, WorkerConfig};
