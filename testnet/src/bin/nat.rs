//! `nat`: a pool whose members are behind NATs, in network namespaces. Exit code 1 if something does not hold, 2 if it cannot run
//! here.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use zero2ai_testnet::nat::{Kind, Lab, Options, missing, probe};

#[derive(Parser)]
#[command(about = "Joins, publishes and predicts across two NATs, with one relay; needs root, ip and nft")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The whole tour, and what it measured as JSON
    Run {
        /// What both NATs do with ports
        #[arg(long, value_enum, default_value_t = Nats::Cone)]
        nats: Nats,
        /// Predictions over one open connection
        #[arg(long, default_value_t = 200)]
        predictions: usize,
        /// Size of a model that is fetched across, MiB
        #[arg(long, default_value_t = 16)]
        bulk_mib: usize,
    },
    /// Predict over one HTTP connection, and print each one's milliseconds
    #[command(hide = true)]
    Probe { address: String, token: String, model: String, count: usize },
}

#[derive(Clone, Copy, ValueEnum)]
enum Nats {
    Cone,
    Symmetric,
}

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Run { nats, predictions, bulk_mib } => {
            if let Some(what) = missing() {
                eprintln!("{what}");
                return Ok(ExitCode::from(2));
            }
            let nats = match nats {
                Nats::Cone => Kind::Cone,
                Nats::Symmetric => Kind::Symmetric,
            };
            let saw = Lab::new(Options { nats, predictions, bulk_mib, kill_relay: true })?.run()?;
            println!("{saw:#}");
        }
        Command::Probe { address, token, model, count } => {
            println!("{}", serde_json::to_string(&probe::run(&address, &token, &model, count)?)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
