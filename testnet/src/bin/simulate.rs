//! `simulate`: whole chain hosts on a simulated clock, network and disk, thousands of seeds at a time. Exit code 1 if
//! something that must hold did not.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use serde_json::json;
use zero2ai_chain::simulation::{Outcome, Plan, run};

#[derive(Parser)]
#[command(
    about = "Runs the chain's host under hostile signers, losses of power and a network that falls apart, seed by seed"
)]
struct Cli {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    runs: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Signers
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    signers: u8,
    /// How many of them are hostile
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=8))]
    hostile: u8,
    /// The control: the network stays split, and each half has a copy of every hostile signer. With a third of the signers
    /// hostile every run must fork
    #[arg(long)]
    collude: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Failed seeds that are kept in the report.
const SHOWN: usize = 20;

/// Sums over the runs.
#[derive(Default)]
struct Sums {
    runs: u64,
    forks: u64,
    heights: u64,
    crashes: (u64, u64),
    acknowledged: u64,
    recorded: u64,
    failed: Vec<(u64, String)>,
    failures: u64,
}

impl Sums {
    fn add(&mut self, seed: u64, outcome: Outcome, may_fork: bool) {
        self.runs += 1;
        self.forks += u64::from(outcome.forked);
        self.heights += outcome.height;
        self.crashes.0 += outcome.crashes.0;
        self.crashes.1 += outcome.crashes.1;
        self.acknowledged += outcome.acknowledged;
        self.recorded += outcome.recorded;
        let mut why = outcome.failures;
        if outcome.forked && !may_fork {
            why.push("two honest nodes hold different blocks of one height".to_owned());
        }
        if !why.is_empty() {
            self.failures += 1;
            eprintln!("seed {seed}: {}", why.join("; "));
            if self.failed.len() < SHOWN {
                self.failed.push((seed, why.join("; ")));
            }
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (start, next, sums) = (Instant::now(), AtomicU64::new(0), Mutex::new(Sums::default()));
    // A third of the power, and the chain is no longer safe: then, and only then, a fork is what must come.
    let may_fork = u32::from(cli.hostile) * 3 >= u32::from(cli.signers);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= cli.runs {
                        return;
                    }
                    let seed = cli.seed.wrapping_add(nth);
                    let (signers, hostile, collude) = (cli.signers, cli.hostile, cli.collude);
                    let outcome = run(Plan { seed, signers, hostile, collude });
                    let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
                    sums.add(seed, outcome, may_fork);
                    if sums.runs.is_multiple_of(500) {
                        eprintln!("{} of {} runs, {} failed", sums.runs, cli.runs, sums.failures);
                    }
                }
            });
        }
    });
    let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    let missed = if cli.collude && may_fork { sums.runs - sums.forks } else { 0 };
    let seconds = start.elapsed().as_secs();
    if cli.json {
        let failed: Vec<_> = sums.failed.iter().map(|(seed, why)| json!({ "seed": seed, "why": why })).collect();
        let report = json!({
            "runs": sums.runs, "first_seed": cli.seed, "signers": cli.signers, "hostile": cli.hostile, "collude": cli.collude,
            "forks": sums.forks, "forks_missed": missed, "blocks": sums.heights, "crashes": sums.crashes.0,
            "power_losses_within_a_step": sums.crashes.1, "acknowledged": sums.acknowledged,
            "contradictions_recorded": sums.recorded, "failures": sums.failures, "failed": failed, "seconds": seconds,
        });
        println!("{report}");
    } else {
        println!(
            "{} runs of {} signers, {} hostile: {} forks, {} failures; {} blocks, {} crashes, {} losses of power within a step, \
             {} transactions acknowledged, {} contradictions recorded; {seconds} s",
            sums.runs,
            cli.signers,
            cli.hostile,
            sums.forks,
            sums.failures,
            sums.heights,
            sums.crashes.0,
            sums.crashes.1,
            sums.acknowledged,
            sums.recorded,
        );
    }
    if sums.failures == 0 && missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
