//! What an epoch's work earns: by agreement beyond chance, out of what an administrator sets aside, and nothing for who made leaves up.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{
    Pool, id, name,
    rounds::{MODEL, Run, allot, contradict, quick},
};
use zero2ai_ledger::{TxError, agreed};
use zero2ai_proto::{
    limits::STAKE_TOTAL,
    state::RewardState,
    tx::{Grading, OpenRound, SetPot, TxBody},
};

const STAKES: [(u8, u64); 5] = [(2, 1_000), (3, 1_000), (4, 2_000), (5, 1_000), (6, 1_000)];
/// Height at which the epoch of all these tests ends.
const END: u64 = 60;

fn refused(error: TxError, word: &str) {
    assert!(error.to_string().contains(word), "{error}");
}

fn pot(amount: u64) -> TxBody {
    TxBody::SetPot(SetPot { amount })
}

/// 2 to 4 follow the model, which is good in the first round and bad in the second; 5 tells other counts than its leaves'; 6 says the same
/// of everything.
fn runs(round: u64) -> Vec<(u8, Run)> {
    let wrong = if round == 1 { 2 } else { 40 };
    vec![
        (2, Run::honest(2, wrong)),
        (3, Run::honest(3, wrong + 1)),
        (4, Run::honest(4, wrong + 1)),
        (5, Run::lying(5, 50)),
        (6, Run::honest(6, 20)),
    ]
}

fn two_rounds(grading: Grading, stakes: &[(u8, u64)], opens: &[u8]) -> Pool {
    let mut pool = Pool::staked(7, Grading { window: END, ..grading }, stakes);
    if !stakes.is_empty() {
        pool.do_all([(0, pot(1_000))]);
    }
    pool.published();
    pool.round(1, &runs(1), opens);
    pool.do_all([(1, TxBody::OpenRound(OpenRound { name: name(MODEL), version: 1 }))]);
    let draws = pool.ledger.round(&name(MODEL), 1, 2).unwrap().draws;
    pool.until(draws);
    pool.round(2, &runs(2), opens);
    assert!(pool.ledger.height() < END);
    pool
}

fn reward(pool: &Pool, who: u8) -> RewardState {
    let mut all = pool.ledger.rewards().into_iter().filter(|(end, of, _)| (*end, *of) == (END, id(who)));
    all.next().map(|(_, _, reward)| reward).unwrap()
}

#[test]
fn a_pot_is_divided_by_agreement_and_stays_where_nobody_agreed() {
    let mut pool = two_rounds(quick(), &STAKES, &[2, 3, 4, 5, 6]);
    assert!(pool.ledger.rewards().iter().all(|(end, _, reward)| *end == END && reward.paid.is_none()));
    assert_eq!((pool.ledger.pot(), reward(&pool, 2).shared.len(), reward(&pool, 4).stake), (1_000, 2, 2_000));
    let before = pool.ledger.stake_total().unwrap();
    pool.until(END);
    let paid = |who: u8| reward(&pool, who).paid.unwrap().amount;
    let (honest, all): (u64, u64) = ((2..=4).map(paid).sum(), (2..=6).map(paid).sum());
    assert!(paid(2) > 0 && paid(3) > 0 && paid(4) > paid(3), "{:?}", (2..=6).map(paid).collect::<Vec<_>>());
    assert_eq!((honest, paid(5)), (all, 0), "neither who was contradicted nor who says the same of everything");
    assert!(reward(&pool, 5).void && !reward(&pool, 6).void);
    assert!(agreed(&reward(&pool, 6)) <= 0 && agreed(&reward(&pool, 2)) > 0);
    assert_eq!(pool.ledger.pot() + all, 1_000, "nothing is made or lost");
    assert_eq!(pool.ledger.stake(&id(4)).free, paid(4));
    let after = pool.ledger.stake_total().unwrap();
    assert_eq!(after.held, before.held + all - (after.burned - before.burned));
    // Nothing is shared in the next epoch: the rest stays.
    let rest = pool.ledger.pot();
    pool.until(2 * END);
    assert_eq!(pool.ledger.pot(), rest);
}

/// Who does not open what it is asked for earns nothing of the epoch, not even for the round before.
#[test]
fn what_was_not_opened_or_comes_out_late_voids_the_epoch() {
    let mut pool = two_rounds(Grading { open_ppm: 0, ..quick() }, &STAKES, &[]);
    assert!(!reward(&pool, 5).void && !reward(&pool, 5).shared.is_empty(), "nobody was asked");
    let liar = Run::lying(5, 50);
    pool.do_all([(7, contradict(5, 1, vec![liar.leaf(liar.wrong()[0])]))]);
    pool.until(END);
    assert_eq!((reward(&pool, 5).void, reward(&pool, 5).paid.unwrap().amount), (true, 0));
    let mut pool = two_rounds(quick(), &STAKES, &[2, 4, 5, 6]);
    pool.until(END);
    assert_eq!((reward(&pool, 3).void, reward(&pool, 3).paid.unwrap().amount), (true, 0));
    assert!(reward(&pool, 2).paid.unwrap().amount > 0);
}

#[test]
fn a_pool_without_allotments_has_no_pot_and_the_pot_its_bounds() {
    let mut pool = two_rounds(quick(), &[], &[2, 3, 4, 5, 6]);
    pool.until(END);
    assert!(pool.ledger.rewards().is_empty() && pool.ledger.stake_total().is_none());
    refused(pool.refusal(0, pot(1)), "nothing was ever allotted");
    let mut pool = Pool::staked(3, quick(), &[(1, 100)]);
    refused(pool.refusal(1, pot(1)), "lacks the right 'admin'");
    refused(pool.refusal(0, pot(STAKE_TOTAL)), "members have 100");
    pool.do_all([(0, pot(STAKE_TOTAL - 100))]);
    refused(pool.refusal(0, allot(2, 1)), "the pot");
    pool.do_all([(0, pot(7))]);
    assert_eq!(pool.ledger.pot(), 7, "set, not added to");
}
