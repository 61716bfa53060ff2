//! Why a node does not start, or stopped. What goes wrong inside one call is an `RpcError` instead, and goes to its caller.

use std::{net::SocketAddr, path::PathBuf};

use zero2ai_proto::{ids::PoolId, pool::InviteError};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration file.
    #[error("the configuration file {path} cannot be used: {why}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The home folder lacks something or contradicts itself.
    #[error("the home folder {path} cannot be used: {why}")]
    Home {
        /// The folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A node runs on this home already.
    #[error(
        "the home folder {path} is in use by a running node: stop that one first (zero2ai stop), or choose another --home"
    )]
    HomeInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The home belongs to another pool than the invite.
    #[error("this home belongs to pool {have}, and the invite is for pool {invited}: choose another --home")]
    OtherPool {
        /// The home's pool.
        have: PoolId,
        /// The invite's pool.
        invited: PoolId,
    },
    /// A port is taken.
    #[error("UDP {address} cannot be listened on: {why}; choose another with --listen or --swarm-listen")]
    Port {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// The invite line.
    #[error("the invite cannot be used: {0}")]
    Invite(#[from] InviteError),
    /// None of the invite's nodes could be reached, or let us in.
    #[error("no node of the invite let this one in; the last, {address}: {source}")]
    Join {
        /// Where it was.
        address: SocketAddr,
        /// What it said, or why it said nothing.
        source: Box<zero2ai_rpc::CallError>,
    },
    /// The disk.
    #[error("storage: {0}")]
    Storage(String),
    /// The swarm.
    #[error("the swarm: {0}")]
    Net(#[from] zero2ai_net::NetError),
    /// Peer RPC.
    #[error("peer RPC: {0}")]
    Rpc(String),
    /// The chain.
    #[error("the chain: {0}")]
    Chain(#[source] zero2ai_chain::ChainError),
    /// The HTTP gateway.
    #[error(transparent)]
    Http(#[from] zero2ai_gateway::GatewayError),
    /// Anything that should not happen.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<zero2ai_store::StoreError> for NodeError {
    fn from(error: zero2ai_store::StoreError) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<zero2ai_chain::ChainError> for NodeError {
    fn from(error: zero2ai_chain::ChainError) -> Self {
        match error {
            zero2ai_chain::ChainError::Disk { .. } => Self::Storage(error.to_string()),
            other => Self::Chain(other),
        }
    }
}

impl From<zero2ai_proto::CodecError> for NodeError {
    fn from(error: zero2ai_proto::CodecError) -> Self {
        Self::Internal(error.to_string())
    }
}
