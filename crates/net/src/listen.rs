//! Listening: which sockets are opened, and the wait until others can be told of them.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm,
    core::transport::ListenerId,
    multiaddr::Protocol,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use tokio::time::{Instant, timeout_at};

use crate::error::{Cause, NetError};

/// Ports tried for a node that listens on every address and takes any port: one that is free for IPv6 may be taken for IPv4.
const PORTS: usize = 8;
/// How long it may take until a listener has an address: the system tells at once which ones there are.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same once another listener has one. Where IPv6 is switched off its socket opens like any other, and never has an address.
const MOMENT: Duration = Duration::from_millis(300);

/// The swarm's own listeners.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) ids: Vec<ListenerId>,
    /// The first address of each that has one already: of one at least.
    pub(crate) addresses: Vec<Multiaddr>,
}

/// Listens, and returns once there is an address at which this node can be reached. What is to listen on every IPv6 address listens on
/// every IPv4 one as well, at the same port: libp2p's sockets are of one kind each.
pub(crate) async fn listen<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    address: SocketAddr,
) -> Result<Listening, NetError> {
    let ids = if address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) {
        open_both(swarm, address)?
    } else {
        open(swarm, &[address])?
    };
    let found = first_addresses(swarm, &ids).await.and_then(|found| {
        let none = || "no network interface has an address of this kind".into();
        if found.is_empty() { Err(none()) } else { Ok(found) }
    });
    let addresses = found.map_err(|source| NetError::Listen { address, source })?;
    Ok(Listening { ids, addresses })
}

/// Opens the sockets of either kind.
fn open_both<B: NetworkBehaviour>(swarm: &mut Swarm<B>, address: SocketAddr) -> Result<Vec<ListenerId>, NetError> {
    let mut tries = if address.port() == 0 { PORTS } else { 1 };
    loop {
        let port = port_for(address).map_err(|source| NetError::Listen { address, source: source.into() })?;
        tries -= 1;
        match open(swarm, &[address.ip(), Ipv4Addr::UNSPECIFIED.into()].map(|ip| SocketAddr::new(ip, port))) {
            Err(_) if tries > 0 => {}
            opened => return opened,
        }
    }
}

/// The port of an address, or a free one for port 0. What libp2p takes itself, it tells only with an address.
fn port_for(address: SocketAddr) -> io::Result<u16> {
    if address.port() != 0 {
        return Ok(address.port());
    }
    // A socket of IPv6 takes one that is free for either kind.
    Ok(UdpSocket::bind([address, (Ipv4Addr::UNSPECIFIED, 0).into()].as_slice())?.local_addr()?.port())
}

/// Opens all of these, or none.
fn open<B: NetworkBehaviour>(swarm: &mut Swarm<B>, all: &[SocketAddr]) -> Result<Vec<ListenerId>, NetError> {
    let mut ids = Vec::new();
    for address in all {
        let multiaddr = Multiaddr::from(address.ip()).with(Protocol::Udp(address.port())).with(Protocol::QuicV1);
        match swarm.listen_on(multiaddr) {
            Ok(id) => ids.push(id),
            Err(source) => {
                for id in ids {
                    swarm.remove_listener(id);
                }
                return Err(NetError::Listen { address: *address, source: source.into() });
            }
        }
    }
    Ok(ids)
}

/// Waits until each listener has an address; for the others only a moment once one has. Gives the first of each.
async fn first_addresses<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    ids: &[ListenerId],
) -> Result<Vec<Multiaddr>, Cause> {
    let (mut found, mut until) = (HashMap::new(), Instant::now() + PATIENCE);
    while found.len() < ids.len() {
        let Ok(event) = timeout_at(until, swarm.select_next_some()).await else { break };
        match event {
            SwarmEvent::NewListenAddr { address, listener_id } if ids.contains(&listener_id) => {
                found.entry(listener_id).or_insert(address);
                until = until.min(Instant::now() + MOMENT);
            }
            SwarmEvent::ListenerError { error, listener_id } if ids.contains(&listener_id) => return Err(error.into()),
            SwarmEvent::ListenerClosed { reason, listener_id, .. } if ids.contains(&listener_id) => {
                return Err(reason.err().map_or_else(|| "the listener closed at once".into(), Into::into));
            }
            // Nothing has been dialled and nobody knows the address: there is nothing to miss.
            _ => {}
        }
    }
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use libp2p::{
        PeerId, Transport,
        swarm::{self, dummy},
    };

    use super::*;
    use crate::scripted::Scripted;

    fn swarm(names: fn(&Multiaddr) -> Vec<Multiaddr>) -> Swarm<dummy::Behaviour> {
        let settings = swarm::Config::with_tokio_executor();
        Swarm::new(Scripted::new(names).boxed(), dummy::Behaviour, PeerId::random(), settings)
    }

    fn only_ipv4(at: &Multiaddr) -> Vec<Multiaddr> {
        Some(at.clone()).filter(|at| matches!(at.iter().next(), Some(Protocol::Ip4(_)))).into_iter().collect()
    }

    #[tokio::test]
    async fn where_ipv6_is_switched_off_a_node_listens_over_ipv4() {
        for port in [0, 7_000] {
            let mut swarm = swarm(only_ipv4);
            let began = Instant::now();
            let listening = listen(&mut swarm, (Ipv6Addr::UNSPECIFIED, port).into()).await.unwrap();
            assert_eq!((listening.ids.len(), listening.addresses.len()), (2, 1), "the other may still get an address");
            assert!(listening.addresses[0].to_string().starts_with("/ip4/") && began.elapsed() < PATIENCE);
        }
    }

    #[tokio::test]
    async fn what_has_no_address_is_an_error_in_words() {
        let listened = listen(&mut swarm(|_| Vec::new()), (Ipv4Addr::UNSPECIFIED, 7_000).into()).await;
        assert!(listened.unwrap_err().to_string().contains("no network interface"));
    }

    #[tokio::test]
    async fn both_kinds_are_waited_for_and_have_one_port() {
        let mut swarm = swarm(|at| vec![at.clone()]);
        let Listening { addresses, .. } = listen(&mut swarm, (Ipv6Addr::UNSPECIFIED, 0).into()).await.unwrap();
        let ports: Vec<_> = addresses.iter().flat_map(|a| a.iter().filter(|p| matches!(p, Protocol::Udp(_)))).collect();
        assert!(ports.len() == 2 && ports[0] == ports[1] && ports[0] != Protocol::Udp(0), "{addresses:?}");
    }
}
