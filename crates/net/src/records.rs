//! The records this node holds for the DHT. Every one, own or foreign, passed the judge; each key keeps its highest
//! sequence number; nothing expired is served; count, bytes and each peer's share are bounded.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{
    PeerId,
    kad::{
        ProviderRecord, Record, RecordKey,
        store::{Error as StoreError, RecordStore, Result as StoreResult},
    },
};
use zero2ai_clock::now_ms;
use zero2ai_proto::{NodeId, limits::RECORD_BYTES};

use crate::{
    config::RECORD_TTL,
    error::Refusal,
    handle::HeldRecord,
    identity::{node_id, peer_id},
    judge::{Judge, RecordFacts},
    providers::Providers,
};

/// Bounds of what is held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Records in all: a name record and a dozen endpoint records for several hundred models, each at its three places.
    pub(crate) records: usize,
    /// Bytes of their values in all.
    pub(crate) bytes: usize,
    /// The part of both that one peer may fill, as a divisor.
    pub(crate) share: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { records: 24_576, bytes: 128 * 1024 * 1024, share: 4 }
    }
}

/// One record and what is known of it.
#[derive(Debug)]
struct Held {
    record: Record,
    seq: u64,
    /// The peer that brought this version; `None` for this node itself.
    source: Option<PeerId>,
    /// Published here: announced again until it expires.
    own: bool,
    /// When it last came in or went out: what nobody renewed is handed on.
    renewed: Instant,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    records: usize,
    bytes: usize,
}

/// Records and providers held for the DHT.
pub(crate) struct Shelf {
    judge: Arc<dyn Judge>,
    capacity: Capacity,
    records: BTreeMap<[u8; 32], Held>,
    used: Usage,
    used_by: BTreeMap<PeerId, Usage>,
    /// Held before a restart, and not judged yet: see `restore`.
    waiting: BTreeMap<[u8; 32], HeldRecord>,
    /// Which peer's message is being handled: Kademlia doesn't tell its store, so the wrapper around it does.
    pub(crate) source: Option<PeerId>,
    pub(crate) providers: Providers,
}

impl Shelf {
    pub(crate) fn new(local: PeerId, judge: Arc<dyn Judge>, capacity: Capacity) -> Self {
        Self {
            judge,
            capacity,
            records: BTreeMap::new(),
            used: Usage::default(),
            used_by: BTreeMap::new(),
            waiting: BTreeMap::new(),
            source: None,
            providers: Providers::new(local),
        }
    }

    /// Takes a record, or says why not. A refused one changes nothing.
    pub(crate) fn take(&mut self, mut record: Record) -> Result<(), Refusal> {
        let key = key_of(&record.key).ok_or(Refusal::Key)?;
        // What was held before goes first: else an older one would do until its turn.
        self.restore(&key);
        if record.value.len() > RECORD_BYTES {
            return Err(Refusal::TooLarge { bytes: record.value.len(), limit: RECORD_BYTES });
        }
        let now = Instant::now();
        let facts = self.judge.record(&key, &record.value).map_err(Refusal::Invalid)?;
        let life = life_left(&facts).ok_or(Refusal::Expired)?;
        // What the message says of its expiry is nobody's signed word: believed, it would let any member end any record.
        record.expires = now.checked_add(life.min(RECORD_TTL));
        let old = self.records.get(&key);
        if let Some(held) = old.filter(|held| !held.record.is_expired(now)) {
            if facts.seq < held.seq {
                return Err(Refusal::Older { held: held.seq, offered: facts.seq });
            }
            if facts.seq == held.seq && record.value != held.record.value {
                return Err(Refusal::Conflict { seq: facts.seq });
            }
        }
        let same = old.is_some_and(|held| held.record.value == record.value);
        // The same bytes again stay on the account of whoever brought them first.
        let source = if same { old.and_then(|held| held.source) } else { self.source };
        let own = old.is_some_and(|held| held.own);
        self.check_room(&key, record.value.len(), source)?;
        self.discard(&key);
        self.account(source, record.value.len());
        self.records.insert(key, Held { record, seq: facts.seq, source, own, renewed: now });
        Ok(())
    }

    /// May this identity take part?
    pub(crate) fn admits(&self, node: &NodeId) -> bool {
        self.judge.admitted(node)
    }

    /// What is held, for [`Shelf::restore`] after a restart. Providers are not in it: they tell of themselves every
    /// ten minutes.
    pub(crate) fn snapshot(&self) -> Vec<HeldRecord> {
        let now = Instant::now();
        let held = self.records.iter().filter(|(_, held)| !held.record.is_expired(now));
        let record = |(key, held): (&[u8; 32], &Held)| HeldRecord {
            key: *key,
            value: held.record.value.clone(),
            from: held.source.as_ref().and_then(node_id),
        };
        held.map(record).collect()
    }

    /// Puts down what was held before, to be judged by [`Shelf::restore`], with what else is put down.
    pub(crate) fn await_turn(&mut self, held: HeldRecord) {
        self.waiting.insert(held.key, held);
    }

    /// Takes what was held before, if it is still valid: a file is believed no more than a peer is, and what the record itself says of
    /// its end is wall-clock time. It stays on the account of the peer that brought it: a restart gives nobody a second share. True if
    /// there is a record at this key now.
    pub(crate) fn restore(&mut self, key: &[u8; 32]) -> bool {
        if let Some(HeldRecord { key, value, from }) = self.waiting.remove(key) {
            let before = std::mem::replace(&mut self.source, from.as_ref().and_then(peer_id));
            if let Err(refusal) = self.take(Record::new(RecordKey::new(&key), value)) {
                tracing::debug!(%refusal, "a record was held before and is not any more");
            }
            self.source = before;
        }
        self.records.contains_key(key)
    }

    /// Marks a held record as published here.
    pub(crate) fn own(&mut self, key: &[u8; 32]) {
        if let Some(held) = self.records.get_mut(key) {
            held.own = true;
        }
    }

    /// Keys of own records, and of foreign ones that nobody renewed for `stale`.
    pub(crate) fn to_announce(&self, stale: Option<Duration>) -> Vec<[u8; 32]> {
        let due = |held: &Held| held.own || stale.is_some_and(|age| held.renewed.elapsed() >= age);
        self.records.iter().filter(|(_, held)| due(held)).map(|(key, _)| *key).collect()
    }

    /// Drops whatever has expired, records and providers.
    pub(crate) fn expire(&mut self) {
        let now = Instant::now();
        let over: Vec<_> =
            self.records.iter().filter(|(_, held)| held.record.is_expired(now)).map(|(key, _)| *key).collect();
        for key in over {
            self.discard(&key);
        }
        self.providers.expire();
    }

    fn check_room(&mut self, key: &[u8; 32], bytes: usize, source: Option<PeerId>) -> Result<(), Refusal> {
        if self.fits(key, bytes, source).is_err() {
            self.expire();
        }
        self.fits(key, bytes, source)
    }

    fn fits(&self, key: &[u8; 32], bytes: usize, source: Option<PeerId>) -> Result<(), Refusal> {
        let old = self.records.get(key);
        let old_bytes = old.map_or(0, |held| held.record.value.len());
        let over = |used: Usage, gives: bool, share: usize| {
            let (freed_records, freed_bytes) = if gives { (usize::from(old.is_some()), old_bytes) } else { (0, 0) };
            let records = used.records.saturating_sub(freed_records).saturating_add(1);
            let total = used.bytes.saturating_sub(freed_bytes).saturating_add(bytes);
            records > self.capacity.records / share || total > self.capacity.bytes / share
        };
        if over(self.used, true, 1) {
            return Err(Refusal::Full { what: "this node's store is full" });
        }
        let Some(peer) = source else { return Ok(()) };
        let used = self.used_by.get(&peer).copied().unwrap_or_default();
        if over(used, old.is_some_and(|held| held.source == source), self.capacity.share.max(1)) {
            return Err(Refusal::Full { what: "that peer's share of the store is full" });
        }
        Ok(())
    }

    fn account(&mut self, source: Option<PeerId>, bytes: usize) {
        self.used.records = self.used.records.saturating_add(1);
        self.used.bytes = self.used.bytes.saturating_add(bytes);
        if let Some(peer) = source {
            let used = self.used_by.entry(peer).or_default();
            used.records = used.records.saturating_add(1);
            used.bytes = used.bytes.saturating_add(bytes);
        }
    }

    fn discard(&mut self, key: &[u8; 32]) {
        let Some(held) = self.records.remove(key) else { return };
        let bytes = held.record.value.len();
        self.used.records = self.used.records.saturating_sub(1);
        self.used.bytes = self.used.bytes.saturating_sub(bytes);
        let Some(peer) = held.source else { return };
        if let Some(used) = self.used_by.get_mut(&peer) {
            used.records = used.records.saturating_sub(1);
            used.bytes = used.bytes.saturating_sub(bytes);
            if used.records == 0 {
                self.used_by.remove(&peer);
            }
        }
    }
}

/// What is left of a record's life by the system clock. `None` if it is over.
pub(crate) fn life_left(facts: &RecordFacts) -> Option<Duration> {
    facts.expires_ms.checked_sub(now_ms()).filter(|left| *left > 0).map(Duration::from_millis)
}

/// A DHT key of ours. `None` for any other length.
pub(crate) fn key_of(key: &RecordKey) -> Option<[u8; 32]> {
    <[u8; 32]>::try_from(key.as_ref()).ok()
}

type Iter<'a, T> = Box<dyn Iterator<Item = Cow<'a, T>> + 'a>;

impl RecordStore for Shelf {
    type RecordsIter<'a> = Iter<'a, Record>;
    type ProvidedIter<'a> = Iter<'a, ProviderRecord>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.records.get(&key_of(key)?).map(|held| Cow::Borrowed(&held.record))
    }

    /// An `Err` resets the peer's stream, so that a refused record counts towards nobody's quorum. Kademlia's error type
    /// has no word for "invalid": every such refusal is told as "too large", and logged as what it is.
    fn put(&mut self, record: Record) -> StoreResult<()> {
        self.take(record).map_err(|refusal| {
            tracing::debug!(source = ?self.source, %refusal, "a record was refused");
            match refusal {
                Refusal::Full { .. } => StoreError::MaxRecords,
                _ => StoreError::ValueTooLarge,
            }
        })
    }

    fn remove(&mut self, key: &RecordKey) {
        if let Some(key) = key_of(key) {
            self.discard(&key);
        }
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        Box::new(self.records.values().map(|held| Cow::Borrowed(&held.record)))
    }

    fn add_provider(&mut self, record: ProviderRecord) -> StoreResult<()> {
        let key = key_of(&record.key).ok_or(StoreError::MaxProvidedKeys)?;
        let node = node_id(&record.provider).ok_or(StoreError::MaxProvidedKeys)?;
        if !self.judge.provider(&key, &node) {
            tracing::debug!(node = %node.short(), "a provider was refused by the judge");
            return Err(StoreError::MaxProvidedKeys);
        }
        self.providers.add(key, record.provider, record.expires)
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        key_of(key).map(|key| self.providers.of(&key)).unwrap_or_default()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        Box::new(self.providers.own_records().map(Cow::Owned))
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if let Some(key) = key_of(key) {
            self.providers.remove(&key, provider);
        }
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
