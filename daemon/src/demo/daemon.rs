//! One node of the demo: a child process running `zero2ai up` on a home of its own.

use std::{
    fs::{DirBuilder, File},
    os::unix::{
        fs::DirBuilderExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use zero2ai_node::home::Home;

use super::wait::until;
use crate::{
    commands::{status::node_status, write_file},
    exit::{Exit, Failure, Outcome, file_error},
    session::Session,
};

/// A node must answer within this after its start: it joins, redeems its ticket and syncs blocks first.
const START: Duration = Duration::from_secs(30);
/// An ordered stop ends within this: calls are drained for a bounded time.
const STOP: Duration = Duration::from_secs(15);
/// Settings of the demo's nodes: anchors come quickly, so that a user need not wait for them.
const CONFIG: &str = "# Written by `zero2ai demo`.\nanchor_ms = 1000\n";

/// See the module. Dropped, it kills its process unless that was released.
pub(crate) struct Daemon {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    keep: bool,
    released: bool,
    child: Option<Child>,
    session: Option<Session>,
}

impl Daemon {
    /// A node that does not run yet, with a fresh home.
    pub(crate) fn new(name: String, home: PathBuf, keep: bool) -> Outcome<Self> {
        if Home::exists(&home) {
            let why = format!("{} holds a pool already. Give the demo an empty --homes folder.", home.display());
            return Err(Failure::new(Exit::Config, why));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&home)
            .map_err(|e| file_error("make the folder", &home, &e))?;
        write_file("write", &home.join("config.toml"), CONFIG.as_bytes())?;
        Ok(Self { name, home, keep, released: false, child: None, session: None })
    }

    /// Where the process writes its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("daemon.log")
    }

    /// Starts the process; [`Self::ready`] waits for it.
    pub(crate) fn spawn(&mut self, invite: Option<&Path>) -> Outcome {
        let program = std::env::current_exe()
            .map_err(|e| Failure::new(Exit::Internal, format!("This program cannot find its own file: {e}.")))?;
        let log_path = self.log();
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.and_then(|log| Ok((log.try_clone()?, log))).map_err(|e| file_error("write", &log_path, &e))?;
        let mut command = Command::new(&program);
        command.arg("up").arg("--home").arg(&self.home).stdout(log.0).stderr(log.1);
        command.process_group(0); // Ctrl-C at the terminal reaches the demo alone, which then ends its nodes
        if let Some(invite) = invite {
            command.arg("--join-file").arg(invite);
        }
        if self.keep {
            command.stdin(Stdio::null());
        } else {
            command.arg("--until-stdin-closes").stdin(Stdio::piped());
        }
        self.session = None;
        self.child = Some(command.spawn().map_err(|e| file_error("start", &program, &e))?);
        Ok(())
    }

    /// Waits until the node answers.
    pub(crate) async fn ready(&mut self) -> Outcome {
        let what = format!("{} answers", self.name);
        let session = until(&what, START, async || {
            self.alive()?;
            if Home::running(&self.home).is_none() {
                return Ok(None);
            }
            let Ok(session) = Session::open(&self.home).await else { return Ok(None) };
            Ok(node_status(&session).await.is_ok().then_some(session))
        })
        .await
        .map_err(|e| self.with_log(e))?;
        self.session = Some(session);
        Ok(())
    }

    /// The line to the node.
    pub(crate) fn session(&self) -> Outcome<&Session> {
        self.session.as_ref().ok_or_else(|| Failure::new(Exit::Internal, format!("{} is not running", self.name)))
    }

    /// Lets the process run on after the demo, if it was started to be kept.
    pub(crate) fn release(&mut self) {
        self.released = self.keep;
    }

    /// True between a start and the kill or stop that the demo asked for.
    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// A failure if the process ended by itself.
    pub(crate) fn alive(&mut self) -> Outcome {
        let Some(child) = &mut self.child else { return Ok(()) };
        match child.try_wait() {
            Ok(Some(status)) => {
                self.child = None;
                let failure = Failure::new(Exit::Internal, format!("{} ended by itself ({status}).", self.name));
                Err(self.with_log(failure))
            }
            _ => Ok(()),
        }
    }

    /// SIGKILL: no warning, no orderly end.
    pub(crate) fn kill(&mut self) {
        self.session = None;
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the ordered end.
    pub(crate) async fn stop(&mut self) -> Outcome {
        self.session = None;
        let Some(child) = &mut self.child else { return Ok(()) };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM); // it may have ended already: the wait below tells
        }
        let what = format!("{} stops after SIGTERM", self.name);
        let ended = until(&what, STOP, async || Ok(child.try_wait().ok().flatten())).await;
        match ended {
            Ok(status) if status.success() => {
                self.child = None;
                Ok(())
            }
            Ok(status) => {
                self.child = None;
                let how = status.signal().map_or_else(|| status.to_string(), |s| format!("signal {s}"));
                let failure = Failure::new(Exit::Internal, format!("{} did not stop in order: {how}.", self.name));
                Err(self.with_log(failure))
            }
            Err(e) => Err(self.with_log(e)),
        }
    }

    /// A failure with the place and the end of this node's log.
    pub(crate) fn with_log(&self, mut failure: Failure) -> Failure {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(6).collect();
        let tail: Vec<&str> = lines.into_iter().rev().collect();
        failure.message += &format!("\nLog of {}: {}\n  {}", self.name, self.log().display(), tail.join("\n  "));
        failure
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.released {
            self.kill();
        }
    }
}
