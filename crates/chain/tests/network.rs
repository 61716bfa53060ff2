//! Chains of one to four signers: final blocks, growth, silence, halting, catching up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Net, all_reach, height, until};
use zero2ai_chain::SubmitError;
use zero2ai_ledger::{TxError, light};

const PATIENCE: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_signer_alone_makes_blocks_only_when_there_is_a_reason() {
    let net = Net::new(1, 1);
    let node = net.start(0).await;
    // The first block proves the genesis state.
    until("the first block", || height(&node) == 1).await;
    let at = node.handle.submit_and_wait(net.claim(0), PATIENCE).await.unwrap();
    assert_eq!(at, 2);
    // The block behind it carries its state root; then there is silence.
    until("the proof block", || height(&node) == 3).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(height(&node), 3);
    assert!(!node.handle.watch().borrow().halted);
    let (head, root) = node.handle.read_with_head(|l, head| (head.cloned().unwrap(), l.root_at(2).unwrap()));
    let header = light::verify_path(&net.genesis, &node.handle.trust_steps(), &head).unwrap();
    assert_eq!((header.height, header.app_hash), (3, root));

    // The same transaction again is answered at once; a used nonce is refused with the ledger's reason.
    assert_eq!(node.handle.submit_and_wait(net.claim(0), PATIENCE).await.unwrap(), 2);
    let other =
        net.tx(0, 0, zero2ai_proto::tx::TxBody::ClaimHandle(zero2ai_proto::tx::ClaimHandle { handle: "x".into() }));
    match node.handle.submit(other).await {
        Err(SubmitError::Refused(why)) => assert!(matches!(*why, TxError::NonceUsed { .. }), "{why}"),
        other => panic!("{other:?}"),
    }
    net.stop(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_heartbeat_makes_empty_blocks_but_no_more_than_one_a_second() {
    let mut net = Net::new(1, 1);
    net.pace.heartbeat = Duration::from_millis(1);
    let start = Instant::now();
    let node = net.start(0).await;
    until("two heartbeats", || height(&node) >= 3).await;
    assert!(start.elapsed() >= Duration::from_secs(2), "the two after the first took {:?}", start.elapsed());
    net.stop(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_node_syncs_more_than_one_batch_and_no_altered_block() {
    let net = Net::new(2, 1);
    let maker = net.start(0).await;
    for nonce in 0.. {
        if height(&maker) >= 80 {
            break;
        }
        // Any transaction that can be repeated.
        maker.handle.submit_and_wait(net.set_signers(nonce, &[0]), PATIENCE).await.unwrap();
    }
    net.bus.lie(true);
    let late = net.start(1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(height(&late), 0, "altered blocks were taken");
    net.bus.lie(false);
    let target = height(&maker);
    all_reach(&[&maker, &late], target).await;
    assert!(!late.handle.watch().borrow().signing);
    net.stop(late).await;
    net.stop(maker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_signers_agree_whoever_is_asked() {
    let net = Net::new(4, 4);
    let nodes = net.start_all().await;
    let all: Vec<_> = nodes.iter().collect();
    all_reach(&all, 1).await;
    let mut took = Vec::new();
    for nonce in 0..12u64 {
        let start = Instant::now();
        let asked = &nodes[usize::try_from(nonce).unwrap() % 4];
        let at = asked.handle.submit_and_wait(net.claim(nonce), PATIENCE).await.unwrap();
        took.push(start.elapsed());
        all_reach(&all, at + 1).await;
    }
    took.sort();
    println!("finality over an in-memory bus: p50 {:?}, slowest {:?}", took[took.len() / 2], took.last().unwrap());
    assert!(took[took.len() / 2] < Duration::from_secs(1), "half of the blocks took longer than {took:?}");
    // Several at once, from one account, offered in the wrong order.
    let mut waits = Vec::new();
    for nonce in [15, 13, 12, 14] {
        let (handle, tx) = (nodes[usize::try_from(nonce).unwrap() % 4].handle.clone(), net.claim(nonce));
        waits.push(tokio::spawn(async move { handle.submit_and_wait(tx, PATIENCE).await }));
    }
    for wait in waits {
        wait.await.unwrap().unwrap();
    }
    let last = nodes.iter().map(height).max().unwrap();
    all_reach(&all, last).await;
    for node in nodes {
        until("an empty mempool", || node.handle.watch().borrow().mempool == 0).await;
        net.stop(node).await;
    }
    net.bus.assert_nobody_contradicts_himself();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_grows_from_one_signer_to_four() {
    let net = Net::new(4, 1);
    let nodes = net.start_all().await;
    let all: Vec<_> = nodes.iter().collect();
    for (by, node) in nodes.iter().enumerate().skip(1) {
        // Asked through a node that does not sign: the transaction reaches the signer by gossip.
        node.handle.submit_and_wait(net.redeem(by), PATIENCE).await.unwrap();
    }
    let at = nodes[0].handle.submit_and_wait(net.set_signers(0, &[0, 1, 2, 3]), PATIENCE).await.unwrap();
    // It signs from two heights later; the first signer makes the proof block and the new set goes on.
    let at = nodes[2].handle.submit_and_wait(net.claim(1), PATIENCE).await.unwrap().max(at + 2);
    all_reach(&all, at + 1).await;
    let (head, steps) = (nodes[3].handle.head().unwrap(), nodes[3].handle.trust_steps());
    assert_eq!(steps.len(), 1);
    assert!(head.certificate.signatures.len() >= 3, "{} signed the head", head.certificate.signatures.len());
    light::verify_path(&net.genesis, &steps, &head).unwrap();
    // The founder is no longer needed.
    let mut nodes = nodes;
    net.stop(nodes.remove(0)).await;
    nodes[1].handle.submit_and_wait(net.claim(2), PATIENCE).await.unwrap();
    for node in nodes {
        assert!(node.handle.watch().borrow().signing);
        net.stop(node).await;
    }
    net.bus.assert_nobody_contradicts_himself();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_silent_signer_of_four_changes_nothing_and_two_halt_until_they_are_back() {
    let net = Net::new(4, 4);
    let nodes = net.start_all().await;
    all_reach(&nodes.iter().collect::<Vec<_>>(), 1).await;
    net.bus.cut_off(&[net.id(3)]);
    // Four heights at least, so that it was the silent one's turn to propose.
    for nonce in 0..2 {
        nodes[1].handle.submit_and_wait(net.claim(nonce), PATIENCE).await.unwrap();
    }
    let three: Vec<_> = nodes[..3].iter().collect();
    until("quiet", || {
        let heights: Vec<_> = three.iter().map(|n| height(n)).collect();
        heights.iter().all(|h| *h == heights[0]) && three.iter().all(|n| n.handle.watch().borrow().mempool == 0)
    })
    .await;
    assert!(height(&nodes[0]) > height(&nodes[3]));

    net.bus.cut_off(&[net.id(2), net.id(3)]);
    let before = height(&nodes[0]);
    match nodes[0].handle.submit_and_wait(net.claim(2), Duration::from_millis(1_500)).await {
        Err(SubmitError::NotYet { .. }) => {}
        // A proof block of the last transaction may have been due.
        other => panic!("{other:?}"),
    }
    let halted = nodes[0].handle.watch().borrow().halted;
    assert!(halted);
    assert!(height(&nodes[0]) <= before + 1, "two signers of four made blocks");

    net.bus.cut_off(&[]);
    let all: Vec<_> = nodes.iter().collect();
    until("the waiting transaction", || all.iter().all(|n| n.handle.read(|l| l.handle("handle-2").is_some()))).await;
    until("no longer halted", || all.iter().all(|n| !n.handle.watch().borrow().halted)).await;
    for node in nodes {
        net.stop(node).await;
    }
    net.bus.assert_nobody_contradicts_himself();
}
