//! Evidence: a contradiction is recorded once, against signers of that height only; what is no contradiction proves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Pool, id, secret};
use proptest::prelude::*;
use zero2ai_ledger::{TxError, verify_state};
use zero2ai_proto::{
    BlockId, PoolId, SecretKey,
    block::{Proposal, Vote, VoteKind},
    evidence::{Evidence, EvidenceError, SignedStatement, Statement, Step},
    state::{Rights, key},
    tx::{SetRights, TxBody},
};

fn said(by: &SecretKey, pool: &PoolId, statement: Statement) -> SignedStatement {
    SignedStatement { statement, signature: by.sign(&statement.sign_bytes(pool).unwrap()) }
}

fn vote(height: u64, kind: VoteKind, block: Option<u8>) -> Statement {
    Statement::Vote(Vote { height, round: 2, kind, block: block.map(|b| BlockId([b; 32])) })
}

/// Two prevotes of `who` at `height`.
fn double_vote(pool: &Pool, who: u8, height: u64) -> Evidence {
    let (chain, by) = (pool.ledger.pool(), secret(who));
    let say = |block| said(&by, &chain, vote(height, VoteKind::Prevote, block));
    Evidence::new(id(who), say(Some(7)), say(None))
}

/// A pool whose signers were 0, then 0 to 3, then 0, 1, 2 and 4.
fn pool() -> Pool {
    let mut pool = Pool::with_members(6);
    pool.set_signers(&[0, 1, 2, 3]);
    pool.set_signers(&[0, 1, 2, 4]);
    pool.commit(&[]);
    pool
}

#[test]
fn a_contradiction_is_recorded_once_with_a_proof_and_changes_nothing_else() {
    let mut pool = pool();
    let height = pool.ledger.height();
    let before = (pool.ledger.signers().clone(), pool.ledger.member(&id(4)));
    let evidence = double_vote(&pool, 4, height);
    let tx = pool.tx(5, TxBody::Evidence(evidence));
    pool.commit(std::slice::from_ref(&tx));
    let found = pool.ledger.equivocation(&id(4), height).unwrap();
    assert_eq!((found.round, found.step, found.power, found.reporter), (2, Step::Prevote, 1, id(5)));
    assert_eq!((found.blocks, found.tx), ((None, Some(BlockId([7; 32]))), tx.tx_id().unwrap()));
    assert_eq!(pool.ledger.equivocations(), vec![(id(4), height, found)]);
    assert_eq!((pool.ledger.signers().clone(), pool.ledger.member(&id(4))), before, "recording is all");
    // Again, by another member, about another step of that height.
    let (chain, by) = (pool.ledger.pool(), secret(4));
    let propose = |b| {
        said(&by, &chain, Statement::Proposal(Proposal { height, round: 0, pol_round: None, block: BlockId([b; 32]) }))
    };
    let other = Evidence::new(id(4), propose(9), propose(3));
    assert_eq!(other.check(&chain), Ok(()));
    assert!(matches!(pool.refusal(6, TxBody::Evidence(other)), TxError::Exists(_)));
    // It is proved like everything else.
    let height_now = pool.ledger.height();
    pool.commit(&[]);
    let proof = pool.ledger.prove(&key::evidence(&id(4), height), height_now).unwrap();
    let root = pool.ledger.root_at(height_now).unwrap();
    verify_state(&root, &proof).unwrap();
    assert!(proof.value.is_some());
}

#[test]
fn only_who_signed_that_height_can_be_convicted() {
    let pool = pool();
    let now = pool.ledger.height() + 1;
    let mut seen = 0;
    for height in 1..now {
        let set = pool.ledger.signers_at(height).unwrap().clone();
        // The header's own word on who signed it.
        let header = &pool.blocks[usize::try_from(height - 1).unwrap()].1;
        let header: zero2ai_proto::block::Header = zero2ai_proto::decode(&header.header, 4096).unwrap();
        assert_eq!(set.hash().unwrap(), header.signers_hash, "height {height}");
        for who in 0..6 {
            let tx = pool.tx_at(
                5,
                pool.ledger.member(&id(5)).unwrap().nonce,
                TxBody::Evidence(double_vote(&pool, who, height)),
            );
            let taken = pool.ledger.check_tx(&tx, pool.ledger.head_time_ms() + 1);
            assert_eq!(taken.is_ok(), set.power_of(&id(who)).is_some(), "{who} at {height}: {taken:?}");
            seen += u32::from(taken.is_ok());
        }
    }
    assert!(seen > 10);
    assert_eq!((pool.ledger.signers_at(0), pool.ledger.signers_at(now + 1)), (None, None));
    for height in [0, now, now + 5, u64::MAX] {
        let refusal = pool.refusal(5, TxBody::Evidence(double_vote(&pool, 0, height)));
        assert!(matches!(refusal, TxError::Invalid { what: "evidence", .. }), "{refusal}");
    }
}

#[test]
fn strangers_and_revoked_members_submit_none() {
    let mut pool = pool();
    let evidence = double_vote(&pool, 4, pool.ledger.height());
    assert_eq!(pool.refusal(20, TxBody::Evidence(evidence)), TxError::NotMember(id(20)));
    let revoke = pool.tx(0, TxBody::SetRights(SetRights { member: id(5), rights: Rights(0) }));
    pool.commit(&[revoke]);
    assert_eq!(pool.refusal(5, TxBody::Evidence(evidence)), TxError::Revoked(id(5)));
}

/// One pool for all cases: none of them changes it.
fn shared() -> &'static Pool {
    static POOL: std::sync::OnceLock<Pool> = std::sync::OnceLock::new();
    POOL.get_or_init(pool)
}

fn any_statement() -> impl Strategy<Value = Statement> {
    (1..4u64, 0..2u32, 0..3u8, proptest::option::of(0..3u8), proptest::option::of(0..1u32)).prop_map(
        |(height, round, step, block, pol_round)| {
            let id = block.map(|b| BlockId([b; 32]));
            match step {
                0 => Statement::Proposal(Proposal { height, round, pol_round, block: id.unwrap_or(BlockId([9; 32])) }),
                1 => Statement::Vote(Vote { height, round, kind: VoteKind::Prevote, block: id }),
                _ => Statement::Vote(Vote { height, round, kind: VoteKind::Precommit, block: id }),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn evidence_holds_only_if_two_statements_contradict_each_other(a in any_statement(), b in any_statement()) {
        let (pool, by) = (PoolId([5; 32]), secret(1));
        let evidence = Evidence::new(by.public(), said(&by, &pool, a), said(&by, &pool, b));
        let contradict = a.place() == b.place() && a.block() != b.block();
        prop_assert_eq!(evidence.check(&pool).is_ok(), contradict);
        // The order in which they are given does not matter, the one in which they stand does.
        prop_assert_eq!(Evidence::new(by.public(), said(&by, &pool, b), said(&by, &pool, a)).check(&pool).is_ok(), contradict);
        let swapped = Evidence { first: evidence.second, second: evidence.first, ..evidence };
        prop_assert!(swapped.check(&pool).is_err());
        // Another pool's signatures, another signer's, and altered ones prove nothing.
        prop_assert!(evidence.check(&PoolId([6; 32])).is_err());
        let stranger = Evidence { signer: secret(2).public(), ..evidence };
        prop_assert!(stranger.check(&pool).is_err());
    }

    #[test]
    fn a_flipped_bit_of_a_signature_proves_nothing(which: bool, byte in 0..64usize, bit in 0..8u8) {
        let pool = shared();
        let mut evidence = double_vote(pool, 4, pool.ledger.height());
        let said = if which { &mut evidence.first } else { &mut evidence.second };
        said.signature.0[byte] ^= 1 << bit;
        let refused = TxError::Evidence(EvidenceError::BadSignature(id(4)));
        prop_assert_eq!(pool.refusal(5, TxBody::Evidence(evidence)), refused);
    }

    #[test]
    fn a_flipped_byte_of_the_transaction_is_refused_or_another_ones(at: prop::sample::Index, bit in 0..8u8) {
        let pool = shared();
        let nonce = pool.ledger.member(&id(5)).unwrap().nonce;
        let tx = pool.tx_at(5, nonce, TxBody::Evidence(double_vote(pool, 4, pool.ledger.height())));
        let mut bytes = zero2ai_proto::encode(&tx).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let read = zero2ai_proto::decode::<zero2ai_proto::Signed<zero2ai_proto::tx::Tx>>(&bytes, bytes.len());
        let taken = read.is_ok_and(|tx| pool.ledger.check_tx(&tx, pool.ledger.head_time_ms() + 1).is_ok());
        prop_assert!(!taken);
    }
}
