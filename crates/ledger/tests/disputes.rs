//! Disputes over what a model really said: who may do what when, what losing costs, and that no more of any stake is ever touched.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{
    Pool, id, name, publish,
    rounds::{MODEL, Run, ballot, dispute, disputed, quick},
};
use proptest::prelude::*;
use zero2ai_ledger::{Ledger, TxError, asked, round_job, verify_audit};
use zero2ai_proto::{
    ByteBuf, NodeId, Signed,
    limits::DISPUTES,
    manifest::Task,
    receipt::AuditExport,
    state::{BallotState, DisputeState, EventKind},
    tx::{Dispute, Disputed, Grading, OpenRound, Publish, Tx, TxBody, Unstake, Withdraw},
};
use zero2ai_trust::{
    Reputation,
    dispute::{Ballot, refuted},
};

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

/// The next blocks, until the round has an outcome.
fn settled(pool: &mut Pool) {
    while pool.ledger.round(&name(MODEL), 1, 1).unwrap().outcome.is_none() {
        pool.commit(&[]);
    }
}

fn over(pool: &mut Pool, which: &Disputed) {
    let end = state(pool, which).appeal_end();
    pool.until(end);
    assert_eq!(state(pool, which).settled, Some(end));
}

fn has(pool: &Pool, who: u8) -> (u64, u64, u64) {
    let stake = pool.ledger.stake(&id(who));
    (stake.staked, stake.bonds, stake.free + stake.own)
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

/// Half of what the other laid down is the prize; the endorser's bond of the round goes, too.
#[test]
fn a_refuted_endorser_loses_his_deposit_his_bond_and_standing_and_no_more_of_his_stake() {
    let (mut pool, which) = opened(quick(), &STAKES);
    pool.do_all([(2, open(&which))]);
    assert_eq!((has(&pool, 2).1, has(&pool, 6).1), (20, 20), "the round's bond, and as much again");
    assert_eq!(pool.ledger.stake(&id(2)).disputes, 1);
    voted(&mut pool, &which, &[(3, true), (4, true), (5, false)]);
    let tally = state(&pool, &which).tally.unwrap();
    assert_eq!((tally.refuted(), tally.cast, tally.jurors), (true, 3, 4), "everyone with stake but the parties");
    assert_eq!(has(&pool, 7), (998, 0, 0), "silence costs what the seat bound: a fourth of the deposit, rounded down");
    over(&mut pool, &which);
    settled(&mut pool);
    assert_eq!(has(&pool, 6), (980, 0, 0));
    assert_eq!(has(&pool, 2), (1_000, 0, 5), "half of what the other laid down, and its own back");
    assert_eq!([3, 4, 5].map(|who| has(&pool, who)), [(1_000, 0, 0); 3], "a vote with the few costs nothing");
    let total = pool.ledger.stake_total().unwrap();
    assert_eq!((total.held, total.burned), (5_983, 17));
    assert_eq!(record(&pool, 6), Reputation::default().after(0, 1), "one event");
    assert_eq!(pool.ledger.finding(&name(MODEL), 1, &id(6)).samples, 0, "it counts no more");
    assert_eq!((pool.ledger.convictions(), pool.ledger.stake(&id(2)).disputes), (vec![], 0));
    let kinds: Vec<_> = pool.ledger.events(&name(MODEL)).into_iter().filter(|e| e.kind == EventKind::Refuted).collect();
    assert!(matches!(&kinds[..], [event] if event.account == id(6) && event.tx == state(&pool, &which).tx));
    verify_audit(&pool.ledger.pool(), &audit(&mut pool)).unwrap();
}

/// Ballots take longer than the round has left: its settlement waits, counts the verdict, and an auditor computes the same.
#[test]
fn a_verdict_reaches_the_settled_score_however_short_the_windows_are() {
    let datasets = |refuted: bool, dispute: u64| {
        let (mut pool, which) = opened(Grading { dispute, ..quick() }, &STAKES);
        pool.do_all([(2, open(&which))]);
        voted(&mut pool, &which, &[(3, refuted), (4, refuted), (5, refuted), (7, refuted)]);
        let end = pool.ledger.round(&name(MODEL), 1, 1).unwrap().end();
        assert_eq!(pool.ledger.height() >= end, dispute == 6, "the verdict comes behind the round's last height");
        let next = TxBody::OpenRound(OpenRound { name: name(MODEL), version: 1 });
        refused(pool.refusal(1, next), "is open");
        over(&mut pool, &which);
        let closed = pool.ledger.height();
        assert!(pool.ledger.round(&name(MODEL), 1, 1).unwrap().outcome.is_none());
        settled(&mut pool);
        assert_eq!(pool.ledger.height(), end.max(closed + 1));
        verify_audit(&pool.ledger.pool(), &audit(&mut pool)).unwrap();
        // With the deposit goes the bond of the round.
        assert_eq!((has(&pool, 6).0, has(&pool, 2).0), if refuted { (980, 1_000) } else { (1_000, 990) });
        pool.ledger.round(&name(MODEL), 1, 1).unwrap().outcome.unwrap().datasets
    };
    for dispute in [6, 30] {
        assert_eq!((datasets(true, dispute), datasets(false, dispute)), (3, 4), "{dispute}");
    }
}

#[test]
fn who_disputes_in_vain_pays_who_he_disputed() {
    let (mut pool, which) = opened(quick(), &STAKES);
    pool.do_all([(2, open(&which))]);
    voted(&mut pool, &which, &[(3, false), (4, true), (5, false), (7, true)]);
    assert!(!state(&pool, &which).tally.unwrap().refuted(), "a tie lets a leaf stand");
    over(&mut pool, &which);
    assert_eq!(record(&pool, 2), Reputation::default().after(0, 1));
    settled(&mut pool);
    assert_eq!((has(&pool, 2), has(&pool, 6)), ((990, 0, 0), (1_000, 0, 5)));
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
    refused(pool.refusal(2, appeal()), "won this instance");
    pool.do_all([(6, appeal())]);
    assert_eq!((state(&pool, &which).instance, state(&pool, &which).laid(false)), (2, 30));
    refused(pool.refusal(6, appeal()), "no verdict");
    // The second jury is of another mind; it is the first time that a ballot is taken of it.
    voted(&mut pool, &which, &[(3, false), (4, false), (5, true), (7, false)]);
    refused(pool.refusal(6, appeal()), "won this instance");
    pool.do_all([(2, appeal())]);
    assert_eq!((state(&pool, &which).instance, state(&pool, &which).laid(true)), (3, 50));
    let draws = state(&pool, &which).draws;
    pool.until(draws);
    assert!(pool.ledger.ballots(&which, 3).is_empty(), "nobody is drawn, and nothing bound");
    for party in [2, 6, 8, 1] {
        refused(pool.refusal(party, ballot(&which, true)), "does not sit");
    }
    voted(&mut pool, &which, &[(3, false), (4, false), (5, false), (7, false)]);
    let told = state(&pool, &which);
    assert_eq!(told.settled, Some(told.vote_end()), "the last instance is settled as its ballots are counted");
    assert_eq!((told.tally.unwrap().cast, told.tally.unwrap().jurors), (4, 4));
    refused(pool.refusal(2, appeal()), "no verdict");
    settled(&mut pool);
    assert_eq!((has(&pool, 2), has(&pool, 6)), ((950, 0, 0), (1_000, 0, 25)));
    let total = pool.ledger.stake_total().unwrap();
    assert_eq!((total.held, total.burned), (5_975, 25));
}

/// 2 is in league with 6, disputes its leaf first, and loses on purpose; 3 appeals for the side that lost, and shares what 6 loses.
#[test]
fn an_accomplice_who_disputes_first_protects_nobody() {
    for votes in [&[(3, false), (4, false)][..], &[]] {
        let (mut pool, which) = opened(quick(), &STAKES);
        pool.do_all([(2, open(&which))]);
        voted(&mut pool, &which, votes);
        let appeal = || TxBody::Appeal(which.clone());
        refused(pool.refusal(6, appeal()), "won this instance");
        refused(pool.refusal(8, appeal()), "nothing else binds 0");
        pool.do_all([(3, appeal())]);
        assert_eq!(state(&pool, &which).laid(true), 30);
        voted(&mut pool, &which, &[(4, true), (5, true), (7, false)]);
        pool.do_all([(6, appeal())]);
        voted(&mut pool, &which, &[(4, true), (5, true), (7, true)]);
        settled(&mut pool);
        assert!(pool.entry(1, 6).refuted.is_some());
        // 6 laid down 10 and 40, and its bond; 2 and 3 share half of the 50 as they laid down, 10 and 20.
        assert_eq!((has(&pool, 6).0, has(&pool, 2).2, has(&pool, 3).2), (940, 8, 16));
        assert_eq!((has(&pool, 2).1, has(&pool, 3).1), (0, 0));
    }
}

/// Disputes over leaves of an accomplice with little stake: what they bind of others' stakes is no more than what is laid down for them, and one
/// account has only so many open.
#[test]
fn a_dispute_binds_no_more_of_others_than_of_who_opens_it() {
    let mut stakes = STAKES;
    stakes[4].1 = 350;
    let (mut pool, _) = opened(quick(), &stakes);
    let leaves = places(&pool);
    assert_eq!(leaves.len(), usize::from(DISPUTES));
    pool.do_all(leaves.iter().map(|leaf| (2, open(&disputed(6, 1, *leaf)))));
    let state = pool.ledger.round(&name(MODEL), 1, 1).unwrap();
    let other = asked(&state, &round_job(&name(MODEL), 1, 1), &id(3), 100).unwrap()[0];
    let more = || dispute(3, 1, Run::honest(3, 4).leaf(other));
    refused(pool.refusal(2, more()), "disputes that this member opened are not settled");
    let height = pool.ledger.height() + 1;
    pool.until(height);
    for leaf in &leaves {
        let jury = pool.ledger.ballots(&disputed(6, 1, *leaf), 1);
        assert_eq!((jury.len(), jury.iter().map(|(_, b)| b.bond).sum::<u64>()), (4, 4), "of 10 each, 4 were laid down");
    }
    let end = height + 7;
    pool.until(end);
    assert_eq!(pool.ledger.stake(&id(2)).disputes, 0);
}

/// Who takes its stake back before anybody disputes its leaves is reached all the same.
#[test]
fn stake_that_is_leaving_answers_for_its_leaves() {
    let (mut pool, which) = opened(quick(), &STAKES);
    pool.do_all([(6, TxBody::Unstake(Unstake { amount: 990 }))]);
    pool.do_all([(2, open(&which))]);
    assert_eq!((has(&pool, 6), state(&pool, &which).laid(false)), ((10, 20, 0), 10), "bound of what is leaving");
    refused(pool.refusal(6, TxBody::Unstake(Unstake { amount: 1 })), "1 of 0");
    voted(&mut pool, &which, &[(3, true), (4, true), (5, true), (7, true)]);
    over(&mut pool, &which);
    settled(&mut pool);
    let held = pool.ledger.stake(&id(6));
    assert_eq!((held.staked, held.bonds, held.leaving[0].0), (0, 0, 980));
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
        assert!(!pool.ledger.may_vote(&which, &id(party)));
    }
    assert!(pool.ledger.may_vote(&which, &id(3)));
    assert_eq!(pool.ledger.voted_on(), std::slice::from_ref(&which));
    pool.do_all([(3, ballot(&which, true))]);
    assert!(!pool.ledger.may_vote(&which, &id(3)) && pool.ledger.may_vote(&which, &id(4)));
    refused(pool.refusal(3, ballot(&which, false)), "exists already");
    pool.until(vote_end);
    refused(pool.refusal(4, ballot(&which, true)), "are taken from height");
    assert!(!pool.ledger.may_vote(&which, &id(4)));
    assert_eq!(pool.ledger.voted_on(), []);
    over(&mut pool, &which);
    refused(pool.refusal(6, TxBody::Appeal(which.clone())), "no verdict");
    assert_eq!(pool.ledger.ballots(&which, 1).len(), 4);
    pool.commit(&[]);
    assert!(pool.ledger.scan(b"ballot/").next().is_none(), "ballots of a dispute that is over leave the state");
    let (mut pool, which) = opened(Grading { dispute: 20, ..quick() }, &STAKES);
    pool.do_all([(2, open(&which))]);
    voted(&mut pool, &which, &[(3, true), (4, true)]);
    over(&mut pool, &which);
    refused(pool.refusal(3, open(&disputed(6, 1, places(&pool)[1]))), "known to be wrong already");
    let (mut pool, which) = opened(quick(), &STAKES);
    let round = pool.ledger.round(&name(MODEL), 1, 1).unwrap();
    pool.until(round.end());
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
        settled(&mut pool);
        assert_eq!((has(&pool, 2), has(&pool, 6)), ((1_000, 0, 0), (1_000, 0, 0)));
        assert_eq!(has(&pool, 3), (1_000, 0, 0), "who knows whether the model could be run");
        assert_eq!(pool.entry(1, 6).refuted, None);
    }
}

/// Else an owner who withdraws what he disputes would have the jury pay for what it cannot run.
#[test]
fn who_cannot_run_a_withdrawn_model_pays_nothing() {
    for withdrawn in [false, true] {
        let (mut pool, which) = opened(quick(), &STAKES);
        pool.do_all([(2, open(&which))]);
        if withdrawn {
            pool.do_all([(1, TxBody::Withdraw(Withdraw { name: name(MODEL), version: 1 }))]);
        }
        voted(&mut pool, &which, &[(3, true), (4, true)]);
        assert_eq!(has(&pool, 5).0, if withdrawn { 1_000 } else { 998 });
    }
}

#[test]
fn leaves_of_embedders_are_not_disputed() {
    let (mut pool, which) = opened(quick(), &STAKES);
    let TxBody::Publish(body) = publish(MODEL, 2) else { unreachable!() };
    pool.do_all([(1, TxBody::Publish(Publish { task: Task::Embed { width: 8, context: 8 }, ..body }))]);
    let TxBody::Dispute(body) = open(&which) else { unreachable!() };
    refused(pool.refusal(2, TxBody::Dispute(Dispute { version: 2, ..body })), "depends on all");
}

/// A pause that comes once a round should long be settled forgives nobody's silence in it.
#[test]
fn a_pause_behind_a_rounds_end_forgives_no_silence() {
    let mut pool = Pool::staked(8, quick(), &STAKES);
    pool.published();
    pool.committed_and_revealed(1, &runs());
    pool.opened(1, &runs(), &[2, 3, 6]);
    let which = disputed(6, 1, places(&pool)[0]);
    pool.do_all([(2, open(&which))]);
    let round = pool.ledger.round(&name(MODEL), 1, 1).unwrap();
    pool.until(round.end());
    let (block, _) = pool.build_at(pool.ledger.head_time_ms() + 600_000, &[]);
    pool.apply(&block).unwrap();
    assert_eq!(pool.ledger.round(&name(MODEL), 1, 1).unwrap().outcome, None, "it waits for the dispute");
    settled(&mut pool);
    assert_eq!(has(&pool, 4).0, 990, "who opened nothing loses its bond");
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
    assert_eq!((tally.refuted(), tally.cast), (true, 4), "of the first jury");
    over(&mut pool, &which);
    settled(&mut pool);
    assert!(pool.entry(1, 6).refuted.is_some());
    assert_eq!((has(&pool, 2).2, has(&pool, 6).0), (15, 960), "half of both deposits; and the round's bond");
}

/// Where nothing was allotted there is nothing to lay down, and standing alone is at stake.
#[test]
fn without_stake_a_dispute_costs_standing_alone() {
    let (mut pool, which) = opened(quick(), &[]);
    pool.do_all([(2, open(&which))]);
    voted(&mut pool, &which, &[(3, true), (4, true)]);
    over(&mut pool, &which);
    settled(&mut pool);
    assert_eq!(record(&pool, 6), Reputation::default().after(0, 1));
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
        settled(&mut pool);
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

/// What each seat bound of whom at the most: once its vote is taken nothing, and it leaves the state with its dispute.
type Seats = BTreeMap<(String, u8, NodeId), u64>;

/// Takes the seats as they are, and checks that no more is bound by those of an instance than was laid down for it, and that its votes were
/// added up rightly.
fn check_seats(pool: &Pool, seats: &mut Seats) -> Result<(), TestCaseError> {
    for (which, told) in pool.ledger.disputes() {
        for instance in 1..=3 {
            let ballots = pool.ledger.ballots(&which, instance);
            let bound: u64 = ballots.iter().map(|(_, ballot)| ballot.bond).sum();
            prop_assert!(bound <= told.first << (instance - 1), "{} seats bind {}", ballots.len(), bound);
            if instance == told.instance && told.settled.is_none() {
                let cast =
                    |(_, b): &(NodeId, BallotState)| Some(Ballot { weight: b.weight.into(), refuted: b.refuted? });
                let cast: Vec<Ballot> = ballots.iter().filter_map(cast).collect();
                prop_assert_eq!((told.votes.cast as usize, told.votes.refuted()), (cast.len(), refuted(&cast)));
            }
            for (juror, ballot) in ballots {
                let seat = seats.entry((which.to_string(), instance, juror)).or_default();
                *seat = ballot.bond.max(*seat);
            }
        }
    }
    Ok(())
}

/// All that `who` laid down, or that its seats bound, and its bond of the round.
fn laid(pool: &Pool, seats: &Seats, who: u8) -> u64 {
    let round = if [2, 3, 4, 6].contains(&who) { 10 } else { 0 };
    let backers = pool.ledger.disputes().into_iter().flat_map(|(_, told)| told.backers);
    let deposits: u64 = backers.filter(|backer| backer.who == id(who)).map(|backer| backer.amount).sum();
    let seats: u64 = seats.iter().filter(|((_, _, juror), _)| *juror == id(who)).map(|(_, bond)| bond).sum();
    round + deposits + seats
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 4 } else { 32 }))]

    /// Whatever is disputed, voted and appealed, in whichever order.
    #[test]
    fn no_dispute_takes_more_of_a_stake_than_was_laid_down_for_it(
        tries in proptest::collection::vec((2u8..9, 0u8..3, 0usize..3, any::<bool>()), 1..60),
    ) {
        let (mut pool, which) = opened(quick(), &STAKES);
        let (places, mut seats) = (places(&pool), Seats::new());
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
            check_seats(&pool, &mut seats)?;
        }
        // To the end of whatever is open, and of the round: nobody appeals from here on.
        for _ in 0..14 {
            pool.commit(&[]);
            check_seats(&pool, &mut seats)?;
        }
        prop_assert!(pool.ledger.disputes().iter().all(|(_, told)| told.settled.is_some()));
        prop_assert!(pool.ledger.round(&name(MODEL), 1, 1).unwrap().outcome.is_some());
        prop_assert!(pool.ledger.convictions().is_empty() && pool.ledger.scan(b"ballot/").next().is_none());
        let mut held = 0;
        for who in 2..=8 {
            let stake = pool.ledger.stake(&id(who));
            held += stake.staked + stake.free + stake.own;
            prop_assert_eq!((stake.bonds, stake.leaving.len()), (0, 0), "everything laid down came back or was lost");
            prop_assert!(who == 8 || stake.staked + laid(&pool, &seats, who) >= 1_000, "{} lost more than it laid down", who);
        }
        let total = pool.ledger.stake_total().unwrap();
        prop_assert_eq!((total.held, total.held + total.burned), (held, 6_000));
    }
}
