//! What was published, so that every answer can be compared with it, and the judge that every honest node asks.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use zero2ai_net::{Judge, RecordFacts, Topic, Verdict};
use zero2ai_proto::{NodeId, ids::tagged_hash, record::dht_key::places};

const HEAD: usize = 8 + 8 + 32;
/// Records are as long as a small name record.
const BODY: usize = 1_024;

/// The records of one run, and who is a member. A record is `seq u64 ‖ expires u64 ‖ key 32 ‖ body ‖ proof 32`; the proof is
/// a hash with a secret that stands for a signature: the hostile never use it.
pub(crate) struct Truth {
    secret: [u8; 32],
    members: RwLock<BTreeSet<NodeId>>,
    /// Key → every version published, oldest first.
    published: Mutex<BTreeMap<[u8; 32], Vec<Vec<u8>>>>,
    /// Place → its key.
    places: Mutex<HashMap<[u8; 32], [u8; 32]>>,
}

/// What an answer turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Newest,
    Older,
    Forged,
}

impl Truth {
    pub(crate) fn new(secret: [u8; 32]) -> Arc<Self> {
        let (members, published, places) = Default::default();
        Arc::new(Self { secret, members, published, places })
    }

    pub(crate) fn admit(&self, node: NodeId) {
        self.members.write().unwrap().insert(node);
    }

    /// The next version of a key's record.
    pub(crate) fn next(&self, key: [u8; 32]) -> Vec<u8> {
        let mut published = self.published.lock().unwrap();
        let versions = published.entry(key).or_default();
        let seq = versions.len() as u64 + 1;
        let mut value = [&seq.to_be_bytes()[..], &(now_ms() + 3_600_000).to_be_bytes(), &key].concat();
        value.resize(HEAD + BODY, u8::try_from(seq % 251).unwrap());
        value.extend(self.proof(&value));
        versions.push(value.clone());
        self.places.lock().unwrap().extend(places(&key).map(|place| (place, key)));
        value
    }

    fn proof(&self, value: &[u8]) -> [u8; 32] {
        tagged_hash("zero2ai simulated signature v1", &[&self.secret[..], value].concat())
    }

    pub(crate) fn judge_answer(&self, key: &[u8; 32], value: &[u8]) -> Answer {
        let published = self.published.lock().unwrap();
        match published.get(key).map(|versions| (versions.last(), versions.iter().any(|v| v == value))) {
            Some((Some(last), _)) if last == value => Answer::Newest,
            Some((_, true)) => Answer::Older,
            _ => Answer::Forged,
        }
    }

    fn key_at(&self, place: &[u8; 32]) -> Option<[u8; 32]> {
        self.places.lock().unwrap().get(place).copied()
    }

    /// A record with a higher number than the true one, and a proof that does not hold.
    pub(crate) fn forgery(&self, place: &[u8; 32], salt: u64) -> Option<Vec<u8>> {
        let key = self.key_at(place)?;
        let mut value = self.published.lock().unwrap().get(&key)?.last()?.clone();
        value[..8].copy_from_slice(&u64::MAX.to_be_bytes());
        let end = value.len() - 8;
        value[end..].copy_from_slice(&salt.to_be_bytes());
        Some(value)
    }

    /// A valid record of another key.
    pub(crate) fn of_another_key(&self, place: &[u8; 32]) -> Option<Vec<u8>> {
        let key = self.key_at(place)?;
        let published = self.published.lock().unwrap();
        let mut others = published.iter().filter(|(other, _)| **other != key);
        others.next().and_then(|(_, versions)| versions.last().cloned())
    }

    /// The first version of a record that has a newer one: valid, and a step back.
    pub(crate) fn oldest(&self, place: &[u8; 32]) -> Option<Vec<u8>> {
        let key = self.key_at(place)?;
        self.published.lock().unwrap().get(&key).filter(|versions| versions.len() > 1)?.first().cloned()
    }
}

impl Judge for Truth {
    fn admitted(&self, node: &NodeId) -> bool {
        self.members.read().unwrap().contains(node)
    }

    fn record(&self, key: &[u8; 32], value: &[u8]) -> Result<RecordFacts, String> {
        let (body, proof) = value.split_last_chunk::<32>().ok_or("too short")?;
        let head = body.first_chunk::<HEAD>().ok_or("too short")?;
        if !places(head.last_chunk().ok_or("no key")?).contains(key) {
            return Err("it stands under another key than its own".into());
        }
        if self.proof(body) != *proof {
            return Err("its signature does not verify".into());
        }
        let number = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().unwrap());
        Ok(RecordFacts { seq: number(0), expires_ms: number(8) })
    }

    fn provider(&self, _: &[u8; 32], node: &NodeId) -> bool {
        self.admitted(node)
    }

    fn gossip(&self, _: Topic, _: &NodeId, _: &[u8]) -> Verdict {
        Verdict::Accept
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
