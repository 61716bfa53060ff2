//! Disputes over what a model really said: who may do what when, what losing costs, and that no more of any stake is ever touched.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{
    Pool, id, name,
    rounds::{MODEL, Run, ballot, dispute, disputed, quick},
};
use proptest::prelude::*;
use zero2ai_ledger::{Ledger, TxError, asked, conduct, round_job, verify_audit};
use zero2ai_proto::{
    ByteBuf, Signed,
    receipt::AuditExport,
    state::{DisputeState, EntryState, EventKind},
    tx::{Disputed, Grading, Tx, TxBody},
};
use zero2ai_trust::{Reputation, settle::Conduct};

/// 8 has none; 6 is the one whose leaves are disputed, and 2 disputes them.
const STAKES: [(u8, u64); 6] = [(2, 1_000), (3, 1_000), (4, 1_000), (5, 1_000), (6, 1_000), (7, 1_000)];

fn refused(error: TxError, word: &str) {
    assert!(error.to_string().contains(word), "{error}");
}

fn runs() -> Vec<(u8, Run)> {
    vec![(2, Run::honest(2, 2)), (3, Run::honest(3, 4)), (4, Run::honest(4, 3)), (6, Run::honest(6, 60))]
}

/// Up to where 6 has opened its leaves: the one that is disputed, and the pool.
fn opened(grading: Grading, stakes: &[(u8, u64)]) -> (Pool, Disputed) {
    let mut pool = Pool::staked(8, grading, stakes);
    pool.published();
    pool.committed_and_revealed(1, &runs());
    pool.opened(1, &runs(), &[2, 3, 4, 6]);
    let leaf = places(&pool)[0];
    (pool, disputed(6, 1, leaf))
}

fn places(pool: &Pool) -> Vec<u32> {
    let state = pool.ledger.round(&name(MODEL), 1, 1).unwrap();
    asked(&state, &round_job(&name(MODEL), 1, 1), &id(6), 100).unwrap()
}

fn open(which: &Disputed) -> TxBody {
    dispute(6, which.round, Run::honest(6, 60).leaf(which.leaf))
}

fn state(pool: &Pool, which: &Disputed) -> DisputeState {
    pool.ledger.dispute(which).unwrap()
}

/// Everyone of `votes` says so, and the ballots are counted.
fn voted(pool: &mut Pool, which: &Disputed, votes: &[(u8, bool)]) {
    let draws = state(pool, which).draws;
    pool.until(draws);
    pool.do_all(votes.iter().map(|(who, refuted)| (*who, ballot(which, *refuted))));
    let end = state(pool, which).vote_end();
    pool.until(end);
}

fn over(pool: &mut Pool, which: &Disputed) {
    let end = state(pool, which).appeal_end();
    pool.until(end);
    assert_eq!(state(pool, which).settled, Some(end));
}

fn has(pool: &Pool, who: u8) -> (u64, u64, u64) {
    let stake = pool.ledger.stake(&id(who));
    (stake.staked, stake.bonds, stake.free)
}

fn record(pool: &Pool, who: u8) -> Reputation {
    let stake = pool.ledger.stake(&id(who));
    Reputation { good: stake.good, bad: stake.bad }
}

fn audit(pool: &mut Pool) -> AuditExport {
    pool.commit(&[]);
    AuditExport {
        version: 1,
        genesis: ByteBuf::from(pool.ledger.genesis_bytes()),
        name: name(MODEL),
        steps: pool.steps.clone(),
        header: pool.head(),
        entries: pool.ledger.audit_entries(&name(MODEL), pool.ledger.height() - 1).unwrap(),
        providers: Vec::new(),
    }
}

#[test]
fn a_refuted_endorser_loses_his_deposit_and_standing_and_no_more_of_his_stake() {
    let (mut pool, which) = opened(quick(), &STAKES);
    pool.do_all([(2, open(&which))]);
    assert_eq!((has(&pool, 2).1, has(&pool, 6).1), (20, 20), "the round's bond, and as much again");
    voted(&mut pool, &which, &[(3, true), (4, true), (5, false)]);
    let tally = state(&pool, &which).tally.unwrap();
    assert_eq!((tally.refuted, tally.cast, tally.jurors), (true, 3, 4), "everyone with stake but the parties");
    assert_eq!(has(&pool, 7), (990, 0, 0), "silence costs what the seat bound");
    let end = pool.ledger.round(&name(MODEL), 1, 1).unwrap().end();
    pool.until(end);
    assert!(pool.ledger.finding(&name(MODEL), 1, &id(6)).samples > 0);
    let before = record(&pool, 6);
    over(&mut pool, &which);
    assert_eq!(has(&pool, 6), (990, 0, 0));
    assert_eq!(has(&pool, 2), (1_000, 0, 5), "half of what the other laid down, and its own back");
    assert_eq!([3, 4, 5].map(|who| has(&pool, who)), [(1_000, 0, 0); 3], "a vote with the few costs nothing");
    let total = pool.ledger.stake_total().unwrap();
    assert_eq!((total.held, total.burned), (5_985, 15));
    assert_eq!(record(&pool, 6), before.after(0, 1));
    assert_eq!(pool.ledger.finding(&name(MODEL), 1, &id(6)).samples, 0, "it counts no more");
    assert_eq!(pool.ledger.convictions(), []);
    let kinds: Vec<_> = pool.ledger.events(&name(MODEL)).into_iter().filter(|e| e.kind == EventKind::Refuted).collect();
    assert!(matches!(&kinds[..], [event] if event.account == id(6) && event.tx == state(&pool, &which).tx));
    verify_audit(&pool.ledger.pool(), &audit(&mut pool)).unwrap();
}

/// A verdict before the settlement leaves the finding out of that very round, and an auditor computes the same.
#[test]
fn a_verdict_before_the_settlement_counts_in_it() {
    let datasets = |refuted: bool| {
        let (mut pool, which) = opened(Grading { dispute: 20, ..quick() }, &STAKES);
        pool.do_all([(2, open(&which))]);
        voted(&mut pool, &which, &[(3, refuted), (4, refuted), (5, refuted), (7, refuted)]);
        over(&mut pool, &which);
        let end = pool.ledger.round(&name(MODEL), 1, 1).unwrap().end();
        assert!(pool.ledger.height() < end);
        pool.until(end);
        verify_audit(&pool.ledger.pool(), &audit(&mut pool)).unwrap();
        // With the deposit goes the bond of the round.
        assert_eq!((has(&pool, 6).0, has(&pool, 2).0), if refuted { (980, 1_000) } else { (1_000, 990) });
        assert!(!refuted || record(&pool, 6) == Reputation::default().after(0, 1), "one event, not two");
        pool.ledger.round(&name(MODEL), 1, 1).unwrap().outcome.unwrap().datasets
    };
    assert_eq!((datasets(true), datasets(false)), (3, 4));
}

#[test]
fn who_disputes_in_vain_pays_who_he_disputed() {
    let (mut pool, which) = opened(quick(), &STAKES);
    pool.do_all([(2, open(&which))]);
    voted(&mut pool, &which, &[(3, false), (4, true), (5, false), (7, true)]);
    assert!(!state(&pool, &which).tally.unwrap().refuted, "a tie lets a leaf stand");
    let end = pool.ledger.round(&name(MODEL), 1, 1).unwrap().end();
    pool.until(end);
    let before = record(&pool, 2);
    over(&mut pool, &which);
    assert_eq!((has(&pool, 2), has(&pool, 6)), ((990, 0, 0), (1_000, 0, 5)));
    assert_eq!(record(&pool, 2), before.after(0, 1));
    assert_eq!(pool.entry(1, 6).refuted, None);
    refused(pool.refusal(3, open(&which)), "exists already");
}

#[test]
fn an_appeal_goes_to_more_people_for_a_larger_deposit_and_the_last_word_is_everyones() {
    let (mut pool, which) = opened(quick(), &STAKES);
    pool.do_all([(2, open(&which))]);
    let appeal = || TxBody::Appeal(which.clone());
    refused(pool.refusal(6, appeal()), "no verdict");
    voted(&mut pool, &which, &[(3, true), (4, true), (5, true), (7, false)]);
    refused(pool.refusal(2, appeal()), "lost this instance");
    pool.do_all([(6, appeal())]);
    assert_eq!((state(&pool, &which).instance, state(&pool, &which).opposed), (2, 30));
    refused(pool.refusal(6, appeal()), "no verdict");
    // The second jury is of another mind; it is the first time that a ballot is taken of it.
    voted(&mut pool, &which, &[(3, false), (4, false), (5, true), (7, false)]);
    refused(pool.refusal(6, appeal()), "lost this instance");
    pool.do_all([(2, appeal())]);
    assert_eq!((state(&pool, &which).instance, state(&pool, &which).deposit), (3, 50));
    voted(&mut pool, &which, &[(3, false), (4, false), (5, false), (7, false)]);
    let told = state(&pool, &which);
    assert_eq!(told.settled, Some(told.vote_end()), "the last instance is settled as its ballots are counted");
    refused(pool.refusal(2, appeal()), "no verdict");
    assert_eq!((has(&pool, 2), has(&pool, 6)), ((950, 0, 0), (1_000, 0, 25)));
    let total = pool.ledger.stake_total().unwrap();
    assert_eq!((total.held, total.burned), (5_975, 25));
    assert_eq!(pool.ledger.ballots(&which, 1).len() + pool.ledger.ballots(&which, 3).len(), 8);
}

#[test]
fn each_step_of_a_dispute_has_its_window_and_its_people() {
    let (mut pool, which) = opened(quick(), &STAKES);
    let run = Run::honest(6, 60);
    let unasked = (0..100).find(|place| !places(&pool).contains(place)).unwrap();
    let mut altered = run.leaf(which.leaf);
    altered.answer = 1 - altered.answer;
    refused(pool.refusal(6, open(&which)), "opened himself");
    refused(pool.refusal(8, open(&which)), "nothing else binds 0");
    refused(pool.refusal(2, dispute(6, 1, run.leaf(unasked))), "the leaves that were opened are");
    refused(pool.refusal(2, dispute(6, 1, altered)), "does not stand under");
    refused(pool.refusal(2, dispute(7, 1, run.leaf(which.leaf))), "does not exist");
    refused(pool.refusal(2, dispute(6, 2, run.leaf(which.leaf))), "does not exist");
    refused(pool.refusal(3, ballot(&which, true)), "does not exist");
    refused(pool.refusal(3, TxBody::Appeal(which.clone())), "does not exist");
    pool.do_all([(2, open(&which))]);
    refused(pool.refusal(3, open(&which)), "exists already");
    refused(pool.refusal(3, ballot(&which, true)), "are taken from height");
    let (draws, vote_end) = (state(&pool, &which).draws, state(&pool, &which).vote_end());
    pool.until(draws);
    for party in [2, 6, 8, 1] {
        refused(pool.refusal(party, ballot(&which, true)), "does not sit");
    }
    pool.do_all([(3, ballot(&which, true))]);
    refused(pool.refusal(3, ballot(&which, false)), "exists already");
    pool.until(vote_end);
    refused(pool.refusal(4, ballot(&which, true)), "are taken from height");
    over(&mut pool, &which);
    refused(pool.refusal(6, TxBody::Appeal(which.clone())), "no verdict");
    let other = disputed(6, 1, places(&pool)[1]);
    refused(pool.refusal(3, open(&other)), "known to be wrong already");
    let (mut pool, which) = opened(quick(), &STAKES);
    let round = pool.ledger.round(&name(MODEL), 1, 1).unwrap();
    pool.until(round.end() + round.commit);
    refused(pool.refusal(2, open(&which)), "were to be disputed up to");
}

#[test]
fn nobody_wins_where_nobody_votes_or_the_chain_stood_still() {
    for halted in [false, true] {
        let (mut pool, which) = opened(quick(), &STAKES);
        pool.do_all([(2, open(&which))]);
        let draws = state(&pool, &which).draws;
        pool.until(draws);
        if halted {
            let (block, _) = pool.build_at(pool.ledger.head_time_ms() + 600_000, &[]);
            pool.apply(&block).unwrap();
        }
        over(&mut pool, &which);
        assert_eq!((has(&pool, 2), has(&pool, 6)), ((1_000, 0, 0), (1_000, 0, 0)));
        assert_eq!(has(&pool, 3).0, if halted { 1_000 } else { 990 }, "jurors were silent");
        assert_eq!(pool.entry(1, 6).refuted, None);
    }
}

/// A verdict is not undone by a jury that says nothing: who lost it has appealed, and pays for that too.
#[test]
fn a_verdict_stands_where_the_next_jury_is_silent() {
    let (mut pool, which) = opened(quick(), &STAKES);
    pool.do_all([(2, open(&which))]);
    voted(&mut pool, &which, &[(3, true), (4, true), (5, true), (7, false)]);
    pool.do_all([(6, TxBody::Appeal(which.clone()))]);
    voted(&mut pool, &which, &[]);
    let tally = state(&pool, &which).tally.unwrap();
    assert_eq!((tally.refuted, tally.cast), (true, 4), "of the first jury");
    over(&mut pool, &which);
    assert!(pool.entry(1, 6).refuted.is_some());
    assert_eq!((has(&pool, 2).2, has(&pool, 6).0), (15, 970), "half of both deposits");
}

/// A verdict at the height of the settlement is a later one, since rounds are settled first; an auditor finds the same.
#[test]
fn a_verdict_of_the_settlements_own_height_counts_from_the_next_round_on() {
    let (pool, _) = opened(quick(), &STAKES);
    let round = pool.ledger.round(&name(MODEL), 1, 1).unwrap();
    let at = |refuted| {
        conduct(&round, &round_job(&name(MODEL), 1, 1), &id(6), &EntryState { refuted, ..pool.entry(1, 6) }, 50)
    };
    assert!(matches!(at(Some(50)), Conduct::Upheld(_)) && matches!(at(None), Conduct::Upheld(_)));
    assert_eq!(at(Some(49)), Conduct::Refuted);
}

/// Where nothing was allotted there is nothing to lay down, and standing alone is at stake.
#[test]
fn without_stake_a_dispute_costs_standing_alone() {
    let (mut pool, which) = opened(quick(), &[]);
    pool.do_all([(2, open(&which))]);
    voted(&mut pool, &which, &[(3, true), (4, true)]);
    let end = pool.ledger.round(&name(MODEL), 1, 1).unwrap().end();
    pool.until(end);
    let before = record(&pool, 6);
    over(&mut pool, &which);
    assert_eq!(record(&pool, 6), before.after(0, 1));
    assert_eq!(pool.ledger.stake_total(), None);
}

/// The same ballots in another order, and in other blocks, come to the same; a replay and a snapshot at every height, too.
#[test]
fn the_order_of_ballots_makes_no_difference_and_every_node_comes_to_the_same() {
    let votes = [(3, true), (4, false), (5, true), (7, true)];
    let mut ends = Vec::new();
    for reversed in [false, true] {
        let (mut pool, which) = opened(quick(), &STAKES);
        pool.do_all([(2, open(&which))]);
        let draws = state(&pool, &which).draws;
        pool.until(draws);
        if reversed {
            for (who, refuted) in votes.iter().rev().take(2) {
                pool.do_all([(*who, ballot(&which, *refuted))]);
            }
            pool.do_all(votes.iter().take(2).map(|(who, refuted)| (*who, ballot(&which, *refuted))));
        } else {
            pool.do_all(votes.iter().map(|(who, refuted)| (*who, ballot(&which, *refuted))));
        }
        over(&mut pool, &which);
        ends.push((pool.ledger.stakes(), state(&pool, &which).tally, pool.ledger.score(&name(MODEL), 1)));
        let mut again = Ledger::genesis(pool.ledger.genesis_bytes()).unwrap();
        for (i, (block, header)) in pool.blocks.iter().enumerate() {
            again.apply(block).unwrap();
            if i > 0 {
                // The state after the parent, with what this block took out of it.
                let snapshot =
                    again.snapshot(pool.blocks[i - 1].1.clone(), header.clone(), pool.steps.clone()).unwrap();
                let restored = Ledger::restore(pool.ledger.genesis_bytes(), &snapshot).unwrap();
                assert_eq!(Some(restored.root()), again.root_at(again.height() - 1));
            }
        }
        assert_eq!(again.root(), pool.ledger.root());
    }
    assert_eq!(ends[0], ends[1]);
}

/// All that `who` laid down, or that its seats bound, and its bond of the round.
fn laid(pool: &Pool, who: u8) -> u64 {
    let mut sum = if [2, 3, 4, 6].contains(&who) { 10 } else { 0 };
    for (which, told) in pool.ledger.disputes() {
        sum += if told.appellant == id(who) { told.deposit } else { 0 };
        sum += if which.validator == id(who) { told.opposed } else { 0 };
        let ballots = (1..=3).flat_map(|instance| pool.ledger.ballots(&which, instance));
        sum += ballots.filter(|(juror, _)| *juror == id(who)).map(|(_, ballot)| ballot.bond).sum::<u64>();
    }
    sum
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 4 } else { 32 }))]

    /// Whatever is disputed, voted and appealed, in whichever order.
    #[test]
    fn no_dispute_takes_more_of_a_stake_than_was_laid_down_for_it(
        tries in proptest::collection::vec((2u8..9, 0u8..3, 0usize..3, any::<bool>()), 1..60),
    ) {
        let (mut pool, which) = opened(quick(), &STAKES);
        let places = places(&pool);
        for chunk in tries.chunks(4) {
            let mut ahead = [0u64; 16];
            let txs: Vec<Signed<Tx>> = chunk.iter().map(|(who, kind, leaf, refuted)| {
                let which = Disputed { leaf: places[*leaf], ..which.clone() };
                let body = match kind {
                    0 => open(&which),
                    1 => ballot(&which, *refuted),
                    _ => TxBody::Appeal(which),
                };
                let nonce = pool.ledger.member(&id(*who)).unwrap().nonce + ahead[usize::from(*who)];
                ahead[usize::from(*who)] += 1;
                pool.tx_at(*who, nonce, body)
            }).collect();
            let (block, _) = pool.build(&txs);
            pool.apply(&block).unwrap();
        }
        // To the end of whatever is open: nobody appeals from here on.
        let end = pool.ledger.height() + 12;
        pool.until(end);
        prop_assert!(pool.ledger.disputes().iter().all(|(_, told)| told.settled.is_some()));
        prop_assert!(pool.ledger.convictions().is_empty());
        let mut held = 0;
        for who in 2..=8 {
            let stake = pool.ledger.stake(&id(who));
            held += stake.staked + stake.free;
            prop_assert_eq!((stake.bonds, stake.leaving.len()), (0, 0), "everything laid down came back or was lost");
            prop_assert!(who == 8 || stake.staked + laid(&pool, who) >= 1_000, "{} lost more than it laid down", who);
        }
        let total = pool.ledger.stake_total().unwrap();
        prop_assert_eq!((total.held, total.held + total.burned), (held, 6_000));
    }
}
