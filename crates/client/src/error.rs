//! What can fail, and whether another node may do better.

use zero2ai_ledger::{AuditError, LightError};
use zero2ai_proto::{
    CodecError, ModelName, NodeId, PoolId,
    rpc::{ErrorCode, RpcError},
    tensor::TensorError,
    texts::TextsError,
};
use zero2ai_rpc::{BindError, CallError, ConnectError};

/// Why the client could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No UDP socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No node to begin with answers.
    #[error("none of the {tried} known nodes of pool {pool} answers; the last: {last}")]
    NoNode {
        /// The pool.
        pool: PoolId,
        /// Nodes tried.
        tried: usize,
        /// What the last one's dial came to.
        last: Box<ConnectError>,
    },
    /// Nodes to begin with were not given.
    #[error("no node of pool {0} is known: give at least one address to begin with")]
    NoBootstrap(PoolId),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A proof does not hold, or shows that something does not exist.
    #[error("not proven: {0}")]
    Proof(#[from] LightError),
    /// Proofs cannot be checked before the genesis is known.
    #[error("the genesis of pool {0} is not known here, so nothing can be checked: give it, or redeem an invite")]
    NoGenesis(PoolId),
    /// A genesis or invite of another pool.
    #[error("this {what} is of pool {got}, and the client of pool {expected}")]
    OtherPool {
        /// What was given.
        what: &'static str,
        /// Its pool.
        got: PoolId,
        /// The client's.
        expected: PoolId,
    },
    /// A node's answer contradicts itself or the request.
    #[error("node {node} gave an answer that does not hold: {why}; it is faulty or lies: use another one")]
    Untrue {
        /// First digits of the node's identity.
        node: String,
        /// What does not hold.
        why: String,
    },
    /// A node takes far longer than it says that its calls take, has others to serve first, or gave no token of a text for too long;
    /// another one was asked.
    #[error(
        "node {node} did not answer within {after:?}, far longer than such a call should take there: try again, it may be busy or hang"
    )]
    Overdue {
        /// First digits of the node's identity.
        node: String,
        /// How long it was waited for.
        after: std::time::Duration,
    },
    /// A membership's file.
    #[error("the membership {}: {why}", path.display())]
    Membership {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An audit, put together, does not hold.
    #[error("the audit does not hold: {0}; whoever gave a part of it is faulty or lies: ask another node")]
    Audit(#[from] AuditError),
    /// The version was withdrawn by its owner.
    #[error("{name}@{version} was withdrawn by its owner: choose another version")]
    Withdrawn {
        /// The model.
        name: ModelName,
        /// The version.
        version: u32,
    },
    /// Nobody serves it.
    #[error("no node serves {name}@{version} at the moment: ask a provider to serve it, or try later")]
    NoEndpoint {
        /// The model.
        name: ModelName,
        /// The version.
        version: u32,
    },
    /// Every endpoint failed.
    #[error("none of the {tried} endpoints of {name} gave an answer; the last: {last}")]
    Exhausted {
        /// The model.
        name: ModelName,
        /// Endpoints tried.
        tried: usize,
        /// Why the last one failed.
        #[source]
        last: Box<ClientError>,
    },
    /// The caller's time is over.
    #[error("{name}: no whole answer within the time allowed: allow more, or ask for less")]
    TimeOver {
        /// The model.
        name: ModelName,
    },
    /// This account is not a member of the pool.
    #[error("account {0} is not admitted to the pool: redeem an invite first")]
    NotAdmitted(NodeId),
    /// A tensor that does not hold together.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Too many tensors, or none.
    #[error("{0} tensors; 1 to {max} are allowed in one prediction", max = zero2ai_proto::limits::TENSORS)]
    Tensors(usize),
    /// Texts that cannot be sent.
    #[error(transparent)]
    Texts(#[from] TextsError),
    /// A model that does something else.
    #[error("{name}@{version} does not embed texts: choose a model whose task is 'embed'")]
    NoEmbedder {
        /// The model.
        name: ModelName,
        /// The version.
        version: u32,
    },
    /// A model for which nobody said how pictures or sounds become its inputs.
    #[error(
        "{name}@{version} takes tensors alone: give numbers, or ask its publisher to publish it with what it takes (--image, --audio)"
    )]
    NoPreparation {
        /// The model.
        name: ModelName,
        /// The version.
        version: u32,
    },
    /// Pictures or sounds that do not become the model's inputs.
    #[error("{0}")]
    Content(String),
    /// What was true of a call cannot be told.
    #[error("this outcome cannot be sent: {0}")]
    Outcome(String),
    /// Something to be sent cannot be encoded or is too large.
    #[error("the request cannot be encoded: {0}")]
    Codec(#[from] CodecError),
    /// No randomness for a nonce or salt.
    #[error("the operating system gives no randomness: {0}; nothing was signed or sent")]
    Randomness(String),
}

impl ClientError {
    /// The code with which a node refused, if that is what it comes down to.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        self.remote().map(|e| e.code)
    }

    /// The node's own error, if that is what it comes down to.
    #[must_use]
    pub fn remote(&self) -> Option<&RpcError> {
        match self {
            Self::Call(CallError::Remote(error)) => Some(error),
            Self::Exhausted { last, .. } => last.remote(),
            _ => None,
        }
    }

    /// True if there is no such name or version: a node says so, or a proof shows it.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Proof(LightError::Missing(_)))
            || matches!(self, Self::Call(CallError::Remote(e)) if e.code == ErrorCode::NotFound)
    }

    /// True if another endpoint may well do what this one did not.
    pub(crate) fn may_retry_elsewhere(&self) -> bool {
        match self {
            Self::Call(error) => error.may_retry_elsewhere(),
            Self::Untrue { .. } | Self::Overdue { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn untrue(node: &NodeId, why: impl std::fmt::Display) -> Self {
        Self::Untrue { node: node.short(), why: why.to_string() }
    }
}
