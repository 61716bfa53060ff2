//! Opens and accepts tunnels' streams. Of a peer's connections a direct one is taken before a relayed one, and the newest of
//! these. An inbound stream is handed on with its peer at once; whoever takes them bounds how many there are.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{Endpoint, transport::PortUse, upgrade::ReadyUpgrade},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
        NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished,
        handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::oneshot;

use super::{InUse, Tunnel};

/// Streams being opened on one connection; beyond it the question fails at once.
const OPENING: usize = 32;

/// Where an opened tunnel goes. Dropped: it could not be opened.
pub(crate) type Opened = oneshot::Sender<Tunnel>;

/// A peer opened a tunnel to this node.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) peer: PeerId,
    pub(crate) tunnel: Tunnel,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tunnels {
    protocol: StreamProtocol,
    links: HashMap<PeerId, Vec<Link>>,
    actions: VecDeque<ToSwarm<Event, Opened>>,
}

#[derive(Debug)]
struct Link {
    id: ConnectionId,
    relayed: bool,
    in_use: InUse,
}

impl Tunnels {
    pub(crate) fn new(protocol: StreamProtocol) -> Self {
        Self { protocol, links: HashMap::new(), actions: VecDeque::new() }
    }

    /// Peers with which there is a tunnel, or one about to be.
    pub(crate) fn used(&self) -> impl Iterator<Item = PeerId> + use<'_> {
        let used = |links: &[Link]| links.iter().any(|link| Arc::strong_count(&link.in_use) > 1);
        self.links.iter().filter(move |(_, links)| used(links)).map(|(peer, _)| *peer)
    }

    /// Opens a tunnel to a connected peer. `reply` is dropped if there is no connection or the peer takes none.
    pub(crate) fn open(&mut self, peer: PeerId, reply: Opened) {
        let links = self.links.get(&peer).map_or(&[][..], Vec::as_slice);
        let best = links.iter().rev().find(|link| !link.relayed).or_else(|| links.last());
        if let Some(link) = best {
            let handler = NotifyHandler::One(link.id);
            self.actions.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event: reply });
        }
    }
}

impl NetworkBehaviour for Tunnels {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.protocol.clone()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.protocol.clone()))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, endpoint, .. }) => {
                let link = Link { id: connection_id, relayed: endpoint.is_relayed(), in_use: InUse::default() };
                self.links.entry(peer_id).or_default().push(link);
            }
            FromSwarm::ConnectionClosed(closed) => {
                if let Some(links) = self.links.get_mut(&closed.peer_id) {
                    links.retain(|link| link.id != closed.connection_id);
                    if links.is_empty() {
                        self.links.remove(&closed.peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, stream: THandlerOutEvent<Self>) {
        let links = self.links.get(&peer).map_or(&[][..], Vec::as_slice);
        // Told of the connection before of its streams; if not, the careful answer.
        let link = links.iter().find(|link| link.id == id);
        let (relayed, in_use) = link.map_or((true, InUse::default()), |link| (link.relayed, Arc::clone(&link.in_use)));
        let event = match stream {
            Did::Accepted(stream) => Event { peer, tunnel: Tunnel::new(stream, relayed, in_use) },
            Did::Opened(stream, reply) => {
                // Whoever asked may have gone: then the stream closes.
                let _ = reply.send(Tunnel::new(stream, relayed, in_use));
                return;
            }
        };
        self.actions.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// What a connection did.
#[derive(Debug)]
pub(crate) enum Did {
    Accepted(Stream),
    Opened(Stream, Opened),
}

/// One connection's share.
#[derive(Debug)]
pub(crate) struct Handler {
    protocol: StreamProtocol,
    /// Who waits for a stream that is being opened: all want the same, so the first stream goes to the first.
    waiting: VecDeque<Opened>,
    /// Of these, those whose stream is not even asked for.
    to_ask: usize,
    done: VecDeque<Did>,
}

impl Handler {
    fn new(protocol: StreamProtocol) -> Self {
        Self { protocol, waiting: VecDeque::new(), to_ask: 0, done: VecDeque::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Opened;
    type ToBehaviour = Did;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
    }

    fn on_behaviour_event(&mut self, reply: Opened) {
        if self.waiting.len() < OPENING {
            self.waiting.push_back(reply);
            self.to_ask += 1;
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Did>> {
        if let Some(did) = self.done.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(did));
        }
        if self.to_ask > 0 {
            self.to_ask -= 1;
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                self.done.push_back(Did::Accepted(stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, .. }) => {
                if let Some(reply) = self.waiting.pop_front() {
                    self.done.push_back(Did::Opened(stream, reply));
                }
            }
            ConnectionEvent::DialUpgradeError(_) => drop(self.waiting.pop_front()),
            _ => {}
        }
    }
}
