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
/// A confirmed address is given up after most peers have seen this node elsewhere for so long: a line that got another address. So is one
/// that this machine itself has had no more for so long. Shorter, and a moment without the peers outside, or without the interface, would
/// do; longer, and others go on dialling where nobody is.
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

/// An address at which a dial-back came through.
#[derive(Debug)]
struct Confirmed {
    /// It was this machine's own then, not a NAT's.
    own: bool,
    /// Since when this node seems not to be there any more.
    lost: Option<Instant>,
}

/// See the module. Holds one entry for each connected peer at most.
#[derive(Debug, Default)]
pub(crate) struct Nat {
    own: BTreeSet<IpAddr>,
    seen: BTreeMap<PeerId, IpAddr>,
    confirmed: BTreeMap<Multiaddr, Confirmed>,
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

/// True for an address that is another machine's in another network. 100.64.0.0/10 is what providers put their customers behind.
fn is_private(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = ip.to_bits() >> 22 == 0b01_1001_0001;
            shared || ip.is_private() || ip.is_link_local() || ip.is_loopback()
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
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
            let own = self::ip(&address).is_some_and(|at| self.own.contains(&at));
            self.confirmed.insert(address, Confirmed { own, lost: None });
        }
    }

    /// Confirmed addresses that are given up, and forgotten with this.
    pub(crate) fn outlived(&mut self, now: Instant) -> Vec<Multiaddr> {
        let lost: Vec<_> = self.confirmed.iter().map(|(address, c)| self.lost(address, c.own)).collect();
        let mut over = Vec::new();
        for ((address, confirmed), lost) in self.confirmed.iter_mut().zip(lost) {
            confirmed.lost = lost.then(|| confirmed.lost.unwrap_or(now));
            if confirmed.lost.is_some_and(|since| now.saturating_duration_since(since) >= ELSEWHERE) {
                over.push(address.clone());
            }
        }
        for address in &over {
            self.confirmed.remove(address);
            if self.once.len() < CONFIRMED {
                self.once.insert(address.clone());
            }
        }
        over
    }

    /// True if this node is not at a confirmed address now, which was its `own` or a NAT's: its own, if no interface has it any more; a NAT's,
    /// if most of those who could see it see another one: among three or more, one who lies neither takes it away nor keeps it.
    fn lost(&self, address: &Multiaddr, own: bool) -> bool {
        let Some(at) = self::ip(address).filter(|at| !self.own.contains(at)) else { return false };
        // Peers on this side of a NAT see what this machine listens at, those on this side of an outer one its inner address, and
        // those of the other IP version nothing of this one.
        let could = |ip: &&IpAddr| {
            ip.is_ipv4() == at.is_ipv4() && !self.own.contains(ip) && (is_private(&at) || !is_private(ip))
        };
        let seen: Vec<_> = self.seen.values().filter(could).collect();
        let elsewhere = seen.iter().filter(|ip| ***ip != at).count();
        own || elsewhere * 2 > seen.len()
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
#[path = "nat_tests.rs"]
mod tests;
