//! `grant`, `revoke`, `grants`: what can be typed.

use clap::Args;
use zero2ai_proto::{ModelName, NodeId};

/// What a revocation does and does not do, told where it is typed.
pub(crate) const REVOKE_HELP: &str = "\
Examples:
  zero2ai revoke lab/chat NODE-KEY
  zero2ai revoke lab/chat NODE-KEY --reseal

From the revocation on no honest node gives that member a key of the model, and its own node stops serving it. What it was
given before it keeps: keys it holds open the versions they were made for, wherever it finds their chunks, and nothing can
take back what it has opened. New versions are sealed under a new secret. With --reseal every version that was not withdrawn
is published again under that secret, as a new version that shares no chunk with the old one, and the old one is withdrawn;
validators grade it anew.";

/// Arguments of `grant`.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    /// publisher/model, all its versions
    pub(crate) name: ModelName,
    /// The member's node key
    pub(crate) member: NodeId,
}

/// Arguments of `revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// publisher/model
    pub(crate) name: ModelName,
    /// The member's node key
    pub(crate) member: NodeId,
    /// Publish the live versions again, sealed under a new secret, and withdraw the old ones
    #[arg(long)]
    pub(crate) reseal: bool,
}

/// Arguments of `grants`.
#[derive(Debug, Args)]
pub(crate) struct GrantsArgs {
    /// publisher/model
    pub(crate) name: ModelName,
}
