//! Text generation on the processor: our worker beside llama.cpp, on the same files, in turns. Each round starts a process of
//! each, loads the model, and goes through the same prompts. Ours is timed from outside the worker, encoding of the prompts
//! and frames over its socket included; llama.cpp from inside its process, by `llama.py`.
//!
//! | module | owns |
//! |---|---|
//! | `side` | what either side is given, and the figures it comes to |
//! | `ceilings` | what the machine could do at most, and how much of that we reach |
//! | `wire` | the first token of a long prompt through peer RPC, beside the same worker in this process |

mod ceilings;
mod side;
mod wire;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use clap::ValueEnum;

use self::side::{Wanted, borrowed, choose_prompts, llama, ours};
pub(crate) use self::side::{load, open, spawn, words};
pub(crate) use self::wire::THROUGH;
use crate::{report, results::Results};

/// Names of the sides in the figures.
pub(crate) const OURS: &str = "zero2ai";
pub(crate) const PLAIN: &str = "zero2ai without look-up";
pub(crate) const LLAMA: &str = "llama.cpp";
pub(crate) const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/llama.py");
/// What llama.cpp makes of the shipped file.
const MADE: [&str; 2] = ["Q8_0", "Q4_0"];
/// Processes that compute beside, in the last turn of a round.
const BUSY: usize = 2;

/// What is measured; each for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The shipped model in three types: a prompt of 512 tokens, 1, 4 and 8 texts at a time, memory, a known prefix
    Main,
    /// A model of 1.1 billion random weights, made by the bench
    Big,
    /// A prompt of 4,096 tokens, and a text that follows it
    Context,
    /// What the processor and its memory could do, and how much of it is reached
    Ceilings,
    /// The first token of a prompt of 512 tokens through a node, beside the same worker in process
    Rpc,
}

/// Settings of `text`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A GGUF model of the llama family, in Q4_1
    #[arg(long)]
    model: PathBuf,
    /// What to measure
    #[arg(long, value_enum, default_value_t = Part::Main)]
    part: Part,
    /// The Python that has llama-cpp-python
    #[arg(long, default_value = "target/venv-llama/bin/python")]
    python: PathBuf,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Threads that compute; may be given several times
    #[arg(long, default_values_t = [2, 1])]
    threads: Vec<usize>,
    /// The node's program, for `--part rpc`
    #[arg(long, default_value = "../target/release/zero2ai")]
    program: PathBuf,
    /// Folder for the files that are made
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// Write the raw figures here
    #[arg(long)]
    json: Option<PathBuf>,
}

/// See the module.
pub(crate) fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.work)?;
    let model = options.model.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let (results, table) = match options.part {
        Part::Main => (main_part(options, &model)?, report::text as fn(&Results) -> String),
        Part::Big => (big(options)?, report::text as fn(&Results) -> String),
        Part::Context => (context(options, &model)?, report::context as fn(&Results) -> String),
        Part::Ceilings => (ceilings::run(options, &model)?, report::ceilings as fn(&Results) -> String),
        Part::Rpc => (wire::run(options, &model)?, report::wire as fn(&Results) -> String),
    };
    println!("\n{}", table(&results));
    results.save(options.json.as_deref())
}

fn main_part(options: &Options, model: &str) -> Result<Results> {
    let wanted = Wanted::default();
    let settings = [
        ("model", model.to_owned()),
        ("prompt tokens", wanted.long.to_string()),
        ("tokens given", wanted.given.to_string()),
    ];
    let mut results = Results::new("text", &settings);
    let mut turns: Vec<(usize, usize)> = options.threads.iter().map(|threads| (*threads, 0)).collect();
    turns.extend(options.threads.first().map(|threads| (*threads, BUSY)));
    compare(options, &files(options)?, &wanted, &turns, &mut results)?;
    Ok(results)
}

/// The machine's limits are nearer with a model that no cache holds.
fn big(options: &Options) -> Result<Results> {
    let wanted = Wanted { given: 32, ..Wanted::default() };
    let settings = [
        ("model", "llama of 1.1 billion random weights".to_owned()),
        ("prompt tokens", wanted.long.to_string()),
        ("tokens given", wanted.given.to_string()),
    ];
    let mut results = Results::new("text", &settings);
    let mut files = Vec::new();
    for kind in MADE {
        let out = options.work.join(format!("big-{kind}.gguf"));
        files.push((kind.to_owned(), made(&options.python, "make", &options.model, &out, kind)?));
    }
    let turns: Vec<(usize, usize)> = options.threads.iter().take(1).map(|threads| (*threads, 0)).collect();
    compare(options, &files, &wanted, &turns, &mut results)?;
    Ok(results)
}

fn context(options: &Options, model: &str) -> Result<Results> {
    let wanted = Wanted { long: 4_096, after: true, together: vec![], ..Wanted::default() };
    let settings = [
        ("model", model.to_owned()),
        ("prompt tokens", wanted.long.to_string()),
        ("tokens after it", wanted.given.to_string()),
    ];
    let mut results = Results::new("text-context", &settings);
    let turns: Vec<(usize, usize)> = options.threads.iter().take(1).map(|threads| (*threads, 0)).collect();
    compare(options, &files(options)?, &wanted, &turns, &mut results)?;
    Ok(results)
}

/// The shipped model as it is, and as llama.cpp converts it.
fn files(options: &Options) -> Result<Vec<(String, PathBuf)>> {
    let mut files = vec![("Q4_1".to_owned(), options.model.clone())];
    for kind in MADE {
        let out = convert(&options.python, &options.model, &options.work.join(format!("text-{kind}.gguf")), kind)?;
        files.push((kind.to_owned(), out));
    }
    Ok(files)
}

/// All sides on all files, round by round. A turn is a number of threads, and one of processes that compute beside.
fn compare(
    options: &Options,
    files: &[(String, PathBuf)],
    wanted: &Wanted,
    turns: &[(usize, usize)],
    results: &mut Results,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut chosen = Vec::new();
    for (_, file) in files {
        chosen.push(runtime.block_on(choose_prompts(file, wanted))?);
    }
    for round in 1..=options.rounds {
        for (threads, busy) in turns.iter().copied() {
            for ((kind, file), prompts) in files.iter().zip(&chosen) {
                let beside = if busy > 0 { format!(", beside {busy} busy processes") } else { String::new() };
                let name = |tool: &str| format!("{tool}, {kind}, threads: {threads}{beside}");
                let _busy = Busy::start(busy)?;
                let figures = runtime.block_on(ours(file, threads, prompts, round, true))?;
                results.add(&name(OURS), round, &borrowed(&figures));
                let figures = runtime.block_on(ours(file, threads, prompts, round, false))?;
                results.add(&name(PLAIN), round, &borrowed(&figures));
                let figures = llama(&options.python, &options.work, file, threads, prompts)?;
                results.add(&name(LLAMA), round, &borrowed(&figures));
            }
        }
    }
    Ok(())
}

/// Makes a file of another type, if it is not there yet.
pub(crate) fn convert(python: &Path, model: &Path, out: &Path, kind: &str) -> Result<PathBuf> {
    made(python, "convert", model, out, kind)
}

fn made(python: &Path, how: &str, model: &Path, out: &Path, kind: &str) -> Result<PathBuf> {
    if !out.exists() {
        let done = Command::new(python).arg(SCRIPT).arg(how).arg(model).arg(out).arg(kind).output()?;
        ensure!(done.status.success(), "the model could not be made: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(out.to_owned())
}

/// Processes that compute for nothing, until they are dropped.
struct Busy(Vec<std::process::Child>);

impl Busy {
    fn start(count: usize) -> Result<Self> {
        let start = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        Ok(Self((0..count).map(start).collect::<Result<_, _>>()?))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
