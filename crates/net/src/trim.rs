//! Which connections to end when there are many: pure. Whoever looks things up in a large pool meets most of its nodes; to
//! keep every one of those connections would cost each node as many as the pool has members.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// With more peers connected than this, those beyond it are let go. What a connection costs is there whether anything is said on it or
/// not: QUIC's sign of life every five seconds, its share of every heartbeat of gossip, some 60 KiB. Kademlia dials whom it
/// needs of its table (about 130 peers in a pool of a thousand): two round trips more for one who has not been asked
/// of late. No more than these are ended, since the others end some, too.
pub(crate) const MANY: usize = 40;
/// Not ended before this age: questions on a new connection are under way.
const YOUNG: Duration = Duration::from_secs(20);

/// Peers to let go, those met last first: who has stayed long stays longest (Maymounkov and Mazières, "Kademlia", 2002,
/// section 2.1), and many new identities push out nobody. `needed` ones stay: peers of the
/// mesh, those nearest to this node, which hold the records that it holds, and those with a tunnel.
pub(crate) fn surplus(
    connected: impl Iterator<Item = (PeerId, Instant)>,
    needed: &BTreeSet<PeerId>,
    now: Instant,
) -> Vec<PeerId> {
    let mut connected: Vec<_> = connected.collect();
    let too_many = connected.len().saturating_sub(MANY);
    if too_many == 0 {
        return Vec::new();
    }
    connected.retain(|(peer, since)| !needed.contains(peer) && now.saturating_duration_since(*since) >= YOUNG);
    connected.sort_by_key(|(_, since)| std::cmp::Reverse(*since));
    connected.into_iter().take(too_many).map(|(peer, _)| peer).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_newest_go_and_the_needed_stay() {
        let start = Instant::now();
        let many = u64::try_from(MANY).unwrap();
        let peers: Vec<_> = (0..many + 3).map(|n| (PeerId::random(), start + Duration::from_millis(n))).collect();
        let now = start + Duration::from_secs(60);
        let newest = peers[MANY + 2].0;
        assert!(surplus(peers[3..].iter().copied(), &BTreeSet::new(), now).is_empty(), "not too many yet");
        let gone = surplus(peers.iter().copied(), &BTreeSet::from([newest]), now);
        assert_eq!(gone, [peers[MANY + 1].0, peers[MANY].0, peers[MANY - 1].0], "the newest but the needed one");
        assert!(surplus(peers.iter().copied(), &BTreeSet::new(), start + YOUNG / 2).is_empty(), "all are young");
    }
}
