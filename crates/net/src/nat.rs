//! Whether this node can be reached, and through which relays it should be: pure. Fed by what peers say they see
//! (identify), what AutoNAT confirmed, and what became of reservations.
//!
//! Behind a NAT is who is seen at an IP address that is not its own, until a dial-back to that address has come through. One
//! observer is enough to ask for relays, which costs little if he lied; to leave the DHT's routing tables takes most of
//! them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, core::transport::ListenerId, multiaddr::Protocol};

/// Relays held at a time: one may die.
pub(crate) const RELAYS: usize = 2;
/// Pause after a relay refused or was lost; doubled with each failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Its longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Confirmed addresses remembered: what is tested is bounded, too.
const CONFIRMED: usize = 32;
/// A confirmed address is given up after peers have seen this node elsewhere alone for so long: a line that got another address.
/// Shorter, and a moment without the peers outside would do; longer, and others go on dialling where nobody is.
const ELSEWHERE: Duration = Duration::from_secs(60);
/// How long a relay may take to grant a reservation.
const ASKING: Duration = Duration::from_secs(15);

/// What is known about reaching this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Nobody has tested it yet; peers on the same network reach it.
    #[default]
    Unknown,
    /// A peer dialled it back at the address that peers see.
    Open,
    /// Behind a NAT or firewall: peers see another address than its own, and none was dialled back with success.
    Behind,
}

#[derive(Debug)]
enum Place {
    /// Nothing is asked of it before this.
    Free { next: Instant },
    /// Asked for a reservation, since.
    Asked { listener: ListenerId, since: Instant },
    /// It holds one for us.
    Reserved { listener: ListenerId },
}

#[derive(Debug)]
struct Relay {
    address: Multiaddr,
    place: Place,
    failures: u32,
}

/// See the module. Holds one entry for each connected peer at most.
#[derive(Debug, Default)]
pub(crate) struct Nat {
    own: BTreeSet<IpAddr>,
    seen: BTreeMap<PeerId, IpAddr>,
    /// And since when no peer sees this node there, though some see it elsewhere.
    confirmed: BTreeMap<Multiaddr, Option<Instant>>,
    /// Given up: AutoNAT tests no address a second time, so one that peers see again is believed again.
    once: BTreeSet<Multiaddr>,
    relays: BTreeMap<PeerId, Relay>,
}

/// The IP address that a multiaddress begins with.
pub(crate) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(ip.to_canonical()),
        _ => None,
    }
}

impl Nat {
    /// Where this machine listens.
    pub(crate) fn listens(&mut self, own: impl Iterator<Item = IpAddr>) {
        self.own = own.collect();
    }

    /// A peer, directly connected, says where it sees us.
    pub(crate) fn seen(&mut self, peer: PeerId, at: IpAddr) {
        self.seen.insert(peer, at);
    }

    /// A dial-back to this address came through.
    pub(crate) fn confirmed(&mut self, address: Multiaddr) {
        if self.confirmed.len() < CONFIRMED {
            self.confirmed.insert(address, None);
        }
    }

    /// Confirmed addresses that are given up, and forgotten with this.
    pub(crate) fn outlived(&mut self, now: Instant) -> Vec<Multiaddr> {
        // Peers on this side of a NAT see what this machine listens at, and those of the other IP version nothing of this one.
        let seen: BTreeSet<IpAddr> = self.seen.values().filter(|ip| !self.own.contains(ip)).copied().collect();
        let over: Vec<_> = self
            .confirmed
            .iter_mut()
            .filter_map(|(address, since)| {
                let elsewhere = self::ip(address).is_some_and(|at| {
                    let told = seen.iter().any(|ip| ip.is_ipv4() == at.is_ipv4());
                    told && !self.own.contains(&at) && !seen.contains(&at)
                });
                if !elsewhere {
                    *since = None;
                    return None;
                }
                let begun = *since.get_or_insert(now);
                (now.saturating_duration_since(begun) >= ELSEWHERE).then(|| address.clone())
            })
            .collect();
        for address in &over {
            self.confirmed.remove(address);
            if self.once.len() < CONFIRMED {
                self.once.insert(address.clone());
            }
        }
        over
    }

    /// A peer sees this node at this address. True if it was given up and is confirmed again by this.
    pub(crate) fn again(&mut self, address: &Multiaddr) -> bool {
        let again = self.once.remove(address);
        if again {
            self.confirmed(address.clone());
        }
        again
    }

    /// An address is gone.
    pub(crate) fn expired(&mut self, address: &Multiaddr) {
        self.confirmed.remove(address);
    }

    /// A directly connected peer says whether it relays, at the address where we reached it.
    pub(crate) fn offers(&mut self, peer: PeerId, address: Option<Multiaddr>, now: Instant) {
        match (address, self.relays.get_mut(&peer)) {
            (Some(address), None) => {
                self.relays.insert(peer, Relay { address, place: Place::Free { next: now }, failures: 0 });
            }
            (None, Some(Relay { place: Place::Free { .. }, .. })) => drop(self.relays.remove(&peer)),
            _ => {}
        }
    }

    /// A peer's last direct connection ended.
    pub(crate) fn gone(&mut self, peer: &PeerId) {
        self.seen.remove(peer);
        self.relays.remove(peer);
    }

    /// Relays to be asked now for a reservation.
    pub(crate) fn due(&self, now: Instant) -> Vec<(PeerId, Multiaddr)> {
        if self.reach() != Reach::Behind {
            return Vec::new();
        }
        let busy = self.relays.values().filter(|r| !matches!(r.place, Place::Free { .. })).count();
        // One on this side of the NAT is no help.
        let outside = |peer: &PeerId| self.seen.get(peer).is_some_and(|ip| self.foreign(ip));
        let ready = |r: &Relay| matches!(r.place, Place::Free { next } if next <= now);
        let free = self.relays.iter().filter(|(peer, r)| ready(r) && outside(peer));
        free.take(RELAYS.saturating_sub(busy)).map(|(peer, r)| (*peer, r.address.clone())).collect()
    }

    /// A reservation is being asked for; `None`: it could not even be asked.
    pub(crate) fn asked(&mut self, peer: &PeerId, listener: Option<ListenerId>, now: Instant) {
        let Some(relay) = self.relays.get_mut(peer) else { return };
        match listener {
            Some(listener) => relay.place = Place::Asked { listener, since: now },
            None => relay.failed(now),
        }
    }

    /// A listener has an address: its relay granted the reservation.
    pub(crate) fn granted(&mut self, listener: ListenerId) {
        for relay in self.relays.values_mut() {
            if matches!(relay.place, Place::Asked { listener: l, .. } if l == listener) {
                (relay.place, relay.failures) = (Place::Reserved { listener }, 0);
            }
        }
    }

    /// A listener ended: its relay refused, or is lost.
    pub(crate) fn ended(&mut self, listener: ListenerId, now: Instant) {
        for relay in self.relays.values_mut() {
            if relay.listener() == Some(listener) {
                relay.failed(now);
            }
        }
    }

    /// Listeners that wait for an answer too long: to be closed.
    pub(crate) fn stuck(&self, now: Instant) -> Vec<ListenerId> {
        let late = |r: &Relay| match r.place {
            Place::Asked { listener, since } if now.saturating_duration_since(since) > ASKING => Some(listener),
            _ => None,
        };
        self.relays.values().filter_map(late).collect()
    }

    /// Relays that hold a reservation for us.
    pub(crate) fn reserved(&self) -> impl Iterator<Item = &PeerId> {
        self.relays.iter().filter(|(_, r)| matches!(r.place, Place::Reserved { .. })).map(|(peer, _)| peer)
    }

    /// Addresses at which dial-backs came through.
    pub(crate) fn external(&self) -> impl Iterator<Item = &Multiaddr> {
        self.confirmed.keys()
    }

    fn foreign(&self, ip: &IpAddr) -> bool {
        !self.own.contains(ip) && !self.confirmed.keys().any(|c| self::ip(c) == Some(*ip))
    }

    /// What is known about reaching this node.
    pub(crate) fn reach(&self) -> Reach {
        if self.seen.values().any(|ip| self.foreign(ip)) {
            Reach::Behind
        } else if self.confirmed.is_empty() {
            Reach::Unknown
        } else {
            Reach::Open
        }
    }

    /// True if others should keep this node in their routing tables: it is reached directly, or by a relay.
    pub(crate) fn routable(&self) -> bool {
        let foreign = self.seen.values().filter(|ip| self.foreign(ip)).count();
        foreign * 2 <= self.seen.len() || self.reserved().next().is_some()
    }

    /// True if this node may relay for others.
    pub(crate) fn relays(&self) -> bool {
        !self.confirmed.is_empty()
    }
}

impl Relay {
    fn listener(&self) -> Option<ListenerId> {
        match self.place {
            Place::Free { .. } => None,
            Place::Asked { listener, .. } | Place::Reserved { listener } => Some(listener),
        }
    }

    fn failed(&mut self, now: Instant) {
        let pause = PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.place = Place::Free { next: now + pause };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OWN: [u8; 4] = [192, 168, 1, 5];
    const NAT: [u8; 4] = [5, 6, 7, 8];

    fn nat() -> (Nat, Instant) {
        let mut nat = Nat::default();
        nat.listens([OWN.into(), [127, 0, 0, 1].into()].into_iter());
        (nat, Instant::now())
    }

    fn address(ip: [u8; 4]) -> Multiaddr {
        Multiaddr::from(IpAddr::from(ip)).with(Protocol::Udp(7000)).with(Protocol::QuicV1)
    }

    #[test]
    fn on_one_network_nothing_is_behind_anything() {
        let (mut nat, now) = nat();
        assert_eq!((nat.reach(), nat.routable(), nat.relays()), (Reach::Unknown, true, false));
        nat.seen(PeerId::random(), OWN.into());
        nat.offers(PeerId::random(), Some(address([1, 1, 1, 1])), now);
        assert_eq!((nat.reach(), nat.routable(), nat.due(now).len()), (Reach::Unknown, true, 0));
        nat.confirmed(address(OWN));
        assert_eq!((nat.reach(), nat.routable(), nat.relays()), (Reach::Open, true, true));
    }

    #[test]
    fn another_address_means_relays_until_it_was_dialled_back() {
        let (mut nat, now) = nat();
        let [observer, relay, other, third] = std::array::from_fn(|_| PeerId::random());
        nat.seen(observer, NAT.into());
        assert_eq!((nat.reach(), nat.routable()), (Reach::Behind, false));
        let inside = PeerId::random();
        nat.seen(inside, OWN.into());
        nat.offers(inside, Some(address(OWN)), now);
        assert!(nat.due(now).is_empty(), "who sees us as we see ourselves is on this side of the NAT");
        for peer in [relay, other, third] {
            nat.seen(peer, NAT.into());
            nat.offers(peer, Some(address([1, 1, 1, 1])), now);
        }
        assert_eq!(nat.due(now).len(), RELAYS);
        let [one, two] = [ListenerId::next(), ListenerId::next()];
        nat.asked(&relay, Some(one), now);
        nat.asked(&other, Some(two), now);
        assert!(nat.due(now).is_empty() && !nat.routable());
        nat.granted(one);
        assert!(nat.routable() && nat.reserved().eq([&relay]));
        nat.ended(two, now);
        assert_eq!(nat.due(now), [(third, address([1, 1, 1, 1]))], "who refused is not asked again at once");
        assert!(nat.stuck(now + 2 * ASKING).is_empty());
        nat.gone(&relay);
        assert!(!nat.routable());
        assert_eq!(nat.due(now + PAUSE).len(), RELAYS);
        nat.confirmed(address(NAT));
        assert_eq!((nat.reach(), nat.due(now + PAUSE).len()), (Reach::Open, 0));
        nat.expired(&address(NAT));
        assert_eq!(nat.reach(), Reach::Behind);
    }

    #[test]
    fn a_confirmed_address_is_given_up_when_peers_see_this_node_elsewhere() {
        let (mut nat, now) = nat();
        nat.confirmed(address(NAT));
        nat.confirmed(address(OWN));
        assert!(nat.outlived(now).is_empty() && nat.outlived(now + 9 * ELSEWHERE).is_empty(), "nobody says anything");
        let [old, new] = [PeerId::random(), PeerId::random()];
        nat.seen(old, NAT.into());
        nat.seen(new, [9, 9, 9, 9].into());
        let later = now + 10 * ELSEWHERE;
        assert!(
            nat.outlived(later).is_empty() && nat.outlived(later + 2 * ELSEWHERE).is_empty(),
            "one sees it there still"
        );
        nat.gone(&old);
        let moved = later + 2 * ELSEWHERE;
        assert!(nat.outlived(moved).is_empty(), "the others may only come later");
        assert_eq!(nat.outlived(moved + ELSEWHERE), [address(NAT)]);
        assert!(nat.external().eq([&address(OWN)]), "what this machine listens at stays");
        assert!(nat.outlived(moved + 2 * ELSEWHERE).is_empty());
        assert!(!nat.again(&address([9, 9, 9, 9])) && nat.again(&address(NAT)), "back where it was dialled once");
        assert_eq!(nat.external().count(), 2);
    }

    #[test]
    fn who_cannot_see_a_confirmed_address_says_nothing_of_it() {
        let (mut nat, now) = nat();
        nat.confirmed(address(NAT));
        nat.seen(PeerId::random(), OWN.into());
        nat.seen(PeerId::random(), "2001:db8::9".parse().unwrap());
        assert!(nat.outlived(now).is_empty());
        assert!(nat.outlived(now + 9 * ELSEWHERE).is_empty(), "one on this network, and one over IPv6");
        nat.seen(PeerId::random(), [9, 9, 9, 9].into());
        assert!(nat.outlived(now + 9 * ELSEWHERE).is_empty());
        assert_eq!(nat.outlived(now + 10 * ELSEWHERE), [address(NAT)]);
    }

    #[test]
    fn one_liar_takes_nobody_out_of_the_routing_tables() {
        let (mut nat, _) = nat();
        for _ in 0..2 {
            nat.seen(PeerId::random(), OWN.into());
        }
        nat.seen(PeerId::random(), NAT.into());
        assert_eq!((nat.reach(), nat.routable()), (Reach::Behind, true));
    }

    #[test]
    fn a_relay_that_never_answers_is_given_up() {
        let (mut nat, now) = nat();
        let (relay, listener) = (PeerId::random(), ListenerId::next());
        nat.seen(relay, NAT.into());
        nat.offers(relay, Some(address([1, 1, 1, 1])), now);
        nat.asked(&relay, Some(listener), now);
        assert!(nat.stuck(now).is_empty());
        assert_eq!(nat.stuck(now + 2 * ASKING), [listener]);
        for failures in 0..20 {
            nat.ended(listener, now);
            assert!(nat.due(now).is_empty(), "{failures}");
            nat.asked(&relay, Some(listener), now);
        }
        nat.ended(listener, now);
        assert_eq!(nat.due(now + LONGEST_PAUSE).len(), 1);
    }
}
