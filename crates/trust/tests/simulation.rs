//! The short form of the simulation in `examples/incentives`: the goals of the rules, on one seed each.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, dead_code)]

#[path = "../examples/incentives/simulation/mod.rs"]
mod simulation;

use simulation::{Outcome, run, scenario};

fn row(name: &str) -> Outcome {
    let rows = scenario::all();
    let row = rows.iter().find(|row| row.name == name);
    row.map(|row| run(row, 1, 1)).unwrap_or_default()
}

/// The crate's estimator is the last.
fn meets_the_goal(outcome: &Outcome) {
    let ours = outcome.scores[4];
    assert!(ours.cabal_error <= 0.005 && ours.error <= 0.005 && ours.right >= 0.98, "{outcome:?}");
    assert_eq!((outcome.slashed.0, outcome.wronged.0), (0.0, 0.0), "an honest validator was punished: {outcome:?}");
}

#[test]
fn forty_percent_who_lie_do_not_move_the_scores() {
    for name in ["forged-40", "rigged-40"] {
        let outcome = row(name);
        meets_the_goal(&outcome);
        assert!(outcome.scores[0].error > 0.03, "the stake mean must suffer, or there was no attack: {outcome:?}");
        assert!(outcome.halved <= 2.0 && outcome.halvings == 1.0 && outcome.rewards.0 < 0.02, "{outcome:?}");
    }
}

#[test]
fn whose_own_leaves_contradict_him_loses_his_stake() {
    let outcome = row("contradicted-40");
    meets_the_goal(&outcome);
    assert!(outcome.slashed.1 >= 23.0 && outcome.lost > 0.9, "{outcome:?}");
}

#[test]
fn copycats_earn_next_to_nothing() {
    let outcome = row("copycats-30");
    meets_the_goal(&outcome);
    assert!(outcome.rewards.0 <= 0.05, "{outcome:?}");
    assert!(row("copycats-30-ca-alone").rewards.0 > 0.2, "agreement alone pays them: if not, this test shows nothing");
}

#[test]
fn a_stake_in_parts_gains_nothing() {
    let (whole, parts) = (row("split-20-in-1"), row("split-20-in-12"));
    assert!((parts.rewards.0 - whole.rewards.0).abs() < 1e-6, "{} and {}", whole.rewards.0, parts.rewards.0);
    assert!(parts.rewards.1 > whole.rewards.1 + 0.005, "against random peers it gains: {parts:?}");
}
