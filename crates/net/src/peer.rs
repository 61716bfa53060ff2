//! A connected peer, and whether the process behind it is still the one that was connected first. While an old connection
//! of a killed process stands (QUIC needs seconds to miss it), the protocols here think of a new one as one more: gossipsub
//! would never tell it our topics, and nothing that it says would ever come.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, core::ConnectedPoint, swarm::ConnectionId};
use zero2ai_proto::NodeId;

use crate::swarm::{bare, is_loopback};

/// How long a connection may stand without its process's name beside one that has it. The name comes one round trip after the
/// connection.
const NAMELESS: Duration = Duration::from_secs(5);

/// A connected peer.
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    /// Its connections, oldest first.
    pub(crate) links: Vec<Link>,
    /// Whether it is on this machine: only then are its loopback addresses of use.
    pub(crate) loopback: bool,
}

/// One connection.
pub(crate) struct Link {
    id: ConnectionId,
    pub(crate) since: Instant,
    /// Whether it goes through a relay.
    pub(crate) relayed: bool,
    /// The direct address that was dialled, if it was this node that dialled.
    dialled: Option<Multiaddr>,
    /// What its process called itself; another one after each start.
    process: Option<String>,
}

impl Link {
    pub(crate) const fn id(&self) -> ConnectionId {
        self.id
    }

    /// True if this node dialled it, and directly.
    pub(crate) const fn is_dialled(&self) -> bool {
        self.dialled.is_some()
    }
}

impl Peer {
    /// A peer without a connection yet.
    pub(crate) const fn new(node: NodeId) -> Self {
        Self { node, links: Vec::new(), loopback: false }
    }

    /// One more connection.
    pub(crate) fn came(&mut self, id: ConnectionId, endpoint: &ConnectedPoint, now: Instant) {
        let relayed = endpoint.is_relayed();
        let dialled = match endpoint {
            ConnectedPoint::Dialer { address, .. } if !relayed => Some(bare(address.clone())),
            _ => None,
        };
        self.loopback |= !relayed && is_loopback(endpoint.get_remote_address());
        self.links.push(Link { id, since: now, relayed, dialled, process: None });
    }

    /// One of its connections.
    pub(crate) fn link(&self, id: ConnectionId) -> Option<&Link> {
        self.links.iter().find(|link| link.id == id)
    }

    /// A direct address at which this node reached it.
    pub(crate) fn dialled(&self) -> Option<&Multiaddr> {
        self.links.iter().find_map(|link| link.dialled.as_ref())
    }

    /// True if every connection with it goes through a relay.
    pub(crate) fn is_relayed(&self) -> bool {
        self.links.iter().all(|link| link.relayed)
    }

    /// One fewer.
    pub(crate) fn went(&mut self, id: ConnectionId) {
        self.links.retain(|link| link.id != id);
    }

    /// What the process at the other end of a connection calls itself.
    pub(crate) fn named(&mut self, id: ConnectionId, process: String) {
        if let Some(link) = self.links.iter_mut().find(|link| link.id == id) {
            link.process = Some(process);
        }
    }

    /// True if its connections are not all to one process.
    pub(crate) fn restarted(&self, now: Instant) -> bool {
        let Some(newest) = self.links.iter().rev().find_map(|link| link.process.as_ref()) else { return false };
        self.links.iter().any(|link| match &link.process {
            Some(process) => process != newest,
            None => now.saturating_duration_since(link.since) > NAMELESS,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::SecretKey;

    use super::*;

    fn peer() -> Peer {
        Peer::new(SecretKey::from_bytes(&[1; 32]).public())
    }

    fn at(address: &str) -> ConnectedPoint {
        let (local_addr, send_back_addr) = (address.parse().unwrap(), "/ip4/127.0.0.1/udp/9/quic-v1".parse().unwrap());
        ConnectedPoint::Listener { local_addr, send_back_addr }
    }

    fn direct() -> ConnectedPoint {
        at("/ip4/127.0.0.1/udp/1/quic-v1")
    }

    #[test]
    fn two_connections_to_one_process_are_no_restart() {
        let (now, mut peer) = (Instant::now(), peer());
        for id in 0..2 {
            assert!(!peer.restarted(now + 3 * NAMELESS));
            peer.came(ConnectionId::new_unchecked(id), &direct(), now);
            assert!(!peer.restarted(now + NAMELESS), "it may still say what it is");
            peer.named(ConnectionId::new_unchecked(id), "a".into());
            assert!(!peer.restarted(now));
        }
        peer.went(ConnectionId::new_unchecked(0));
        assert!(!peer.restarted(now));
    }

    #[test]
    fn it_is_relayed_until_one_connection_is_direct() {
        let (now, mut peer) = (Instant::now(), peer());
        let [relayed, punched] = [0, 1].map(ConnectionId::new_unchecked);
        peer.came(relayed, &at("/ip4/1.2.3.4/udp/1/quic-v1/p2p-circuit"), now);
        assert!(peer.is_relayed() && !peer.loopback && peer.dialled().is_none());
        peer.came(punched, &direct(), now);
        assert!(!peer.is_relayed() && peer.loopback);
        peer.went(punched);
        assert!(peer.is_relayed());
    }

    #[test]
    fn another_process_is_seen_at_once_and_a_silent_connection_soon() {
        let (now, mut peer) = (Instant::now(), peer());
        let [old, new] = [0, 1].map(ConnectionId::new_unchecked);
        peer.came(old, &direct(), now);
        peer.came(new, &direct(), now);
        peer.named(new, "b".into());
        assert!(!peer.restarted(now), "the older one may still say what it is");
        assert!(peer.restarted(now + NAMELESS + Duration::from_millis(1)));
        peer.named(old, "b".into());
        assert!(!peer.restarted(now + 3 * NAMELESS));
        peer.named(old, "a".into());
        assert!(peer.restarted(now));
        peer.went(old);
        assert!(!peer.restarted(now + 3 * NAMELESS));
    }
}
