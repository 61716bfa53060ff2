//! Where this node can be reached, as its network interfaces are at this moment: what others are told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use zero2ai_net::NetHandle;
use zero2ai_proto::{limits::ADDRESSES, record::Address};

/// Addresses of circuits that are told.
const CIRCUITS: usize = 4;

/// Where this machine itself reaches what listens at `ip`: what listens everywhere, at the loopback address of the same family.
pub(crate) fn from_here(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Asks the swarm each time, which hears of interfaces that come and go.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    rpc: SocketAddr,
    net: NetHandle,
}

impl Addresses {
    /// Of a node whose peer RPC is bound to `rpc`.
    pub(crate) fn new(rpc: SocketAddr, net: NetHandle) -> Self {
        Self { rpc, net }
    }

    /// The circuits that lead to it, if any; peer RPC at every address the swarm listens on, and the swarm itself; at most
    /// [`ADDRESSES`].
    pub(crate) fn now(&self) -> Vec<Address> {
        let circuits = self.net.circuit_addresses().into_iter().map(Address::Swarm).filter(Address::is_valid);
        // Relays say themselves where they are: they must not push out this node's own addresses.
        circuits.take(CIRCUITS).chain(list(self.rpc, &self.net.listen_addresses())).take(ADDRESSES).collect()
    }
}

fn list(rpc: SocketAddr, swarm: &[String]) -> Vec<Address> {
    let mut list: Vec<Address> = Vec::new();
    // A link-local address of IPv6 says nothing without the name of an interface, which differs from machine to machine.
    let told = |text: &&String| !matches!(ip_of(text), Some(IpAddr::V6(ip)) if ip.is_unicast_link_local());
    // What a cut leaves is what others can dial.
    let here = |text: &&String| ip_of(text).is_some_and(|ip| ip.is_loopback());
    let swarm = || swarm.iter().filter(told).filter(|text| !here(text)).chain(swarm.iter().filter(told).filter(here));
    if rpc.ip().is_unspecified() {
        let rpc_at = |ip| Address::Rpc(SocketAddr::new(ip, rpc.port()).to_string());
        // Room is left for the swarm's.
        list.extend(swarm().filter_map(|text| ip_of(text)).map(rpc_at).take(ADDRESSES / 2));
    } else {
        list.push(Address::Rpc(rpc.to_string()));
    }
    list.extend(swarm().cloned().map(Address::Swarm));
    list.retain(Address::is_valid);
    list.truncate(ADDRESSES);
    list
}

/// The IP address that a multiaddress begins with.
fn ip_of(text: &str) -> Option<IpAddr> {
    let mut parts = text.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("ip4" | "ip6"), Some(ip)) => ip.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn texts(rpc: &str, swarm: &[&str]) -> Vec<String> {
        let swarm: Vec<String> = swarm.iter().map(|s| (*s).to_owned()).collect();
        list(rpc.parse().unwrap(), &swarm).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_bound_everywhere_is_where_the_swarm_is_and_one_bound_to_an_address_is_there() {
        let swarm = ["/ip4/10.0.0.7/udp/7001/quic-v1", "/ip4/127.0.0.1/udp/7001/quic-v1"];
        let everywhere = texts("0.0.0.0:7000", &swarm);
        assert_eq!(everywhere.len(), 4, "{everywhere:?}");
        assert!(everywhere[0].contains("10.0.0.7:7000") && everywhere[1].contains("127.0.0.1:7000"), "{everywhere:?}");
        let there = texts("10.0.0.7:7000", &swarm);
        assert_eq!(there.len(), 3, "{there:?}");
        assert!(texts("0.0.0.0:7000", &[]).is_empty(), "without a network there is nowhere to be reached");
    }

    #[test]
    fn of_many_addresses_both_kinds_are_told_and_loopback_last() {
        let mut swarm: Vec<String> = (0..40).map(|n| format!("/ip4/10.0.{n}.7/udp/7001/quic-v1")).collect();
        swarm.insert(0, "/ip4/127.0.0.1/udp/7001/quic-v1".to_owned());
        let told = list("0.0.0.0:7000".parse().unwrap(), &swarm);
        let rpc = told.iter().filter(|address| matches!(address, Address::Rpc(_))).count();
        assert_eq!((told.len(), rpc), (ADDRESSES, ADDRESSES / 2));
        assert!(told.iter().all(|address| !address.to_string().contains("127.0.0.1")), "{told:?}");
    }

    #[test]
    fn over_ipv6_it_is_the_same_but_for_link_local_addresses_which_nobody_else_can_dial() {
        let swarm = ["/ip6/fe80::1/udp/7001/quic-v1", "/ip6/2001:db8::7/udp/7001/quic-v1", "/ip6/::1/udp/7001/quic-v1"];
        let everywhere = texts("[::]:7000", &swarm);
        let told = ["[2001:db8::7]:7000", "[::1]:7000", swarm[1], swarm[2]];
        assert_eq!(everywhere, told);
        assert_eq!(texts("[2001:db8::7]:7000", &swarm), ["[2001:db8::7]:7000", swarm[1], swarm[2]]);
        for (listens, here) in [("::", "::1"), ("0.0.0.0", "127.0.0.1"), ("2001:db8::7", "2001:db8::7")] {
            assert_eq!(from_here(listens.parse().unwrap()), here.parse::<IpAddr>().unwrap());
        }
    }
}
