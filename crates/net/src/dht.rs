//! Kademlia with our store, wrapped so that the store knows which peer it is dealing with: the protocol's own
//! `publisher` field is written by whoever sends it, and no quota can rest on that.

use std::{
    num::NonZeroUsize,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    kad::{self, BucketInserts, Caching, StoreInserts},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm,
    },
};
use zero2ai_proto::{NodeId, limits::RECORD_BYTES};

use crate::{
    config::{BUCKET, KAD_OVERHEAD, PATHS, PROVIDER_TTL, QUERY_TIMEOUT, RECORD_TTL, REPLICATION, REQUEST_TIMEOUT},
    error::NetError,
    identity::node_id,
    records::Shelf,
    swarm::{bare, relay_of},
};

type Inner = kad::Behaviour<Shelf>;

/// Refuses to dial whom the gate would turn away.
#[derive(Debug, thiserror::Error)]
#[error("node {} is not admitted to this pool", .0.short())]
struct Unadmitted(NodeId);

/// Kademlia over our store.
pub(crate) struct Dht {
    local: PeerId,
    pub(crate) kad: Inner,
}

impl Dht {
    /// A DHT of its own: `pool` is in the protocol's name, so that two pools never merge.
    pub(crate) fn new(local: PeerId, shelf: Shelf, pool: &str) -> Result<Self, NetError> {
        let setup = |reason: String| NetError::Setup { part: "the DHT", reason };
        let protocol =
            StreamProtocol::try_from_owned(format!("/zero2ai/{pool}/kad/1")).map_err(|e| setup(e.to_string()))?;
        let replication = NonZeroUsize::new(REPLICATION).ok_or_else(|| setup("replication is zero".into()))?;
        let mut config = kad::Config::new(protocol);
        config
            .set_replication_factor(replication)
            .set_query_timeout(QUERY_TIMEOUT)
            .set_substreams_timeout(REQUEST_TIMEOUT)
            .set_max_packet_size(RECORD_BYTES.saturating_add(KAD_OVERHEAD))
            .set_record_ttl(Some(RECORD_TTL))
            .set_provider_record_ttl(Some(PROVIDER_TTL))
            // Validation happens in the store, where a refusal resets the stream: filtering would acknowledge first.
            .set_record_filtering(StoreInserts::Unfiltered)
            .set_caching(Caching::Disabled)
            // See [`Dht::place`].
            .set_kbucket_inserts(BucketInserts::Manual)
            .set_kbucket_size(BUCKET)
            // A peer that leads astray leads one of these paths (S/Kademlia, ICPADS 2007, section 4.4).
            .disjoint_query_paths(true)
            .set_parallelism(PATHS)
            // `refresh` says when: see there.
            .set_periodic_bootstrap_interval(None)
            // `announce` does these three: Kademlia's own jobs keep an unbounded set of keys that peers choose, and
            // don't run when a pool has just formed.
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_publication_interval(None);
        let mut kad = kad::Behaviour::with_config(local, shelf, config);
        // The automatic mode waits for a confirmed external address, which a LAN pool never sees.
        kad.set_mode(Some(kad::Mode::Server));
        Ok(Self { local, kad })
    }

    /// Puts a connected peer into the routing table, or its addresses, if it is there or its bucket has room. A full bucket stays as it
    /// is: whoever is in it was met first (Maymounkov and Mazières, "Kademlia", 2002, section 2.2), and leaves it with
    /// the first dial that fails. The library's own way is to dial the one seen longest ago for each newcomer; nodes that let
    /// go of connections which they do not need would meet each other so without end.
    pub(crate) fn place(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let Some(bucket) = self.kad.kbucket(peer) else { return };
        if bucket.num_entries() >= BUCKET.get() && !bucket.iter().any(|entry| *entry.node.key.preimage() == peer) {
            return;
        }
        for address in addresses {
            self.kad.add_address(&peer, address);
        }
    }
}

impl NetworkBehaviour for Dht {
    type ConnectionHandler = <Inner as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.kad.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        // Peers may name any identity as closer to a key, and none is free to invent: who is no member is not dialled.
        if let Some(node) = peer.as_ref().and_then(node_id).filter(|node| !self.kad.store_mut().admits(node)) {
            return Err(ConnectionDenied::new(Unadmitted(node)));
        }
        let mut known = self.kad.handle_pending_outbound_connection(id, peer, addresses, role)?;
        // Peers name circuits through whatever relay they use. A relay that dialled through itself would ask itself for a connection
        // that it has not.
        known.retain(|address| relay_of(&bare(address.clone())) != Some(self.local));
        Ok(known)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.kad.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.kad.store_mut().source = Some(peer);
        self.kad.on_connection_handler_event(peer, id, event);
        self.kad.store_mut().source = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.kad.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use zero2ai_proto::SecretKey;

    use super::*;
    use crate::{identity::peer_id, judge::Anyone, records::Capacity};

    #[test]
    fn nobody_is_dialled_through_this_node_itself() {
        let [local, other, target] = [1, 2, 3].map(|n: u8| peer_id(&SecretKey::from_bytes(&[n; 32]).public()).unwrap());
        let mut dht = Dht::new(local, Shelf::new(local, Arc::new(Anyone), Capacity::default()), "pool").unwrap();
        let circuit =
            |relay: PeerId| format!("/ip4/10.0.0.1/udp/7/quic-v1/p2p/{relay}/p2p-circuit").parse::<Multiaddr>();
        let direct: Multiaddr = "/ip4/10.0.0.3/udp/7/quic-v1".parse().unwrap();
        dht.place(target, vec![circuit(local).unwrap(), direct.clone(), circuit(other).unwrap()]);
        let id = ConnectionId::new_unchecked(1);
        let known = dht.handle_pending_outbound_connection(id, Some(target), &[], Endpoint::Dialer).unwrap();
        let mut known: Vec<_> = known.into_iter().map(bare).collect();
        known.sort();
        let mut wanted = vec![direct, circuit(other).unwrap()];
        wanted.sort();
        assert_eq!(known, wanted);
    }
}
