//! How many connections may be on their way to the gate from one place at a time: one machine must not hold every place
//! that `connection_limits` gives to the unproven.

use std::{
    collections::HashMap,
    convert::Infallible,
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

use crate::config::{PENDING_LOOPBACK, PENDING_PER_IP};

/// Refuses a connection from a place that has its share of pending ones.
#[derive(Debug, thiserror::Error)]
#[error("too many connections from {0} wait for their pool proof")]
pub(crate) struct TooMany(IpAddr);

/// Connections on their way to the gate, and where each comes from. As many as `connection_limits` lets pend: whatever
/// is refused or fails is forgotten by its [`ListenFailure`].
#[derive(Debug, Default)]
pub(crate) struct Origins {
    pending: HashMap<ConnectionId, IpAddr>,
}

/// Who answers for an address: an IPv6 network hands each customer 2^64 of them.
fn origin(address: &Multiaddr) -> Option<IpAddr> {
    let ip = match address.iter().next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip).to_canonical(),
        _ => return None,
    };
    Some(match ip {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        other => other,
    })
}

impl NetworkBehaviour for Origins {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        // The swarm listens on QUIC over IP alone.
        let Some(ip) = origin(remote) else { return Ok(()) };
        let share = if ip.is_loopback() { PENDING_LOOPBACK } else { PENDING_PER_IP };
        if self.pending.values().filter(|from| **from == ip).count() >= share {
            return Err(ConnectionDenied::new(TooMany(ip)));
        }
        self.pending.insert(id, ip);
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
