//! What an epoch's work earns: by agreement beyond chance, out of what an administrator sets aside, and nothing for who made leaves up.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{
    Pool, claim, id, name, publish,
    rounds::{MODEL, Run, allot, contradict, quick},
};
use zero2ai_ledger::{TxError, agreed};
use zero2ai_proto::{
    limits::STAKE_TOTAL,
    manifest::Domain,
    state::{RewardState, Selection},
    tx::{Authorise, Elect, Graders, Grading, Grant, OpenRound, Publish, SetPot, Stake, TxBody},
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
    assert!(pool.ledger.rewards().iter().all(|(end, ..)| *end == END));
    assert_eq!((pool.ledger.pot(), reward(&pool, 2).shared.len(), reward(&pool, 4).stake), (1_000, 2, 2_000));
    assert!(reward(&pool, 5).void && !reward(&pool, 6).void);
    assert!(agreed(&reward(&pool, 6)) <= 0 && agreed(&reward(&pool, 2)) > 0);
    let claims: u64 = pool.ledger.rewards().iter().map(|(_, _, reward)| reward.claim).sum();
    assert_eq!(pool.ledger.epoch(END).unwrap().claims, claims);
    let due = [2, 3, 4, 5, 6].map(|who| 1_000 * reward(&pool, who).claim / claims);
    let before = pool.ledger.stake_total().unwrap();
    pool.until(END);
    let paid = |who: u8| pool.ledger.stake(&id(who)).earned;
    assert_eq!([2, 3, 4, 5, 6].map(paid), due);
    let (honest, all): (u64, u64) = ((2..=4).map(paid).sum(), (2..=6).map(paid).sum());
    assert!(paid(2) > 0 && paid(3) > 0 && paid(4) > paid(3), "{due:?}");
    assert_eq!((honest, paid(5)), (all, 0), "neither who was contradicted nor who says the same of everything");
    assert_eq!(pool.ledger.pot() + all, 1_000, "nothing is made or lost");
    assert_eq!(pool.ledger.stake(&id(4)).own, paid(4));
    let after = pool.ledger.stake_total().unwrap();
    assert_eq!(after.held, before.held + all - (after.burned - before.burned));
    assert!(pool.ledger.rewards().is_empty() && pool.ledger.epoch(END).is_none(), "what is paid leaves the state");
    // Nothing is shared in the next epoch: the rest stays.
    let rest = pool.ledger.pot();
    pool.until(2 * END);
    assert_eq!(pool.ledger.pot(), rest);
}

/// An administrator who sets what a member has sets what he gave it. What it earned he can neither take nor does he add to it.
#[test]
fn an_allotment_leaves_what_was_earned() {
    let mut pool = two_rounds(quick(), &STAKES, &[2, 3, 4, 5, 6]);
    pool.until(END);
    let held = |pool: &Pool| {
        let stake = pool.ledger.stake(&id(4));
        (stake.free, stake.own, stake.staked)
    };
    let earned = pool.ledger.stake(&id(4)).earned;
    assert!(earned > 7);
    let total = pool.ledger.stake_total().unwrap().held;
    pool.do_all([(0, allot(4, 500))]);
    assert_eq!(held(&pool), (500, earned, 2_000));
    pool.do_all([(0, allot(4, 0))]);
    assert_eq!((held(&pool), pool.ledger.stake_total().unwrap().held), ((0, earned, 2_000), total));
    // It stakes what was allotted first, and then its own.
    pool.do_all([(0, allot(4, 10)), (4, TxBody::Stake(Stake { amount: 17 }))]);
    assert_eq!(held(&pool), (0, earned - 7, 2_017));
    refused(pool.refusal(4, TxBody::Stake(Stake { amount: earned - 6 })), "that are free");
    pool.do_all([(0, allot(4, 0))]);
    assert_eq!(held(&pool), (0, earned - 7, 2_017));
}

/// Who does not open what it is asked for earns nothing of the epoch, not even for the round before.
#[test]
fn what_was_not_opened_or_comes_out_late_voids_the_epoch() {
    let mut pool = two_rounds(Grading { open_ppm: 0, ..quick() }, &STAKES, &[]);
    assert!(!reward(&pool, 5).void && !reward(&pool, 5).shared.is_empty(), "nobody was asked");
    let liar = Run::lying(5, 50);
    pool.do_all([(7, contradict(5, 1, vec![liar.leaf(liar.wrong()[0])]))]);
    assert_eq!((reward(&pool, 5).void, reward(&pool, 5).claim), (true, 0));
    pool.until(END);
    assert_eq!(pool.ledger.stake(&id(5)).earned, 0);
    let mut pool = two_rounds(quick(), &STAKES, &[2, 4, 5, 6]);
    assert_eq!((reward(&pool, 3).void, reward(&pool, 3).claim), (true, 0));
    pool.until(END);
    assert_eq!(pool.ledger.stake(&id(3)).earned, 0);
    assert!(pool.ledger.stake(&id(2)).earned > 0);
}

/// The contradiction comes in one epoch, and the settlement that leaves its entry out in another: the first is void, the second is not.
#[test]
fn one_offence_voids_one_epoch() {
    let mut pool = Pool::staked(7, Grading { window: 1, ..quick() }, &STAKES);
    pool.published();
    pool.committed_and_revealed(1, &runs(1));
    let liar = Run::lying(5, 50);
    pool.do_all([(7, contradict(5, 1, vec![liar.leaf(liar.wrong()[0])]))]);
    let mut void = Vec::new();
    let end = pool.ledger.round(&name(MODEL), 1, 1).unwrap().end();
    while pool.ledger.height() <= end {
        // An epoch lasts for one height, and is paid at the next.
        void.extend(
            pool.ledger.rewards().into_iter().filter(|(_, who, r)| *who == id(5) && r.void).map(|(end, ..)| end),
        );
        pool.commit(&[]);
    }
    assert!(pool.ledger.round(&name(MODEL), 1, 1).unwrap().outcome.is_some());
    assert_eq!(void.len(), 1, "{void:?}");
}

/// Graders whom a model's owner chose could be himself: he names them, has them elected, or lets nobody else open the model. Neither does a
/// committee count that fewer than four signers drew.
#[test]
fn graders_whom_an_owner_chose_earn_nothing() {
    let named = Graders::Named({
        let mut all = [2, 3, 4].map(id).to_vec();
        all.sort();
        all
    });
    for (graders, private, seats, selection) in [
        (Graders::Everyone, false, 21, Selection::Everyone),
        (Graders::Everyone, true, 21, Selection::Everyone),
        (named, false, 21, Selection::Named),
        (Graders::Elected, false, 21, Selection::Elected),
        (Graders::Everyone, false, 3, Selection::Appointed),
    ] {
        let earns = !private && selection == Selection::Everyone;
        let mut pool = Pool::staked(7, Grading { window: END, seats, open_ppm: 0, ..quick() }, &STAKES);
        let TxBody::Publish(body) = publish(MODEL, 1) else { panic!() };
        let domain = if private { Domain::Private } else { body.domain };
        let vote = |who: u8| (who, TxBody::Elect(Elect { candidate: Some(id(who)) }));
        let grant = |who: u8| (1, TxBody::Grant(Grant { name: name(MODEL), member: id(who) }));
        pool.do_all([2, 3, 4].map(vote));
        pool.do_all([(1, claim("lab")), (1, TxBody::Publish(Publish { domain, ..body }))]);
        let draws = pool.ledger.round(&name(MODEL), 1, 1).unwrap().draws;
        // The first round is drawn with the next block: what an owner says of it stands in that block.
        let says = (1, TxBody::Authorise(Authorise { name: name(MODEL), graders }));
        pool.do_all([says].into_iter().chain([2, 3, 4].map(grant)));
        assert_eq!(pool.ledger.height(), draws);
        let state = pool.ledger.round(&name(MODEL), 1, 1).unwrap();
        assert_eq!(state.selection, Some(selection));
        let runs: Vec<_> = (2..=6).filter(|who| state.seats(&id(*who))).map(|who| (who, Run::honest(who, 2))).collect();
        pool.round(1, &runs, &[]);
        let outcome = pool.ledger.round(&name(MODEL), 1, 1).unwrap().outcome.unwrap();
        assert!(outcome.score_ppm.is_some(), "there is a score either way");
        assert_eq!(!pool.ledger.rewards().is_empty(), earns, "{selection:?}, {private}");
    }
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
