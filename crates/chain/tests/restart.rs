//! Restarts: heights are kept, nothing is signed twice, damage is named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{fs, time::Duration};

use common::{Net, Step, all_reach, height, segment, until};
use zero2ai_chain::{Chain, ChainError, SubmitError};
use zero2ai_proto::{calls::SealedBlock, decode, encode};
use zero2ai_store::{Log, LogConfig};

const PATIENCE: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signers_stopped_at_any_moment_keep_their_height_and_never_contradict_themselves() {
    let net = Net::new(4, 4);
    let mut highest = 0;
    for nonce in 0..8u64 {
        let nodes = net.start_all().await;
        assert!(nodes.iter().map(height).max().unwrap() >= highest, "a final block was lost");
        let (handle, tx) = (nodes[0].handle.clone(), net.claim(nonce));
        let wait = tokio::spawn(async move { handle.submit_and_wait(tx, PATIENCE).await });
        // Another moment of the height in every turn.
        tokio::time::sleep(Duration::from_millis(3 + 7 * nonce)).await;
        for node in nodes {
            highest = highest.max(height(&node));
            net.stop(node).await;
        }
        wait.abort();
        // A transaction that was lost with every memory is sent again; one that is final is not.
        let nodes = net.start_all().await;
        if nodes[0].handle.read(|l| l.handle(&format!("handle-{nonce}")).is_none()) {
            nodes[0].handle.submit_and_wait(net.claim(nonce), PATIENCE).await.unwrap();
        }
        let top = nodes.iter().map(height).max().unwrap();
        assert!(top >= highest);
        highest = top;
        all_reach(&nodes.iter().collect::<Vec<_>>(), top).await;
        for node in nodes {
            net.stop(node).await;
        }
    }
    net.bus.assert_nobody_contradicts_himself();
}

/// Starts the proposer of height 1 alone among four, until it has proposed and prevoted; returns what it signed.
async fn propose_alone(net: &Net) -> (Step, Step) {
    // Signers take turns: (height 1 + round 0) mod 4.
    let id = net.id(1);
    let (proposal, prevote) = ((id, 1, 0, 0), (id, 1, 0, 1));
    let node = net.start(1).await;
    until("a prevote", || !net.bus.signed(&prevote).is_empty()).await;
    net.stop(node).await;
    (proposal, prevote)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_makes_a_restarted_signer_repeat_itself() {
    let net = Net::new(4, 4);
    let (proposal, prevote) = propose_alone(&net).await;
    let said = net.bus.signed(&prevote);
    // Forget what was heard, so that it must be said again.
    net.bus.signed.lock().unwrap().clear();
    propose_alone(&net).await;
    assert_eq!(net.bus.signed(&prevote), said);
    assert!(net.bus.signed(&proposal).is_subset(&said), "another block was proposed in the same round");
    // And the others can build on it.
    let nodes = net.start_all().await;
    all_reach(&nodes.iter().collect::<Vec<_>>(), 1).await;
    for node in nodes {
        net.stop(node).await;
    }
    net.bus.assert_nobody_contradicts_himself();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signer_that_lost_its_log_is_kept_from_contradicting_itself_by_the_mark() {
    for keep_the_mark in [true, false] {
        let net = Net::new(4, 4);
        let (proposal, _) = propose_alone(&net).await;
        fs::remove_dir_all(net.dir(1).join("wal")).unwrap();
        if !keep_the_mark {
            fs::remove_file(net.dir(1).join("signed")).unwrap();
        }
        let node = net.start(1).await;
        // It builds another block, since the time went on; whether it may sign it is the question.
        tokio::time::sleep(Duration::from_millis(700)).await;
        net.stop(node).await;
        let proposals = net.bus.signed(&proposal).len();
        assert_eq!(proposals, if keep_the_mark { 1 } else { 2 }, "kept the mark: {keep_the_mark}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signer_that_lost_its_log_or_its_end_leaves_that_height_to_the_others() {
    for whole in [true, false] {
        let net = Net::new(4, 4);
        propose_alone(&net).await;
        let wal = net.dir(1).join("wal");
        if whole {
            fs::remove_dir_all(wal).unwrap();
        } else {
            // The last record, looking as if it had never been synced: the prevote that the mark tells of.
            let good = fs::read(segment(&wal)).unwrap();
            fs::write(segment(&wal), &good[..good.len() - 10]).unwrap();
        }
        let before = net.bus.signed.lock().unwrap().clone();
        let nodes = net.start_all().await;
        // It may have been locked on a block; the others are enough to decide, in a round in which it would vote anew.
        all_reach(&nodes.iter().collect::<Vec<_>>(), 1).await;
        let said = |height| {
            let signed = net.bus.signed.lock().unwrap();
            signed.keys().filter(|s| s.0 == net.id(1) && s.1 == height).copied().collect::<Vec<_>>()
        };
        let old: Vec<Step> = before.keys().filter(|s| s.0 == net.id(1)).copied().collect();
        assert_eq!(said(1), old, "it signed at a height whose log it had lost (all of it: {whole})");
        let at = nodes[0].handle.submit_and_wait(net.claim(0), PATIENCE).await.unwrap();
        until("its next vote", || !said(at).is_empty() || !said(at + 1).is_empty()).await;
        for node in nodes {
            net.stop(node).await;
        }
        net.bus.assert_nobody_contradicts_himself();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_ends_the_task_and_what_it_would_have_signed_never_leaves() {
    let net = Net::new(1, 1);
    let node = net.start(0).await;
    let mark = net.dir(0).join("signed");
    until("the first block and its mark", || height(&node) == 1 && mark.exists()).await;
    // Nobody, the superuser included, can put a file where a full folder is.
    fs::remove_file(&mark).unwrap();
    fs::create_dir_all(mark.join("full")).unwrap();
    let outcome = node.handle.submit_and_wait(net.claim(0), PATIENCE).await;
    let error = node.task.await.unwrap().unwrap_err();
    assert!(matches!(error, ChainError::Disk { .. }), "{error}");
    assert!(net.bus.signed.lock().unwrap().keys().all(|(_, height, ..)| *height < 2), "it left the node");
    // The block itself had lasted before: who waited for it may hear that, or that the chain has stopped.
    assert!(matches!(outcome, Ok(2) | Err(SubmitError::Stopped)), "{outcome:?}");
    assert_eq!(node.handle.submit(net.claim(1)).await, Err(SubmitError::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_mark_is_an_error_that_names_the_file() {
    let net = Net::new(1, 1);
    let node = net.start(0).await;
    until("a block", || height(&node) == 1).await;
    net.stop(node).await;
    let mark = net.dir(0).join("signed");
    fs::write(&mark, b"not a mark").unwrap();
    match Chain::open(net.config(0)).await.err().unwrap() {
        ChainError::Guard { path, .. } => assert_eq!(path, mark),
        other => panic!("{other}"),
    }
}

/// A chain of one signer with a few blocks, stopped.
async fn five_blocks() -> Net {
    let net = Net::new(1, 1);
    let node = net.start(0).await;
    for nonce in 0..2 {
        node.handle.submit_and_wait(net.claim(nonce), PATIENCE).await.unwrap();
    }
    until("the proof block", || height(&node) >= 5).await;
    net.stop(node).await;
    net
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_a_stored_block_is_detected_and_named() {
    let net = five_blocks().await;
    let file = segment(&net.dir(0).join("blocks"));
    let good = fs::read(&file).unwrap();
    let mut named = std::collections::BTreeSet::new();
    for place in (16..good.len() - 700).step_by(97) {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        fs::write(&file, &bad).unwrap();
        match Chain::open(net.config(0)).await.err() {
            Some(ChainError::StoredBlock { height, .. }) => named.insert(height),
            other => panic!("byte {place}: {other:?}"),
        };
    }
    assert!(named.contains(&1) && named.contains(&3), "{named:?}");
    fs::write(&file, &good).unwrap();
    assert_eq!(Chain::open(net.config(0)).await.unwrap().handle.read(|l| l.height()), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_block_that_was_rewritten_with_its_checksums_is_detected_and_named() {
    let net = five_blocks().await;
    let dir = net.dir(0).join("blocks");
    let read = |log: &Log, i| decode::<SealedBlock>(&log.get(i).unwrap().unwrap(), 1 << 22).unwrap();
    // What an attacker alters in the block of height 2, and what it is detected by.
    type Alter = fn(&mut SealedBlock);
    let cases: [(Alter, &str); 4] = [
        (
            |s| {
                let n = s.certificate.signatures.len() - 1;
                s.certificate.signatures[n].1.0[5] ^= 1
            },
            "signature",
        ),
        (|s| s.certificate.signatures.clear(), "power"),
        (|s| s.certificate.block.0[0] ^= 1, "another block"),
        (
            |s| {
                let mut block = zero2ai_proto::block::Block::read(&s.block).unwrap();
                block.txs.clear();
                s.block = zero2ai_proto::ByteBuf::from(encode(&block).unwrap());
            },
            "transactions",
        ),
    ];
    for (alter, detected_by) in cases {
        let copy = net.dir(0).join("copy");
        let records: Vec<_> = {
            let (log, _) = Log::open(&dir, LogConfig::default()).unwrap();
            (0..log.len()).map(|i| read(&log, i)).collect()
        };
        let (mut rewritten, _) = Log::open(&copy, LogConfig::default()).unwrap();
        for (i, mut sealed) in records.into_iter().enumerate() {
            if i == 1 {
                alter(&mut sealed);
            }
            rewritten.append(&encode(&sealed).unwrap()).unwrap();
        }
        rewritten.sync().unwrap();
        drop(rewritten);
        let original = fs::read(segment(&dir)).unwrap();
        fs::copy(segment(&copy), segment(&dir)).unwrap();
        match Chain::open(net.config(0)).await.err().unwrap() {
            ChainError::StoredBlock { height, why, .. } => {
                assert_eq!(height, 2);
                assert!(why.contains(detected_by), "{why}");
            }
            other => panic!("{other}"),
        }
        fs::write(segment(&dir), original).unwrap();
        fs::remove_dir_all(copy).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_block_at_the_end_is_cut_off_and_made_again_unless_it_may_have_been_seen() {
    let net = five_blocks().await;
    let file = segment(&net.dir(0).join("blocks"));
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[..good.len() - 10]).unwrap();
    // The mark moves after the block has lasted. So a mark of height 5 says that the block may have left: this disk
    // lost what it had promised, and the only signer must not make another.
    let node = net.start(0).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(height(&node), 4);
    net.stop(node).await;
    // What a crash leaves: the block torn, the mark not yet moved.
    fs::remove_file(net.dir(0).join("signed")).unwrap();
    let node = net.start(0).await;
    until("the lost block", || height(&node) >= 5).await;
    net.stop(node).await;
}
