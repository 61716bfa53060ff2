//! The worker process as a program of its own: for this crate's tests, and for builds that keep the runtimes (a CUDA one,
//! say) out of the daemon's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    zero2ai_engine::worker_main()
}
