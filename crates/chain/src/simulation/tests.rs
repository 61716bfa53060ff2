//! Hundreds of seeds; ten thousand are a matter of `cargo run --release -p zero2ai-testnet --bin simulate`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{
    Outcome, Plan, run,
    steady::{Steady, steady},
};

/// Seeds in a test: those of an unoptimised build are some fewer, since signatures take most of the time.
const SEEDS: u64 = if cfg!(debug_assertions) { 6 } else { 140 };

fn plan(seed: u64, signers: u8, hostile: u8) -> Plan {
    Plan { seed, signers, hostile, collude: false }
}

/// Runs seeds on two threads, and fails with the first run that something is wrong with.
fn all_hold(signers: u8, hostile: u8, seeds: u64) -> Vec<Outcome> {
    let half = |odd: u64| {
        move || (0..seeds).filter(|s| s % 2 == odd).map(|s| (s, run(plan(s, signers, hostile)))).collect::<Vec<_>>()
    };
    let (a, b) = (std::thread::spawn(half(0)), std::thread::spawn(half(1)));
    let all: Vec<_> = a.join().unwrap().into_iter().chain(b.join().unwrap()).collect();
    for (seed, outcome) in &all {
        assert!(!outcome.forked && outcome.failures.is_empty(), "seed {seed}: {outcome:?}");
    }
    all.into_iter().map(|(_, outcome)| outcome).collect()
}

#[test]
fn one_hostile_signer_of_four_makes_no_fork_and_healed_nodes_go_on() {
    let all = all_hold(4, 1, SEEDS);
    // The runs must have been hard ones, or they show nothing.
    let sum = |what: fn(&Outcome) -> u64| all.iter().map(what).sum::<u64>();
    let (crashes, power) = (sum(|o| o.crashes.0), sum(|o| o.crashes.1));
    let (acknowledged, recorded) = (sum(|o| o.acknowledged), sum(|o| o.recorded));
    println!(
        "{SEEDS} runs: {crashes} crashes, {power} within a step, {acknowledged} acknowledged, {recorded} recorded"
    );
    assert!(crashes > 0 && power > 0 && acknowledged > 0 && recorded > 0, "the runs were too quiet to show anything");
}

/// Its last transaction is acknowledged above the height at which a run used to end, before every node had that block.
#[test]
fn a_run_ends_when_all_have_what_was_acknowledged() {
    let outcome = run(plan(148, 4, 1));
    assert!(!outcome.forked && outcome.failures.is_empty(), "{outcome:?}");
}

#[test]
fn two_hostile_signers_of_seven_make_no_fork() {
    all_hold(7, 2, SEEDS / 6);
}

#[test]
fn honest_signers_alone_are_never_convicted() {
    let all = all_hold(4, 0, SEEDS / 3);
    assert!(all.iter().all(|o| o.recorded == 0), "evidence against an honest signer");
}

#[test]
fn a_third_of_hostile_signers_forks_the_chain_and_the_checks_see_it() {
    for seed in 0..8 {
        let outcome = run(Plan { seed, signers: 4, hostile: 2, collude: true });
        assert!(outcome.forked, "the control did not fork, so the checks show nothing: {outcome:?}");
        // The same network with one hostile signer fewer.
        let outcome = run(Plan { seed, signers: 4, hostile: 1, collude: true });
        assert!(!outcome.forked && outcome.failures.is_empty(), "seed {seed}: {outcome:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..3 {
        let first = run(plan(seed, 4, 1));
        assert_eq!(first, run(plan(seed, 4, 1)));
        assert_ne!(first.trace, run(plan(seed + 100, 4, 1)).trace);
    }
}

/// A proposal and two votes, one behind the other, are three times the way; what is beyond it is the host's waiting.
#[test]
fn a_block_takes_three_hops_and_a_dead_signer_a_timeout_now_and_then() {
    for signers in [1, 4] {
        let took = steady(Steady { signers, dead: 0, one_way_ms: 50, blocks: 8 }).unwrap();
        let each = took.all_ms / took.blocks;
        let least = if signers == 1 { 0 } else { 100 };
        assert!(took.blocks == 8 && (least..=200).contains(&each), "{signers} signers: {took:?}");
    }
    let took = steady(Steady { signers: 4, dead: 1, one_way_ms: 50, blocks: 8 }).unwrap();
    assert!(took.all_ms / took.blocks <= 1_000 && took.most_ms >= 1_000, "every fourth proposer is dead: {took:?}");
    assert!(steady(Steady { signers: 101, dead: 0, one_way_ms: 50, blocks: 1 }).is_err());
}
