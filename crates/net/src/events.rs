//! How the driver reacts to what the swarm reports.

use std::{sync::atomic::Ordering, time::Instant};

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    gossipsub::{self, Message, MessageAcceptance, MessageId},
    identify, kad, mdns, relay,
    swarm::{ConnectionId, DialError, SwarmEvent},
};
use tokio::sync::mpsc::error::TrySendError;
use zero2ai_proto::limits::GOSSIP_BYTES;

use crate::{
    announce::chance,
    book::ADDRESSES_EACH,
    driver::Driver,
    error::{NetError, chain},
    handle::{NetEvent, Path, View},
    identity::node_id,
    judge::Verdict,
    peer::Peer,
    swarm::{BehavioursEvent, bare, dialable, is_direct, is_loopback, relay_of},
    widest::widest_first,
};

/// Nodes taken from one mDNS report: the local network can be full of strangers.
const MDNS_BATCH: usize = 64;

impl Driver {
    /// Takes one event. An error ends the task: the swarm can't go on.
    pub(crate) fn react(&mut self, event: SwarmEvent<BehavioursEvent>) -> Result<(), NetError> {
        match event {
            SwarmEvent::Behaviour(event) => self.behaved(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.came(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.went(peer_id, connection_id, num_established);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.not_reached(connection_id, peer_id, &error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(from = %send_back_addr, reason = chain(&error), "an inbound connection was refused");
            }
            SwarmEvent::NewListenAddr { listener_id, address } => self.listening(listener_id, &address),
            SwarmEvent::ExpiredListenAddr { .. } => self.listens_anew(),
            SwarmEvent::ExternalAddrConfirmed { address } => self.confirmed(address),
            SwarmEvent::ExternalAddrExpired { address } => self.expired(address),
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "the swarm's listener reports an error"),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } if !self.listeners.contains(&listener_id) => {
                self.circuit_ended(listener_id, reason);
            }
            SwarmEvent::ListenerClosed { reason, .. } => {
                let source = reason.err().map_or_else(|| "it was closed".into(), Into::into);
                return Err(NetError::ListenerClosed { source });
            }
            _ => {}
        }
        Ok(())
    }

    fn behaved(&mut self, event: BehavioursEvent) {
        match event {
            BehavioursEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.heard(propagation_source, &message_id, message);
            }
            BehavioursEvent::Relay(relay::Event::ReservationReqAccepted { src_peer_id, .. }) => {
                self.guests.insert(src_peer_id);
            }
            BehavioursEvent::Relay(
                relay::Event::ReservationClosed { src_peer_id } | relay::Event::ReservationTimedOut { src_peer_id },
            ) => {
                self.guests.remove(&src_peer_id);
            }
            BehavioursEvent::Dht(kad::Event::OutboundQueryProgressed { id, result, step, stats }) => {
                if step.last && self.announcer.ended(&id) {
                    return;
                }
                if matches!(result, kad::QueryResult::Bootstrap(_)) {
                    return self.looked_through(id, step.last);
                }
                let shelf = self.swarm.behaviour_mut().dht.kad.store_mut();
                self.queries.progress(id, (result, &stats), step.last, &*self.judge, shelf);
            }
            BehavioursEvent::Identify(identify::Event::Received { peer_id, info, connection_id }) => {
                self.identified(peer_id, connection_id, info);
            }
            BehavioursEvent::Reachable(event) => Self::tested(&event),
            BehavioursEvent::Punch(event) => self.punched(event),
            BehavioursEvent::Tunnels(event) => self.tunnelled(event),
            BehavioursEvent::Mdns(mdns::Event::Discovered(found)) => self.discovered(found),
            _ => {}
        }
    }

    fn came(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let dialing = self.dials.remove(&connection);
        // The gate lets none through whose identity is no node's.
        let Some(node) = node_id(&peer) else {
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        };
        let now = Instant::now();
        self.changed = true;
        let entry = self.peers.entry(peer).or_insert_with(|| Peer::new(node));
        let first = entry.links.is_empty();
        entry.came(connection, endpoint, now);
        self.passing(connection, endpoint);
        self.book.connected(&peer, now);
        if first {
            self.untold = true;
            self.announcer.peer_joined(self.peers.len(), now);
            self.refresh.peers_came(now, chance());
            self.tell();
        }
        if let Some(dialing) = dialing {
            // Whoever waited for it sees it.
            self.show();
            drop(dialing.reply.send(Ok(())));
        }
    }

    fn went(&mut self, peer: PeerId, connection: ConnectionId, left: u32) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        entry.went(connection);
        self.closing.remove(&connection);
        if entry.is_relayed() {
            self.nat.gone(&peer);
        }
        self.changed = true;
        if left > 0 {
            return;
        }
        self.peers.remove(&peer);
        self.untold = true;
        self.book.disconnected(&peer, Instant::now());
        // A dead peer in the routing table costs every query three seconds; a living one is back in it when it connects.
        // With this many peers nobody dials it at once, and it may only have been let go: the first dial that fails tells.
        if !self.book.has_enough() {
            self.swarm.behaviour_mut().dht.kad.remove_peer(&peer);
        }
        self.tell();
    }

    fn not_reached(&mut self, connection: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        if let Some(dialing) = self.dials.remove(&connection) {
            let (node, address) = (dialing.node, dialing.address);
            drop(dialing.reply.send(Err(NetError::Dial { node, address, reason: reason(error) })));
        }
        let Some(peer) = peer.filter(|peer| !self.peers.contains_key(peer)) else { return };
        tracing::debug!(%peer, reason = reason(error), "a peer was not reached");
        self.book.failed(&peer, Instant::now());
        self.swarm.behaviour_mut().dht.kad.remove_peer(&peer);
    }

    /// One part of a search through the routing table is over. The next one has no question under way yet.
    fn looked_through(&mut self, id: kad::QueryId, last: bool) {
        if !last
            && self.refresh.ends(id)
            && let Some(mut query) = self.swarm.behaviour_mut().dht.kad.query_mut(&id)
        {
            query.finish();
        }
    }

    /// Takes what a peer says of itself: which process it is, and where it listens.
    fn identified(&mut self, peer: PeerId, connection: ConnectionId, info: identify::Info) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        entry.named(connection, info.agent_version.clone());
        if entry.restarted(Instant::now()) {
            self.meet_again(peer);
            return;
        }
        self.placed(peer, connection, &info);
        self.learn(peer, info.listen_addrs);
    }

    /// Takes the addresses at which a connected peer says it listens.
    fn learn(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let Some(entry) = self.peers.get(&peer) else { return };
        // Through ourselves nobody is reached whom we do not reach anyway.
        let here = |address: &Multiaddr| relay_of(address).as_ref().and_then(node_id) == Some(self.local);
        let usable =
            |address: &Multiaddr| dialable(address) && !here(address) && (entry.loopback || !is_loopback(address));
        let mut addresses = widest_first(addresses.into_iter().map(bare).filter(usable).collect());
        addresses.truncate(ADDRESSES_EACH);
        let now = Instant::now();
        let dropped = self.book.learn(peer, &addresses, now);
        self.book.connected(&peer, now);
        let dht = &mut self.swarm.behaviour_mut().dht;
        dht.place(peer, addresses);
        for address in dropped {
            dht.kad.remove_address(&peer, &address);
        }
    }

    /// Takes nodes that announce themselves on the local network, if they are of this pool and not known yet. Anyone
    /// can announce anything there, so it never changes what is known of a node.
    fn discovered(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        for (peer, address) in found.into_iter().take(MDNS_BATCH) {
            let address = bare(address);
            let ours = node_id(&peer).is_some_and(|node| self.judge.admitted(&node));
            if ours && dialable(&address) && !self.book.knows(&peer) {
                self.book.learn(peer, &[address], Instant::now());
            }
        }
    }

    fn heard(&mut self, relay: PeerId, id: &MessageId, message: Message) {
        let verdict = self.judged(&message);
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, &relay, acceptance);
        if verdict != Verdict::Accept {
            return;
        }
        let topic = self.topics.topic(&message.topic);
        let parties = message.source.as_ref().and_then(node_id).zip(node_id(&relay));
        let (Some(topic), Some((author, relayed_by))) = (topic, parties) else { return };
        // Gossipsub passes no message on that has none.
        let number = message.sequence_number.unwrap_or_default();
        let event = NetEvent::Gossip { topic, author, relayed_by, number, data: message.data };
        if let Err(TrySendError::Full(_)) = self.events.try_send(event) {
            let dropped = self.counters.dropped_gossip.fetch_add(1, Ordering::Relaxed);
            if dropped.is_multiple_of(1_000) {
                tracing::warn!(dropped = dropped.saturating_add(1), "the node is too slow for its gossip");
            }
        }
    }

    fn judged(&self, message: &Message) -> Verdict {
        let author = message.source.as_ref().and_then(node_id);
        let (Some(author), Some(topic)) = (author, self.topics.topic(&message.topic)) else { return Verdict::Reject };
        if message.data.len() > GOSSIP_BYTES {
            return Verdict::Reject;
        }
        // The relay may not know yet that the author was revoked, or this node not yet that he was admitted.
        if !self.judge.admitted(&author) {
            return Verdict::Ignore;
        }
        self.judge.gossip(topic, &author, &message.data)
    }

    /// Tells the node who came and went, as far as its queue has room; the rest is told at the next tick.
    pub(crate) fn tell(&mut self) {
        if !self.untold {
            return;
        }
        let connected = self.peers.values().map(|peer| peer.node).collect();
        let gone: Vec<_> = self.told.difference(&connected).copied().collect();
        let new: Vec<_> = connected.difference(&self.told).copied().collect();
        for node in gone {
            if self.events.try_send(NetEvent::PeerDown(node)).is_err() {
                return;
            }
            self.told.remove(&node);
        }
        for node in new {
            if self.events.try_send(NetEvent::PeerUp(node)).is_err() {
                return;
            }
            self.told.insert(node);
        }
        self.untold = false;
    }

    /// Brings what handles see up to date.
    pub(crate) fn show(&mut self) {
        self.changed = false;
        let paths = self.peers.values().map(|peer| (peer.node, Path::of(peer.is_relayed()))).collect();
        let direct = self.swarm.listeners().filter(|a| is_direct(a));
        let view = View {
            addresses: direct.map(ToString::to_string).collect(),
            circuits: self.circuits(),
            external: self.nat.external().map(ToString::to_string).collect(),
            relays: self.nat.reserved().filter_map(node_id).collect(),
            reach: self.nat.reach(),
            relaying: self.relaying,
            paths,
        };
        self.view.send_replace(view);
    }
}

/// Why a dial failed, without the address, which the caller knows.
fn reason(error: &DialError) -> String {
    match error {
        DialError::Transport(errors) => {
            let mut reasons: Vec<_> = errors.iter().map(|(_, error)| chain(error)).collect();
            reasons.dedup();
            reasons.join("; ")
        }
        other => chain(other),
    }
}
