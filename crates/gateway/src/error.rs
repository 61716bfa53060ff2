//! Why the gateway does not start, or stopped. What goes wrong inside one request is a `Fault`, and goes to its caller.

use std::{io, net::SocketAddr};

use zero2ai_client::ClientError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is not of this machine alone.
    #[error(
        "HTTP will not listen on {0}: without TLS, which the gateway does not have yet, the token would cross the network in \
         the clear; listen on a loopback address such as 127.0.0.1:8700, and reach it from elsewhere through an SSH tunnel"
    )]
    NotLoopback(SocketAddr),
    /// The port cannot be had.
    #[error("HTTP cannot listen on TCP {address}: {source}; choose another address with --http")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The operating system's word.
        source: io::Error,
    },
    /// The node behind it does not answer.
    #[error("the HTTP gateway cannot reach its own node: {0}")]
    Client(#[from] ClientError),
    /// The listener broke.
    #[error("the HTTP listener failed: {0}; restart the node")]
    Lost(io::Error),
}

impl GatewayError {
    /// True if another program has the port.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}
