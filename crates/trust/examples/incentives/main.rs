//! What attackers can do to scores, rewards and honest validators under the rules of this crate: one row an attack, beside other ways
//! to make a score of the same findings. Seeded: a row comes out the same on every machine.
//!
//! `cargo run --release -p zero2ai-trust --example incentives -- [--row NAME] [--seeds N] [--seed S] [--json] [--list]`
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod simulation;

use std::process::ExitCode;

use simulation::{ESTIMATORS, Outcome, run, scenario};

const HELP: &str = "Usage: incentives [--row NAME] [--seeds N] [--seed S] [--json] [--list]

  --row NAME  only rows whose name begins so
  --seeds N   seeds a row is the mean of (20)
  --seed S    the first of them (1)
  --json      one JSON object a row, instead of Markdown
  --list      the rows' names";

struct Options {
    row: String,
    seeds: u64,
    seed: u64,
    json: bool,
    list: bool,
}

fn options(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options { row: String::new(), seeds: 20, seed: 1, json: false, list: false };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--row" => options.row = arguments.next()?,
            "--seeds" => options.seeds = arguments.next()?.parse().ok().filter(|n| (1..=10_000).contains(n))?,
            "--seed" => options.seed = arguments.next()?.parse().ok().filter(|n| *n < u64::MAX / 2)?,
            "--json" => options.json = true,
            "--list" => options.list = true,
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("{HELP}");
        return ExitCode::FAILURE;
    };
    let rows: Vec<_> = scenario::all().into_iter().filter(|row| row.name.starts_with(&options.row)).collect();
    if rows.is_empty() {
        eprintln!("No row's name begins with {}; --list names them.", options.row);
        return ExitCode::FAILURE;
    }
    if options.list {
        rows.iter().for_each(|row| println!("{}", row.name));
        return ExitCode::SUCCESS;
    }
    let done: Vec<(String, Outcome)> =
        rows.iter().map(|row| (row.name.clone(), run(row, options.seed, options.seeds))).collect();
    if options.json {
        json(&options, &done)
    } else {
        markdown(&done)
    }
    ExitCode::SUCCESS
}

fn json(options: &Options, rows: &[(String, Outcome)]) {
    for (name, o) in rows {
        let scores: Vec<_> = ESTIMATORS
            .iter()
            .zip(&o.scores)
            .map(|(name, q)| serde_json::json!({ "estimator": name, "error": q.error, "cabal_error": q.cabal_error, "right": q.right }))
            .collect();
        let row = serde_json::json!({
            "row": name, "first_seed": options.seed, "seeds": options.seeds, "scores": scores, "right_in_all_epochs": o.right_always,
            "honest_slashed": o.slashed.0, "attackers_slashed": o.slashed.1, "attackers_stake_lost": o.lost,
            "honest_refuted": o.wronged.0, "honest_refuted_by_first_committees": o.wronged.1,
            "disputes": o.disputes.0, "let_pass_by_first_committees": o.disputes.1,
            "attackers_rewards": o.rewards.0, "attackers_rewards_against_peers": o.rewards.1,
            "epochs_until_weight_halved": o.halved, "seeds_in_which_it_halved": o.halvings, "honest_reputation": o.honest_standing,
        });
        println!("{row}");
    }
}

fn markdown(rows: &[(String, Outcome)]) {
    println!("| row | {} | right in all epochs |", ESTIMATORS.join(" | "));
    println!("|---|{}---|", "---|".repeat(ESTIMATORS.len()));
    for (name, o) in rows {
        let cells: Vec<String> =
            o.scores.iter().map(|q| format!("{:.4} / {:.4} / {:.3}", q.cabal_error, q.error, q.right)).collect();
        println!("| `{name}` | {} | {:.3} |", cells.join(" | "), o.right_always);
    }
    println!();
    println!(
        "| row | honest slashed | attackers slashed (stake lost) | honest refuted at the end (by a first committee) | liars' leaves disputed \
         (let pass by a first committee) | attackers' rewards | weight halved after | honest reputation |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (name, o) in rows {
        let halved = match o.halvings {
            0.0 => "never".to_owned(),
            1.0 => format!("{:.1}", o.halved),
            part => format!("{:.1} in {:.0} %", o.halved, part * 100.0),
        };
        let lost = if o.slashed.1 > 0.0 { format!(" ({:.0} %)", o.lost * 100.0) } else { String::new() };
        let peers = if o.rewards.1 > 0.0 { format!(" ({:.2} %)", o.rewards.1 * 100.0) } else { String::new() };
        println!(
            "| `{name}` | {} | {:.1}{lost} | {} ({:.1}) | {:.0} ({:.1}) | {:.2} %{peers} | {halved} | {:.3} |",
            o.slashed.0,
            o.slashed.1,
            o.wronged.0,
            o.wronged.1,
            o.disputes.0,
            o.disputes.1,
            o.rewards.0 * 100.0,
            o.honest_standing,
        );
    }
}
