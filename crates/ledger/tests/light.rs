//! The light client: what it follows from the genesis, and what it refuses.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Pool, certify, claim, genesis_bytes, id, name, publish};
use zero2ai_ledger::{LightError, TrustedChain, verify_name_record, verify_path};
use zero2ai_proto::{
    decode, encode,
    limits::RECORD_BYTES,
    proof::{SignedHeader, TrustStep},
    record::NameRecord,
    state::SignerSet,
};

/// One signer, then four, then four others and one; with a published model.
fn moved() -> Pool {
    let mut pool = Pool::with_members(8);
    pool.set_signers(&[0, 1, 2, 3]);
    let txs = [pool.tx(1, claim("lab")), pool.tx(1, publish("lab/digits", 1)), pool.tx(1, publish("lab/digits", 2))];
    pool.commit(&txs);
    pool.set_signers(&[3, 4, 5, 6, 7]);
    pool.commit(&[]);
    pool
}

#[test]
fn every_header_is_verified_from_the_genesis_alone() {
    let pool = moved();
    assert_eq!(pool.steps.len(), 2);
    for (block, header) in &pool.blocks {
        let verified = verify_path(pool.ledger.genesis_bytes(), &pool.steps, header).unwrap();
        assert_eq!(verified, block.read_header().unwrap());
    }
    let mut kept = TrustedChain::new(&genesis_bytes(1)).unwrap();
    kept.extend(&pool.steps[..1]).unwrap();
    assert!(matches!(kept.verify_header(&pool.head()), Err(LightError::OtherSigners { .. })), "a step is missing");
    kept.extend(&pool.steps).unwrap();
    kept.extend(&pool.steps).unwrap();
    assert_eq!(kept.steps(), pool.steps);
    kept.verify_header(&pool.head()).unwrap();
    assert_eq!(kept.signers_at(pool.ledger.height() + 1), pool.ledger.signers());
}

#[test]
fn two_thirds_or_less_prove_nothing() {
    let pool = moved();
    let (block, _) = pool.build(&[]);
    let set = pool.ledger.signers();
    assert_eq!(set.as_slice().len(), 5);
    for (count, enough) in [(0, false), (3, false), (4, true), (5, true)] {
        let header = certify(&pool.ledger, &block, set, count);
        let verified = verify_path(pool.ledger.genesis_bytes(), &pool.steps, &header);
        assert_eq!(verified.is_ok(), enough, "{count} of 5");
        assert!(enough || matches!(verified, Err(LightError::Certificate { .. })));
    }
}

#[test]
fn the_wrong_set_pool_or_block_is_refused() {
    let pool = moved();
    let genesis = pool.ledger.genesis_bytes();
    let (block, _) = pool.build(&[]);
    let old = SignerSet::new(common::signers(&[0, 1, 2, 3])).unwrap();
    let by_old = certify(&pool.ledger, &block, &old, 4);
    assert!(matches!(verify_path(genesis, &pool.steps, &by_old), Err(LightError::Certificate { .. })));
    let other_pool = verify_path(&genesis_bytes(2), &[], &pool.blocks[0].1);
    assert!(matches!(other_pool, Err(LightError::OtherPool { .. })), "{other_pool:?}");
    let steps = TrustedChain::with_steps(&genesis_bytes(2), &pool.steps).unwrap_err();
    assert!(matches!(steps, LightError::Step { index: 0, .. }), "{steps}");
    let mixed = SignedHeader { header: pool.blocks[1].1.header.clone(), ..pool.blocks[2].1.clone() };
    assert!(matches!(verify_path(genesis, &pool.steps, &mixed), Err(LightError::OtherBlock { .. })));
}

#[test]
fn steps_must_lead_on() {
    let pool = moved();
    let genesis = pool.ledger.genesis_bytes();
    let [first, second] = pool.steps.as_slice() else { panic!("two steps") };
    let refused = |steps: &[TrustStep]| match TrustedChain::with_steps(genesis, steps).unwrap_err() {
        LightError::Step { index, .. } => index,
        other => panic!("{other}"),
    };
    assert_eq!(refused(std::slice::from_ref(second)), 0);
    assert_eq!(refused(&[second.clone(), first.clone()]), 0);
    assert_eq!(refused(&[first.clone(), first.clone()]), 1);
    let usurped = TrustStep { next_signers: SignerSet::new(common::signers(&[7])).unwrap(), ..first.clone() };
    assert_eq!(refused(&[usurped]), 0);
    // A header that changes nothing, with the set it truly names.
    let one = SignerSet::new(common::signers(&[0])).unwrap();
    let idle = TrustStep { header: pool.blocks[0].1.clone(), next_signers: one };
    assert_eq!(refused(&[idle]), 0);
}

#[test]
fn a_name_record_is_whole_or_refused() {
    let pool = moved();
    let trust = TrustedChain::with_steps(pool.ledger.genesis_bytes(), &pool.steps).unwrap();
    let digits = name("lab/digits");
    let record = pool.ledger.name_record(&digits, pool.head()).unwrap();
    let (model, number, version, header) = verify_name_record(&trust, &record, &digits).unwrap();
    assert_eq!((model.owner, number, version.publisher), (id(1), 2, id(1)));
    assert_eq!(header.height, pool.ledger.height());
    let other = verify_name_record(&trust, &record, &name("lab/letters"));
    assert!(matches!(other, Err(LightError::OtherKey { .. })));
    let absent = NameRecord {
        model: pool.ledger.prove(b"model/lab/letters", pool.ledger.height() - 1).unwrap(),
        ..record.clone()
    };
    assert!(matches!(verify_name_record(&trust, &absent, &name("lab/letters")), Err(LightError::Missing(_))));
    let bytes = encode(&record).unwrap();
    assert!(bytes.len() < RECORD_BYTES);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(other) = decode::<NameRecord>(&flipped, RECORD_BYTES) {
            assert!(verify_name_record(&trust, &other, &digits).is_err(), "byte {at}");
        }
    }
}
