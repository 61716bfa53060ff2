//! Snapshots: a ledger that begins with one goes on like one that executed every block; whatever is altered is refused.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Pool, audited, claim, endorse, genesis_bytes, publish};
use proptest::prelude::*;
use zero2ai_ledger::{Ledger, LedgerError};
use zero2ai_proto::{ByteBuf, decode, encode, limits::SNAPSHOT_BYTES, proof::Snapshot, state::key, tx::TxBody};

/// Of the newest block's parent.
fn snapshot(pool: &Pool) -> Snapshot {
    let [.., (_, header), (_, next)] = pool.blocks.as_slice() else { panic!("two blocks at least") };
    let height = header.certificate.height;
    let steps = pool.steps.iter().filter(|s| s.header.certificate.height <= height).cloned().collect();
    pool.ledger.snapshot(header.clone(), next.clone(), steps).unwrap()
}

/// A ledger that executed the first `height` blocks.
fn executed(pool: &Pool, height: u64) -> Ledger {
    let mut ledger = Ledger::genesis(pool.ledger.genesis_bytes()).unwrap();
    for (block, _) in pool.blocks.iter().take(usize::try_from(height).unwrap()) {
        ledger.apply(block).unwrap();
    }
    ledger
}

fn assert_same(a: &Ledger, b: &Ledger) {
    assert_eq!((a.height(), a.head_id(), a.head_time_ms()), (b.height(), b.head_id(), b.head_time_ms()));
    assert_eq!((a.root(), a.head_had_txs(), a.signers_state()), (b.root(), b.head_had_txs(), b.signers_state()));
    assert!(a.scan(b"").eq(b.scan(b"")));
    for height in 0..a.height() + 3 {
        assert_eq!(a.signers_at(height), b.signers_at(height), "who signed {height}");
    }
    assert_eq!(a.prove(key::SIGNERS, a.height()), b.prove(key::SIGNERS, b.height()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_ledger_that_begins_with_a_snapshot_goes_on_like_one_that_executed_every_block(
        deeds in prop::collection::vec((1u8..6, 0u8..3, 1u32..4, any::<u8>()), 1..12),
    ) {
        let mut pool = Pool::with_members(5);
        let mut changes = 0;
        for (who, kind, version, root) in deeds {
            let body = match kind {
                0 => claim(&format!("lab{}", root % 4)),
                1 => publish(&format!("lab{}/m", root % 4), version),
                _ => TxBody::Endorse(endorse(&format!("lab{}/m", root % 4), version, root, version)),
            };
            if root % 5 == 0 {
                pool.set_signers(&[0, 1, 2, 3 + changes % 2]);
                changes += 1;
            }
            let nonce = pool.ledger.member(&common::id(who)).unwrap().nonce;
            let tx = pool.tx_at(who, nonce, body);
            let (block, _) = pool.build(&[tx]);
            pool.apply(&block).unwrap();

            let taken = snapshot(&pool);
            let bytes = encode(&taken).unwrap();
            let taken: Snapshot = decode(&bytes, SNAPSHOT_BYTES).unwrap();
            let mut restored = Ledger::restore(pool.ledger.genesis_bytes(), &taken).unwrap();
            let at = pool.ledger.height() - 1;
            prop_assert_eq!(restored.base(), at);
            assert_same(&restored, &executed(&pool, at));
            restored.apply(&block).unwrap();
            assert_same(&restored, &pool.ledger);
            let before = restored.prove(key::SIGNERS, at - 1);
            let named = matches!(before, Err(LedgerError::UnknownHeight { asked, base, .. }) if asked + 1 == base && base == at);
            prop_assert!(named);
        }
    }
}

#[test]
fn whatever_is_altered_is_refused() {
    let (pool, _) = audited();
    let good = snapshot(&pool);
    let genesis = pool.ledger.genesis_bytes();
    assert!(Ledger::restore(genesis, &good).is_ok());
    assert!(good.entries.len() > 10 && good.steps.len() == 1);
    let refused = |what: &str, alter: &dyn Fn(&mut Snapshot)| {
        let mut bad = good.clone();
        alter(&mut bad);
        match Ledger::restore(genesis, &bad) {
            Err(LedgerError::Snapshot(_)) => {}
            other => panic!("{what}: {other:?}"),
        }
    };
    for i in 0..good.entries.len() {
        refused("an entry left out", &|s| drop(s.entries.remove(i)));
        refused("a value", &|s| s.entries[i].1[0] ^= 1);
        refused("a longer value", &|s| s.entries[i].1.push(0));
        refused("a key", &|s| s.entries[i].0.push(b'x'));
        refused("an entry twice", &|s| s.entries.insert(i, s.entries[i].clone()));
    }
    refused("order", &|s| s.entries.swap(0, 1));
    refused("one entry more", &|s| s.entries.push((ByteBuf::from(*b"zzz"), ByteBuf::from(*b"x"))));
    refused("nothing", &|s| s.entries.clear());
    refused("version", &|s| s.version = 2);
    refused("no steps", &|s| s.steps.clear());
    refused("a step twice", &|s| s.steps.push(s.steps[0].clone()));
    refused("a byte of the header", &|s| s.header.header[9] ^= 1);
    refused("a byte of the next header", &|s| s.next.header[9] ^= 1);
    refused("the same header twice", &|s| s.next = s.header.clone());
    refused("the headers swapped", &|s| std::mem::swap(&mut s.header, &mut s.next));
    refused("signatures too few", &|s| s.next.certificate.signatures.truncate(2));
    let older = pool.blocks[pool.blocks.len() - 3].1.clone();
    refused("a header two before", &|s| s.header = older.clone());
    assert!(Ledger::restore(&genesis_bytes(2), &good).is_err(), "another pool's genesis");
}
