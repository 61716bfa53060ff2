//! State proofs: existence and absence at every height, and nothing survives a change.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Pool, claim, endorse, id, name, publish};
use proptest::prelude::*;
use zero2ai_ledger::{light::StateProofError, verify_state};
use zero2ai_proto::{
    ByteBuf, Digest, decode, encode,
    limits::SIGNED_BYTES,
    proof::StateProof,
    state::{Member, key},
    tx::TxBody,
};

fn grown() -> Pool {
    let mut pool = Pool::with_members(30);
    for round in 0..4u8 {
        let mut txs: Vec<_> = (1..=10).map(|n| pool.tx(n, claim(&format!("h{n}-{round}")))).collect();
        txs.push(pool.tx(1, publish(&format!("h1-{round}/m"), 1)));
        txs.push(pool.tx(2, TxBody::Endorse(endorse(&format!("h1-{round}/m"), 1, 1, 0))));
        pool.commit(&txs);
    }
    pool
}

#[test]
fn every_entry_is_proven_at_its_height_and_absent_before() {
    let pool = grown();
    let head = pool.ledger.height();
    let root = pool.ledger.root();
    for (key, value) in pool.ledger.scan(b"") {
        let proof = pool.ledger.prove(key, head).unwrap();
        assert_eq!(verify_state(&root, &proof), Ok(Some(value)));
    }
    let late = key::handle("h3-3");
    let absent = pool.ledger.prove(&late, head - 1).unwrap();
    assert_eq!(verify_state(&pool.ledger.root_at(head - 1).unwrap(), &absent), Ok(None));
    let nonce = |height| {
        let proof = pool.ledger.prove(&key::member(&id(3)), height).unwrap();
        let root = pool.ledger.root_at(height).unwrap();
        decode::<Member>(verify_state(&root, &proof).unwrap().unwrap(), SIGNED_BYTES).unwrap().nonce
    };
    assert_eq!((1..=5).map(nonce).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn absence_is_proven_both_ways() {
    let pool = grown();
    let (mut beside, mut nothing) = (0, 0);
    for i in 0..300 {
        let proof = pool.ledger.prove(&key::handle(&format!("free{i}")), pool.ledger.height()).unwrap();
        assert_eq!(verify_state(&pool.ledger.root(), &proof), Ok(None));
        if proof.leaf.is_some() { beside += 1 } else { nothing += 1 }
    }
    assert!(beside > 0 && nothing > 0, "a path ends in another entry ({beside}) or in nothing ({nothing})");
}

#[test]
fn a_heartbeat_changes_no_root() {
    let mut pool = grown();
    let root = pool.ledger.root();
    pool.commit(&[]);
    assert_eq!(pool.ledger.root(), root);
    let proof = pool.ledger.prove(&key::model(&name("h1-0/m")), pool.ledger.height()).unwrap();
    assert!(verify_state(&root, &proof).unwrap().is_some());
}

#[test]
fn a_present_entry_cannot_be_passed_off_as_absent() {
    let pool = grown();
    let (key, root) = (key::handle("h1-0"), pool.ledger.root());
    let proof = pool.ledger.prove(&key, pool.ledger.height()).unwrap();
    let hidden = StateProof { value: None, ..proof.clone() };
    assert_eq!(verify_state(&root, &hidden), Err(StateProofError::NotAbsent));
    let other = pool.ledger.prove(&key::handle("h2-0"), pool.ledger.height()).unwrap();
    let elsewhere = StateProof { key: ByteBuf::from(key.clone()), value: None, ..other };
    assert_eq!(verify_state(&root, &elsewhere), Err(StateProofError::NotAbsent));
    let swapped = StateProof { value: Some(ByteBuf::from(b"x".to_vec())), ..proof.clone() };
    assert_eq!(verify_state(&root, &swapped), Err(StateProofError::OtherValue));
    let long = StateProof { siblings: vec![root; 257], ..proof };
    assert_eq!(verify_state(&root, &long), Err(StateProofError::TooLong(257)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Any bit of an encoded proof, of an entry or of an absence.
    #[test]
    fn no_flipped_bit_survives(pick in any::<prop::sample::Index>(), present in any::<bool>(), shift in 0usize..8) {
        let pool = grown();
        let keys: Vec<Vec<u8>> = pool.ledger.scan(b"").map(|(k, _)| k.to_vec()).collect();
        let key = if present { pick.get(&keys).clone() } else { key::handle(&format!("x{}", pick.index(1000))) };
        let root: Digest = pool.ledger.root();
        let proof = pool.ledger.prove(&key, pool.ledger.height()).unwrap();
        let value = verify_state(&root, &proof).unwrap().map(<[u8]>::to_vec);
        prop_assert_eq!(value.is_some(), present);
        let bytes = encode(&proof).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << ((at + shift) % 8);
            if let Ok(other) = decode::<StateProof>(&flipped, 2 * SIGNED_BYTES) {
                // Another key may be absent on the same path: then it is a proof of that key, not of this one.
                let same = other.key == proof.key && verify_state(&root, &other).is_ok();
                prop_assert!(!same, "byte {} of the proof of {}", at, String::from_utf8_lossy(&key));
            }
        }
    }
}
