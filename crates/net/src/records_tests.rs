//! The shelf's invariants, over random histories.
#![allow(clippy::unwrap_used)]

use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use zero2ai_proto::{NodeId, SecretKey};

use super::*;
use crate::{
    judge::{Topic, Verdict},
    restore::Restoring,
};

/// Reads a record's sequence number and life from its first bytes; a value that starts with 0xff is invalid, one whose
/// second byte is [`BRIEF`] ends a minute from now.
struct Plain;

const BRIEF: u8 = 0xee;

impl Judge for Plain {
    fn admitted(&self, _: &NodeId) -> bool {
        true
    }
    fn record(&self, _: &[u8; 32], value: &[u8]) -> Result<RecordFacts, String> {
        match value {
            [0xff, ..] | [] => Err("bad".into()),
            [seq, BRIEF, ..] => {
                let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(60);
                Ok(RecordFacts { seq: u64::from(*seq), expires_ms: u64::try_from(end.as_millis()).unwrap() })
            }
            [seq, ..] => Ok(RecordFacts { seq: u64::from(*seq), expires_ms: u64::MAX }),
        }
    }
    fn provider(&self, key: &[u8; 32], _: &NodeId) -> bool {
        key[0] != 0xff
    }
    fn gossip(&self, _: Topic, _: &NodeId, _: &[u8]) -> Verdict {
        Verdict::Accept
    }
}

/// Takes five milliseconds for each record.
struct Slow;

impl Judge for Slow {
    fn admitted(&self, node: &NodeId) -> bool {
        Plain.admitted(node)
    }
    fn record(&self, key: &[u8; 32], value: &[u8]) -> Result<RecordFacts, String> {
        std::thread::sleep(Duration::from_millis(5));
        Plain.record(key, value)
    }
    fn provider(&self, key: &[u8; 32], node: &NodeId) -> bool {
        Plain.provider(key, node)
    }
    fn gossip(&self, topic: Topic, node: &NodeId, data: &[u8]) -> Verdict {
        Plain.gossip(topic, node, data)
    }
}

fn peer(n: u8) -> PeerId {
    peer_id(&SecretKey::from_bytes(&[n; 32]).public()).unwrap()
}

fn shelf(records: usize, bytes: usize) -> Shelf {
    Shelf::new(peer(200), Arc::new(Plain), Capacity { records, bytes, share: 2 })
}

fn record(key: u8, value: &[u8]) -> Record {
    Record::new(RecordKey::new(&[key; 32]), value.to_vec())
}

#[test]
fn a_lower_number_never_replaces_a_higher_one() {
    let mut shelf = shelf(8, 1024);
    shelf.take(record(1, &[5, 1])).unwrap();
    assert_eq!(shelf.take(record(1, &[4, 1])), Err(Refusal::Older { held: 5, offered: 4 }));
    assert_eq!(shelf.take(record(1, &[5, 2])), Err(Refusal::Conflict { seq: 5 }));
    shelf.take(record(1, &[5, 1])).unwrap();
    shelf.take(record(1, &[6, 9])).unwrap();
    assert_eq!(shelf.get(&RecordKey::new(&[1; 32])).unwrap().value, [6, 9]);
}

#[test]
fn invalid_and_misshapen_records_are_refused_by_put() {
    let mut shelf = shelf(8, 1 << 20);
    assert!(shelf.put(record(1, &[0xff])).is_err());
    assert!(shelf.put(Record::new(RecordKey::new(&[1; 31]), vec![1])).is_err());
    assert!(shelf.put(record(1, &vec![1; RECORD_BYTES + 1])).is_err());
    shelf.put(record(1, &[1])).unwrap();
    shelf.records.get_mut(&[1; 32]).unwrap().record.expires = Some(Instant::now());
    shelf.expire();
    assert!(shelf.records.is_empty() && shelf.used == Usage::default());
    let provider = |key: u8| ProviderRecord::new(RecordKey::new(&[key; 32]), peer(1), vec![]);
    assert!(shelf.add_provider(provider(0xff)).is_err());
    shelf.add_provider(provider(1)).unwrap();
}

#[test]
fn no_message_shortens_the_life_of_a_record_and_none_outlives_its_own_word() {
    let mut shelf = shelf(8, 1 << 20);
    let (key, bytes) = (RecordKey::new(&[1; 32]), [1, 2, 3]);
    let ends = |shelf: &Shelf| shelf.get(&key).unwrap().expires.unwrap();
    shelf.put(record(1, &bytes)).unwrap();
    let first = ends(&shelf);
    assert!(first > Instant::now() + RECORD_TTL / 2 && first <= Instant::now() + RECORD_TTL);
    shelf.source = Some(peer(1));
    let mut again = record(1, &bytes);
    again.expires = Some(Instant::now() + Duration::from_secs(1));
    shelf.put(again).unwrap();
    assert!(ends(&shelf) >= first);

    let mut brief = record(1, &[2, BRIEF]);
    brief.expires = Some(Instant::now() + RECORD_TTL);
    shelf.put(brief).unwrap();
    assert!(ends(&shelf) <= Instant::now() + Duration::from_secs(60));
}

#[test]
fn one_peer_fills_at_most_its_share() {
    let mut shelf = shelf(8, 1 << 20);
    shelf.source = Some(peer(1));
    for key in 0..4 {
        shelf.take(record(key, &[1])).unwrap();
    }
    assert!(matches!(shelf.take(record(4, &[1])), Err(Refusal::Full { .. })));
    shelf.take(record(3, &[2])).unwrap();
    shelf.source = Some(peer(2));
    shelf.take(record(4, &[1])).unwrap();
}

#[test]
fn a_restart_gives_nobody_a_second_share() {
    let mut before = shelf(8, 1 << 20);
    for (key, source) in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2)] {
        before.source = Some(peer(source));
        before.take(record(key, &[1])).unwrap();
    }
    before.source = None;
    before.take(record(5, &[1])).unwrap();
    let held = before.snapshot();

    let mut after = shelf(8, 1 << 20);
    let (mut restoring, (reply, mut told)) = (Restoring::default(), tokio::sync::oneshot::channel());
    let bad = HeldRecord { key: [9; 32], value: vec![0xff], from: None };
    restoring.add(held.iter().cloned().chain([bad]).collect(), &mut after, reply);
    restoring.turn(&mut after);
    assert_eq!(told.try_recv().unwrap().unwrap(), 6, "what is restored is judged");
    assert_eq!((after.used, &after.used_by), (before.used, &before.used_by));
    assert_eq!(after.snapshot(), held);
    after.source = Some(peer(1));
    assert!(matches!(after.take(record(6, &[1])), Err(Refusal::Full { .. })));
    after.source = Some(peer(2));
    after.take(record(6, &[1])).unwrap();
}

#[test]
fn what_was_held_is_judged_in_turns() {
    let mut shelf = Shelf::new(peer(200), Arc::new(Slow), Capacity { records: 100, bytes: 1 << 20, share: 2 });
    let (mut restoring, (reply, mut told)) = (Restoring::default(), tokio::sync::oneshot::channel());
    let held = |key: u8| HeldRecord { key: [key; 32], value: vec![2], from: None };
    restoring.add((0..12).map(held).collect(), &mut shelf, reply);
    restoring.turn(&mut shelf);
    assert!((1..12).contains(&shelf.records.len()), "{} in one turn", shelf.records.len());
    assert!(told.try_recv().is_err());
    assert_eq!(
        shelf.take(record(11, &[1])),
        Err(Refusal::Older { held: 2, offered: 1 }),
        "though its turn has not come"
    );
    (0..12).for_each(|_| restoring.turn(&mut shelf));
    assert_eq!((told.try_recv().unwrap().unwrap(), shelf.records.len()), (12, 12));
}

#[test]
fn life_is_what_the_record_says() {
    assert!(life_left(&RecordFacts { seq: 0, expires_ms: 1 }).is_none());
    assert!(life_left(&RecordFacts { seq: 0, expires_ms: u64::MAX }).is_some());
}

proptest! {
    #[test]
    fn accounts_balance_and_numbers_rise(
        steps in prop::collection::vec((0u8..6, prop::collection::vec(any::<u8>(), 1..40), 0u8..4, any::<bool>()), 1..60)
    ) {
        let mut shelf = shelf(4, 100);
        for (key, value, source, remove) in steps {
            shelf.source = (source > 0).then(|| peer(source));
            let before = shelf.records.get(&[key; 32]).map(|held| held.seq);
            if remove {
                shelf.remove(&RecordKey::new(&[key; 32]));
            } else if shelf.take(record(key, &value)).is_ok() {
                prop_assert!(before.is_none_or(|seq| seq <= u64::from(value[0])));
                prop_assert_ne!(value[0], 0xff);
            }
            let bytes: usize = shelf.records.values().map(|held| held.record.value.len()).sum();
            prop_assert_eq!(shelf.used, Usage { records: shelf.records.len(), bytes });
            prop_assert!(shelf.records.len() <= 4 && bytes <= 100);
            for source in 1..4 {
                let of: Vec<_> = shelf.records.values().filter(|held| held.source == Some(peer(source))).collect();
                let bytes = of.iter().map(|held| held.record.value.len()).sum();
                prop_assert!(of.len() <= 2 && bytes <= 50);
                let account = shelf.used_by.get(&peer(source)).copied().unwrap_or_default();
                prop_assert_eq!(account, Usage { records: of.len(), bytes });
            }
        }
    }
}
