//! The behaviours put together on a transport with the gate in it, and addresses. No behaviour here ever sees a peer that
//! did not pass the gate.

use std::sync::Arc;

use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, autonat, connection_limits, dcutr, identify,
    identity::Keypair,
    mdns,
    multiaddr::Protocol,
    relay,
    swarm::{self, NetworkBehaviour, behaviour::toggle::Toggle},
};
use zero2ai_proto::keys::random_bytes;

use crate::{
    autonat::EitherWay,
    config::{
        CIRCUIT_BURST, CIRCUIT_BYTES, CIRCUIT_EVERY, CIRCUIT_LIFE, CIRCUITS, CIRCUITS_PER_PEER, ESTABLISHED,
        IDLE_CONNECTION, NetConfig, PENDING_INBOUND, PENDING_OUTBOUND, PER_PEER, RESERVATIONS, RESERVE_BURST,
        RESERVE_EVERY,
    },
    dht::Dht,
    error::NetError,
    gate::Gate,
    gossip::{self, Gossip, Topics},
    identity::keypair,
    judge::Judge,
    origins::Origins,
    records::{Capacity, Shelf},
    transport::{Secured, beside_circuits, build_transport},
    tunnel::Tunnels,
};

/// Everything the swarm speaks. Limits come first, so that they refuse before anything else is set up.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviours {
    limits: connection_limits::Behaviour,
    origins: Origins,
    pub(crate) dht: Dht,
    pub(crate) gossip: Gossip,
    pub(crate) identify: identify::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) reachable: EitherWay<autonat::v2::client::Behaviour>,
    dial_back: EitherWay<autonat::v2::server::Behaviour>,
    pub(crate) relay: relay::Behaviour,
    circuits: relay::client::Behaviour,
    punch: dcutr::Behaviour,
    pub(crate) tunnels: Tunnels,
}

/// The swarm of one pool, not yet listening.
pub(crate) fn build(
    config: &NetConfig,
    judge: &Arc<dyn Judge>,
    topics: &Topics,
) -> Result<Swarm<Behaviours>, NetError> {
    let keys = keypair(&config.key)?;
    let (carrier, circuits) = relay::client::new(keys.public().to_peer_id());
    let transport = build_transport(&keys, carrier, gate(config, judge))?;
    over(transport, circuits, config, judge, topics)
}

/// [`build`] over another transport, without a gate.
pub(crate) fn build_over(
    wire: Secured,
    config: &NetConfig,
    judge: &Arc<dyn Judge>,
    topics: &Topics,
) -> Result<Swarm<Behaviours>, NetError> {
    let keys = keypair(&config.key)?;
    let (carrier, circuits) = relay::client::new(keys.public().to_peer_id());
    over(beside_circuits(wire, carrier, &keys)?, circuits, config, judge, topics)
}

/// The gate of this node.
pub(crate) fn gate(config: &NetConfig, judge: &Arc<dyn Judge>) -> Gate {
    Gate { pool: config.pool, keys: config.pool_keys.clone(), local: config.key.public(), judge: Arc::clone(judge) }
}

/// The swarm over any transport. It takes the behaviour that circuits were made with: it ends with its transport.
pub(crate) fn over(
    transport: Secured,
    circuits: relay::client::Behaviour,
    config: &NetConfig,
    judge: &Arc<dyn Judge>,
    topics: &Topics,
) -> Result<Swarm<Behaviours>, NetError> {
    let keys = keypair(&config.key)?;
    let behaviours = behaviours(config, &keys, circuits, judge, topics)?;
    // Not with lazy negotiation, which would save each question a round trip: Kademlia's announcements of providers, which have no answer,
    // were lost with it, since their streams are gone before the protocol is agreed on.
    let settings = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_CONNECTION);
    Ok(Swarm::new(transport, behaviours, keys.public().to_peer_id(), settings))
}

fn behaviours(
    config: &NetConfig,
    keys: &Keypair,
    circuits: relay::client::Behaviour,
    judge: &Arc<dyn Judge>,
    topics: &Topics,
) -> Result<Behaviours, NetError> {
    let local = keys.public().to_peer_id();
    let pool = short(config);
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_INBOUND))
        .with_max_pending_outgoing(Some(PENDING_OUTBOUND))
        .with_max_established(Some(ESTABLISHED))
        .with_max_established_per_peer(Some(PER_PEER));
    let shelf = Shelf::new(local, Arc::clone(judge), Capacity::default());
    let mdns = if config.mdns {
        let discovery = mdns::tokio::Behaviour::new(mdns::Config::default(), local);
        Some(discovery.map_err(|e| NetError::Setup { part: "mDNS discovery", reason: e.to_string() })?)
    } else {
        None
    };
    // Another one after each start, so that peers notice one that they did not see end: see `peer`.
    let start = random_bytes().map_err(|e| NetError::Setup { part: "identify", reason: e.to_string() })?;
    let identify = identify::Config::new(format!("/zero2ai/{pool}/1"), keys.public())
        .with_agent_version(format!("zero2ai/{} {:016x}", env!("CARGO_PKG_VERSION"), u64::from_le_bytes(start)))
        .with_push_listen_addr_updates(true)
        // The book has what peers say of themselves, and looks at it first.
        .with_cache_size(0);
    let tunnel = StreamProtocol::try_from_owned(format!("/zero2ai/{pool}/tunnel/1"))
        .map_err(|e| NetError::Setup { part: "tunnels", reason: e.to_string() })?;
    let mut relay = relay::Behaviour::new(local, relaying());
    // Left to itself it begins as soon as anything confirms an address, even one at another relay.
    relay.set_status(Some(relay::Status::Disable));
    Ok(Behaviours {
        limits: connection_limits::Behaviour::new(limits),
        origins: Origins::default(),
        dht: Dht::new(local, shelf, &pool)?,
        gossip: gossip::behaviour(keys, &pool, topics)?,
        identify: identify::Behaviour::new(identify),
        mdns: Toggle::from(mdns),
        reachable: EitherWay::new(autonat::v2::client::Behaviour::default()),
        dial_back: EitherWay::new(autonat::v2::server::Behaviour::default()),
        relay,
        circuits,
        punch: dcutr::Behaviour::new(local),
        tunnels: Tunnels::new(tunnel),
    })
}

/// What this node carries for others. libp2p's own limits are for connections that are upgraded within two minutes.
fn relaying() -> relay::Config {
    let config = relay::Config {
        max_reservations: RESERVATIONS,
        max_circuits: CIRCUITS,
        max_circuits_per_peer: CIRCUITS_PER_PEER,
        max_circuit_duration: CIRCUIT_LIFE,
        max_circuit_bytes: CIRCUIT_BYTES,
        reservation_rate_limiters: Vec::new(),
        circuit_src_rate_limiters: Vec::new(),
        ..relay::Config::default()
    };
    config.reservation_rate_per_peer(RESERVE_BURST, RESERVE_EVERY).circuit_src_per_peer(CIRCUIT_BURST, CIRCUIT_EVERY)
}

/// The first 16 digits of the pool's id: enough to keep pools apart in protocol and topic names.
pub(crate) fn short(config: &NetConfig) -> String {
    config.pool.to_string().chars().take(16).collect()
}

/// True for addresses that this swarm can dial: directly, or `/p2p/RELAY/p2p-circuit` at a relay's direct address.
pub(crate) fn dialable(address: &Multiaddr) -> bool {
    relay_of(address).is_some() || is_direct(address)
}

/// True for `/ip4|ip6/udp/quic-v1`, neither unspecified nor multicast, nor link-local of IPv6: such a one says nothing without the name of
/// an interface, which differs from machine to machine.
pub(crate) fn is_direct(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    quic(&mut parts) && parts.next().is_none()
}

/// The relay in the address of a circuit without its target; `None` if it is no such address.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut parts = address.iter();
    match (quic(&mut parts), parts.next(), parts.next(), parts.next()) {
        (true, Some(Protocol::P2p(relay)), Some(Protocol::P2pCircuit), None) => Some(relay),
        _ => None,
    }
}

fn quic<'a>(parts: &mut impl Iterator<Item = Protocol<'a>>) -> bool {
    let ip_ok = match parts.next() {
        Some(Protocol::Ip4(ip)) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        Some(Protocol::Ip6(ip)) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local(),
        _ => false,
    };
    let port_ok = matches!(parts.next(), Some(Protocol::Udp(port)) if port != 0);
    ip_ok && port_ok && parts.next() == Some(Protocol::QuicV1)
}

/// True for an address on the same machine.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// The address without the identity that may stand at its end.
pub(crate) fn bare(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// Reads a multiaddress that this swarm can dial.
pub(crate) fn parse(text: &str) -> Result<Multiaddr, NetError> {
    let refuse = |reason: String| NetError::Address { text: text.chars().take(128).collect(), reason };
    let address = bare(text.parse::<Multiaddr>().map_err(|e| refuse(e.to_string()))?);
    if dialable(&address) {
        Ok(address)
    } else {
        Err(refuse("not an IP address, UDP port and QUIC v1, nor a circuit at one".into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    proptest::proptest! {
        #[test]
        fn whatever_is_written_as_an_address_is_refused_or_can_be_dialled(
            text in "(/?(ip4|ip6|udp|tcp|quic-v1|dns4|p2p|memory|1.2.3.4|::1|0|7000|[a-z0-9.:%-]{0,12})){0,6}|.{0,40}"
        ) {
            if let Ok(address) = parse(&text) {
                proptest::prop_assert!(dialable(&address));
                proptest::prop_assert_eq!(parse(&address.to_string()).unwrap(), address);
            }
        }
    }

    #[test]
    fn only_quic_addresses_can_be_dialled() {
        for good in ["/ip4/10.0.0.7/udp/7000/quic-v1", "/ip6/::1/udp/1/quic-v1"] {
            assert_eq!(parse(good).unwrap().to_string(), good);
        }
        let id = libp2p::PeerId::random();
        assert_eq!(
            parse(&format!("/ip4/1.2.3.4/udp/5/quic-v1/p2p/{id}")).unwrap().to_string(),
            "/ip4/1.2.3.4/udp/5/quic-v1"
        );
        let (relay, id) = (libp2p::PeerId::random(), libp2p::PeerId::random());
        let circuit = format!("/ip4/1.2.3.4/udp/5/quic-v1/p2p/{relay}/p2p-circuit");
        let parsed = parse(&format!("{circuit}/p2p/{id}")).unwrap();
        assert_eq!((parsed.to_string(), relay_of(&parsed), is_direct(&parsed)), (circuit, Some(relay), false));
        for bad in [
            "",
            "10.0.0.7:7000",
            "/ip4/0.0.0.0/udp/1/quic-v1",
            "/ip4/1.2.3.4/tcp/1",
            "/ip4/1.2.3.4/udp/0/quic-v1",
            "/ip4/1.2.3.4/udp/1/quic-v1/p2p-circuit",
            "/ip4/1.2.3.4/tcp/1/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA/p2p-circuit",
            "/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA/p2p-circuit",
            "/dns4/host/udp/1/quic-v1",
            "/ip4/239.1.1.1/udp/1/quic-v1",
            "/ip6/fe80::1/udp/1/quic-v1",
        ] {
            assert!(matches!(parse(bad), Err(NetError::Address { .. })), "{bad}");
        }
    }
}
