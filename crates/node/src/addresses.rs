//! Where this node can be reached, as its network interfaces are at this moment: what others are told.

use std::net::SocketAddr;

use zero2ai_net::NetHandle;
use zero2ai_proto::{limits::ADDRESSES, record::Address};

/// Addresses of circuits that are told.
const CIRCUITS: usize = 4;

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
    if rpc.ip().is_unspecified() {
        for text in swarm {
            let mut parts = text.split('/').skip(1);
            if let (Some("ip4" | "ip6"), Some(ip)) = (parts.next(), parts.next())
                && let Ok(ip) = ip.parse()
            {
                list.push(Address::Rpc(SocketAddr::new(ip, rpc.port()).to_string()));
            }
        }
    } else {
        list.push(Address::Rpc(rpc.to_string()));
    }
    list.extend(swarm.iter().cloned().map(Address::Swarm));
    list.retain(Address::is_valid);
    list.truncate(ADDRESSES);
    list
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
}
