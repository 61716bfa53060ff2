//! Whom to dial, and when: addresses of known peers with back-off, pure of clocks and sockets. Bounded: beyond the bound
//! the peer that was seen longest ago and is not connected is forgotten; bootstrap nodes never are.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

/// Peers remembered.
const PEERS: usize = 512;
/// Addresses of one peer.
pub(crate) const ADDRESSES_EACH: usize = 8;
/// First pause after a failed dial; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause while a peer was seen recently: a restarted node is back within it.
const RECENT_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause for one not seen for long.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long "recently" lasts.
const RECENT: Duration = Duration::from_secs(300);
/// A peer that nobody configured is forgotten after this long without a connection.
const FORGET: Duration = Duration::from_secs(3_600);
/// With this many connections nobody is dialled unasked: the DHT finds the rest when it needs them.
pub(crate) const ENOUGH: usize = 20;
/// Beside this many others, a peer whose connection ended is left alone for [`LET_GO`].
const SOME: usize = 8;
/// It may have had too many peers and let this one go; dialled again at once, it would do so again. One that restarted dials by itself.
const LET_GO: Duration = Duration::from_secs(30);
/// But bootstrap nodes are, this long after their connection ended, so that one that restarted and knows nobody is found,
/// and two halves of a pool find each other. Rarely: in a large pool everyone's bootstrap nodes are the same few, and
/// those let go whom they do not need.
const BOOTSTRAP_AGAIN: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
struct Entry {
    addresses: Vec<Multiaddr>,
    bootstrap: bool,
    connected: bool,
    failures: u32,
    seen: Instant,
    next: Instant,
}

/// Known peers and when to dial them.
#[derive(Debug, Default)]
pub(crate) struct Book {
    entries: BTreeMap<PeerId, Entry>,
}

impl Book {
    /// Remembers a node that is to be dialled for ever.
    pub(crate) fn bootstrap(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        self.learn(peer, &[address], now);
        if let Some(entry) = self.entries.get_mut(&peer) {
            entry.bootstrap = true;
        }
    }

    /// Puts these addresses first, keeping older ones as far as there is room. Returns those that fell out.
    pub(crate) fn learn(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) -> Vec<Multiaddr> {
        if !self.entries.contains_key(&peer) && !self.make_room() {
            return Vec::new();
        }
        let fresh = Entry { addresses: vec![], bootstrap: false, connected: false, failures: 0, seen: now, next: now };
        let entry = self.entries.entry(peer).or_insert(fresh);
        let mut merged: Vec<Multiaddr> = Vec::new();
        for address in addresses.iter().take(ADDRESSES_EACH).chain(&entry.addresses) {
            if !merged.contains(address) {
                merged.push(address.clone());
            }
        }
        let dropped = merged.split_off(merged.len().min(ADDRESSES_EACH));
        entry.addresses = merged;
        dropped
    }

    /// True if this peer is in the book.
    pub(crate) fn knows(&self, peer: &PeerId) -> bool {
        self.entries.contains_key(peer)
    }

    /// Where this peer may be.
    pub(crate) fn addresses(&self, peer: &PeerId) -> impl Iterator<Item = Multiaddr> + use<'_> {
        self.entries.get(peer).into_iter().flat_map(|entry| entry.addresses.iter().cloned())
    }

    fn make_room(&mut self) -> bool {
        if self.entries.len() < PEERS {
            return true;
        }
        let oldest = self
            .entries
            .iter()
            .filter(|(_, e)| !e.connected && !e.bootstrap)
            .min_by_key(|(_, e)| e.seen)
            .map(|(p, _)| *p);
        oldest.is_some_and(|peer| self.entries.remove(&peer).is_some())
    }

    pub(crate) fn connected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(peer) {
            (entry.connected, entry.failures, entry.seen) = (true, 0, now);
        }
    }

    pub(crate) fn disconnected(&mut self, peer: &PeerId, now: Instant) {
        let others = self.entries.iter().filter(|(id, e)| e.connected && *id != peer).count();
        if let Some(entry) = self.entries.get_mut(peer) {
            let next = if others < SOME { now } else { now + LET_GO };
            (entry.connected, entry.failures, entry.seen, entry.next) = (false, 0, now, next);
        }
    }

    /// Notes a failed dial.
    pub(crate) fn failed(&mut self, peer: &PeerId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.failures = entry.failures.saturating_add(1);
            let longest = if now.saturating_duration_since(entry.seen) < RECENT { RECENT_PAUSE } else { LONGEST_PAUSE };
            let doubled = FIRST_PAUSE.saturating_mul(1 << entry.failures.saturating_sub(1).min(10));
            entry.next = now + doubled.min(longest);
        }
    }

    /// Forgets a peer, unless it is a bootstrap node: an identity that was turned away is not dialled again.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        if self.entries.get(peer).is_some_and(|entry| !entry.bootstrap) {
            self.entries.remove(peer);
        }
    }

    /// How many more connections are sought; none with [`ENOUGH`] of them.
    fn lacking(&self) -> usize {
        ENOUGH.saturating_sub(self.entries.values().filter(|e| e.connected).count())
    }

    /// True with so many connections that no more are sought.
    pub(crate) fn has_enough(&self) -> bool {
        self.lacking() == 0
    }

    /// Peers to dial now, at most `most`, with their addresses, where `pending` dials are under way. Each is due again only after its
    /// outcome is noted, or after the longest pause.
    pub(crate) fn due(&mut self, now: Instant, most: usize, pending: usize) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.entries.retain(|_, e| e.connected || e.bootstrap || now.saturating_duration_since(e.seen) < FORGET);
        let lacking = self.lacking().saturating_sub(pending);
        let (enough, most) = (lacking == 0, if lacking == 0 { most } else { most.min(lacking) });
        let wanted = |e: &Entry| !enough || (e.bootstrap && now.saturating_duration_since(e.seen) >= BOOTSTRAP_AGAIN);
        let ready = |e: &Entry| !e.connected && e.next <= now && !e.addresses.is_empty() && wanted(e);
        let due = self.entries.iter_mut().filter(|(_, e)| ready(e)).take(most);
        due.map(|(peer, e)| {
            e.next = now + LONGEST_PAUSE;
            (*peer, e.addresses.clone())
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap()
    }

    #[test]
    fn a_lost_peer_is_due_at_once_and_then_backs_off() {
        let (mut book, start, peer) = (Book::default(), Instant::now(), PeerId::random());
        book.learn(peer, &[address(1)], start);
        book.connected(&peer, start);
        assert!(book.due(start, 8, 0).is_empty());
        book.disconnected(&peer, start);
        assert_eq!(book.due(start, 8, 0).len(), 1);
        assert!(book.due(start, 8, 0).is_empty(), "a dial under way is not repeated");
        book.failed(&peer, start);
        assert!(book.due(start + Duration::from_millis(249), 8, 0).is_empty());
        assert_eq!(book.due(start + Duration::from_millis(250), 8, 0).len(), 1);
        for _ in 0..50 {
            book.failed(&peer, start);
        }
        assert_eq!(book.due(start + RECENT_PAUSE, 8, 0).len(), 1, "recently seen: never longer than a second");
        let later = start + RECENT;
        book.failed(&peer, later);
        assert!(book.due(later + RECENT_PAUSE, 8, 0).is_empty());
        assert_eq!(book.due(later + LONGEST_PAUSE, 8, 0).len(), 1);
        assert!(book.due(start + FORGET, 8, 0).is_empty(), "forgotten");
        assert!(book.entries.is_empty());
    }

    #[test]
    fn bootstrap_nodes_are_never_forgotten() {
        let (mut book, start, peer) = (Book::default(), Instant::now(), PeerId::random());
        book.bootstrap(peer, address(1), start);
        book.forget(&peer);
        for _ in 0..2 * PEERS {
            book.learn(PeerId::random(), &[address(2)], start);
        }
        assert_eq!(book.entries.len(), PEERS);
        assert_eq!(book.due(start + FORGET, 8, 0).first().unwrap().0, peer);
    }

    proptest! {
        #[test]
        fn addresses_are_bounded_and_the_newest_stay(ports in prop::collection::vec(prop::collection::vec(1u16..40, 0..12), 1..20)) {
            let (mut book, now, peer) = (Book::default(), Instant::now(), PeerId::random());
            for batch in &ports {
                let batch: Vec<_> = batch.iter().map(|port| address(*port)).collect();
                book.learn(peer, &batch, now);
                let held = &book.entries[&peer].addresses;
                prop_assert!(held.len() <= ADDRESSES_EACH);
                prop_assert!(batch.iter().take(ADDRESSES_EACH).all(|a| held.contains(a)));
                let mut unique = held.clone();
                unique.sort();
                unique.dedup();
                prop_assert_eq!(unique.len(), held.len());
            }
        }
    }
}
