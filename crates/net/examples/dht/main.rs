//! A pool of a thousand nodes in one process: real swarms of this crate over a network in memory, with churn, liars, silent
//! members and sybils. Prints what it measured; the figures kept are in `testnet/RESULTS.md`.
//!
//! The network has a fixed delay and no loss, and each connection costs the round trips of QUIC and the pool proof. Time is
//! real (the networking library reads the system's clock): a seed fixes who joins, asks, lies and leaves, and in which
//! order, but not the order in which messages cross. `timer_lag_p99_ms` says whether the machine kept up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod hostile;
mod report;
mod truth;
mod wire;
mod world;

use std::{process::ExitCode, time::Duration};

use world::Plan;

const HELP: &str = "\
A simulated pool's DHT, measured.

usage: dht [OPTIONS]
  --nodes N       nodes of the pool, hostile ones included (default 1000)
  --churn P       per cent of the nodes replaced within an hour (default 50)
  --minutes M     minutes measured, after everybody has joined (default 10)
  --hostile P     per cent of the nodes that lie or are silent (default 0)
  --sybils N      more hostile identities, next to one key (default 0)
  --seed S        which run (default 1)
  --rtt MS        round-trip time between any two nodes, milliseconds (default 50)
  --records N     records published (default 200)
  --lookups N     lookups begun in a second (default 20)
  --joins N       nodes that join in a second (default 10)
  --json          the report alone, on standard output; without it progress is told on standard error as well";

fn plan() -> Result<Option<Plan>, String> {
    let seconds = Duration::from_secs;
    let mut plan = Plan {
        nodes: 1000,
        churn: 50,
        window: seconds(600),
        hostile: 0,
        sybils: 0,
        seed: 1,
        rtt: Duration::from_millis(50),
        joins_per_second: 10,
        records: 200,
        lookups_per_second: 20,
        calm: seconds(30),
        progress: true,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => return Ok(None),
            "--json" => {
                plan.progress = false;
                continue;
            }
            _ => {}
        }
        let number = words.next().and_then(|text| text.parse::<u64>().ok()).filter(|n| *n <= 1_000_000);
        let number = number.ok_or_else(|| format!("{word} wants a number"))?;
        let (count, small) = (usize::try_from(number).unwrap(), u32::try_from(number).unwrap());
        match word.as_str() {
            "--nodes" => plan.nodes = count.max(8),
            "--churn" => plan.churn = small,
            "--minutes" => plan.window = seconds(60 * number),
            "--hostile" => plan.hostile = count.min(90),
            "--sybils" => plan.sybils = count,
            "--seed" => plan.seed = number,
            "--rtt" => plan.rtt = Duration::from_millis(number.max(1)),
            "--records" => plan.records = count.max(2),
            "--lookups" => plan.lookups_per_second = small.max(1),
            "--joins" => plan.joins_per_second = small.max(1),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(Some(plan))
}

#[tokio::main]
async fn main() -> ExitCode {
    match plan() {
        Ok(Some(plan)) => {
            println!("{}", world::run(plan).await.json());
            ExitCode::SUCCESS
        }
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}
