//! Measures what the product promises about speed, with other tools beside it in the same run. One subcommand an operation;
//! each prints a table and can leave its raw figures as JSON, from which `report` writes the tables of `RESULTS.md`.
//!
//! | module | owns |
//! |---|---|
//! | `transfer` | one file from one process to another: over loopback, or over a link of limited rate |
//! | `swarm` | one seeder and many leechers, each with an uplink of limited rate |
//! | `publish` | cutting, sealing and storing a file, beside a plain copy of the same bytes |
//! | `versions` | what the second version of a model adds to the store |
//! | `text` | text generation beside llama.cpp |
//! | `perplexity` | perplexity of a fixed text, beside llama.cpp's |
//! | `onnx` | predictions of ONNX models beside ONNX Runtime |
//! | `embed` | embedding of texts beside ONNX Runtime |
//! | `chain` | the ledger: blocks executed, simulated and fetched, receipts, light clients, nodes that sign together |
//! | `rpc` | calls: beside the same call in process, gRPC and HTTP; many clients for minutes |
//! | `tools` | the tools measured: how each is started, and the processes that speak for the libraries |
//! | `process` | child processes: when they are ready, when they are done, what processor time they took |
//! | `net` | network namespaces with links of limited rate |
//! | `files` | the files that are moved, and the folders they go to |
//! | `results` | figures, medians, tables, the machine |
//! | `goals` | what was to be reached, and whether it is |
//! | `report` | the tables of `RESULTS.md` |

mod chain;
mod embed;
mod files;
mod goals;
mod net;
mod onnx;
mod perplexity;
mod process;
mod publish;
mod report;
mod results;
mod rpc;
mod swarm;
mod text;
mod tools;
mod transfer;
mod versions;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The benches of Zero2AI. Give a subcommand `--help` for its settings.
#[derive(Parser)]
#[command(name = "zero2ai-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One file from one process to another, over loopback or a limited link: ours beside raw QUIC, iroh-blobs, aria2, BitTorrent
    Transfer(transfer::Options),
    /// One seeder and many leechers in network namespaces with limited uplinks: ours beside BitTorrent and iroh-blobs
    Swarm(swarm::Options),
    /// Cutting, sealing and storing a file durably, beside a plain durable copy; and the memory that takes
    Publish(publish::Options),
    /// Bytes that a fine-tuned second version adds to the store
    Versions(versions::Options),
    /// Text generation on the processor, beside llama.cpp
    Text(text::Options),
    /// Perplexity of a fixed text, beside llama.cpp's
    Perplexity(perplexity::Options),
    /// Predictions of ONNX models, beside ONNX Runtime
    Onnx(onnx::Options),
    /// Embedding of texts, beside ONNX Runtime
    Embed(embed::Options),
    /// What the ledger costs: blocks executed, simulated and fetched, receipts, light clients, nodes that sign together
    Chain(chain::Options),
    /// What a call costs: peer RPC beside the same call in process, gRPC, and the gateway; many clients for minutes
    Rpc(rpc::Options),
    /// Writes the tables of RESULTS.md from the raw figures
    Report(report::Options),
    /// One process of a bench; started by the others
    #[command(hide = true)]
    Role {
        /// What to be, as JSON.
        role: String,
    },
    /// A worker of the engine; started by `text`
    #[command(hide = true)]
    Worker {
        /// Guess no tokens.
        #[arg(long)]
        no_look_up: bool,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Transfer(options) => transfer::run(&options),
        Command::Swarm(options) => swarm::run(&options),
        Command::Publish(options) => publish::run(&options),
        Command::Versions(options) => versions::run(&options),
        Command::Chain(options) => chain::run(&options),
        Command::Rpc(options) => rpc::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Text(options) => text::run(&options),
        Command::Perplexity(options) => perplexity::run(&options),
        Command::Onnx(options) => onnx::run(&options),
        Command::Embed(options) => embed::run(&options),
        Command::Role { role } => tools::play(&role),
        Command::Worker { no_look_up } => {
            return Ok(zero2ai_engine::worker_main_with(zero2ai_engine::WorkerOptions { look_up: !no_look_up }));
        }
    }
    .map(|()| ExitCode::SUCCESS)
}
