//! Which connections to end when there are many: pure. Whoever looks things up in a large pool meets most of its nodes; to
//! keep every one of those connections would cost each node as many as the pool has members.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// With more peers connected than this, some are let go...
const MANY: usize = 400;
/// ...until this many are left: room for the lookups of some minutes. Far more than a routing table has (about 130 peers in
/// a pool of a thousand), since Kademlia dials again whom it has in there.
pub(crate) const LEFT: usize = 320;
/// Not ended before this age: questions on a new connection are under way.
const YOUNG: Duration = Duration::from_secs(20);

/// Peers to let go, those met last first: who has stayed long stays longest (Maymounkov and Mazières, "Kademlia", 2002,
/// section 2.1), and many new identities push out nobody. `needed` ones stay: the routing
/// table's, peers of the mesh.
pub(crate) fn surplus(
    connected: impl Iterator<Item = (PeerId, Instant)>,
    needed: &BTreeSet<PeerId>,
    now: Instant,
) -> Vec<PeerId> {
    let mut connected: Vec<_> = connected.collect();
    if connected.len() <= MANY {
        return Vec::new();
    }
    let too_many = connected.len().saturating_sub(LEFT);
    connected.retain(|(peer, since)| !needed.contains(peer) && now.saturating_duration_since(*since) >= YOUNG);
    connected.sort_by_key(|(_, since)| std::cmp::Reverse(*since));
    connected.into_iter().take(too_many).map(|(peer, _)| peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_go_and_the_needed_stay() {
        let start = Instant::now();
        let peers: Vec<_> =
            (0..MANY as u64 + 1).map(|n| (PeerId::random(), start + Duration::from_millis(n))).collect();
        let now = start + Duration::from_secs(60);
        let newest = peers[MANY].0;
        assert!(surplus(peers[1..].iter().copied(), &BTreeSet::new(), now).is_empty(), "not too many yet");
        let gone = surplus(peers.iter().copied(), &BTreeSet::from([newest]), now);
        assert_eq!(gone.len(), MANY + 1 - LEFT);
        assert!(!gone.contains(&newest), "it is needed");
        assert!(peers[..LEFT - 1].iter().all(|(old, _)| !gone.contains(old)), "the oldest stay");
        assert!(surplus(peers.iter().copied(), &BTreeSet::new(), start + YOUNG / 2).is_empty(), "all are young");
    }
}
