//! Who gets in: the pool key and admission, on both ends, against strangers of several kinds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{sync::Arc, time::Duration};

use common::{Node, Opinion, Pool, until};
use futures::{AsyncReadExt, AsyncWriteExt, future::poll_fn};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        Endpoint,
        muxing::StreamMuxerExt,
        transport::{DialOpts, PortUse},
    },
    identity::Keypair,
    quic,
};
use tokio_util::sync::CancellationToken;
use zero2ai_net::{NetError, NetEvent, start};
use zero2ai_proto::{
    SecretKey,
    pool::{Keyring, PoolKey},
};

fn reason(result: Result<(), NetError>) -> String {
    match result {
        Err(NetError::Dial { reason, .. }) => reason,
        other => panic!("expected a refused dial, got {other:?}"),
    }
}

#[tokio::test]
async fn the_same_key_joins() {
    let pool = Pool::new();
    let mut a = pool.node(&[]).await;
    let b = pool.node(&[&a]).await;
    let up = a.event(|event| if let NetEvent::PeerUp(node) = event { Some(node) } else { None }).await;
    assert_eq!(up, b.id);
    until("both see each other", async || a.handle.peers() == [b.id] && b.handle.peers() == [a.id]).await;
    b.handle.dial(a.id, &a.address()).await.unwrap();
    b.stop.cancel();
    b.running.task.await.unwrap().unwrap();
    let down = a.event(|event| if let NetEvent::PeerDown(node) = event { Some(node) } else { None }).await;
    assert_eq!(down, b.id);
    assert!(matches!(b.handle.get_record([0; 32]).await, Err(NetError::Stopped)));
}

#[tokio::test]
async fn another_key_or_another_pool_is_refused() {
    let pool = Pool::new();
    let mut a = pool.node(&[]).await;
    let wrong_key = Pool { keys: PoolKey::generate().unwrap().into(), ..pool.clone() }.node(&[]).await;
    let wrong_pool = Pool { id: Pool::new().id, ..pool.clone() }.node(&[]).await;
    for (n, stranger) in [wrong_key, wrong_pool].iter().enumerate() {
        let why = reason(stranger.handle.dial(a.id, &a.address()).await);
        assert!(why.contains("closed without an answer"), "{why}");
        until("the refusal is counted", async || a.handle.refused() > n as u64).await;
        assert!(a.handle.peers().is_empty() && stranger.handle.peers().is_empty());
    }
    assert!(a.running.events.try_recv().is_err(), "the node never heard of them");
}

#[tokio::test]
async fn a_key_of_an_earlier_epoch_is_good_during_its_grace_alone() {
    let pool = Pool::new();
    let rotated = |until_ms| {
        let keys = Keyring::from(pool.keys.current());
        assert!(keys.renew(pool.keys.current().next().unwrap(), until_ms));
        Pool { keys, ..pool.clone() }
    };
    let (grace, over) = (rotated(u64::MAX).node(&[]).await, rotated(0).node(&[]).await);
    let behind = pool.node(&[]).await;
    behind.handle.dial(grace.id, &grace.address()).await.unwrap();
    for (dialer, listener) in [(&behind, &over), (&over, &behind)] {
        let why = reason(dialer.handle.dial(listener.id, &listener.address()).await);
        assert!(why.contains("epoch") || why.contains("closed without an answer"), "{why}");
    }
    assert!(over.handle.peers().is_empty());
    // Renewed while it runs, it is let in.
    let renewed = rotated(0);
    let (held, listener) = (renewed.keys.clone(), renewed.node(&[]).await);
    let late = pool.node(&[]).await;
    assert!(late.handle.dial(listener.id, &listener.address()).await.is_err());
    assert!(pool.keys.renew(held.current(), 0));
    late.handle.dial(listener.id, &listener.address()).await.unwrap();
}

#[tokio::test]
async fn the_key_without_admission_is_refused_by_either_end() {
    let pool = Pool::new();
    let mut a = pool.node(&[]).await;
    let b = pool.node(&[]).await;
    a.judge.ban(b.id);
    let why = reason(b.handle.dial(a.id, &a.address()).await);
    assert!(why.contains("this node is not admitted"), "{why}");
    until("the refusal is counted", async || a.handle.refused() > 0).await;
    let why = reason(a.handle.dial(b.id, &b.address()).await);
    assert!(why.contains(&format!("node {} is not admitted", b.id.short())), "{why}");
    assert!(a.handle.peers().is_empty() && b.handle.peers().is_empty());
    assert!(a.running.events.try_recv().is_err());
}

#[tokio::test]
async fn a_revoked_peer_is_disconnected() {
    let pool = Pool::new();
    let a = pool.node(&[]).await;
    let b = pool.node(&[&a]).await;
    until("connected", async || a.handle.peers() == [b.id]).await;
    a.judge.ban(b.id);
    until("disconnected", async || a.handle.peers().is_empty()).await;
    until("kept out", async || a.handle.refused() > 0).await;
    a.judge.banned.lock().unwrap().clear();
    until("admitted again, it comes back by itself", async || a.handle.peers() == [b.id]).await;
}

/// What a libp2p program says that wants to ping, and one that wants a reservation or a circuit.
const PING: &[u8] = b"\x13/multistream/1.0.0\n\x10/ipfs/ping/1.0.0\n";
const HOP: &[u8] = b"\x13/multistream/1.0.0\n\x20/libp2p/circuit/relay/0.2.0/hop\n";

#[tokio::test]
async fn strangers_with_garbage_or_silence_harm_nobody() {
    let pool = Pool::new();
    let mut a = pool.node(&[]).await;
    let mut kept = Vec::new();
    for words in [&b""[..], &[0; 37], &[1; 4096], PING, HOP] {
        let (_, mut connection) = raw_dial(&a).await;
        let mut stream = poll_fn(|cx| connection.poll_outbound_unpin(cx)).await.unwrap();
        stream.write_all(words).await.unwrap();
        stream.flush().await.unwrap();
        if !words.is_empty() {
            // Whatever it answers (its hello, at most), it ends.
            let mut answer = Vec::new();
            let end = tokio::time::timeout(common::PATIENCE, stream.read_to_end(&mut answer)).await;
            assert!(end.is_ok() && answer.len() <= 37, "{} bytes", answer.len());
        }
        kept.push((connection, stream));
    }
    let silent = raw_dial(&a).await;
    let b = pool.node(&[&a]).await;
    until("members get in meanwhile", async || a.handle.peers() == [b.id]).await;
    until("all six strangers are turned away", async || a.handle.refused() >= 6).await;
    assert_eq!(a.handle.peers(), [b.id]);
    while let Ok(event) = a.running.events.try_recv() {
        assert_eq!(event, NetEvent::PeerUp(b.id));
    }
    drop((kept, silent));
}

async fn raw_dial(to: &Node) -> (PeerId, quic::Connection) {
    let mut transport = quic::tokio::Transport::new(quic::Config::new(&Keypair::generate_ed25519()));
    let address: Multiaddr = to.address().parse().unwrap();
    let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    transport.dial(address, opts).unwrap().await.unwrap()
}

#[tokio::test]
async fn a_taken_port_and_bad_addresses_are_told() {
    let pool = Pool::new();
    let a = pool.node(&[]).await;
    let port: u16 = a.address().split('/').nth(4).unwrap().parse().unwrap();
    let mut config = pool.config(&SecretKey::generate().unwrap(), &[]);
    config.listen.set_port(port);
    let taken = start(config.clone(), Arc::new(Opinion::default()), CancellationToken::new()).await;
    let error = taken.map(drop).unwrap_err();
    assert!(matches!(error, NetError::Listen { .. }));
    assert!(error.to_string().contains("choose another port"), "{error}");
    config.bootstrap = vec![(a.id, "10.0.0.1:7000".into())];
    let bad = start(config, Arc::new(Opinion::default()), CancellationToken::new()).await;
    assert!(matches!(bad.map(drop), Err(NetError::Address { .. })));
    assert!(matches!(a.handle.dial(a.id, "nowhere").await, Err(NetError::Address { .. })));
}

/// A node whose process dies without a word, and is started again with the same identity and port, is back with its
/// peers, and gossip flows both ways: the survivor must not go on talking to the dead process.
#[test]
fn a_killed_node_comes_back() {
    let pool = Pool::new();
    let survivors = tokio::runtime::Runtime::new().unwrap();
    let mut a = survivors.block_on(pool.node(&[]));
    let key = SecretKey::generate().unwrap();
    let mut config = pool.config(&key, &[&a]);

    let doomed = tokio::runtime::Runtime::new().unwrap();
    let b = doomed.block_on(Node::start(config.clone(), Arc::default()));
    survivors.block_on(until("connected", async || a.handle.peers() == [b.id]));
    config.listen.set_port(b.address().split('/').nth(4).unwrap().parse().unwrap());
    // Long enough that the two connections are not taken for a simultaneous dial.
    std::thread::sleep(Duration::from_millis(3_100));
    doomed.shutdown_background();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(a.handle.peers(), [b.id], "it died without a word: nobody knows yet");

    survivors.block_on(async {
        let mut again = None;
        until("the dead process has let go of its port", async || {
            again = start(config.clone(), Arc::new(Opinion::default()), CancellationToken::new()).await.ok();
            again.is_some()
        })
        .await;
        let mut again = again.unwrap();
        let began = std::time::Instant::now();
        until("gossip flows both ways", async || {
            a.handle.publish(zero2ai_net::Topic::Head, b"to b".to_vec()).await.unwrap();
            again.handle.publish(zero2ai_net::Topic::Head, b"to a".to_vec()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
            let is_gossip = |event| matches!(event, NetEvent::Gossip { .. });
            let mut heard = [false; 2];
            for (n, events) in [&mut a.running.events, &mut again.events].into_iter().enumerate() {
                while let Ok(event) = events.try_recv() {
                    heard[n] |= is_gossip(event);
                }
            }
            heard == [true; 2]
        })
        .await;
        println!("back after {:?}", began.elapsed());
    });
}
