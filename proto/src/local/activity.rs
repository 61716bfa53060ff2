//! A local method about peers and what flows between them.

use serde::{Deserialize, Serialize};

use crate::{
    calls::Empty, ids::ManifestId, keys::NodeId, local::ResidentModel, methods, name::ModelName, record::Address,
    state::Rights,
};

methods! {
    /// Whom this node knows and what it does for whom, at this moment.
    ActivityShow = 137: Empty => ActivityReply;
}

/// Answer to [`ActivityShow`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityReply {
    /// When it was taken, milliseconds since 1970 UTC by this node's clock.
    pub at_ms: u64,
    /// Final height.
    pub height: u64,
    /// Age of the newest block, milliseconds.
    pub head_age_ms: u64,
    /// What the node waits for, in words, if it does.
    pub waiting: Option<String>,
    /// Members that it knows of: connected ones first, then those heard of last. At most 1,024.
    pub peers: Vec<PeerActivity>,
    /// Transfers under way.
    pub transfers: Vec<TransferActivity>,
    /// Every held version.
    pub models: Vec<ResidentModel>,
    /// Bytes of chunks given to peers since the node started.
    pub sent: u64,
    /// Bytes of chunks asked of peers since then.
    pub received: u64,
}

/// One other member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerActivity {
    /// Its identity.
    pub node: NodeId,
    /// Its rights on the ledger.
    pub rights: Rights,
    /// True if the swarm (Kademlia, gossip) is connected to it.
    pub swarm: bool,
    /// True if that goes through a relay alone.
    pub relayed: bool,
    /// Round trip of peer RPC, microseconds, where a connection is open.
    pub rtt_us: Option<u64>,
    /// Where it was reached, or else the first place where it says that it can be.
    pub address: Option<Address>,
    /// Milliseconds since it was last heard of in gossip; `None` if it was not since the node started.
    pub heard_ms_ago: Option<u64>,
}

/// A version that is being brought here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferActivity {
    /// Its manifest.
    pub manifest: ManifestId,
    /// Its name and version, if the ledger has it.
    pub model: Option<(ModelName, u32)>,
    /// Chunks that are here.
    pub held: u32,
    /// Chunks that it has.
    pub chunks: u32,
}
