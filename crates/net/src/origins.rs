//! How many connections may be on their way to the gate from one place at a time: one machine must not hold every place
//! that `connection_limits` gives to the unproven.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, ListenFailure, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use crate::{
    config::{PENDING_LOOPBACK, PENDING_PER_IP},
    swarm::relay_of,
};

/// Refuses a connection from a place that has its share of pending ones.
#[derive(Debug, thiserror::Error)]
#[error("too many connections from {0} wait for their pool proof")]
pub(crate) struct TooMany(Place);

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ip(IpAddr),
    /// Through this relay, whose word alone says from whom.
    Relay(PeerId),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Relay(relay) => write!(f, "relay {relay}"),
        }
    }
}

/// Connections on their way to the gate, and where each comes from. As many as `connection_limits` lets pend: whatever
/// is refused or fails is forgotten by its [`ListenFailure`].
#[derive(Debug, Default)]
pub(crate) struct Origins {
    pending: HashMap<ConnectionId, Place>,
}

/// Who answers for an address: an IPv6 network hands each customer 2^64 of them.
fn origin(local: &Multiaddr, remote: &Multiaddr) -> Option<Place> {
    if let Some(relay) = relay_of(local) {
        return Some(Place::Relay(relay));
    }
    let ip = match remote.iter().next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip).to_canonical(),
        _ => return None,
    };
    Some(Place::Ip(match ip {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        other => other,
    }))
}

impl NetworkBehaviour for Origins {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        // The swarm listens on QUIC over IP and on relays alone.
        let Some(place) = origin(local, remote) else { return Ok(()) };
        let loopback = matches!(place, Place::Ip(ip) if ip.is_loopback());
        let share = if loopback { PENDING_LOOPBACK } else { PENDING_PER_IP };
        if self.pending.values().filter(|from| **from == place).count() >= share {
            return Err(ConnectionDenied::new(TooMany(place)));
        }
        self.pending.insert(id, place);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&id);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) = event {
            self.pending.remove(&connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use libp2p::swarm::ListenError;

    use super::*;

    fn come(origins: &mut Origins, number: usize, ip: &str) -> bool {
        let kind = if ip.contains(':') { "ip6" } else { "ip4" };
        let at = |ip: &str| format!("/{kind}/{ip}/udp/1/quic-v1").parse::<Multiaddr>().unwrap();
        let local = "/ip4/10.0.0.1/udp/7000/quic-v1".parse().unwrap();
        origins.handle_pending_inbound_connection(ConnectionId::new_unchecked(number), &local, &at(ip)).is_ok()
    }

    #[test]
    fn one_place_has_its_share_and_gets_it_back() {
        let mut origins = Origins::default();
        let through = (0..100).filter(|n| come(&mut origins, *n, "10.9.9.9")).count();
        assert_eq!(through, PENDING_PER_IP);
        let through = (100..300).filter(|n| come(&mut origins, *n, &format!("2001:db8::{n:x}"))).count();
        assert_eq!(through, PENDING_PER_IP, "one IPv6 network is one place");
        assert!(come(&mut origins, 300, "10.9.9.8") && come(&mut origins, 301, "2001:db8:0:1::1"));
        let through = (400..600).filter(|n| come(&mut origins, *n, "127.0.0.1")).count();
        assert_eq!(through, PENDING_LOOPBACK);

        let relay: Multiaddr =
            format!("/ip4/10.9.9.7/udp/1/quic-v1/p2p/{}/p2p-circuit", PeerId::random()).parse().unwrap();
        let mut circuit = |number: usize| {
            let (id, from) = (ConnectionId::new_unchecked(number), Protocol::P2p(PeerId::random()).into());
            origins.handle_pending_inbound_connection(id, &relay, &from).is_ok()
        };
        assert_eq!((800..900).filter(|n| circuit(*n)).count(), PENDING_PER_IP, "one relay is one place");

        let address: Multiaddr = "/ip4/10.9.9.9/udp/1/quic-v1".parse().unwrap();
        let failed = ListenFailure {
            local_addr: &address,
            send_back_addr: &address,
            error: &ListenError::Aborted,
            connection_id: ConnectionId::new_unchecked(0),
            peer_id: None,
        };
        origins.on_swarm_event(FromSwarm::ListenFailure(failed));
        let passed = ConnectionId::new_unchecked(1);
        origins.handle_established_inbound_connection(passed, PeerId::random(), &address, &address).unwrap();
        assert!(come(&mut origins, 700, "10.9.9.9") && come(&mut origins, 701, "10.9.9.9"));
        assert!(!come(&mut origins, 702, "10.9.9.9"));
    }
}
