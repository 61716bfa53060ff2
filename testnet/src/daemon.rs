//! One node as a child process, and the commands a user runs beside it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::binary::zero2ai;

/// How long a node may take to answer after its start.
const READY: Duration = Duration::from_secs(30);

/// A running node. Killed when dropped.
pub struct Daemon {
    home: PathBuf,
    /// The network namespace that it runs in, if it is not this program's.
    namespace: Option<String>,
    child: Option<Child>,
}

/// What a command printed and returned.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output as JSON.
    ///
    /// # Errors
    /// The command failed, or printed something else.
    pub fn json(&self) -> Result<Value> {
        ensure!(self.code == 0, "exit code {}: {}{}", self.code, self.stderr, self.stdout);
        serde_json::from_str(&self.stdout).with_context(|| format!("not JSON: {}", self.stdout))
    }
}

/// The program, in a network namespace.
fn program(namespace: Option<&str>) -> Result<Command> {
    let Some(namespace) = namespace else { return Ok(Command::new(zero2ai()?)) };
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(zero2ai()?);
    Ok(command)
}

/// Runs a `zero2ai` command on `home`.
///
/// # Errors
/// The binary cannot be run.
pub fn run(home: &Path, args: &[&str]) -> Result<Ran> {
    run_in(None, home, args)
}

/// A command that waits for no grade after a publication unless `--wait` says so: few of these networks have a validator at work.
fn command_in(namespace: Option<&str>, home: &Path, args: &[&str]) -> Result<Command> {
    let mut command = program(namespace)?;
    command.arg("--home").arg(home).args(args).env_remove("ZERO2AI_HOME").env("ZERO2AI_PUBLISH_WAIT", "0");
    command.stdin(Stdio::null());
    Ok(command)
}

fn run_in(namespace: Option<&str>, home: &Path, args: &[&str]) -> Result<Ran> {
    let output = command_in(namespace, home, args)?.output().context("running zero2ai")?;
    Ok(Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Daemon {
    /// Starts `zero2ai up` with `extra` arguments on `home` and waits until it answers.
    ///
    /// # Errors
    /// It ended, or did not answer in time; the message holds the end of its log.
    pub fn up(home: &Path, extra: &[&str]) -> Result<Self> {
        Self::up_in(None, home, extra)
    }

    /// The same in a network namespace, whose address the settings must name: `listen_rpc` and `listen_swarm`.
    ///
    /// # Errors
    /// As [`Daemon::up`].
    pub fn up_in(namespace: Option<&str>, home: &Path, extra: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(home)?;
        let mut daemon = Self { home: home.to_owned(), namespace: namespace.map(str::to_owned), child: None };
        daemon.start(extra)?;
        Ok(daemon)
    }

    /// Starts it again on the same home.
    ///
    /// # Errors
    /// As [`Daemon::up`].
    pub fn start(&mut self, extra: &[&str]) -> Result<()> {
        // A file left by a killed node would look like an answer.
        let _ = std::fs::remove_file(self.home.join("node.addr"));
        let log = File::options().create(true).append(true).open(self.log())?;
        let child = program(self.namespace.as_deref())?
            .arg("--home")
            .arg(&self.home)
            .arg("up")
            .args(extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting a node")?;
        self.child = Some(child);
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten()) {
                bail!("the node ended with {status}: {}", self.log_end());
            }
            if self.home.join("node.addr").exists() && self.run(&["status", "--json"])?.code == 0 {
                return Ok(());
            }
            ensure!(start.elapsed() < READY, "the node does not answer: {}", self.log_end());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The JSON of a command that is tried until it ends well, for a minute: nodes hear of each other and of names by gossip.
    ///
    /// # Errors
    /// It never did; the message holds what it said last.
    pub fn until(&self, args: &[&str]) -> Result<Value> {
        let start = Instant::now();
        loop {
            let ran = self.run(&[&["--json"], args].concat())?;
            if ran.code == 0 {
                return ran.json();
            }
            ensure!(start.elapsed() < Duration::from_secs(60), "{args:?} failed: {ran:?}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Its home folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    fn log(&self) -> PathBuf {
        self.home.with_extension("log")
    }

    /// The end of its log, for messages.
    #[must_use]
    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Runs a command on its home.
    ///
    /// # Errors
    /// The binary cannot be run.
    pub fn run(&self, args: &[&str]) -> Result<Ran> {
        run_in(self.namespace.as_deref(), &self.home, args)
    }

    /// Starts a command on its home that does not end by itself; it is killed when dropped. Its output goes to the node's log.
    ///
    /// # Errors
    /// The binary cannot be run.
    pub fn spawn(&self, args: &[&str]) -> Result<Beside> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = command_in(self.namespace.as_deref(), &self.home, args)?;
        Ok(Beside(command.stdout(log.try_clone()?).stderr(log).spawn().context("running zero2ai")?))
    }

    /// Runs a command with `--json` and reads its answer.
    ///
    /// # Errors
    /// The command failed.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        self.run(&[args, &["--json"]].concat())?.json().with_context(|| format!("zero2ai {}", args.join(" ")))
    }

    /// Its key: who it is in its pool.
    ///
    /// # Errors
    /// It does not answer.
    pub fn key(&self) -> Result<String> {
        Ok(self.json(&["status"])?["node"].as_str().context("a key")?.to_owned())
    }

    /// Its process.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("not running")?.id())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// There is no such process any more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("not running")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process id is positive")?;
        Ok(kill_process(pid, signal)?)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until it ends by itself, and gives its exit code; -1 if a signal ended it.
    ///
    /// # Errors
    /// It still runs after `patience`.
    pub fn ended(&mut self, patience: Duration) -> Result<i32> {
        let mut child = self.child.take().context("not running")?;
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.code().unwrap_or(-1));
            }
            if start.elapsed() > patience {
                let _ = child.kill();
                bail!("the node did not end: {}", self.log_end());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM, and the exit code.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn terminate(&mut self) -> Result<i32> {
        self.signal(Signal::TERM)?;
        self.ended(READY)
    }
}

/// A command that runs beside a node.
pub struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
