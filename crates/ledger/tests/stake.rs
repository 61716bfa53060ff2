//! What members have at stake, and the seed that every block adds to.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{
    Pool, id,
    rounds::{allot, quick},
    secret,
};
use zero2ai_ledger::{BlockError, TxError};
use zero2ai_proto::{
    BlockId, Signed,
    block::{Vote, VoteKind},
    evidence::{Evidence, SignedStatement, Statement},
    limits::{LEAVING, LIABLE_HEIGHTS, STAKE_TOTAL, WINDOW_HEIGHTS},
    state::Offence,
    tx::{Beacon, Stake, Tx, TxBody, Unstake},
};

fn refused(error: TxError, word: &str) {
    assert!(error.to_string().contains(word), "{error}");
}

fn stake(amount: u64) -> TxBody {
    TxBody::Stake(Stake { amount })
}

fn unstake(amount: u64) -> TxBody {
    TxBody::Unstake(Unstake { amount })
}

#[test]
fn an_administrator_allots_a_member_stakes_and_what_leaves_stays_liable() {
    let mut pool = Pool::staked(3, quick(), &[(1, 100)]);
    refused(pool.refusal(1, allot(1, 5)), "lacks the right 'admin'");
    refused(pool.refusal(0, allot(9, 5)), "is not a member");
    refused(pool.refusal(0, allot(2, STAKE_TOTAL)), "all together may have");
    refused(pool.refusal(1, stake(1)), "1 of 0 that are free");
    refused(pool.refusal(1, stake(0)), "0 of 0");
    refused(pool.refusal(1, unstake(101)), "101 of 100");
    refused(pool.refusal(1, unstake(0)), "0 of 100");
    pool.do_all([(0, allot(1, 50)), (1, stake(20)), (1, unstake(30))]);
    let held = pool.ledger.stake(&id(1));
    let until = pool.ledger.height() + LIABLE_HEIGHTS + WINDOW_HEIGHTS + 1;
    assert_eq!((held.free, held.staked, &held.leaving[..]), (30, 90, &[(30, until)][..]));
    assert_eq!(pool.ledger.stake_total().unwrap().held, 150);
    for _ in 1..LEAVING {
        pool.do_all([(1, unstake(1))]);
    }
    refused(pool.refusal(1, unstake(1)), "leaving already");
    // What an administrator takes back is gone from the sum; what was staked he cannot take.
    pool.do_all([(0, allot(1, 0))]);
    assert_eq!(pool.ledger.stake_total().unwrap().held, 120);
}

/// A signer that contradicts itself pays with what it has, what is leaving included; who has nothing has nothing to pay.
#[test]
fn equivocation_costs_stake() {
    let mut pool = Pool::staked(5, quick(), &[(1, 1_000), (2, 9_000)]);
    pool.set_signers(&[0, 1, 2, 3]);
    pool.do_all([(1, unstake(400))]);
    let height = pool.ledger.height();
    pool.commit(&[]);
    let evidence = |pool: &Pool, who: u8| {
        let say = |block| {
            let statement = Statement::Vote(Vote { height, round: 0, kind: VoteKind::Prevote, block });
            SignedStatement {
                statement,
                signature: secret(who).sign(&statement.sign_bytes(&pool.ledger.pool()).unwrap()),
            }
        };
        TxBody::Evidence(Evidence::new(id(who), say(None), say(Some(BlockId([7; 32])))))
    };
    let bodies = [(4, evidence(&pool, 1)), (4, evidence(&pool, 3))];
    pool.do_all(bodies);
    assert_eq!(pool.ledger.equivocations().len(), 2);
    let [(end, who, conviction)] = pool.ledger.convictions()[..] else { panic!("3 has no stake") };
    assert_eq!((who, conviction.offence, conviction.liable), (id(1), Offence::Equivocation, 1_000));
    pool.until(end);
    // A tenth of all: 9 % of it, of what is staked first.
    assert_eq!(pool.ledger.convictions()[0].2.charged, Some(90));
    let held = pool.ledger.stake(&id(1));
    assert_eq!((held.staked, held.leaving[0].0), (510, 400));
    assert_eq!(pool.ledger.stake_total().unwrap().burned, 90);
}

#[test]
fn a_block_begins_with_its_proposers_part_of_the_seed_and_with_nobody_elses() {
    let mut pool = Pool::staked(3, quick(), &[]);
    let (time, proposer) = (pool.ledger.head_time_ms() + 2_000, pool.proposer());
    let build = |txs: &[Signed<Tx>]| pool.ledger.build_block(proposer, time, txs);
    let beacon = pool.beacon().unwrap();
    let with =
        |who: u8, nonce: u64, proof: Vec<u8>| pool.tx_at(who, nonce, TxBody::Beacon(Beacon { proof: proof.into() }));
    let TxBody::Beacon(Beacon { proof }) = beacon.read_unverified().unwrap().body else { panic!() };
    let other = pool.ledger.beacon(&secret(1)).unwrap().unwrap();
    let mut flipped = proof.to_vec();
    flipped[70] ^= 1;
    for txs in [
        vec![],
        vec![pool.tx_at(1, 0, common::claim("lab"))],
        vec![other],
        vec![with(1, 0, proof.to_vec())],
        vec![with(0, 1, proof.to_vec())],
        vec![with(0, 0, flipped)],
        vec![with(0, 0, Vec::new())],
    ] {
        assert!(matches!(build(&txs), Err(BlockError::Beacon(_))), "{txs:?}");
    }
    // Once, and first; and no mempool takes one.
    let (block, out) = build(&[beacon.clone(), beacon.clone()]).unwrap();
    assert_eq!((block.txs.len(), out.len()), (1, 1));
    refused(pool.ledger.check_tx(&beacon, time).unwrap_err(), "nonce");
    let before = pool.ledger.seed();
    let idle_until = pool.ledger.head_time_ms();
    pool.commit(&[]);
    assert_ne!(pool.ledger.seed(), before);
    assert!(pool.ledger.head_time_ms() >= idle_until + 1_000 || pool.ledger.head_had_txs());
    // A block of an earlier height does not fit here any more.
    assert!(matches!(pool.ledger.build_block(proposer, time + 9_000, &[beacon]), Err(BlockError::Beacon(_))));
}
