//! What the driver does about NATs: tells `nat` what peers and AutoNAT say, asks relays for reservations, relays for others if
//! it can be reached itself, and prefers direct connections to relayed ones.

use std::time::Instant;

use libp2p::{
    Multiaddr, PeerId, autonat,
    core::{
        ConnectedPoint,
        transport::{ListenerId, PortUse},
    },
    dcutr, identify,
    kad::Mode,
    multiaddr::Protocol,
    relay,
    swarm::ConnectionId,
};

use crate::{
    config::{DIAL_BACK, RELAYED_AFTER_PUNCH},
    driver::Driver,
    identity::node_id,
    nat::ip,
    swarm::{bare, is_direct, relay_of},
    tunnel::Event,
};

impl Driver {
    /// Takes what a peer says about where it sees us, and whether it relays.
    pub(crate) fn placed(&mut self, peer: PeerId, connection: ConnectionId, info: &identify::Info) {
        let Some(link) = self.peers.get(&peer).and_then(|entry| entry.link(connection)) else { return };
        // A dial-back leaves from a port of its own, and through a relay a peer sees the relay.
        if link.relayed || self.closing.contains_key(&connection) {
            return;
        }
        let (dialled, observed) = (link.is_dialled(), bare(info.observed_addr.clone()));
        if let Some(at) = ip(&observed).filter(|_| is_direct(&observed)) {
            self.nat.seen(peer, at);
            if dialled {
                self.swarm.behaviour_mut().reachable.observed(&observed);
            }
            // Over a connection that the peer dialled it is what he dialled.
            if self.nat.again(&observed) {
                self.swarm.add_external_address(observed);
            }
        }
        let relays = info.protocols.contains(&relay::HOP_PROTOCOL_NAME);
        let address = self.peers.get(&peer).and_then(|entry| entry.dialled()).filter(|_| relays).cloned();
        self.nat.offers(peer, address, Instant::now());
        self.placed_anew();
    }

    /// AutoNAT, or a relay, confirmed that this node is reached at an address.
    pub(crate) fn confirmed(&mut self, address: Multiaddr) {
        let address = bare(address);
        if is_direct(&address) {
            tracing::info!(%address, "a peer dialled this node back: it can be reached directly");
            self.nat.confirmed(address);
            self.placed_anew();
        }
    }

    pub(crate) fn expired(&mut self, address: Multiaddr) {
        self.nat.expired(&bare(address));
        self.placed_anew();
    }

    /// A listener has one more address.
    pub(crate) fn listening(&mut self, listener: ListenerId, address: &Multiaddr) {
        if !self.listeners.contains(&listener) {
            tracing::info!(%address, "a relay takes connections for this node");
            self.nat.granted(listener);
        }
        self.listens_anew();
    }

    /// The addresses at which this node listens are other ones.
    pub(crate) fn listens_anew(&mut self) {
        let own = self.swarm.listeners().filter(|a| is_direct(a)).filter_map(ip).collect::<Vec<_>>();
        self.nat.listens(own.into_iter());
        self.placed_anew();
    }

    /// A circuit's listener ended.
    pub(crate) fn circuit_ended(&mut self, listener: ListenerId, reason: Result<(), std::io::Error>) {
        tracing::debug!(reason = reason.err().map(tracing::field::display), "a relay takes no more connections for us");
        self.nat.ended(listener, Instant::now());
        self.placed_anew();
    }

    /// Asks relays that are due, gives up those that never answer and addresses that are this node's no more, closes connections that
    /// have served.
    pub(crate) fn keep_reachable(&mut self, now: Instant) {
        let outlived = self.nat.outlived(now);
        for address in &outlived {
            tracing::info!(%address, "peers see this node elsewhere: it is not reached at this address any more");
            self.swarm.behaviour_mut().reachable.forget(address);
            self.swarm.remove_external_address(address);
        }
        if !outlived.is_empty() {
            self.placed_anew();
        }
        for listener in self.nat.stuck(now) {
            self.swarm.remove_listener(listener);
            self.nat.ended(listener, now);
        }
        for (relay, address) in self.nat.due(now) {
            let circuit = address.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit);
            let asked = self.swarm.listen_on(circuit);
            if let Err(error) = &asked {
                tracing::debug!(%relay, %error, "a relay cannot be asked");
            }
            self.nat.asked(&relay, asked.ok(), now);
        }
        let due: Vec<_> = self.closing.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.closing.remove(&id);
            self.swarm.close_connection(id);
        }
    }

    /// Notes a connection that is to end soon: one made only to dial somebody back.
    pub(crate) fn passing(&mut self, id: ConnectionId, endpoint: &ConnectedPoint) {
        // Everything else is dialled from the port on which this node listens: see DCUtR.
        if matches!(endpoint, ConnectedPoint::Dialer { port_use: PortUse::New, .. }) && !endpoint.is_relayed() {
            self.closing.insert(id, Instant::now() + DIAL_BACK);
        }
    }

    /// A hole was punched, or not.
    pub(crate) fn punched(&mut self, event: dcutr::Event) {
        let peer = event.remote_peer_id;
        match event.result {
            Ok(_) => {
                tracing::info!(%peer, "a hole was punched: the connection is direct now");
                let relayed = self.peers.get(&peer).map(|p| p.links.iter().filter(|l| l.relayed).map(|l| l.id()));
                let at = Instant::now() + RELAYED_AFTER_PUNCH;
                self.closing.extend(relayed.into_iter().flatten().map(|id| (id, at)));
            }
            Err(error) => tracing::debug!(%peer, %error, "no hole was punched: the connection stays relayed"),
        }
    }

    pub(crate) fn tested(event: &autonat::v2::client::Event) {
        let (address, server) = (&event.tested_addr, &event.server);
        match &event.result {
            Ok(()) => tracing::debug!(%address, %server, "dialled back"),
            Err(error) => tracing::debug!(%address, %server, %error, "not dialled back"),
        }
    }

    /// A peer opened a tunnel to this node. Taken while the node has room for it; else it is closed.
    pub(crate) fn tunnelled(&mut self, Event { peer, tunnel }: Event) {
        let Some(node) = node_id(&peer).filter(|node| self.judge.admitted(node)) else { return };
        if self.tunnels.try_send((node, tunnel)).is_err() {
            tracing::debug!(%peer, "a tunnel was closed: too many wait");
        }
    }

    /// Draws the conclusions: whether this node stands in routing tables, and whether it relays.
    fn placed_anew(&mut self) {
        let mode = if self.nat.routable() { Mode::Server } else { Mode::Client };
        let relays = self.nat.relays();
        let behaviours = self.swarm.behaviour_mut();
        if behaviours.dht.kad.mode() != mode {
            behaviours.dht.kad.set_mode(Some(mode));
        }
        if relays != self.relaying {
            self.relaying = relays;
            behaviours.relay.set_status(Some(if relays { relay::Status::Enable } else { relay::Status::Disable }));
        }
        self.changed = true;
    }

    /// Addresses of circuits that lead to this node.
    pub(crate) fn circuits(&self) -> Vec<String> {
        let listeners = self.swarm.listeners().cloned().map(bare);
        listeners.filter(|a| relay_of(a).is_some()).map(|a| a.to_string()).collect()
    }
}
