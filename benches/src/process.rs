//! Child processes of a bench. A child says `ready` once it can begin, begins when it reads a line, and says `done` and its
//! own figures when it has ended: so neither its start nor ours is measured.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{self, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::{
    resource::{UsageWho, getrusage},
    signal::{Signal, kill},
    time::TimeValLike,
};

/// Longest wait for any one line of a child: beyond it, the bench fails rather than hang.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a child may take to end when asked to.
const END: Duration = Duration::from_secs(20);
/// Clock ticks a second in `/proc/PID/stat`: fixed by Linux's interface.
const TICKS: f64 = 100.0;

/// Where a process runs: in a network namespace or in the one of the bench.
pub(crate) type Namespace = Option<String>;

/// `program` as a command in `namespace`.
pub(crate) fn command(namespace: &Namespace, program: impl AsRef<std::ffi::OsStr>) -> Command {
    match namespace {
        None => Command::new(program),
        Some(name) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", name]).arg(program);
            command
        }
    }
}

/// A running child.
pub(crate) struct Child {
    name: String,
    process: process::Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<(Instant, String)>,
    log: PathBuf,
    cpu_at_ready: f64,
    ended: bool,
}

impl Child {
    /// Starts `command`; what it writes to its standard error goes to `NAME.log` in `logs`.
    pub(crate) fn start(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let errors = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {name} ({:?}): is it installed?", command.get_program()))?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().context("no output")?;
        // Bounded; a child that says more than anybody reads waits, as with any pipe.
        let (sender, lines) = sync_channel(64);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name: name.into(), process, stdin, lines, log, cpu_at_ready: 0.0, ended: false })
    }

    /// Waits for a line that begins with `word`; returns when it came and the rest of it.
    pub(crate) fn expect(&self, word: &str) -> Result<(Instant, String)> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok((when, line)) => {
                    if let Some(rest) = line.strip_prefix(word) {
                        return Ok((when, rest.trim().to_owned()));
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("{} did not say '{word}' within {PATIENCE:?}", self.name),
                Err(RecvTimeoutError::Disconnected) => {
                    let said = fs::read_to_string(&self.log).unwrap_or_default();
                    bail!("{} ended without saying '{word}'. It said: {}", self.name, said.trim());
                }
            }
        }
    }

    /// Waits until it can begin.
    pub(crate) fn ready(&mut self) -> Result<()> {
        self.expect("ready")?;
        self.cpu_at_ready = self.cpu_now();
        Ok(())
    }

    /// Lets it begin.
    pub(crate) fn go(&mut self) -> Result<Instant> {
        self.tell("go")
    }

    /// Lets it begin with a line of its own.
    pub(crate) fn tell(&mut self, line: &str) -> Result<Instant> {
        let stdin = self.stdin.as_mut().context("no input")?;
        let now = Instant::now();
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .and_then(|()| stdin.flush())
            .with_context(|| format!("tell {} to begin", self.name))?;
        Ok(now)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Processor seconds used so far, to a hundredth.
    fn cpu_now(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        // The name in the second field may hold blanks; user and system time are fields 14 and 15.
        let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
        fields.filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / TICKS
    }

    /// Processor seconds since it was ready, to a hundredth.
    pub(crate) fn cpu(&self) -> f64 {
        self.cpu_now() - self.cpu_at_ready
    }

    /// Waits for its end; returns the processor seconds it used since it was ready. Call it for one child at a time.
    pub(crate) fn wait(mut self) -> Result<f64> {
        let before = children_cpu()?;
        let status = self.process.wait()?;
        self.ended = true;
        if !status.success() {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            bail!("{} failed with {status}. It said: {}", self.name, said.trim());
        }
        Ok(children_cpu()? - before - self.cpu_at_ready)
    }

    /// Asks it to end, and sees that it does; returns the processor seconds it used since it was ready.
    pub(crate) fn stop(mut self) -> Result<f64> {
        let before = children_cpu()?;
        self.end()?;
        Ok(children_cpu()? - before - self.cpu_at_ready)
    }

    /// Asks it to end without waiting, so that many can end side by side.
    pub(crate) fn hint(&self) -> Result<()> {
        // Gone already is as good.
        let _ = kill(self.pid()?, Signal::SIGTERM);
        Ok(())
    }

    fn pid(&self) -> Result<nix::unistd::Pid> {
        Ok(nix::unistd::Pid::from_raw(i32::try_from(self.process.id())?))
    }

    fn end(&mut self) -> Result<()> {
        self.ended = true;
        drop(self.stdin.take());
        self.hint()?;
        let asked = Instant::now();
        while self.process.try_wait()?.is_none() {
            if asked.elapsed() > END {
                self.process.kill()?;
                self.process.wait()?;
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended
            && let Err(e) = self.end()
        {
            eprintln!("{} could not be stopped: {e}", self.name);
        }
    }
}

/// Processor seconds of all children that were waited for.
fn children_cpu() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}

/// Runs a command to its end; its output is part of the error if it fails.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {:?}: is it installed?", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
