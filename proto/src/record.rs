//! What the DHT carries: name records, proved by the ledger, and endpoint records, signed by their node.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    envelope::Message,
    ids::{ManifestId, PoolId, tagged_hash},
    keys::NodeId,
    limits::{ADDRESS_BYTES, REGION_BYTES},
    name::ModelName,
    proof::{SignedHeader, StateProof},
};

/// Where a node can be reached: the kind says how to speak there. Unknown kinds are refused by old programs, so new kinds
/// come with a new record version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Address {
    /// Peer RPC over QUIC at `ip:port`.
    Rpc(String),
    /// libp2p at a multiaddress.
    Swarm(String),
}

impl Address {
    /// The socket address of a peer RPC address.
    #[must_use]
    pub fn rpc_socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Rpc(text) => text.parse().ok(),
            Self::Swarm(_) => None,
        }
    }

    /// True if it leads through a relay: whoever has such an address says that he is behind a NAT.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        matches!(self, Self::Swarm(text) if text.contains("/p2p-circuit"))
    }

    /// True if it is short enough and, for peer RPC, a socket address.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        match self {
            Self::Rpc(text) => text.len() <= ADDRESS_BYTES && SocketAddr::from_str(text).is_ok(),
            Self::Swarm(text) => text.len() <= ADDRESS_BYTES && text.starts_with('/'),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(text) | Self::Swarm(text) => f.write_str(text),
        }
    }
}

/// The ledger's word on a name: the model's entry and one version's, both proved under one certified header. Anyone can
/// check it and publish it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecord {
    /// Version of this shape: 1.
    pub version: u16,
    /// Entry `model/NAME`.
    pub model: StateProof,
    /// Entry `version/NAME@V` of its newest version.
    pub latest: StateProof,
    /// The header whose `app_hash` both are proved under.
    pub header: SignedHeader,
}

/// One node's word that it serves one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
    /// Its sealed manifest.
    pub manifest: ManifestId,
    /// Where the signing node can be reached.
    pub addresses: Vec<Address>,
    /// Rises with every change: a lower one never replaces a higher one.
    pub seq: u64,
    /// Not to be used after this, milliseconds since 1970 UTC.
    pub expires_ms: u64,
    /// Where it stands, as its operator says; see [`is_region`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What it asks for a prediction, in the pool's smallest unit; absent is nothing. Told so that callers may choose; nothing is
    /// billed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<u64>,
}

impl Message for EndpointRecord {
    const KIND: u16 = 3;
}

/// True for the name of a region: 1 to 32 of `a`–`z`, `0`–`9` and `-`.
#[must_use]
pub fn is_region(text: &str) -> bool {
    (1..=REGION_BYTES).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Keys of the DHT: hashes, so that a key says nothing of the name.
pub mod dht_key {
    use super::{ModelName, NodeId, PoolId, tagged_hash};

    /// Where a model's name record stands.
    #[must_use]
    pub fn name(pool: &PoolId, name: &ModelName) -> [u8; 32] {
        tagged_hash("zero2ai dht name v1", &[pool.as_bytes(), name.as_str().as_bytes()].concat())
    }

    /// Under which the nodes that serve a model are providers.
    #[must_use]
    pub fn providers(pool: &PoolId, name: &ModelName) -> [u8; 32] {
        tagged_hash("zero2ai dht providers v1", &[pool.as_bytes(), name.as_str().as_bytes()].concat())
    }

    /// Where one node's endpoint record for a model stands.
    #[must_use]
    pub fn endpoint(pool: &PoolId, name: &ModelName, node: &NodeId) -> [u8; 32] {
        let bytes = [pool.as_bytes(), node.as_bytes(), name.as_str().as_bytes()].concat();
        tagged_hash("zero2ai dht endpoint v1", &bytes)
    }

    /// Places at which everything that has a key is kept, each under other nodes: whoever grinds identities next to one
    /// of them holds that one alone. (Several hash functions for one key: the CAN paper, SIGCOMM 2001, section 3.5.)
    pub const PLACES: usize = 3;

    /// A key's places. The first is the key itself.
    #[must_use]
    pub fn places(key: &[u8; 32]) -> [[u8; 32]; PLACES] {
        let place = |n: u8| tagged_hash("zero2ai dht place v1", &[key.as_slice(), &[n]].concat());
        [*key, place(1), place(2)]
    }
}

/// A DHT record's value: which kind it is, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DhtValue {
    /// A name record.
    Name(Box<NameRecord>),
    /// An endpoint record.
    Endpoint(crate::Signed<EndpointRecord>),
}

/// What every node gossips from time to time: where its peer RPC listens, and how far its chain is.
/// The gossip message's author is the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAnnouncement {
    /// Version of this shape: 1.
    pub version: u16,
    /// Where the author can be reached.
    pub addresses: Vec<Address>,
    /// The chain's own announcement, read by the chain alone.
    pub head: serde_bytes::ByteBuf,
}
