//! `lab`: measures what the network costs and how soon it reacts, with real daemons. Progress goes to standard error, the result to
//! standard output. Exit code 1 if something could not be measured, 2 if it cannot
//! be measured here.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use serde_json::Value;
use zero2ai_testnet::lab::{back, caller, lines::Lines, many, nearest};

const EXAMPLES: &str = "Examples:
  lab many --nodes 64 --json > many.json
  sudo lab nearest --runs 10
  sudo lab back --away 60 --runs 3

The wide network of `nearest` and `back` is testnet/delay.py, on TUN devices: it needs root, ip (iproute2) and python3.
What strangers get, and what a flood of them costs, testnet/strangers.py measures.";

#[derive(Parser)]
#[command(about = "Measures what the network costs and how soon it reacts, with real daemons", after_help = EXAMPLES)]
struct Cli {
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Many idle daemons on this machine: joining, memory, processor, bytes, resolving
    Many {
        /// How many
        #[arg(long, default_value_t = 64)]
        nodes: usize,
        /// Seconds of rest before they are measured
        #[arg(long, default_value_t = 60)]
        settle: u64,
        /// Seconds for which they are measured
        #[arg(long, default_value_t = 60)]
        idle: u64,
    },
    /// Callers and providers in three regions: who is asked, and how soon another one is; needs root
    Nearest {
        /// Providers in each region
        #[arg(long, default_value_t = 2)]
        seats: usize,
        /// Calls of each region's caller while nothing happens
        #[arg(long, default_value_t = 1_000)]
        calls: u64,
        /// Callers of each region that know nothing yet
        #[arg(long, default_value_t = 10)]
        fresh: usize,
        /// How often an endpoint slows down, hangs, dies and is cut off
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// Fixes jitter and loss
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// A node that is suspended, and one whose address changes: how soon it is back; needs root
    Back {
        /// How often each
        #[arg(long, default_value_t = 3)]
        runs: u8,
        /// Seconds of the suspension
        #[arg(long, default_value_t = 60)]
        away: u64,
    },
    /// One caller: a line of JSON for each call
    #[command(hide = true)]
    Call {
        #[arg(long)]
        account: PathBuf,
        #[arg(long)]
        invite: PathBuf,
        #[arg(long)]
        name: String,
        /// Milliseconds between two calls
        #[arg(long)]
        every: u64,
        #[arg(long)]
        calls: u64,
    },
}

fn main() -> ExitCode {
    let Cli { json, command } = Cli::parse();
    if matches!(command, Command::Nearest { .. } | Command::Back { .. })
        && let Some(why) = Lines::missing()
    {
        eprintln!("the lab cannot run here: {why}");
        return ExitCode::from(2);
    }
    let (seconds, millis) = (Duration::from_secs, Duration::from_millis);
    let done = match command {
        Command::Many { nodes, settle, idle } => {
            let plan = many::Plan { nodes: nodes.clamp(6, 1_000), settle: seconds(settle), idle: seconds(idle.max(1)) };
            many::measure(plan).map(|report| (many::text(&report), report))
        }
        Command::Nearest { seats, calls, fresh, runs, seed } => {
            let plan = nearest::Plan { seats: seats.clamp(1, 50), calls: calls.max(1), fresh, runs, seed };
            nearest::measure(plan).map(|report| (nearest::text(&report), report))
        }
        Command::Back { runs, away } => {
            let plan = back::Plan { runs: runs.clamp(1, 200), away: seconds(away) };
            back::measure(plan).map(|report| (back::text(&report), report))
        }
        Command::Call { account, invite, name, every, calls } => {
            let plan = caller::Calls { account: &account, invite: &invite, name: &name, every: millis(every), calls };
            caller::call(&plan).map(|()| (String::new(), Value::Null))
        }
    };
    match done {
        Ok((_, Value::Null)) => ExitCode::SUCCESS,
        Ok((text, report)) => {
            println!("{}", if json { report.to_string() } else { text });
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
