//! Nodes that relay, and tunnels between members. What NATs do to all this is tried in `testnet/tests/nat.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Pool, until};
use tokio::time::timeout;
use zero2ai_net::{DATAGRAM_BYTES, NetError, Path, Reach, Tunnel};

#[tokio::test]
async fn the_node_to_which_everybody_dials_learns_that_it_can_be_reached_and_relays() {
    let pool = Pool::new();
    let first = pool.node(&[]).await;
    assert_eq!((first.handle.reach(), first.handle.is_relay()), (Reach::Unknown, false));
    let second = pool.node(&[&first]).await;
    until("both were dialled back", async || [&first, &second].iter().all(|n| n.handle.is_relay())).await;
    assert_eq!((first.handle.reach(), first.handle.external_addresses()), (Reach::Open, vec![first.address()]));
    // On one network nobody needs a relay, and connections made to dial somebody back do not stay.
    assert!(first.handle.relays().is_empty() && first.handle.circuit_addresses().is_empty());
    assert_eq!(second.handle.paths(), [(first.id, Path::Direct)]);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(second.handle.path(&first.id), Some(Path::Direct), "the connection itself stays");
}

async fn talk(from: Tunnel, to: Tunnel) {
    assert!(!from.is_relayed() && !to.is_relayed());
    let ((mut send, _keep), (_kept, mut receive)) = (from.split(), to.split());
    let datagrams: Vec<Vec<u8>> = vec![vec![1], vec![2; DATAGRAM_BYTES], b"three".to_vec()];
    send.send(&datagrams).await.unwrap();
    let mut buffer = [0; DATAGRAM_BYTES];
    for datagram in &datagrams {
        let got = timeout(common::PATIENCE, receive.receive(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(got, datagram);
    }
    drop((send, _keep));
    assert!(timeout(common::PATIENCE, receive.receive(&mut buffer)).await.unwrap().is_err(), "the end is told");
}

#[tokio::test]
async fn a_tunnel_carries_datagrams_over_the_connection_there_is_or_a_new_one() {
    let pool = Pool::new();
    let mut a = pool.node(&[]).await;
    let b = pool.node(&[&a]).await;
    until("connected", async || b.handle.path(&a.id).is_some()).await;
    let out = b.handle.tunnel(a.id, vec![]).await.unwrap();
    let (who, inn) = timeout(common::PATIENCE, a.running.tunnels.recv()).await.unwrap().unwrap();
    assert_eq!(who, b.id);
    talk(out, inn).await;

    let apart = pool.node(&[]).await;
    let lost = apart.handle.tunnel(a.id, vec![]).await;
    assert!(matches!(lost, Err(NetError::Dial { .. })), "{lost:?}");
    let out = apart.handle.tunnel(a.id, vec![a.address()]).await.unwrap();
    let (who, inn) = timeout(common::PATIENCE, a.running.tunnels.recv()).await.unwrap().unwrap();
    assert_eq!(who, apart.id);
    talk(out, inn).await;
}

#[tokio::test]
async fn tunnels_that_nobody_takes_are_closed_and_the_others_go_on() {
    let pool = Pool::new();
    let mut a = pool.node(&[]).await;
    let b = pool.node(&[&a]).await;
    until("connected", async || b.handle.path(&a.id).is_some()).await;
    let mut opened = Vec::new();
    for _ in 0..80 {
        opened.extend(b.handle.tunnel(a.id, vec![]).await.ok());
    }
    let mut waiting = 0;
    while let Ok(Some(_)) = timeout(Duration::from_millis(500), a.running.tunnels.recv()).await {
        waiting += 1;
    }
    assert!((1..=40).contains(&waiting), "{waiting} of {} wait", opened.len());
    drop(opened);
    // Those that were closed cost nothing: there is room again, and the connection is the same.
    let out = b.handle.tunnel(a.id, vec![]).await.unwrap();
    let (_, inn) = timeout(common::PATIENCE, a.running.tunnels.recv()).await.unwrap().unwrap();
    talk(out, inn).await;
    assert_eq!(b.handle.path(&a.id), Some(Path::Direct));
}
