//! Runs the real binary on temporary homes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The binary, with no settings of the user's around it.
pub(crate) fn zero2ai(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zero2ai"));
    command.env_remove("RUST_LOG").env("ZERO2AI_HOME", home).stdin(Stdio::null());
    command
}

/// Runs to the end and gives exit code, standard output and standard error.
pub(crate) fn run(home: &Path, arguments: &[&str]) -> (i32, String, String) {
    finish(zero2ai(home).args(arguments).output().unwrap())
}

/// A process's end as text.
pub(crate) fn finish(output: Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Runs a command that must work, with `--json`, and gives its result.
pub(crate) fn json(home: &Path, arguments: &[&str]) -> serde_json::Value {
    let (code, out, err) = run(home, &[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{arguments:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {out}"))
}

/// A file of the digits fixture.
pub(crate) fn digits(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testnet/fixtures/digits").join(name)
}

/// A running node; killed when dropped.
pub(crate) struct Up(pub(crate) Child);

impl Up {
    /// Starts a node on `home` and waits until it answers.
    pub(crate) fn start(home: &Path, arguments: &[&str]) -> Self {
        std::fs::create_dir_all(home).unwrap();
        let log = std::fs::File::create(home.with_extension("log")).unwrap();
        let child =
            zero2ai(home).arg("up").args(arguments).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut up = Self(child);
        let start = Instant::now();
        while run(home, &["status"]).0 != 0 {
            let log = || std::fs::read_to_string(home.with_extension("log")).unwrap_or_default();
            assert!(up.0.try_wait().unwrap().is_none(), "the node ended: {}", log());
            assert!(start.elapsed() < Duration::from_secs(30), "the node does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        up
    }

    /// Waits for the process's own end and gives its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the node does not end");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
