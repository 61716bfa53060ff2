//! `faults`: cuts real processes off at random moments, hundreds of times, and looks at what is left. Exit code 1 if a run
//! failed, 2 if a loop cannot run here.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use zero2ai_testnet::faults::{
    Report, chain::Signers, fetch::Fetch, image, perturb::Perturb, power::Power, publish::Publish, repeat, writer,
};

#[derive(Parser)]
#[command(about = "Cuts nodes off at random moments again and again, and checks that nothing acknowledged is lost")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// SIGKILL a node while it publishes
    KillPublish(Loop),
    /// SIGKILL a node while it fetches, or while another fetches from it
    KillFetch(Loop),
    /// SIGKILL some of four signers while they make a publication final
    KillSigners(Loop),
    /// Pause one of four signers for ten seconds, start it anew, kill it, cut it off, and measure how soon it is back
    Perturb {
        #[command(flatten)]
        loop_: Loop,
        /// Seconds within which it must have the others' height again
        #[arg(long, default_value_t = 20)]
        within: u64,
        /// Give each node a network namespace, so that it can be cut off; needs root
        #[arg(long)]
        wires: bool,
    },
    /// Cut the power of a file system while a process writes into a store on it; needs root
    PowerCut {
        #[command(flatten)]
        loop_: Loop,
        /// A whole node that publishes, instead of a process that writes into a store
        #[arg(long)]
        node: bool,
    },
    /// Write into a store and say what is durable, until something fails
    #[command(hide = true)]
    Writer { home: PathBuf, seed: u64, first: u64 },
}

#[derive(Args)]
struct Loop {
    /// How many times
    #[arg(long, default_value_t = 20)]
    runs: u64,
    /// Fixes every moment that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Loop {
    fn end(&self, report: &Report) -> ExitCode {
        println!("{}", if self.json { report.json().to_string() } else { report.text() });
        if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::KillPublish(l) => Ok(l.end(&repeat("kill-publish", l.runs, l.seed, Publish::killed)?)),
        Command::KillFetch(l) => Ok(l.end(&repeat("kill-fetch", l.runs, l.seed, Fetch::new)?)),
        Command::KillSigners(l) => Ok(l.end(&repeat("kill-signers", l.runs, l.seed, Signers::new)?)),
        Command::Perturb { loop_: l, within, wires } => {
            let within = Duration::from_secs(within);
            Ok(l.end(&repeat("perturb", l.runs, l.seed, || Perturb::new(within, wires))?))
        }
        Command::PowerCut { loop_: l, node } => {
            if let Some(why) = image::missing() {
                eprintln!("power-cut cannot run here: {why}");
                return Ok(ExitCode::from(2));
            }
            if node {
                return Ok(l.end(&repeat("power-cut --node", l.runs, l.seed, Publish::cut_off)?));
            }
            let program = std::env::current_exe()?;
            Ok(l.end(&repeat("power-cut", l.runs, l.seed, || Power::new(program.clone()))?))
        }
        Command::Writer { home, seed, first } => writer::write(&home, seed, first).map(|()| ExitCode::SUCCESS),
    }
}
