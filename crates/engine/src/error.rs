//! The one error of this crate.

use std::{io, path::PathBuf};

use zero2ai_proto::{CodecError, worker::Fault};

/// Why the engine could not do something.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A job failed in the worker; the worker goes on.
    #[error("{message}")]
    Failed {
        /// Whose fault it is.
        fault: Fault,
        /// One paragraph: what failed, why, what to do.
        message: String,
    },
    /// The worker program could not be started.
    #[error("the worker process '{}' could not be started; check that the program exists and may be executed", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The worker could not put itself into a sandbox.
    #[error(
        "no sandbox stands on this host (the worker reports: {}), so no model is run; use a kernel with Landlock (5.13 or newer) \
         and seccomp, or allow unsandboxed workers in the configuration", if sandbox.is_empty() { "none".to_owned() } else { sandbox.join(", ") }
    )]
    Unsandboxed {
        /// The restrictions that do hold.
        sandbox: Vec<String>,
    },
    /// The worker broke the rules of its socket, and was killed.
    #[error("the worker process broke its protocol and was killed: {0}")]
    Protocol(String),
    /// The worker is gone; load the model again in a new one.
    #[error("the worker process died ({0}); load the model again in a new worker")]
    Died(String),
    /// Too many jobs are waiting in the worker.
    #[error("the model is busy: {0} jobs are waiting; try again soon, or at another node")]
    Busy(usize),
    /// A frame that is too large or cannot be encoded.
    #[error("the job could not be sent to the worker; send smaller inputs")]
    Frame(#[from] CodecError),
    /// Memory for a model's file could not be had or written.
    #[error("memory for the model file '{name}' could not be {what}; free memory or run fewer models")]
    File {
        /// The file's name.
        name: String,
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A system call of the socket pair failed.
    #[error("the socket to the worker process failed; restart the node if this stays so")]
    Socket(#[source] io::Error),
}

impl EngineError {
    /// Whose fault this is: what a caller may mend, what condemns the model, what another node or a later time may do, or
    /// none of these.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Failed { fault, .. } => *fault,
            Self::Frame(_) => Fault::Input,
            Self::Busy(_) => Fault::Busy,
            _ => Fault::Worker,
        }
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::Failed { fault: Fault::Input, message: message.into() }
    }

    pub(crate) fn model(message: impl Into<String>) -> Self {
        Self::Failed { fault: Fault::Model, message: message.into() }
    }

    pub(crate) fn late() -> Self {
        let message =
            "the time set for this job was over before it was done; ask for less, or allow more time".to_owned();
        Self::Failed { fault: Fault::Late, message }
    }

    pub(crate) fn worker(message: impl Into<String>) -> Self {
        Self::Failed { fault: Fault::Worker, message: message.into() }
    }
}

/// The message with its whole chain of causes, for the far side of a socket.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
