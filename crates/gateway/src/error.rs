//! Why the gateway does not start, or stopped. What goes wrong inside one request is a `Fault`, and goes to its caller.

use std::{io, net::SocketAddr};

use zero2ai_client::ClientError;

use crate::{tls::TlsError, usage::UsageError};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is not of this machine alone, and there is no TLS.
    #[error(
        "HTTP will not listen on {0} without TLS: the token would cross the network in the clear; give a certificate \
         (--http-tls-cert FILE --http-tls-key FILE), let the node make one (--http-tls self-signed), or listen on a loopback \
         address such as 127.0.0.1:8700"
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
    /// Certificate and key do not do.
    #[error("HTTP cannot be given over TLS: {0}; check --http-tls-cert and --http-tls-key")]
    Tls(#[from] TlsError),
    /// What tokens have used is not known.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The node behind it does not answer.
    #[error("the HTTP gateway cannot reach its own node: {0}")]
    Client(#[from] ClientError),
    /// What tokens used cannot be written at the end: a budget may be counted higher than it was.
    #[error("what HTTP tokens used since the last write cannot be kept: {0}; is the disk full?")]
    Unwritten(io::Error),
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
