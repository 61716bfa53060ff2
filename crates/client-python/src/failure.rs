//! Errors as Python's: a code for programs and a paragraph for people. The classes are in `python/zero2ai/_errors.py`.

use pyo3::{PyErr, Python, types::PyAnyMethods as _};
use zero2ai_client::ClientError;

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
        Self::new(error.kind().word(), error.to_string())
    }
}
