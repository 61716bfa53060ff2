//! Which of a node's addresses are kept where there is room for a few: pure.

use std::collections::BTreeMap;

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::swarm::{is_loopback, relay_of};

/// Direct addresses looked at of those that a peer lists: a machine with many networks has some dozens.
const LISTED: usize = 64;
/// Circuits kept of one node: who needs any holds two relays.
const CIRCUITS: usize = 4;
/// Circuits kept through one relay. Relays say themselves where they are, and one that names many addresses must push out neither the
/// node's own nor those through the other relay.
const CIRCUITS_EACH: usize = 2;

/// Of these addresses, those first that most can dial: public ones and a few circuits, then private ones, then loopback, IPv4 and IPv6 by
/// turns, so that a cut leaves some of each.
pub(crate) fn widest_first(addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let (circuits, mut kept): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| relay_of(a).is_some());
    kept.truncate(LISTED);
    kept.extend(few(by_turns(circuits, reach)));
    by_turns(kept, |address| if relay_of(address).is_some() { 0 } else { reach(address) })
}

/// From how far an address can be dialled, 0 for everywhere; of a circuit's, from how far its relay can.
fn reach(address: &Multiaddr) -> u8 {
    match address.iter().next() {
        _ if is_loopback(address) => 2,
        Some(Protocol::Ip4(ip)) if ip.is_private() || ip.is_link_local() => 1,
        Some(Protocol::Ip6(ip)) if ip.is_unique_local() => 1,
        _ => 0,
    }
}

/// Each address once, by its reach, IPv4 and IPv6 by turns.
fn by_turns(mut addresses: Vec<Multiaddr>, reach: impl Fn(&Multiaddr) -> u8) -> Vec<Multiaddr> {
    addresses.sort();
    addresses.dedup();
    let mut turns = BTreeMap::new();
    let placed = addresses.into_iter().map(|address| {
        let (reach, four) = (reach(&address), matches!(address.iter().next(), Some(Protocol::Ip4(_))));
        let turn = turns.entry((reach, four)).and_modify(|turn| *turn += 1_usize).or_insert(0);
        ((reach, *turn, !four), address)
    });
    let mut placed: Vec<_> = placed.collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, address)| address).collect()
}

/// The first of these circuits, a few of each relay.
fn few(mut circuits: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut each = BTreeMap::new();
    circuits.retain(|circuit| {
        let count = each.entry(relay_of(circuit)).and_modify(|count| *count += 1_usize).or_insert(1);
        *count <= CIRCUITS_EACH
    });
    circuits.truncate(CIRCUITS);
    circuits
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use libp2p::PeerId;

    use super::*;
    use crate::book::ADDRESSES_EACH;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn circuit(relay: PeerId, ip: &str) -> Multiaddr {
        at(&format!("{ip}/udp/7/quic-v1/p2p/{relay}/p2p-circuit"))
    }

    #[test]
    fn a_cut_leaves_what_most_can_dial_of_either_kind() {
        let mut all: Vec<Multiaddr> = (0..9).map(|n| at(&format!("/ip4/192.168.{n}.1/udp/7/quic-v1"))).collect();
        let [loopback, six, four] =
            ["/ip4/127.0.0.1/udp/7/quic-v1", "/ip6/2001:db8::7/udp/7/quic-v1", "/ip4/9.9.9.9/udp/7/quic-v1"].map(at);
        let circuit = circuit(PeerId::random(), "/ip4/10.0.0.1");
        all.splice(4..4, [loopback.clone(), six.clone(), circuit.clone(), four.clone(), six.clone()]);
        let sorted = widest_first(all);
        assert_eq!(sorted.len(), 13, "each once");
        assert!([&four, &six, &circuit].iter().all(|address| sorted[..3].contains(address)), "{sorted:?}");
        assert_eq!((&sorted[1], sorted.last()), (&six, Some(&loopback)), "by turns, and loopback last");
    }

    #[test]
    fn relays_that_name_many_addresses_leave_room_for_the_nodes_own_and_for_each_other() {
        let [loud, quiet, third] = std::array::from_fn(|_| PeerId::random());
        let own = ["/ip4/192.168.0.7/udp/7/quic-v1", "/ip4/9.9.9.9/udp/7/quic-v1", "/ip6/2001:db8::7/udp/7/quic-v1"];
        let mut all: Vec<_> = (0..75).map(|n| circuit(loud, &format!("/ip4/5.6.7.{n}"))).collect();
        all.extend([circuit(loud, "/ip6/2001:db8::9"), circuit(quiet, "/ip4/9.8.7.6")]);
        all.extend(own.map(at));
        let mut kept = widest_first(all.clone());
        kept.truncate(ADDRESSES_EACH);
        assert!(own.iter().all(|address| kept.contains(&at(address))), "{kept:?}");
        let through = |relay, kept: &[Multiaddr]| kept.iter().filter(|a| relay_of(a) == Some(relay)).count();
        assert_eq!((through(loud, &kept), through(quiet, &kept)), (CIRCUITS_EACH, 1), "{kept:?}");
        assert!(kept.contains(&circuit(loud, "/ip6/2001:db8::9")), "of either kind");
        all.extend((0..9).map(|n| circuit(third, &format!("/ip4/7.7.7.{n}"))));
        all.push(circuit(quiet, "/ip4/10.8.7.6"));
        assert_eq!(widest_first(all).iter().filter(|a| relay_of(a).is_some()).count(), CIRCUITS);
    }
}
