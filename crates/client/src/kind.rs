//! Failures by kind: the one table from every error a client can meet to the word that programs are given. The exit codes of
//! the `zero2ai` program and the exceptions of the Python client stand on it.

use zero2ai_ledger::LightError;
use zero2ai_proto::rpc::ErrorCode;
use zero2ai_rpc::{BindError, CallError, ConnectError};

use crate::error::ClientError;

/// What a failure comes down to, whoever noticed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// What was given cannot be used: it is malformed or out of bounds.
    Invalid,
    /// A right, an admission or the pool key is missing.
    Denied,
    /// No such name or version, or nobody serves it.
    NotFound,
    /// Too much work at the moment: try again later.
    Busy,
    /// No whole answer in time.
    Timeout,
    /// The node does not know how to do this.
    Unsupported,
    /// The chain is halted or too far behind for this.
    Unavailable,
    /// The clocks of the two sides differ by too much.
    Clock,
    /// A disk is full or refuses.
    Storage,
    /// The model cannot be run, or failed while running.
    Model,
    /// No node answers, or the connection broke.
    Unreachable,
    /// A proof, signature, identity or answer does not hold.
    Unverified,
    /// What the client was made of does not do: no node, no genesis, another pool's, a damaged file.
    Config,
    /// Another program has the port.
    InUse,
    /// Something broke here or at the node.
    Internal,
}

impl ErrorKind {
    /// The word for programs: in `--json` errors, and the `code` of Python's exceptions.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Clock => "clock",
            Self::Storage => "storage",
            Self::Model => "model",
            Self::Unreachable => "unreachable",
            Self::Unverified => "unverified",
            Self::Config => "config",
            Self::InUse => "in_use",
            Self::Internal => "internal",
        }
    }
}

impl From<ErrorCode> for ErrorKind {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Invalid => Self::Invalid,
            ErrorCode::Denied => Self::Denied,
            ErrorCode::NotFound => Self::NotFound,
            ErrorCode::Busy => Self::Busy,
            ErrorCode::Timeout => Self::Timeout,
            ErrorCode::Unsupported => Self::Unsupported,
            ErrorCode::Unavailable => Self::Unavailable,
            ErrorCode::Internal => Self::Internal,
            ErrorCode::Clock => Self::Clock,
            ErrorCode::Storage => Self::Storage,
            ErrorCode::Model => Self::Model,
        }
    }
}

impl From<&ConnectError> for ErrorKind {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::NoAddress { .. } | ConnectError::Unreachable { .. } | ConnectError::Handshake { .. } => {
                Self::Unreachable
            }
            ConnectError::WrongIdentity { .. } => Self::Unverified,
            ConnectError::WrongPoolKey { .. } => Self::Denied,
            ConnectError::Busy { .. } => Self::Busy,
        }
    }
}

impl From<&CallError> for ErrorKind {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::Remote(error) => error.code.into(),
            CallError::Connect(error) => error.into(),
            CallError::Closed { .. } => Self::Unreachable,
            CallError::Timeout { .. } => Self::Timeout,
            // Too large or too deep: what the caller gave. An answer that cannot be read is a node's fault or lie.
            CallError::Codec { what: "the request", .. } => Self::Invalid,
            CallError::Codec { .. } => Self::Unverified,
        }
    }
}

impl From<&ClientError> for ErrorKind {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::Bind(BindError::PortTaken(_)) => Self::InUse,
            ClientError::Bind(_) | ClientError::Randomness(_) => Self::Internal,
            ClientError::NoNode { last, .. } => last.as_ref().into(),
            ClientError::Call(error) => error.into(),
            ClientError::Proof(LightError::Missing(_))
            | ClientError::Withdrawn { .. }
            | ClientError::NoEndpoint { .. } => Self::NotFound,
            ClientError::Proof(_) | ClientError::Untrue { .. } | ClientError::Audit(_) => Self::Unverified,
            ClientError::NoBootstrap(_)
            | ClientError::NoGenesis(_)
            | ClientError::OtherPool { .. }
            | ClientError::Membership { .. } => Self::Config,
            ClientError::Exhausted { last, .. } => last.as_ref().into(),
            ClientError::TimeOver { .. } | ClientError::Overdue { .. } => Self::Timeout,
            ClientError::NotAdmitted(_) => Self::Denied,
            ClientError::Tensor(_)
            | ClientError::Tensors(_)
            | ClientError::Texts(_)
            | ClientError::NoEmbedder { .. }
            | ClientError::NoPreparation { .. }
            | ClientError::Content(_)
            | ClientError::Outcome(_)
            | ClientError::Codec(_) => Self::Invalid,
        }
    }
}

impl ClientError {
    /// What it comes down to.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use zero2ai_proto::{CodecError, rpc::RpcError};

    use super::*;

    #[test]
    fn what_a_node_says_keeps_its_meaning_through_every_layer() {
        let said = |code| ClientError::from(CallError::Remote(RpcError::new(code, "why")));
        for (code, kind) in [
            (ErrorCode::Clock, ErrorKind::Clock),
            (ErrorCode::Unsupported, ErrorKind::Unsupported),
            (ErrorCode::NotFound, ErrorKind::NotFound),
        ] {
            let last = Box::new(said(code));
            assert_eq!(ClientError::Exhausted { name: "lab/m".parse().unwrap(), tried: 2, last }.kind(), kind);
        }
    }

    #[test]
    fn whose_fault_bytes_are_is_told_apart() {
        let codec = |what| {
            let source = CodecError::TooLong { len: 2, max: 1 };
            ClientError::from(CallError::Codec { method: "Predict", what, source }).kind()
        };
        assert_eq!([codec("the request"), codec("the answer")], [ErrorKind::Invalid, ErrorKind::Unverified]);
        assert_eq!(ClientError::Bind(BindError::PortTaken(([127, 0, 0, 1], 1).into())).kind(), ErrorKind::InUse);
    }
}
