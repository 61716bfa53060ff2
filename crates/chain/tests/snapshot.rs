//! A chain that begins with a snapshot: it fetches the blocks behind it, signs, restarts, and names damage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{fs, time::Duration};

use common::{Net, Node, all_reach, height, until};
use zero2ai_chain::{
    Archive, Chain, ChainError,
    history::{self, Folders, Report},
    snapshot::begin_with,
};
use zero2ai_proto::{encode, limits::BLOCKS, proof::Snapshot};

const PATIENCE: Duration = Duration::from_secs(60);

/// Submits one after the other, and waits for the block that proves the last one's state.
async fn submit(node: &Node, txs: Vec<zero2ai_proto::Signed<zero2ai_proto::tx::Tx>>) {
    let mut last = 0;
    for tx in txs {
        last = node.handle.submit_and_wait(tx, PATIENCE).await.unwrap();
    }
    until("the proof of the last state", || height(node) > last).await;
}

/// What a node shows a newcomer.
async fn snapshot(node: &Node) -> Snapshot {
    node.handle.snapshot().await.unwrap().expect("two blocks at least")
}

fn verify(net: &Net, node: usize) -> Report {
    let (chain, receipts) = (net.dir(node), net.dir(node).with_file_name("receipts"));
    fs::create_dir_all(&receipts).unwrap();
    history::verify(&Folders { chain, receipts, provider: net.id(node) }, &net.genesis)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_begun_with_a_snapshot_goes_on_signs_and_restarts() {
    let net = Net::new(5, 4);
    let mut nodes = Vec::new();
    for i in 0..4 {
        nodes.push(net.start(i).await);
    }
    assert!(Chain::open(net.config(4)).await.unwrap().handle.snapshot().await.unwrap().is_none(), "nothing yet");
    fs::remove_dir_all(net.dir(4)).unwrap();
    submit(&nodes[0], (1..5).map(|i| net.redeem(i)).collect()).await;
    submit(&nodes[0], vec![net.claim(0), net.set_signers(1, &[0]), net.claim(2)]).await;

    let taken = snapshot(&nodes[0]).await;
    let base = taken.header.certificate.height;
    let (at, entries) = begin_with(&net.dir(4), &net.genesis, &encode(&taken).unwrap()).unwrap();
    assert_eq!((at, entries), (base, taken.entries.len()));
    assert!(base >= 7 && taken.steps.len() == 1);
    nodes.push(net.start(4).await);
    let newcomer = &nodes[4];
    all_reach(&nodes.iter().collect::<Vec<_>>(), height(&nodes[0])).await;
    assert_eq!(newcomer.handle.read(|l| l.base()), base);
    assert_eq!(newcomer.handle.trust_steps(), nodes[0].handle.trust_steps());
    assert_eq!(newcomer.handle.signed_header(base), Some(taken.header.clone()));
    assert_eq!(newcomer.handle.signed_header(base - 1), None);
    // It gives what it has, and nothing that it has not.
    assert!(newcomer.handle.blocks(1, 10).await.unwrap().is_empty());
    let given = newcomer.handle.blocks(base + 1, BLOCKS as u32).await.unwrap();
    assert_eq!(given[0], nodes[0].handle.blocks(base + 1, 1).await.unwrap()[0]);

    // It signs: with one of four stopped, nothing is final without it.
    submit(&nodes[0], vec![net.set_signers(3, &[1, 2, 3, 4]), net.claim(4)]).await;
    net.stop(nodes.remove(0)).await;
    until("the newcomer signs", || nodes[3].handle.read(|l| l.signers().power_of(&net.id(4)).is_some())).await;
    net.stop(nodes.remove(0)).await;
    submit(&nodes[0], vec![net.claim(5)]).await;
    all_reach(&nodes.iter().collect::<Vec<_>>(), height(&nodes[0])).await;

    // A snapshot of one that began with a snapshot; and a restart.
    let again = snapshot(&nodes[2]).await;
    assert!(again.header.certificate.height > base && again.steps.len() == 2);
    let top = height(&nodes[2]);
    net.stop(nodes.pop().unwrap()).await;
    let opened = Chain::open(net.config(4)).await.unwrap();
    assert!(opened.handle.read(|l| l.height()) >= top);
    assert_eq!(opened.handle.trust_steps().len(), 2);
    drop(opened);

    let report = verify(&net, 4);
    assert_eq!((report.base, report.faults.as_slice()), (base, [].as_slice()));
    assert!(report.height >= top);
    assert_eq!(Archive::open(&net.dir(4)).unwrap().base(), base);
    for node in nodes {
        net.stop(node).await;
    }
    net.bus.assert_nobody_contradicts_himself();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_does_not_hold_is_refused_and_named() {
    let net = Net::new(2, 1);
    let node = net.start(0).await;
    submit(&node, vec![net.redeem(1), net.claim(0), net.claim(1)]).await;
    let good = encode(&snapshot(&node).await).unwrap();
    net.stop(node).await;

    for at in (0..good.len()).step_by(37) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        match begin_with(&net.dir(1), &net.genesis, &bad) {
            Err(ChainError::Snapshot { .. }) => assert!(!net.dir(1).join("snapshot").exists()),
            other => panic!("byte {at}: {other:?}"),
        }
    }
    begin_with(&net.dir(1), &net.genesis, &good).unwrap();
    assert!(Chain::open(net.config(1)).await.is_ok());
    // There are blocks now, if none yet: what stands is not begun anew.
    assert!(matches!(begin_with(&net.dir(1), &net.genesis, &good), Err(ChainError::Snapshot { .. })));
    // Every byte of the file counts.
    let file = net.dir(1).join("snapshot");
    for at in (0..good.len()).step_by(101) {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&file, &bad).unwrap();
        assert!(matches!(Chain::open(net.config(1)).await, Err(ChainError::Snapshot { .. })), "byte {at}");
        let faults = verify(&net, 1).faults;
        assert!(faults[0].place.ends_with("snapshot"), "byte {at}: {faults:?}");
    }
}
