//! What can fail, by operation.

use std::{io, net::SocketAddr, time::Duration};

use zero2ai_proto::{CodecError, NodeId, rpc::RpcError};

/// Why an endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has the port.
    #[error("UDP port {0} is taken by another program: stop it, or choose another port (0 takes any free one)")]
    PortTaken(SocketAddr),
    /// The socket could not be opened.
    #[error("the UDP socket at {addr} could not be opened: {source}; check that the address belongs to this machine")]
    Socket {
        /// The address asked for.
        addr: SocketAddr,
        /// The operating system's word.
        source: io::Error,
    },
    /// The TLS identity could not be made from the key.
    #[error("no TLS identity could be made from the node's key: {0}; the key file may be damaged")]
    Identity(String),
}

/// Why a connection was not made. Cloned to all that waited for the same dial.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// No address that peer RPC can dial is known.
    #[error("node {node} has no address for peer RPC: ask it to announce one, or wait for a fresh record")]
    NoAddress {
        /// The node.
        node: NodeId,
    },
    /// Nobody answered, or the connection broke before it stood.
    #[error("no answer from {addr}: {why}; check the address, that the node runs, and that UDP passes")]
    Unreachable {
        /// Where.
        addr: SocketAddr,
        /// What the transport said.
        why: String,
    },
    /// Another node answered.
    #[error("{addr} is node {got}, not the expected {expected}: the address is out of date, or someone is in between")]
    WrongIdentity {
        /// Where.
        addr: SocketAddr,
        /// Who was expected.
        expected: NodeId,
        /// Who answered.
        got: NodeId,
    },
    /// The two sides hold different keys.
    #[error(
        "wrong pool key: {addr} {why}; the node may be of another pool, or the key was rotated: get a fresh invite"
    )]
    WrongPoolKey {
        /// Where.
        addr: SocketAddr,
        /// Who refused whom.
        why: String,
    },
    /// The other side has too many connections or is stopping.
    #[error("{addr} takes no more connections at the moment: try another node, or later")]
    Busy {
        /// Where.
        addr: SocketAddr,
    },
    /// The other side does not speak this protocol as it should.
    #[error("{addr} does not complete the handshake: {why}; one of the two programs may be too old")]
    Handshake {
        /// Where.
        addr: SocketAddr,
        /// What was wrong.
        why: String,
    },
}

/// Why a server stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The endpoint was closed under the server, or its socket failed.
    #[error("peer RPC lost its UDP socket: the endpoint was closed or the network device went away; restart the node")]
    SocketLost,
}

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The peer answered with an error.
    #[error(transparent)]
    Remote(#[from] RpcError),
    /// No connection could be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection or the stream broke, or the peer's machine fell silent: the call may or may not have run.
    #[error("{method}: the connection to {peer} broke: {why}; try again, or another node")]
    Closed {
        /// The method.
        method: &'static str,
        /// First digits of the peer's identity.
        peer: String,
        /// What was seen.
        why: String,
    },
    /// No whole answer within the caller's time; the peer was told to stop.
    #[error(
        "{method}: no answer from {peer} within {after:?}; it may be overloaded: allow more time or try another node"
    )]
    Timeout {
        /// The method.
        method: &'static str,
        /// First digits of the peer's identity.
        peer: String,
        /// The caller's limit.
        after: Duration,
    },
    /// The request cannot be sent, or the answer cannot be read.
    #[error("{method}: {what} cannot be used: {source}; if it repeats, the two programs may differ in version")]
    Codec {
        /// The method.
        method: &'static str,
        /// `the request` or `the answer`.
        what: &'static str,
        /// What is wrong with it.
        source: CodecError,
    },
}

impl CallError {
    /// True if another provider may well answer the same call: this one is gone, silent, full, or cannot do it.
    #[must_use]
    pub fn may_retry_elsewhere(&self) -> bool {
        use zero2ai_proto::rpc::ErrorCode as Code;
        match self {
            Self::Connect(_) | Self::Closed { .. } | Self::Timeout { .. } => true,
            Self::Remote(e) => !matches!(e.code, Code::Invalid | Code::Clock),
            Self::Codec { what, .. } => *what == "the answer",
        }
    }
}
