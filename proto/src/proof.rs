//! Proofs that a light client checks offline: state entries, log leaves, headers.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{block::Certificate, ids::Digest, state::SignerSet};

/// That `key` has `value` (or none) in the state with some root: a path in a Jellyfish Merkle tree over BLAKE3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateProof {
    /// The entry's key.
    pub key: ByteBuf,
    /// Its encoded value; `None` proves absence.
    pub value: Option<ByteBuf>,
    /// The leaf at the end of the path: hash of its key and hash of its value; `None` if the path ends in nothing.
    pub leaf: Option<(Digest, Digest)>,
    /// Sibling hashes from the leaf's level up to the root's.
    pub siblings: Vec<Digest>,
}

/// That a leaf stands in a log (RFC 6962 section 2.1.1, SHA-256).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogProof {
    /// The leaf's index.
    pub index: u64,
    /// Leaves of the log whose root is meant.
    pub size: u64,
    /// Sibling hashes from the leaf up.
    pub siblings: Vec<Digest>,
}

/// A header's bytes and the certificate that makes it final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHeader {
    /// The encoded [`crate::block::Header`].
    pub header: ByteBuf,
    /// Its certificate.
    pub certificate: Certificate,
}

/// One step of trust: a header signed by the set known so far, which names the next set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustStep {
    /// A header whose `next_signers_hash` differs from its `signers_hash`.
    pub header: SignedHeader,
    /// The set with that next hash, which signs from the following height on.
    pub next_signers: SignerSet,
}

/// The whole state of a ledger after one height, for a node that would rather not execute all blocks before. Its entries make
/// up the root that the header behind that height carries; the steps lead from the genesis to that header's signers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Version of this struct's shape: 1.
    pub version: u16,
    /// The header of the height: its id is the next one's parent.
    pub header: SignedHeader,
    /// The header after it, whose `app_hash` is the root of the entries.
    pub next: SignedHeader,
    /// Every change of the signer set since the genesis, oldest first, in headers up to the height.
    pub steps: Vec<TrustStep>,
    /// Key and encoded value of every entry, ascending by key, no key twice.
    pub entries: Vec<(ByteBuf, ByteBuf)>,
}
