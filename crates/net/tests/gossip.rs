//! Gossip: what is accepted reaches everyone, fast; what is not goes nowhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Node, Pool, until};
use zero2ai_net::{NetError, NetEvent, Topic};
use zero2ai_proto::limits::GOSSIP_BYTES;

/// Publishes from each node until each other has heard it: subscriptions travel a moment after connections.
async fn warm(nodes: &mut [Node]) {
    for n in 0..nodes.len() {
        let from = nodes[n].id;
        let mut waiting: Vec<usize> = (0..nodes.len()).filter(|m| *m != n).collect();
        let began = Instant::now();
        while !waiting.is_empty() {
            assert!(began.elapsed() < common::PATIENCE, "gossip never started");
            nodes[n].handle.publish(Topic::Tx, b"warm".to_vec()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            waiting.retain(|m| {
                let events = &mut nodes[*m].running.events;
                let mut heard = false;
                while let Ok(event) = events.try_recv() {
                    heard |= matches!(event, NetEvent::Gossip { author, .. } if author == from);
                }
                !heard
            });
        }
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    for node in nodes {
        while node.running.events.try_recv().is_ok() {}
    }
}

#[tokio::test]
async fn a_message_reaches_every_node() {
    let mut nodes = Pool::new().mesh(4).await;
    warm(&mut nodes).await;
    let mut worst = Duration::ZERO;
    for round in 0..20u8 {
        let from = usize::from(round) % 4;
        let author = nodes[from].id;
        let began = Instant::now();
        nodes[from].handle.publish(Topic::Consensus, vec![round; 300]).await.unwrap();
        for m in (0..4).filter(|m| *m != from) {
            assert_eq!(nodes[m].gossip().await, (Topic::Consensus, author, vec![round; 300]));
        }
        worst = worst.max(began.elapsed());
    }
    println!("slowest of 20 messages to 3 nodes: {worst:?}");
    let block = vec![3; GOSSIP_BYTES];
    nodes[0].handle.publish(Topic::Consensus, block.clone()).await.unwrap();
    for node in &mut nodes[1..] {
        assert_eq!(node.gossip().await.2, block);
    }
    let over = nodes[0].handle.publish(Topic::Head, vec![0; GOSSIP_BYTES + 1]).await;
    assert!(matches!(over, Err(NetError::TooLarge { .. })));
}

#[tokio::test]
async fn later_messages_of_one_author_have_higher_numbers() {
    let mut nodes = Pool::new().mesh(2).await;
    warm(&mut nodes).await;
    let mut last = 0;
    for topic in [Topic::Head, Topic::Tx, Topic::Consensus, Topic::Head] {
        nodes[0].handle.publish(topic, b"said".to_vec()).await.unwrap();
        let number = |event| if let NetEvent::Gossip { number, .. } = event { Some(number) } else { None };
        let number = nodes[1].event(number).await;
        assert!(number > last, "{number} after {last}");
        last = number;
    }
}

#[tokio::test]
async fn a_message_goes_on_over_a_node_in_the_middle() {
    let pool = Pool::new();
    let mut a = pool.node(&[]).await;
    let mut b = pool.node(&[&a]).await;
    until("a and b", async || a.handle.peers() == [b.id]).await;
    let c_key = zero2ai_proto::SecretKey::generate().unwrap();
    let mut c = Node::start(pool.config(&c_key, &[&b]), std::sync::Arc::default()).await;
    until("all", async || b.handle.peers().len() == 2).await;
    let mut nodes = [a, b, c];
    warm(&mut nodes).await;
    [a, b, c] = nodes;
    // From here on a and c reach each other over b alone.
    a.judge.ban(c.id);
    until("a and c are apart", async || a.handle.peers() == [b.id] && c.handle.peers() == [b.id]).await;
    c.handle.publish(Topic::Tx, b"from c".to_vec()).await.unwrap();
    assert_eq!(b.gossip().await.2, b"from c");
    a.handle.publish(Topic::Tx, b"from a".to_vec()).await.unwrap();
    assert_eq!(c.gossip().await, (Topic::Tx, a.id, b"from a".to_vec()));
    assert_eq!(b.gossip().await.2, b"from a");
    // The author is not admitted in a's eyes: what b relays of his is not delivered there.
    tokio::time::sleep(Duration::from_millis(200)).await;
    while let Ok(event) = a.running.events.try_recv() {
        assert!(!matches!(event, NetEvent::Gossip { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn rejected_and_ignored_messages_are_not_delivered() {
    let mut nodes = Pool::new().mesh(3).await;
    warm(&mut nodes).await;
    for bad in [&b"reject"[..], b"ignore"] {
        nodes[0].handle.publish(Topic::Consensus, bad.to_vec()).await.unwrap();
    }
    nodes[0].handle.publish(Topic::Consensus, b"good".to_vec()).await.unwrap();
    for node in &mut nodes[1..] {
        assert_eq!(node.gossip().await.2, b"good", "only this one comes");
    }
}

#[tokio::test]
async fn a_forger_is_shut_out_by_his_score() {
    let mut nodes = Pool::new().mesh(3).await;
    warm(&mut nodes).await;
    for _ in 0..20 {
        nodes[0].handle.publish(Topic::Consensus, b"reject".to_vec()).await.unwrap();
    }
    // Scores are what was seen until now: the last message is behind twenty rejected ones on the same connection.
    nodes[0].handle.publish(Topic::Consensus, b"good".to_vec()).await.unwrap();
    let honest = nodes[1].id;
    nodes[1].handle.publish(Topic::Consensus, b"honest".to_vec()).await.unwrap();
    let (_, author, data) = nodes[2].gossip().await;
    assert_eq!((author, data), (honest, b"honest".to_vec()));
}

#[tokio::test]
async fn a_slow_node_loses_gossip_but_no_peer() {
    let mut nodes = Pool::new().mesh(2).await;
    warm(&mut nodes).await;
    until("its queue is over full", async || {
        for n in 0..50u8 {
            nodes[0].handle.publish(Topic::Tx, vec![n; 10]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        nodes[1].handle.dropped_gossip() > 0
    })
    .await;
    nodes[0].stop.cancel();
    until("the other has gone", async || nodes[1].handle.peers().is_empty()).await;
    let gone = nodes[0].id;
    nodes[1].event(|event| (event == NetEvent::PeerDown(gone)).then_some(())).await;
}

#[tokio::test]
async fn alone_publishing_is_no_error() {
    let node = Pool::new().node(&[]).await;
    node.handle.publish(Topic::Head, b"anyone".to_vec()).await.unwrap();
}

/// A killed process says no goodbye, and its old connections stand for seconds. Started again within them, as a service manager
/// does, it hears the others and is heard.
#[tokio::test]
async fn a_node_killed_and_started_again_at_once_is_heard() {
    let pool = Pool::new();
    let mut a = pool.node(&[]).await;
    let key = zero2ai_proto::SecretKey::generate().unwrap();
    for start in 0..3u8 {
        // A runtime of its own: dropped with all its tasks, it ends as a killed process does.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = pool.config(&key, &[&a]);
        let mut b = runtime.spawn(Node::start(config, std::sync::Arc::default())).await.unwrap();
        for (from, to) in [(true, "a"), (false, "b")] {
            let what = format!("start {start}: {to} hears the other");
            until(&what, async || {
                let (says, hears) = if from { (&b, &mut a) } else { (&a, &mut b) };
                let _ = says.handle.publish(Topic::Tx, vec![start; 9]).await;
                std::iter::from_fn(|| hears.running.events.try_recv().ok()).any(
                    |event| matches!(event, NetEvent::Gossip { data, author, .. } if data == [start; 9] && author == says.id),
                )
            })
            .await;
        }
        runtime.shutdown_background();
    }
}
