//! Where a connection that has proven nothing yet comes from, and so whose share of such places it takes.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use zero2ai_proto::NodeId;

use crate::tuning::{UNPROVEN_LOOPBACK, UNPROVEN_PER_IP};

/// Who answers for such a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// An IPv4 address or an IPv6 network.
    Place(IpAddr),
    /// The member through whose tunnel it comes, whoever is behind it.
    Tunnel(NodeId),
}

/// Ports of this machine at which packets come out of tunnels. Without it they would count as this machine's own, and one
/// member with tunnels would take the places of all programs here.
#[derive(Clone, Debug, Default)]
pub struct Outlets {
    ports: Arc<Mutex<Ports>>,
}

/// By port: which opening it is, and whose.
#[derive(Debug, Default)]
struct Ports {
    opened: u64,
    held: HashMap<u16, (u64, NodeId)>,
}

/// A port of [`Outlets`], until it is dropped.
#[derive(Debug)]
pub struct Outlet {
    of: Outlets,
    port: u16,
    /// Which opening: the system may have given the port to the next one before this is dropped.
    nth: u64,
}

impl Outlets {
    /// From now on what comes from this port of this machine comes from `member`. Whoever calls this bounds how many there are.
    #[must_use]
    pub fn open(&self, port: u16, member: NodeId) -> Outlet {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.opened = ports.opened.wrapping_add(1);
        let nth = ports.opened;
        ports.held.insert(port, (nth, member));
        Outlet { of: self.clone(), port, nth }
    }

    /// Whose place a connection from `addr` takes, at an endpoint bound to `local`, and how many it may have: an IPv6 network hands
    /// each customer 2^64 addresses.
    pub(crate) fn origin(&self, addr: SocketAddr, local: IpAddr) -> (Origin, usize) {
        let ip = addr.ip().to_canonical();
        if ip.is_loopback() || ip == local.to_canonical() {
            let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, member)) = ports.held.get(&addr.port()) {
                return (Origin::Tunnel(*member), UNPROVEN_PER_IP);
            }
        }
        let place = match ip {
            IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
            other => other,
        };
        (Origin::Place(place), if place.is_loopback() { UNPROVEN_LOOPBACK } else { UNPROVEN_PER_IP })
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut ports = self.of.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if ports.held.get(&self.port).is_some_and(|(nth, _)| *nth == self.nth) {
            ports.held.remove(&self.port);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use zero2ai_proto::PublicKey;

    use super::*;

    const ANY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

    #[test]
    fn one_origin_is_one_ipv4_address_or_one_ipv6_network() {
        let of = |text: &str| Outlets::default().origin(SocketAddr::new(text.parse().unwrap(), 7), ANY);
        assert_eq!(of("10.1.2.3"), of("::ffff:10.1.2.3"));
        assert_ne!(of("10.1.2.3").0, of("10.1.2.4").0);
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1").0, of("2001:db8:0:1::1").0);
        assert_eq!(of("2001:db8::1").1, UNPROVEN_PER_IP);
        assert_eq!((of("127.0.0.1").1, of("::1").1), (UNPROVEN_LOOPBACK, UNPROVEN_LOOPBACK));
    }

    #[test]
    fn what_comes_out_of_a_tunnel_is_its_members_and_not_this_machines() {
        let (outlets, member) = (Outlets::default(), PublicKey([1; 32]));
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let here = outlets.origin(at("127.0.0.1:7"), ANY);
        let outlet = outlets.open(7, member);
        assert_eq!(outlets.origin(at("127.0.0.1:7"), ANY), (Origin::Tunnel(member), UNPROVEN_PER_IP));
        assert_eq!(outlets.origin(at("[::ffff:127.0.0.1]:7"), ANY).0, Origin::Tunnel(member));
        assert_eq!(outlets.origin(at("127.0.0.1:8"), ANY), here, "another port of this machine");
        assert_ne!(outlets.origin(at("10.0.0.9:7"), ANY).0, Origin::Tunnel(member), "the same port elsewhere");
        let bound = at("10.0.0.9:7").ip();
        assert_eq!(outlets.origin(at("10.0.0.9:7"), bound).0, Origin::Tunnel(member), "bound to that address");
        let (other, next) = (PublicKey([2; 32]), outlets.open(7, PublicKey([2; 32])));
        drop(outlet);
        assert_eq!(
            outlets.origin(at("127.0.0.1:7"), ANY).0,
            Origin::Tunnel(other),
            "the next one's, who has the port now"
        );
        drop(next);
        assert_eq!(outlets.origin(at("127.0.0.1:7"), ANY), here);
    }
}
