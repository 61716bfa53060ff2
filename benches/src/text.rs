//! Text generation on the processor: our worker beside llama.cpp, on the same files, in turns. Each round starts a process of
//! each, loads the model, and goes through the same prompts. Ours is timed from outside the worker, encoding of the prompts
//! and frames over its socket included; llama.cpp from inside its process, by `llama.py`.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use zero2ai_engine::{GenEvent, ModelFile, Worker, WorkerConfig};
use zero2ai_proto::{
    calls::{GenerateInput, Prompt, Sampling},
    manifest::Format,
};

use crate::{process, report, results::Results};

/// Names of the two sides in the figures.
pub(crate) const OURS: &str = "zero2ai";
pub(crate) const LLAMA: &str = "llama.cpp";
pub(crate) const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/llama.py");
/// What llama.cpp makes of the shipped file.
const MADE: [&str; 2] = ["Q8_0", "Q4_0"];
/// Tokens of the long prompt.
const LONG: usize = 512;
/// Tokens that follow a prefix of [`LONG`] tokens.
const AFTER: usize = 16;
/// Tokens of the prompts of texts that run together.
const SHORT: usize = 32;
/// Tokens that each of them gives.
const GIVEN: u32 = 64;
/// Texts that run together, at most.
const TOGETHER: usize = 8;
/// Processes that compute beside, in the last part of a round.
const BUSY: usize = 2;
/// Memory that a worker may take.
const MEMORY: u64 = 4 << 30;
/// Words that are one token each, behind a blank.
const WORDS: [&str; 32] = [
    "time", "people", "water", "world", "work", "life", "part", "place", "system", "number", "group", "problem",
    "fact", "house", "school", "state", "family", "student", "country", "company", "night", "point", "home", "room",
    "mother", "area", "money", "story", "month", "book", "word", "side",
];

/// Settings of `text`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A GGUF model of the llama family, in Q4_1
    #[arg(long)]
    model: PathBuf,
    /// The Python that has llama-cpp-python
    #[arg(long, default_value = "target/venv-llama/bin/python")]
    python: PathBuf,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Threads that compute; may be given several times
    #[arg(long, default_values_t = [2, 1])]
    threads: Vec<usize>,
    /// Folder for the files that are made
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// Write the raw figures here
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What both sides are given.
#[derive(Serialize)]
struct Prompts {
    long: String,
    long_tokens: usize,
    short: Vec<String>,
    short_tokens: usize,
    given: u32,
}

/// See the module.
pub(crate) fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.work)?;
    let mut files = vec![("Q4_1".to_owned(), options.model.clone())];
    for kind in MADE {
        let out = convert(&options.python, &options.model, &options.work.join(format!("text-{kind}.gguf")), kind)?;
        files.push((kind.to_owned(), out));
    }
    let model = options.model.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let settings = [("model", model), ("prompt tokens", LONG.to_string()), ("tokens given", GIVEN.to_string())];
    let mut results = Results::new("text", &settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut chosen = Vec::new();
    for (_, file) in &files {
        chosen.push(runtime.block_on(choose_prompts(file))?);
    }
    for round in 1..=options.rounds {
        let crowded = options.threads.first().map(|threads| (*threads, BUSY));
        for (threads, busy) in options.threads.iter().map(|threads| (*threads, 0)).chain(crowded) {
            for ((kind, file), prompts) in files.iter().zip(&chosen) {
                let beside = if busy > 0 { format!(", beside {busy} busy processes") } else { String::new() };
                let name = |tool: &str| format!("{tool}, {kind}, threads: {threads}{beside}");
                let _busy = Busy::start(busy)?;
                let figures = runtime.block_on(ours(file, threads, prompts, round))?;
                results.add(&name(OURS), round, &borrowed(&figures));
                let figures = llama(options, file, threads, prompts)?;
                results.add(&name(LLAMA), round, &borrowed(&figures));
            }
        }
    }
    println!("\n{}", report::text(&results));
    results.save(options.json.as_deref())
}

/// Makes a file of another type, if it is not there yet.
pub(crate) fn convert(python: &Path, model: &Path, out: &Path, kind: &str) -> Result<PathBuf> {
    if !out.exists() {
        let made = Command::new(python).arg(SCRIPT).arg("convert").arg(model).arg(out).arg(kind).output()?;
        ensure!(made.status.success(), "llama.cpp could not convert: {}", String::from_utf8_lossy(&made.stderr));
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

fn borrowed(figures: &[(String, f64)]) -> Vec<(&str, f64)> {
    figures.iter().map(|(name, value)| (name.as_str(), *value)).collect()
}

/// So many words; different ones for each `seed`, from the first on.
fn words(seed: usize, count: usize) -> String {
    let mut text = String::new();
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    for _ in 0..count {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 31);
        let word = WORDS.get((state >> 16) % WORDS.len()).copied().unwrap_or_default();
        let _ = write!(text, " {word}");
    }
    text
}

/// Prompts after which this model goes on for as long as is asked.
async fn choose_prompts(file: &Path) -> Result<Prompts> {
    let (worker, _) = load(file, 2).await?;
    let mut short = Vec::new();
    for seed in 0..200 {
        let text = words(seed, SHORT);
        if generate(&worker, b"", &text, GIVEN, SHORT).await?.tokens == GIVEN {
            short.push(text);
        }
        if short.len() == TOGETHER {
            worker.stop().await;
            return Ok(Prompts {
                long: words(1_000, LONG),
                long_tokens: LONG,
                short,
                short_tokens: SHORT,
                given: GIVEN,
            });
        }
    }
    bail!("too few prompts make this model go on for {GIVEN} tokens")
}

/// The model's file in memory, a worker, and how long it took to load.
pub(crate) async fn load(file: &Path, threads: usize) -> Result<(Worker, Duration)> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let model = ModelFile::from_bytes("model.gguf", &bytes)?;
    drop(bytes);
    let program = std::env::current_exe()?;
    let args = vec!["worker".to_owned()];
    let config = WorkerConfig { program, args, threads, memory_bytes: MEMORY, allow_unsandboxed: false };
    let worker = Worker::spawn(config).await?;
    let begun = Instant::now();
    worker.load(Format::Gguf, vec![model], Vec::new()).await?;
    Ok((worker, begun.elapsed()))
}

/// One text.
struct Timed {
    /// When its first token came.
    first: Instant,
    last: Instant,
    tokens: u32,
}

async fn generate(worker: &Worker, caller: &[u8], prompt: &str, max_tokens: u32, expected: usize) -> Result<Timed> {
    let sampling = Sampling { max_tokens, ..Sampling::default() };
    let input = GenerateInput { prompt: Prompt::Text(prompt.to_owned()), sampling, resume: Vec::new() };
    let mut stream = worker.generate(caller, input).await?;
    let (mut first, mut last, mut tokens) = (None, Instant::now(), 0);
    while let Some(event) = stream.next().await {
        match event? {
            GenEvent::Token(_) => {
                last = Instant::now();
                first.get_or_insert(last);
                tokens += 1;
            }
            GenEvent::End { prompt_tokens, .. } => {
                ensure!(
                    prompt_tokens as usize == expected,
                    "a prompt has {prompt_tokens} tokens instead of {expected}"
                );
            }
        }
    }
    Ok(Timed { first: first.context("no token came")?, last, tokens })
}

async fn ours(file: &Path, threads: usize, prompts: &Prompts, round: u32) -> Result<Vec<(String, f64)>> {
    let (worker, load) = load(file, threads).await?;
    let mut figures = vec![("load s".to_owned(), load.as_secs_f64())];
    generate(&worker, b"warm", prompts.short.first().context("no prompt")?, 8, SHORT).await?;
    let first_token = async |caller: &[u8], prompt: &str, tokens: usize| -> Result<f64> {
        let begun = Instant::now();
        Ok((generate(&worker, caller, prompt, 1, tokens).await?.first - begun).as_secs_f64())
    };
    let seconds = first_token(b"prompt", &prompts.long, LONG).await?;
    figures.push(("prompt tokens/s".to_owned(), LONG as f64 / seconds));
    figures.push(("first token ms".to_owned(), seconds * 1e3));
    // The same beginning twice, with another end: under a caller of its own, so that the first time is cold.
    let end = |n: usize| format!("{}{}", prompts.long, words(2_000 + n + round as usize * 10, AFTER));
    let cold = first_token(b"prefix", &end(0), LONG + AFTER).await?;
    let warm = first_token(b"prefix", &end(1), LONG + AFTER).await?;
    figures.push(("first token after a known prefix ms".to_owned(), warm * 1e3));
    figures.push(("known prefix / cold".to_owned(), warm / cold));
    for number in [1, 4, 8] {
        let caller = format!("together {number}");
        let texts = prompts.short.iter().take(number).map(|p| generate(&worker, caller.as_bytes(), p, GIVEN, SHORT));
        let texts = futures::future::try_join_all(texts).await?;
        ensure!(texts.iter().all(|t| t.tokens == GIVEN), "a text ended before its time");
        let first = texts.iter().map(|t| t.first).max().context("no text")?;
        let last = texts.iter().map(|t| t.last).max().context("no text")?;
        let tokens = number as f64 * f64::from(GIVEN - 1);
        figures.push((format!("{number} sequences, tokens/s"), tokens / (last - first).as_secs_f64()));
    }
    figures.push(("peak memory MiB".to_owned(), peak_mib(worker.pid().context("no process")?)?));
    worker.stop().await;
    Ok(figures)
}

fn peak_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn llama(options: &Options, file: &Path, threads: usize, prompts: &Prompts) -> Result<Vec<(String, f64)>> {
    let mut command = Command::new(&options.python);
    command.arg(SCRIPT).arg("run").arg(file).arg(threads.to_string());
    let mut child = process::Child::start("llama", command, &options.work)?;
    child.ready()?;
    child.tell(&serde_json::to_string(prompts)?)?;
    let figures: std::collections::BTreeMap<String, f64> = serde_json::from_str(&child.expect("done")?.1)?;
    child.wait()?;
    Ok(figures.into_iter().collect())
}
