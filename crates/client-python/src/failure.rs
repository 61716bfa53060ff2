//! Errors as Python's: a code for programs and a paragraph for people. The classes are in `python/zero2ai/_errors.py`.

use pyo3::{PyErr, Python, types::PyAnyMethods as _};
use zero2ai_client::{CallError, ClientError, ConnectError};
use zero2ai_proto::rpc::ErrorCode;

/// Why something failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: &'static str,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What the caller gave cannot be used.
    pub(crate) fn invalid(why: impl std::fmt::Display) -> Self {
        Self::new("invalid", why.to_string())
    }

    /// As the exception of its code.
    pub(crate) fn raise(self, py: Python<'_>) -> PyErr {
        let made = py.import("zero2ai._errors").and_then(|m| m.getattr("error")?.call1((self.code, self.message)));
        made.map_or_else(|e| e, PyErr::from_value)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(code(&error), error.to_string())
    }
}

/// The same words as the `--json` errors of the `zero2ai` program.
fn code(error: &ClientError) -> &'static str {
    if error.is_missing() {
        return "not_found";
    }
    match error {
        ClientError::NoNode { last, .. } => connecting(last),
        ClientError::Call(error) => calling(error),
        ClientError::Exhausted { last, .. } => code(last),
        ClientError::Proof(_) | ClientError::Untrue { .. } => "unverified",
        ClientError::NoBootstrap(_)
        | ClientError::NoGenesis(_)
        | ClientError::OtherPool { .. }
        | ClientError::Membership { .. } => "config",
        ClientError::Withdrawn { .. } | ClientError::NoEndpoint { .. } => "not_found",
        ClientError::TimeOver { .. } => "timeout",
        ClientError::NotAdmitted(_) => "denied",
        ClientError::Tensor(_) | ClientError::Tensors(_) | ClientError::Codec(_) => "invalid",
        ClientError::Bind(_) | ClientError::Randomness(_) => "internal",
    }
}

fn connecting(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::NoAddress { .. } | ConnectError::Unreachable { .. } | ConnectError::Handshake { .. } => {
            "unreachable"
        }
        ConnectError::WrongIdentity { .. } => "unverified",
        ConnectError::WrongPoolKey { .. } => "denied",
        ConnectError::Busy { .. } => "busy",
    }
}

fn calling(error: &CallError) -> &'static str {
    match error {
        CallError::Connect(error) => connecting(error),
        CallError::Closed { .. } => "unreachable",
        CallError::Timeout { .. } => "timeout",
        CallError::Codec { what: "the request", .. } => "invalid",
        CallError::Codec { .. } => "unverified",
        CallError::Remote(error) => match error.code {
            ErrorCode::Invalid => "invalid",
            ErrorCode::Denied => "denied",
            ErrorCode::NotFound => "not_found",
            ErrorCode::Busy => "busy",
            ErrorCode::Timeout => "timeout",
            ErrorCode::Unsupported => "unsupported",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::Internal => "internal",
            ErrorCode::Clock => "clock",
            ErrorCode::Storage => "storage",
            ErrorCode::Model => "model",
        },
    }
}
