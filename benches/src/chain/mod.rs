//! What the ledger costs: executing blocks, receipts, a light client's checks, blocks in simulated time and from peers; and, by real
//! nodes as processes, how soon a transaction is final and how soon a late node is there.
//!
//! | module | owns |
//! |---|---|
//! | `alone` | what one node does by itself, in this process |
//! | `sync` | fetching blocks, through the product's own chain on a disk |
//! | `nodes` | real nodes |
//! | `made` | a pool made here, for the others |

mod alone;
mod made;
mod nodes;
mod sync;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use clap::ValueEnum;

use crate::{files::Scratch, report, results::Results};
use nodes::Pool;

/// Rows that goals are set for.
pub(crate) const APPLY: &str = "blocks executed by one node";
pub(crate) const RECEIPTS: &str = "receipts";
pub(crate) const DEAD: &str = "4 nodes, one of them dead";
/// Signers that are simulated.
pub(crate) const SIMULATED: [u8; 3] = [4, 40, 100];
/// Nodes that sign as processes.
const PROCESSES: [usize; 3] = [1, 4, 7];

/// Patience with anything: beyond it, the bench fails.
const LONG: Duration = Duration::from_secs(120);
/// How long a simulated message is on its way, milliseconds.
const ONE_WAY: u64 = 50;

/// Name and value of what was measured.
type Figures = Vec<(&'static str, f64)>;

/// The row of so many simulated signers.
pub(crate) fn simulated(signers: u8) -> String {
    format!("{signers} signers, simulated, 50 ms one way")
}

/// The row of so many nodes.
pub(crate) fn processes(signers: usize) -> String {
    if signers == 1 { "1 node".into() } else { format!("{signers} nodes") }
}

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Blocks executed by one node.
    Apply,
    /// Receipts signed, verified, appended and anchored.
    Receipts,
    /// Headers checked by a light client; bytes that prove a receipt.
    Light,
    /// What a million receipts add to the ledger.
    Growth,
    /// Blocks in simulated time.
    Simulated,
    /// Blocks fetched from a peer.
    Sync,
    /// Transactions by real nodes.
    Nodes,
    /// A node that joins late.
    Join,
}

/// Settings of `chain`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these parts; all without it
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// Rounds; each measures every part once
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Transactions that are executed
    #[arg(long, default_value_t = 20_000)]
    transactions: u64,
    /// Receipts that are appended and anchored; leaves of the log under a light client's receipt
    #[arg(long, default_value_t = 1_000_000)]
    receipts: u64,
    /// Blocks of a simulated run that count
    #[arg(long, default_value_t = 20)]
    simulated_blocks: usize,
    /// Blocks that are fetched
    #[arg(long, default_value_t = 5_000)]
    sync_blocks: u64,
    /// Height at which a late node joins
    #[arg(long, default_value_t = 10_000)]
    join_height: u64,
    /// Transactions one after the other, whose times are ranked; a quarter of them with a dead signer
    #[arg(long, default_value_t = 200)]
    calls: usize,
    /// Seconds for each rate
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// The node's program
    #[arg(long, default_value = "../target/release/zero2ai")]
    program: PathBuf,
    /// Folder for homes and logs
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// Write the raw figures here
    #[arg(long)]
    json: Option<PathBuf>,
}

/// See the module.
pub(crate) fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.work)?;
    let work = Scratch::new(fs::canonicalize(&options.work)?.join("chain"))?;
    let settings = [
        ("transactions executed", options.transactions.to_string()),
        ("receipts", options.receipts.to_string()),
        ("blocks fetched", options.sync_blocks.to_string()),
        ("calls ranked", options.calls.to_string()),
    ];
    let mut results = Results::new("chain", &settings);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for round in 1..=options.rounds {
        let here = work.join(&round.to_string());
        fs::create_dir_all(&here)?;
        alone(options, round, &here, &mut results)?;
        runtime.block_on(real(options, round, &here, &mut results))?;
    }
    println!("\n{}", report::chain(&results));
    results.save(options.json.as_deref())
}

fn wants(options: &Options, part: Part) -> bool {
    options.part.is_empty() || options.part.contains(&part)
}

fn alone(options: &Options, round: u32, work: &Path, results: &mut Results) -> Result<()> {
    if wants(options, Part::Apply) {
        results.add(APPLY, round, &alone::apply(options.transactions)?);
    }
    if wants(options, Part::Receipts) {
        results.add(RECEIPTS, round, &alone::receipts(options.receipts, work)?);
    }
    if wants(options, Part::Light) {
        for signers in [4, 100] {
            let row = format!("light client, {signers} signers");
            results.add(&row, round, &alone::light(signers, options.receipts)?);
        }
    }
    // What simulates or counts bytes says the same every time.
    if wants(options, Part::Growth) && round == 1 {
        for anchors in [100, 1_000] {
            let row = format!("a million receipts under {anchors} anchors");
            results.add(&row, round, &alone::growth(anchors)?);
        }
    }
    if wants(options, Part::Simulated) && round == 1 {
        for signers in SIMULATED {
            let took = alone::simulated(signers, 0, ONE_WAY, options.simulated_blocks)?;
            results.add(&simulated(signers), round, &took);
        }
        let row = format!("{}, one of them dead", simulated(4));
        results.add(&row, round, &alone::simulated(4, 1, ONE_WAY, options.simulated_blocks)?);
    }
    Ok(())
}

async fn real(options: &Options, round: u32, work: &Path, results: &mut Results) -> Result<()> {
    if wants(options, Part::Sync) {
        for signers in [1, 4] {
            let row = format!("blocks fetched, {}", if signers == 1 { "1 signer" } else { "4 signers" });
            results.add(&row, round, &sync::sync(signers, options.sync_blocks, work).await?);
        }
    }
    if wants(options, Part::Nodes) {
        for signers in PROCESSES {
            let here = work.join(format!("nodes-{signers}"));
            fs::create_dir_all(&here)?;
            let mut pool = Pool::start(&options.program, &here, signers)?;
            let mut figures = pool.finality(options.calls).await?;
            figures.extend(pool.rate(options.seconds).await?);
            results.add(&processes(signers), round, &figures);
            if signers == 4 {
                results.add(DEAD, round, &pool.one_dead(options.calls / 4).await?);
            }
        }
    }
    if wants(options, Part::Join) && round == 1 {
        let row = format!("a node joins at height {}", options.join_height);
        let here = work.join("join");
        fs::create_dir_all(&here)?;
        results.add(&row, round, &nodes::join_late(&options.program, &here, options.join_height)?);
    }
    Ok(())
}

/// The times at these parts of their ranking, milliseconds.
fn ranks<const N: usize>(mut times: Vec<Duration>, parts: [f64; N]) -> [f64; N] {
    times.sort();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    parts.map(|part| {
        let index = (times.len() as f64 * part) as usize;
        times.get(index.min(times.len().saturating_sub(1))).map_or(0.0, |d| d.as_secs_f64() * 1e3)
    })
}
