//! Who provides what: for each key a bounded list of peers, each with its expiry, and the keys this node provides.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use libp2p::{
    Multiaddr, PeerId,
    kad::{ProviderRecord, RecordKey, store::Error as StoreError},
    multiaddr::Protocol,
};
use zero2ai_proto::record::dht_key::PLACES;

/// Keys with providers that are held. Beyond it new keys are refused.
const KEYS: usize = PLACES * 4_096;
/// Providers of one key. Beyond it new ones are refused until one expires: a lookup shows no more anyway.
const PER_KEY: usize = 32;
/// Keys that one peer may stand under here.
const PER_PEER: usize = PLACES * OWN_KEYS;
/// Keys this node may provide, each at all its places.
pub(crate) const OWN_KEYS: usize = 1_024;

/// Provider lists held for the DHT.
#[derive(Debug)]
pub(crate) struct Providers {
    local: PeerId,
    lists: BTreeMap<[u8; 32], BTreeMap<PeerId, Option<Instant>>>,
    keys_of: BTreeMap<PeerId, usize>,
    own: BTreeSet<[u8; 32]>,
}

impl Providers {
    pub(crate) fn new(local: PeerId) -> Self {
        Self { local, lists: BTreeMap::new(), keys_of: BTreeMap::new(), own: BTreeSet::new() }
    }

    /// Adds or renews a provider.
    pub(crate) fn add(&mut self, key: [u8; 32], peer: PeerId, expires: Option<Instant>) -> Result<(), StoreError> {
        if peer == self.local {
            if self.own.len() >= PLACES * OWN_KEYS && !self.own.contains(&key) {
                return Err(StoreError::MaxProvidedKeys);
            }
            self.own.insert(key);
            return Ok(());
        }
        if !self.fits(&key, &peer) {
            self.expire();
        }
        if !self.fits(&key, &peer) {
            return Err(StoreError::MaxProvidedKeys);
        }
        if self.lists.entry(key).or_default().insert(peer, expires).is_none() {
            let keys = self.keys_of.entry(peer).or_default();
            *keys = keys.saturating_add(1);
        }
        Ok(())
    }

    fn fits(&self, key: &[u8; 32], peer: &PeerId) -> bool {
        match self.lists.get(key) {
            Some(list) if list.contains_key(peer) => return true,
            Some(list) if list.len() >= PER_KEY => return false,
            None if self.lists.len() >= KEYS => return false,
            _ => {}
        }
        self.keys_of.get(peer).copied().unwrap_or_default() < PER_PEER
    }

    /// Providers of a key. Kademlia drops providers that have no address and are in no bucket of its table, though a
    /// lookup wants the identity alone: so each is given the address that says just that.
    pub(crate) fn of(&self, key: &[u8; 32]) -> Vec<ProviderRecord> {
        let wire = RecordKey::new(key);
        let named = |peer: PeerId, expires| ProviderRecord {
            key: wire.clone(),
            provider: peer,
            expires,
            addresses: vec![Multiaddr::empty().with(Protocol::P2p(peer))],
        };
        let own = self.own.contains(key).then(|| named(self.local, None));
        let others = self.lists.get(key).into_iter().flatten().map(|(peer, expires)| named(*peer, *expires));
        own.into_iter().chain(others).collect()
    }

    pub(crate) fn remove(&mut self, key: &[u8; 32], peer: &PeerId) {
        if *peer == self.local {
            self.own.remove(key);
            return;
        }
        let Some(list) = self.lists.get_mut(key) else { return };
        if list.remove(peer).is_none() {
            return;
        }
        if list.is_empty() {
            self.lists.remove(key);
        }
        if let Some(keys) = self.keys_of.get_mut(peer) {
            *keys = keys.saturating_sub(1);
            if *keys == 0 {
                self.keys_of.remove(peer);
            }
        }
    }

    /// Drops those whose time is over.
    pub(crate) fn expire(&mut self) {
        let now = Instant::now();
        let over: Vec<_> = self
            .lists
            .iter()
            .flat_map(|(key, list)| list.iter().map(move |(peer, expires)| (*key, *peer, *expires)))
            .filter(|(_, _, expires)| expires.is_some_and(|end| end <= now))
            .collect();
        for (key, peer, _) in over {
            self.remove(&key, &peer);
        }
    }

    /// Keys this node provides.
    pub(crate) fn own(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.own.iter().copied()
    }

    pub(crate) fn own_records(&self) -> impl Iterator<Item = ProviderRecord> + '_ {
        self.own.iter().map(|key| ProviderRecord::new(RecordKey::new(key), self.local, Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn lists_are_bounded_and_expire() {
        let mut providers = Providers::new(PeerId::random());
        let soon = Instant::now() + Duration::from_millis(20);
        for _ in 0..PER_KEY {
            providers.add([1; 32], PeerId::random(), Some(soon)).unwrap();
        }
        let late = PeerId::random();
        assert!(providers.add([1; 32], late, None).is_err());
        std::thread::sleep(Duration::from_millis(25));
        providers.add([1; 32], late, None).unwrap();
        assert_eq!(providers.of(&[1; 32]).len(), 1);
        assert_eq!(providers.keys_of.len(), 1);
    }

    #[test]
    fn one_peer_stands_under_a_bounded_number_of_keys() {
        let mut providers = Providers::new(PeerId::random());
        let greedy = PeerId::random();
        let key = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            key
        };
        for n in 0..PER_PEER {
            providers.add(key(n), greedy, None).unwrap();
        }
        assert!(providers.add(key(PER_PEER), greedy, None).is_err());
        providers.add(key(PER_PEER), PeerId::random(), None).unwrap();
        providers.remove(&key(0), &greedy);
        providers.add(key(PER_PEER), greedy, None).unwrap();
    }

    #[test]
    fn own_keys_are_listed_until_removed() {
        let local = PeerId::random();
        let mut providers = Providers::new(local);
        providers.add([2; 32], local, None).unwrap();
        assert_eq!(providers.of(&[2; 32]).first().unwrap().provider, local);
        providers.remove(&[2; 32], &local);
        assert!(providers.of(&[2; 32]).is_empty());
    }
}
