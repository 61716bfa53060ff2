//! Records and providers across nodes: what is valid travels, what is not counts for nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Opinion, Pool, record, until};
use zero2ai_net::{HeldRecord, NetError, Refusal};

const KEY: [u8; 32] = [7; 32];

#[tokio::test]
async fn a_record_put_on_one_node_is_got_on_another() {
    let nodes = Pool::new().mesh(4).await;
    let value = record(1, b"hello");
    let copies = nodes[1].handle.put_record(KEY, value.clone(), 8).await.unwrap();
    assert_eq!(copies, 3, "wanted copies are bounded by the peers there are");
    for node in &nodes {
        assert_eq!(node.handle.get_record(KEY).await.unwrap(), Some(value.clone()));
    }
    assert_eq!(nodes[2].handle.get_record([9; 32]).await.unwrap(), None);
}

#[tokio::test]
async fn alone_a_record_is_kept_and_told_to_whoever_joins() {
    let pool = Pool::new();
    let a = pool.node(&[]).await;
    let value = record(1, b"early");
    assert_eq!(a.handle.put_record(KEY, value.clone(), 3).await.unwrap(), 0);
    a.handle.start_providing(KEY).await.unwrap();
    let b = pool.node(&[&a]).await;
    until("connected", async || b.handle.peers() == [a.id]).await;
    // Nobody asks b for it, so its judge hears of the record only if a announces it.
    until("a has announced it to b", async || b.judge.judged.lock().unwrap().contains(&value)).await;
    a.stop.cancel();
    until("a has gone", async || b.handle.peers().is_empty()).await;
    assert_eq!(b.handle.get_record(KEY).await.unwrap(), Some(value));
    assert_eq!(b.handle.providers(KEY).await.unwrap(), [a.id]);
}

#[tokio::test]
async fn an_invalid_record_is_refused_and_counts_for_nothing() {
    let pool = Pool::new();
    let a = pool.node(&[]).await;
    let strict = pool.node_with(Opinion { no_records: true, ..Opinion::default() }, &[&a]).await;
    let c = pool.node(&[&a]).await;
    until("three nodes", async || [&a, &strict, &c].iter().all(|n| n.handle.peers().len() == 2)).await;
    let refused = a.handle.put_record(KEY, record(1, b"invalid"), 1).await;
    assert!(matches!(refused, Err(NetError::Record(Refusal::Invalid(_)))), "{refused:?}");
    let huge = a.handle.put_record(KEY, vec![0; 49 * 1024], 1).await;
    assert!(matches!(huge, Err(NetError::Record(Refusal::TooLarge { .. }))));
    // A peer that finds it invalid does not count as a copy; and when asked, it takes no answer it finds invalid.
    assert_eq!(a.handle.put_record(KEY, record(1, b"fine"), 2).await.unwrap(), 1);
    assert_eq!(strict.handle.get_record(KEY).await.unwrap(), None);
    assert_eq!(c.handle.get_record(KEY).await.unwrap(), Some(record(1, b"fine")));
}

#[tokio::test]
async fn a_lower_sequence_number_never_wins() {
    let nodes = Pool::new().mesh(3).await;
    let newest = record(5, b"new");
    assert_eq!(nodes[0].handle.put_record(KEY, newest.clone(), 2).await.unwrap(), 2);
    let older = nodes[1].handle.put_record(KEY, record(4, b"old"), 2).await;
    assert!(matches!(older, Err(NetError::Record(Refusal::Older { held: 5, offered: 4 }))), "{older:?}");
    let other = nodes[1].handle.put_record(KEY, record(5, b"other"), 2).await;
    assert!(matches!(other, Err(NetError::Record(Refusal::Conflict { seq: 5 }))), "{other:?}");
    let next = record(6, b"newer");
    assert_eq!(nodes[2].handle.put_record(KEY, next.clone(), 2).await.unwrap(), 2);
    for node in &nodes {
        assert_eq!(node.handle.get_record(KEY).await.unwrap(), Some(next.clone()));
    }
}

#[tokio::test]
async fn records_outlive_a_restart_and_still_refuse_older_ones() {
    let pool = Pool::new();
    let a = pool.node(&[]).await;
    let newest = record(5, b"new");
    a.handle.put_record(KEY, newest.clone(), 1).await.unwrap();
    let held = a.handle.held_records().await.unwrap();
    assert_eq!(held.len(), 3, "one for each place");

    let b = pool.node(&[]).await;
    let mut damaged = held.clone();
    damaged.push(HeldRecord { key: [8; 32], value: record(1, b"invalid"), from: None });
    assert_eq!(b.handle.restore_records(damaged).await.unwrap(), 3, "what is restored is judged");
    assert_eq!(b.handle.get_record(KEY).await.unwrap(), Some(newest));
    let older = b.handle.put_record(KEY, record(4, b"old"), 1).await;
    assert!(matches!(older, Err(NetError::Record(Refusal::Older { held: 5, offered: 4 }))), "{older:?}");
}

#[tokio::test]
async fn of_two_places_that_differ_the_newer_is_found() {
    let pool = Pool::new();
    let (a, b) = (pool.node(&[]).await, pool.node(&[]).await);
    let places = zero2ai_proto::record::dht_key::places(&KEY);
    // a, which is asked at its first place before any peer, was given an old record there; b has the newest at another one.
    let (old, new) = (record(1, b"old"), record(2, b"new"));
    let held = |key, value: &[u8]| HeldRecord { key, value: value.to_vec(), from: None };
    assert_eq!(a.handle.restore_records(vec![held(places[0], &old)]).await.unwrap(), 1);
    assert_eq!(b.handle.restore_records(vec![held(places[2], &new)]).await.unwrap(), 1);
    a.handle.dial(b.id, &b.address()).await.unwrap();
    assert_eq!(a.handle.get_record(KEY).await.unwrap(), Some(old), "the first answer will do");
    until("the DHT has taken b in", async || a.handle.get_newest_record(KEY).await.unwrap() == Some(new.clone())).await;
    assert_eq!(a.handle.get_record(KEY).await.unwrap(), Some(new), "and it has taken the better one");
}

#[tokio::test]
async fn providers_are_found_and_checked() {
    let nodes = Pool::new().mesh(4).await;
    for node in &nodes[1..3] {
        node.handle.start_providing(KEY).await.unwrap();
    }
    let mut expected = vec![nodes[1].id, nodes[2].id];
    expected.sort();
    for node in &nodes {
        until("both providers are found", async || {
            let mut found = node.handle.providers(KEY).await.unwrap();
            found.sort();
            found == expected
        })
        .await;
    }
    nodes[1].handle.stop_providing(KEY).await.unwrap();
    assert!(nodes[0].handle.providers([9; 32]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_provider_that_the_judge_does_not_allow_is_not_shown() {
    let pool = Pool::new();
    let a = pool.node(&[]).await;
    let strict = pool.node_with(Opinion { no_providers: true, ..Opinion::default() }, &[&a]).await;
    until("connected", async || strict.handle.peers() == [a.id]).await;
    a.handle.start_providing(KEY).await.unwrap();
    assert_eq!(a.handle.providers(KEY).await.unwrap(), [a.id]);
    assert!(strict.handle.providers(KEY).await.unwrap().is_empty());
    assert!(matches!(strict.handle.start_providing(KEY).await, Err(NetError::Provide { .. })));
}
