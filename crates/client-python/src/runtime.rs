//! The tokio runtime of the process: made at the first call, and never stopped, since Python has no moment for it.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

use crate::failure::Failure;

/// Threads: one to move packets while another checks signatures. A client's work is small.
const THREADS: usize = 2;

/// The runtime.
pub(crate) fn runtime() -> Result<&'static Runtime, Failure> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let make = || Builder::new_multi_thread().worker_threads(THREADS).thread_name("zero2ai").enable_all().build();
    let runtime = RUNTIME.get_or_init(|| make().map_err(|e| e.to_string()));
    runtime.as_ref().map_err(|e| Failure::new("internal", format!("the runtime cannot be started: {e}")))
}
