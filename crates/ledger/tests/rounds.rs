//! Grading in rounds: who may say what when, what a lie costs and an opinion does not, and what an auditor makes of it.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::PathBuf;

use common::{
    Pool, START_MS, endorse, id, name,
    rounds::{MODEL, Run, allot, commit, contradict, open, quick, reveal},
};
use zero2ai_ledger::{AuditError, Ledger, TxError, audit::RoundRow, verify_audit};
use zero2ai_proto::{
    ByteBuf, Digest, decode, encode,
    receipt::AuditExport,
    state::{EventKind, Offence, Outcome, Selection},
    tx::{Authorise, Elect, Graders, Grading, OpenRound, TxBody},
};
use zero2ai_trust::Reputation;

const STAKES: [(u8, u64); 5] = [(2, 1_000), (3, 1_000), (4, 1_000), (5, 1_000), (6, 1_000)];

fn refused(error: TxError, word: &str) {
    assert!(error.to_string().contains(word), "{error}");
}

fn staked(pool: &Pool, who: u8) -> u64 {
    pool.ledger.stake(&id(who)).staked
}

fn weight(pool: &Pool, who: u8) -> u32 {
    let stake = pool.ledger.stake(&id(who));
    Reputation { good: stake.good, bad: stake.bad }.weight_ppm()
}

fn outcome(pool: &Pool, round: u64) -> Outcome {
    pool.ledger.round(&name(MODEL), 1, round).unwrap().outcome.unwrap()
}

/// Three agree, 5 tells counts that are not those of its leaves, 6 found the model to be far worse.
fn runs() -> Vec<(u8, Run)> {
    vec![
        (2, Run::honest(2, 2)),
        (3, Run::honest(3, 4)),
        (4, Run::honest(4, 3)),
        (5, Run::lying(5, 50)),
        (6, Run::honest(6, 60)),
    ]
}

/// After a round in which everybody opened what it was asked for.
fn settled() -> Pool {
    let mut pool = Pool::staked(7, quick(), &STAKES);
    pool.published();
    pool.round(1, &runs(), &[2, 3, 4, 5, 6]);
    pool
}

#[test]
fn a_lie_costs_stake_by_the_liars_own_leaves_and_an_opinion_that_nobody_shares_costs_none() {
    let mut pool = settled();
    assert_eq!(pool.entry(1, 5).contradicted, pool.ledger.convictions().first().map(|(_, _, c)| c.height));
    let found: Vec<u32> = [2, 4, 3, 6].map(|who| pool.found(1, who).quality_ppm).to_vec();
    let told = outcome(&pool, 1);
    assert!(found.is_sorted_by(|a, b| a > b));
    assert_eq!(told.score_ppm, Some(found[1]), "of four equal weights the second reaches half");
    assert_eq!((told.datasets, told.verdicts), (4, [3, 1, 0]), "the liar does not count");
    assert_eq!(pool.ledger.score(&name(MODEL), 1).unwrap().score_ppm, told.score_ppm);
    // The bond goes at the settlement, the rest at the end of the window.
    assert_eq!((staked(&pool, 5), staked(&pool, 6)), (990, 1_000));
    let [(end, who, conviction)] = pool.ledger.convictions()[..] else { panic!("one conviction") };
    assert_eq!((who, conviction.offence, conviction.liable), (id(5), Offence::Contradiction, 1_000));
    pool.until(end);
    let charged = pool.ledger.convictions()[0].2.charged.unwrap();
    // A fifth of all that is at stake: 9 × (1000 / 4990)².
    assert_eq!(charged, 362);
    assert_eq!((staked(&pool, 5), staked(&pool, 6)), (990 - charged, 1_000));
    let total = pool.ledger.stake_total().unwrap();
    assert_eq!((total.held, total.burned), (5_000 - 10 - charged, 10 + charged));
    assert!(weight(&pool, 6) <= weight(&pool, 2), "an opinion may cost standing");
    assert!((2..=6).all(|who| pool.ledger.stake(&id(who)).bonds == 0));
    let kinds: Vec<_> = pool.ledger.events(&name(MODEL)).iter().map(|e| e.kind).collect();
    assert_eq!(kinds.iter().filter(|k| **k == EventKind::Revealed).count(), 5);
    assert_eq!(kinds.iter().filter(|k| **k == EventKind::Contradicted).count(), 1);
}

#[test]
fn anyone_can_prove_a_lie_that_is_not_opened_and_nobody_an_honest_finding() {
    let mut pool = Pool::staked(7, quick(), &STAKES);
    pool.published();
    let runs = runs();
    pool.committed_and_revealed(1, &runs);
    let (liar, minority) = (&runs[3].1, &runs[4].1);
    let leaf = |run: &Run, place: usize| run.leaf(run.wrong()[place]);
    // Neither an honest finding, however far from the others', nor made-up leaves, nor too many, nor none.
    refused(pool.refusal(7, contradict(6, 1, vec![leaf(minority, 0)])), "they agree with the counts");
    let mut altered = leaf(minority, 0);
    altered.answer = altered.label;
    refused(pool.refusal(7, contradict(6, 1, vec![altered])), "does not stand under");
    refused(pool.refusal(7, contradict(5, 1, vec![leaf(minority, 0)])), "does not stand under");
    refused(pool.refusal(7, contradict(5, 1, Vec::new())), "0 leaves");
    refused(pool.refusal(7, contradict(5, 1, vec![leaf(liar, 0); 25])), "25 leaves");
    refused(pool.refusal(7, contradict(7, 1, vec![leaf(liar, 0)])), "does not exist");
    // One leaf is enough, from whoever has it; here from somebody without any stake.
    pool.do_all([(7, contradict(5, 1, vec![leaf(liar, 0)]))]);
    assert_eq!(pool.ledger.contradiction(&name(MODEL), 1, 1, &id(5)).unwrap().reporter, id(7));
    refused(pool.refusal(2, contradict(5, 1, vec![leaf(liar, 1)])), "exists already");
    pool.opened(1, &runs, &[2, 3, 4, 6]);
    let end = pool.ledger.convictions()[0].0;
    pool.until(end);
    assert!(staked(&pool, 5) < 700 && [2, 3, 4, 6].iter().all(|who| staked(&pool, *who) == 1_000));
}

/// After the settlement the proof still convicts, and what the liar found counts no more from the next round on.
#[test]
fn a_lie_that_comes_out_late_is_convicted_all_the_same() {
    let mut pool = Pool::staked(7, Grading { open_ppm: 0, ..quick() }, &STAKES);
    pool.published();
    let runs = runs();
    pool.round(1, &runs, &[]);
    assert_eq!(outcome(&pool, 1).datasets, 5, "nobody was asked, so the lie counted");
    let before = (weight(&pool, 5), pool.ledger.finding(&name(MODEL), 1, &id(5)));
    assert!(before.1.samples > 0);
    let liar = &runs[3].1;
    pool.do_all([(7, contradict(5, 1, vec![liar.leaf(liar.wrong()[0])]))]);
    assert_eq!(pool.ledger.convictions().len(), 1);
    assert_eq!(pool.ledger.finding(&name(MODEL), 1, &id(5)).samples, 0);
    let stake = pool.ledger.stake(&id(5));
    assert!(stake.bad > Reputation::default().bad);
    verify_audit(&pool.ledger.pool(), &export(&mut pool)).unwrap();
}

#[test]
fn silence_costs_a_bond_unless_the_chain_stood_still() {
    for halted in [false, true] {
        let mut pool = Pool::staked(7, quick(), &STAKES);
        pool.published();
        let runs = runs();
        let state = pool.ledger.round(&name(MODEL), 1, 1).unwrap();
        let bodies: Vec<_> = runs.iter().map(|(who, run)| (*who, commit(&pool, *who, 1, run))).collect();
        pool.do_all(bodies);
        assert_eq!(pool.ledger.stake(&id(2)).bonds, 10);
        pool.until(state.commit_end());
        // 2 says nothing; 3 does not open.
        pool.do_all(runs.iter().skip(1).map(|(who, run)| (*who, reveal(*who, 1, run))));
        if halted {
            let (block, _) = pool.build_at(pool.ledger.head_time_ms() + 600_000, &[]);
            pool.apply(&block).unwrap();
        }
        pool.until(state.reveal_end() + 1);
        pool.opened(1, &runs, &[4, 6]);
        pool.until(state.end());
        let lost = if halted { 0 } else { 10 };
        for (who, lost) in [(2, lost), (3, lost), (4, 0), (6, 0)] {
            assert_eq!((staked(&pool, who), pool.ledger.stake(&id(who)).bonds), (1_000 - lost, 0), "{who}, {halted}");
        }
        assert_eq!(outcome(&pool, 1).datasets, 2, "neither counts");
        assert_eq!(pool.ledger.convictions(), [], "and neither is an offence");
    }
}

#[test]
fn each_step_has_its_window() {
    let mut pool = Pool::staked(7, quick(), &STAKES);
    let run = Run::honest(2, 2);
    refused(pool.refusal(2, commit(&pool, 2, 1, &run)), "does not exist");
    let txs = [pool.tx(1, common::claim("lab")), pool.tx(1, common::publish(MODEL, 1))];
    pool.commit(&txs);
    refused(pool.refusal(2, commit(&pool, 2, 1, &run)), "Before");
    let state = pool.ledger.round(&name(MODEL), 1, 1).unwrap();
    pool.until(state.draws);
    refused(pool.refusal(1, commit(&pool, 1, 1, &run)), "publisher");
    refused(pool.refusal(7, commit(&pool, 7, 1, &run)), "has no seat");
    pool.do_all([(2, commit(&pool, 2, 1, &run))]);
    refused(pool.refusal(2, commit(&pool, 2, 1, &run)), "already");
    refused(pool.refusal(2, reveal(2, 1, &run)), "takes this in its phase Reveal");
    pool.until(state.commit_end());
    refused(pool.refusal(3, commit(&pool, 3, 1, &run)), "takes this in its phase Commit");
    refused(pool.refusal(3, reveal(3, 1, &run)), "does not exist");
    refused(pool.refusal(2, reveal(2, 1, &Run::honest(2, 3))), "not what was committed to");
    pool.do_all([(2, reveal(2, 1, &run))]);
    refused(pool.refusal(2, reveal(2, 1, &run)), "already");
    assert!(open(&pool, 2, 1, &run).is_none(), "no seed yet");
    pool.until(state.reveal_end() + 1);
    let right = open(&pool, 2, 1, &run).unwrap();
    assert_eq!((state.open_end(), state.end()), (state.reveal_end() + 4, state.reveal_end() + 6));
    let TxBody::OpenLeaves(mut wrong) = right.clone() else { panic!() };
    wrong.leaves.pop();
    refused(pool.refusal(2, TxBody::OpenLeaves(wrong.clone())), "the leaves to open are");
    refused(pool.refusal(3, right.clone()), "does not exist");
    pool.do_all([(2, right.clone())]);
    refused(pool.refusal(2, right), "opened already");
    let next = || TxBody::OpenRound(OpenRound { name: name(MODEL), version: 1 });
    refused(pool.refusal(1, next()), "is open until");
    pool.until(state.end());
    // One dataset gives no score, so anyone who grades may open the next round.
    pool.do_all([(3, next())]);
    assert_eq!(pool.ledger.rounds(&name(MODEL), 1), 2);
}

#[test]
fn rounds_add_up_and_a_fresh_score_is_the_owners_to_renew() {
    let mut pool = settled();
    let next = || TxBody::OpenRound(OpenRound { name: name(MODEL), version: 1 });
    refused(pool.refusal(3, next()), "fresh enough");
    pool.do_all([(1, next())]);
    let state = pool.ledger.round(&name(MODEL), 1, 2).unwrap();
    pool.until(state.draws);
    let first = outcome(&pool, 1);
    pool.round(2, &runs()[..3], &[2, 3, 4]);
    let second = outcome(&pool, 2);
    assert_eq!((second.datasets, second.samples), (3, 600), "what each found in both rounds");
    assert!(second.confidence_ppm > first.confidence_ppm);
    assert_eq!(pool.ledger.endorsements(&name(MODEL), 1).len(), 3, "of the newest round");
}

#[test]
fn a_committee_is_drawn_where_there_are_more_validators_than_seats_and_named_by_who_adds_to_the_seed() {
    for (signers, selection) in [(1u8, Selection::Appointed), (4, Selection::Random)] {
        let mut pool = Pool::staked(7, Grading { seats: 3, ..quick() }, &STAKES);
        if signers > 1 {
            pool.set_signers(&[0, 1, 2, 3]);
        }
        pool.published();
        let state = pool.ledger.round(&name(MODEL), 1, 1).unwrap();
        assert_eq!((state.selection, state.committee.len()), (Some(selection), 3));
        let (sits, stands): (Vec<u8>, Vec<u8>) = (2..=6).partition(|who| state.seats(&id(*who)));
        pool.do_all([(sits[0], commit(&pool, sits[0], 1, &Run::honest(2, 2)))]);
        refused(pool.refusal(stands[0], commit(&pool, stands[0], 1, &Run::honest(2, 2))), "has no seat");
    }
}

/// Who names the graders of his model gets rounds that say so; who asks for elected ones gets those with the most stake behind them.
#[test]
fn an_owner_names_graders_or_takes_those_that_are_elected() {
    let graders = |graders| TxBody::Authorise(Authorise { name: name(MODEL), graders });
    let vote = |who: u8| TxBody::Elect(Elect { candidate: Some(id(who)) });
    let mut named = vec![id(2), id(4), id(1)];
    named.sort();
    let (mut elected, mut two) = (vec![id(5), id(3)], vec![id(2), id(4)]);
    elected.sort();
    two.sort();
    // 1 owns the model, and cannot name itself; 6 has less behind it than 3 and 5, and 2's vote is for the owner.
    for (wish, selection, committee) in
        [(Graders::Named(named.clone()), Selection::Named, two), (Graders::Elected, Selection::Elected, elected)]
    {
        let mut pool =
            Pool::staked(7, Grading { seats: 3, ..quick() }, &[(2, 1_000), (3, 900), (4, 800), (5, 100), (6, 50)]);
        let bodies = [(2, vote(1)), (3, vote(5)), (4, vote(3)), (5, vote(6)), (6, vote(6))];
        pool.do_all(bodies);
        pool.do_all([(5, TxBody::Elect(Elect { candidate: None })), (6, TxBody::Elect(Elect { candidate: None }))]);
        refused(pool.refusal(2, vote(9)), "is not a member");
        let txs = [pool.tx(1, common::claim("lab")), pool.tx(1, common::publish(MODEL, 1)), pool.tx(1, graders(wish))];
        pool.commit(&txs);
        refused(pool.refusal(2, graders(Graders::Elected)), "belongs to");
        refused(pool.refusal(1, graders(Graders::Named(vec![id(2), id(2)]))), "2 are named");
        refused(pool.refusal(1, graders(Graders::Named(Vec::new()))), "0 are named");
        let draws = pool.ledger.round(&name(MODEL), 1, 1).unwrap().draws;
        pool.until(draws);
        let state = pool.ledger.round(&name(MODEL), 1, 1).unwrap();
        assert_eq!((state.selection, state.committee), (Some(selection), committee));
        refused(pool.refusal(6, commit(&pool, 6, 1, &Run::honest(2, 2))), "has no seat");
    }
}

#[test]
fn where_nothing_was_allotted_everyone_weighs_one_and_nothing_can_be_taken() {
    let mut pool = Pool::staked(7, quick(), &[]);
    pool.published();
    pool.round(1, &runs(), &[2, 3, 4, 5, 6]);
    assert_eq!(outcome(&pool, 1).datasets, 4);
    assert!(pool.entry(1, 5).contradicted.is_some() && pool.ledger.convictions().is_empty());
    assert!(weight(&pool, 5) <= weight(&pool, 2));
    assert_eq!(pool.ledger.stake_total(), None);
}

#[test]
fn each_way_of_grading_has_its_rules() {
    let mut pool = Pool::with_members(3);
    refused(pool.refusal(0, allot(1, 5)), "rules 1 know no stake");
    let txs = [pool.tx(1, common::claim("lab")), pool.tx(1, common::publish(MODEL, 1))];
    pool.commit(&txs);
    assert_eq!(pool.ledger.rounds(&name(MODEL), 1), 0);
    let mut pool = Pool::staked(3, quick(), &[]);
    pool.published();
    refused(pool.refusal(2, TxBody::Endorse(endorse(MODEL, 1, 1, 0))), "in rounds");
    refused(pool.refusal(2, TxBody::SetGrading(quick())), "lacks the right");
    for (what, grading) in [
        ("too short", Grading { reveal: 1, ..quick() }),
        ("commit is 0", Grading { commit: 0, ..quick() }),
        ("dispute is 4 heights; 1 draws leaves, 3 open them", Grading { dispute: 4, ..quick() }),
        ("too short", Grading { dispute: 5, ..quick() }),
        ("are 100001 heights", Grading { commit: 40_000, reveal: 20_000, dispute: 40_001, ..quick() }),
        ("window is 100001", Grading { window: 100_001, ..quick() }),
        ("65 seats", Grading { seats: 65, ..quick() }),
        ("2 seats", Grading { seats: 2, ..quick() }),
        ("25 leaves", Grading { leaves: 25, ..quick() }),
        ("1000001 millionths", Grading { open_ppm: 1_000_001, ..quick() }),
    ] {
        refused(pool.refusal(0, TxBody::SetGrading(grading)), what);
    }
}

/// The audit of the model, under the newest header.
fn export(pool: &mut Pool) -> AuditExport {
    pool.commit(&[]);
    let at = pool.ledger.height() - 1;
    AuditExport {
        version: 1,
        genesis: ByteBuf::from(pool.ledger.genesis_bytes()),
        name: name(MODEL),
        steps: pool.steps.clone(),
        header: pool.head(),
        entries: pool.ledger.audit_entries(&name(MODEL), at).unwrap(),
        providers: Vec::new(),
    }
}

#[test]
fn an_audit_proves_the_lie_offline_and_computes_the_outcome_again() {
    let mut pool = settled();
    let audit = export(&mut pool);
    let report = verify_audit(&pool.ledger.pool(), &audit).unwrap();
    let [RoundRow { entries, state, .. }] = &report.rounds[..] else { panic!("one round") };
    assert_eq!(state.outcome.unwrap().score_ppm, report.scores[0].1.score_ppm);
    let wrong: Vec<_> = entries.iter().filter(|e| e.contradiction.is_some()).map(|e| e.validator).collect();
    assert_eq!((entries.len(), wrong), (5, vec![id(5)]));
    // Without the proof, or with an entry left out, it does not hold.
    for (i, proof) in audit.entries.iter().enumerate() {
        let key = String::from_utf8_lossy(&proof.key).into_owned();
        if ["round/", "entry/", "contradiction/"].iter().any(|start| key.starts_with(start)) {
            let mut less = audit.clone();
            less.entries.remove(i);
            assert!(verify_audit(&pool.ledger.pool(), &less).is_err(), "{key} left out");
        }
    }
}

/// The same audit, for the verifier that shares no code with this one. `UPDATE_AUDIT=1` writes it.
#[test]
fn the_independent_verifier_is_tested_with_this_audit() {
    let mut pool = settled();
    let audit = export(&mut pool);
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testnet/verify/rounds");
    let files = [("genesis.cbor", pool.ledger.genesis_bytes().to_vec()), ("audit.cbor", encode(&audit).unwrap())];
    for (file, bytes) in files {
        let path = folder.join(file);
        if std::env::var_os("UPDATE_AUDIT").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        assert!(std::fs::read(&path).is_ok_and(|held| held == bytes), "{file} is another: run with UPDATE_AUDIT=1");
    }
}

/// A signer set that lets a wrong outcome in is found out: here by a ledger whose entries say so under a root of their own.
#[test]
fn an_outcome_that_the_entries_do_not_give_is_found() {
    let mut pool = settled();
    let audit = export(&mut pool);
    let mut seen = 0;
    for (i, proof) in audit.entries.iter().enumerate() {
        if !proof.key.starts_with(b"round/") {
            continue;
        }
        let mut forged = audit.clone();
        let mut value = proof.value.clone().unwrap();
        let last = value.len() - 1;
        value[last] ^= 1;
        forged.entries[i].value = Some(value);
        let refused = verify_audit(&pool.ledger.pool(), &forged).unwrap_err();
        assert!(matches!(refused, AuditError::Entry(_)), "{refused}");
        seen += 1;
    }
    assert_eq!(seen, 1);
}

#[test]
fn every_node_comes_to_the_same_state_from_blocks_or_a_snapshot() {
    let mut pool = settled();
    let end = pool.ledger.convictions()[0].0;
    pool.until(end);
    let mut again = Ledger::genesis(pool.ledger.genesis_bytes()).unwrap();
    for (block, _) in &pool.blocks {
        // Carried over a wire.
        again.apply(&decode(&encode(block).unwrap(), 1 << 20).unwrap()).unwrap();
    }
    assert_eq!(again.root(), pool.ledger.root());
    let [.., (_, header), (_, next)] = &pool.blocks[..] else { panic!("blocks") };
    let snapshot = pool.ledger.snapshot(header.clone(), next.clone(), pool.steps.clone()).unwrap();
    let mut restored = Ledger::restore(pool.ledger.genesis_bytes(), &snapshot).unwrap();
    assert!(!restored.head_had_txs(), "a beacon alone is no reason for another block");
    restored.apply(&pool.blocks.last().unwrap().0).unwrap();
    assert_eq!((restored.root(), restored.seed()), (pool.ledger.root(), pool.ledger.seed()));
    assert_eq!(restored.stakes(), pool.ledger.stakes());
    assert_ne!(restored.seed(), Digest(pool.ledger.pool().0));
    assert!(pool.ledger.head_time_ms() > START_MS);
}
