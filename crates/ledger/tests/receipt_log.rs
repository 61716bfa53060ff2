//! Our log against `ct-merkle`'s own tree, and proofs that must not survive a change.
#![allow(clippy::unwrap_used)]

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;
use zero2ai_ledger::{
    ReceiptLog,
    receipt_log::{LOG_LEAVES, LogError, root_of, verify_consistency, verify_inclusion},
};
use zero2ai_proto::{Digest, proof::LogProof};

fn leaf(i: u64) -> Vec<u8> {
    format!("receipt {i}").into_bytes()
}

fn log(size: u64) -> ReceiptLog {
    let mut log = ReceiptLog::new();
    for i in 0..size {
        assert_eq!(log.push(&leaf(i)), i);
    }
    log
}

fn flat(digests: &[Digest]) -> Vec<u8> {
    digests.iter().flat_map(|d| d.0).collect()
}

#[test]
fn roots_and_proofs_equal_another_implementation_at_every_size() {
    let log = log(70);
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let mut roots = vec![log.root_at(0).unwrap()];
    assert_eq!(roots[0].0.as_slice(), theirs.root().as_bytes().as_slice());
    for size in 1..=70u64 {
        theirs.push(leaf(size - 1));
        let root = log.root_at(size).unwrap();
        assert_eq!(root.0.as_slice(), theirs.root().as_bytes().as_slice());
        assert_eq!(root, root_of((0..size).map(leaf)));
        for index in 0..size {
            let proof = log.prove(index, size).unwrap();
            assert_eq!(flat(&proof.siblings), theirs.prove_inclusion(index as usize).as_bytes());
            verify_inclusion(&root, &proof, &leaf(index)).unwrap();
        }
        for from in 0..=size {
            let proof = log.consistency(from, size).unwrap();
            if from > 0 {
                assert_eq!(flat(&proof), theirs.prove_consistency((size - from) as usize).as_bytes());
            }
            let old = roots.get(from as usize).copied().unwrap_or(root);
            verify_consistency((from, &old), (size, &root), &proof).unwrap();
        }
        roots.push(root);
    }
}

#[test]
fn impossible_places_are_errors_not_panics() {
    let log = log(5);
    assert!(log.prove(5, 5).is_err() && log.prove(0, 6).is_err() && log.prove(0, 0).is_err());
    assert!(log.consistency(6, 5).is_err() && log.consistency(0, 6).is_err() && log.root_at(6).is_err());
    let root = log.root();
    for (index, size) in [(0, 0), (5, 5), (u64::MAX, u64::MAX), (u64::MAX - 1, u64::MAX), (0, LOG_LEAVES + 1)] {
        let proof = LogProof { index, size, siblings: vec![] };
        assert_eq!(verify_inclusion(&root, &proof, b"x"), Err(LogError::OutOfRange { index, size }));
    }
    let long = LogProof { index: 0, size: 5, siblings: vec![root; 300] };
    assert!(matches!(verify_inclusion(&root, &long, b"x"), Err(LogError::Inclusion { .. })));
    assert!(verify_consistency((3, &root), (u64::MAX, &root), &[]).is_err());
    assert!(verify_consistency((6, &root), (5, &root), &[]).is_err());
    assert!(verify_consistency((0, &root), (5, &root), &[root]).is_err());
}

proptest! {
    #[test]
    fn a_changed_proof_leaf_or_root_is_refused(
        size in 2u64..200,
        pick in any::<prop::sample::Index>(),
        bit in 0usize..256,
        old in any::<prop::sample::Index>(),
    ) {
        let log = log(size);
        let (index, root) = (pick.index(size as usize) as u64, log.root());
        let proof = log.prove(index, size).unwrap();
        let flip = |d: &mut Digest| d.0[bit / 8] ^= 1 << (bit % 8);
        let mut other = proof.clone();
        flip(&mut other.siblings[pick.index(proof.siblings.len())]);
        prop_assert!(verify_inclusion(&root, &other, &leaf(index)).is_err());
        prop_assert!(verify_inclusion(&root, &proof, &leaf(index + 1)).is_err());
        let moved = LogProof { index: (index + 1) % size, ..proof.clone() };
        prop_assert!(verify_inclusion(&root, &moved, &leaf(index)).is_err());
        let mut other = root;
        flip(&mut other);
        prop_assert!(verify_inclusion(&other, &proof, &leaf(index)).is_err());
        let from = 1 + old.index(size as usize - 1) as u64;
        let (first, chain) = (log.root_at(from).unwrap(), log.consistency(from, size).unwrap());
        prop_assert!(verify_consistency((from, &first), (size, &root), &chain).is_ok());
        prop_assert!(verify_consistency((from, &other), (size, &root), &chain).is_err());
        prop_assert!(verify_consistency((from, &first), (size, &other), &chain).is_err());
        let mut broken = chain.clone();
        flip(&mut broken[pick.index(chain.len())]);
        prop_assert!(verify_consistency((from, &first), (size, &root), &broken).is_err());
    }
}
