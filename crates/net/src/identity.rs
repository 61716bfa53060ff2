//! A node's identity in the three shapes that meet here: its Ed25519 key, libp2p's key pair, and the `PeerId`.

use libp2p::{
    PeerId,
    identity::{Keypair, PublicKey, ed25519},
};
use zero2ai_proto::{NodeId, SecretKey};

use crate::error::NetError;

/// libp2p's key pair of this node.
pub(crate) fn keypair(key: &SecretKey) -> Result<Keypair, NetError> {
    let mut seed = key.to_bytes();
    Keypair::ed25519_from_bytes(seed.as_mut_slice())
        .map_err(|e| NetError::Setup { part: "the node's identity", reason: e.to_string() })
}

/// The `PeerId` of a node. `None` if the 32 bytes are not a point of the curve, so that nobody can hold the key.
pub(crate) fn peer_id(node: &NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The node behind a `PeerId`. `None` unless it carries an Ed25519 key inline, as all of ours do.
pub(crate) fn node_id(peer: &PeerId) -> Option<NodeId> {
    /// Multihash code of "the digest is the key itself".
    const IDENTITY: u64 = 0;
    let hash = peer.as_ref();
    if hash.code() != IDENTITY {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?.try_into_ed25519().ok()?;
    Some(zero2ai_proto::PublicKey(key.to_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use libp2p::multihash::Multihash;

    use super::*;

    #[test]
    fn node_and_peer_ids_convert_both_ways() {
        let key = SecretKey::from_bytes(&[7; 32]);
        let peer = keypair(&key).unwrap().public().to_peer_id();
        assert_eq!(peer_id(&key.public()), Some(peer));
        assert_eq!(node_id(&peer), Some(key.public()));
    }

    #[test]
    fn a_hashed_peer_id_names_no_node() {
        let hash = Multihash::<64>::wrap(0x12, &[1; 32]).unwrap();
        assert_eq!(node_id(&PeerId::from_multihash(hash).unwrap()), None);
    }
}
