//! What either side is given, and the figures it comes to.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use zero2ai_engine::{GenEvent, ModelFile, Worker, WorkerConfig};
use zero2ai_proto::{
    calls::{GenerateInput, Prompt, Sampling},
    manifest::Format,
    worker::ModelInfo,
};

use super::SCRIPT;
use crate::process;

/// Tokens that follow a prefix as long as the long prompt.
const AFTER: usize = 16;
/// Tokens of the prompts of texts that run together.
const SHORT: usize = 32;
/// Texts that run together, at most.
const TOGETHER: usize = 8;
/// Memory that a worker may take.
const MEMORY: u64 = 6 << 30;
/// Words that are one token each, behind a blank.
const WORDS: [&str; 32] = [
    "time", "people", "water", "world", "work", "life", "part", "place", "system", "number", "group", "problem",
    "fact", "house", "school", "state", "family", "student", "country", "company", "night", "point", "home", "room",
    "mother", "area", "money", "story", "month", "book", "word", "side",
];

/// What is to be measured.
pub(super) struct Wanted {
    /// Tokens of the long prompt.
    pub(super) long: usize,
    /// Whether a text is to follow the long prompt.
    pub(super) after: bool,
    /// Numbers of texts that run together.
    pub(super) together: Vec<usize>,
    /// Tokens that each text gives.
    pub(super) given: u32,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { long: 512, after: false, together: vec![1, 4, TOGETHER], given: 64 }
    }
}

/// What both sides are given.
#[derive(Serialize)]
pub(super) struct Prompts {
    long: String,
    long_tokens: usize,
    after: bool,
    short: Vec<String>,
    short_tokens: usize,
    together: Vec<usize>,
    given: u32,
}

pub(super) fn borrowed(figures: &[(String, f64)]) -> Vec<(&str, f64)> {
    figures.iter().map(|(name, value)| (name.as_str(), *value)).collect()
}

/// So many words; different ones for each `seed`, from the first on.
pub(crate) fn words(seed: usize, count: usize) -> String {
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
pub(super) async fn choose_prompts(file: &Path, wanted: &Wanted) -> Result<Prompts> {
    let (worker, _, _) = started(file, 2, true).await?;
    let (long, given) = (wanted.long, wanted.given);
    let first = if wanted.together.is_empty() { 1 } else { TOGETHER };
    let mut short = Vec::new();
    for seed in 0..200 {
        let text = words(seed, SHORT);
        if generate(&worker, b"", &text, given, SHORT).await?.tokens == given {
            short.push(text);
        }
        if short.len() == first {
            break;
        }
    }
    ensure!(short.len() == first, "too few prompts make this model go on for {given} tokens");
    for seed in 1_000..1_100 {
        let text = words(seed, long);
        if !wanted.after || generate(&worker, b"", &text, given, long).await?.tokens == given {
            worker.stop().await;
            let (after, together) = (wanted.after, wanted.together.clone());
            return Ok(Prompts { long: text, long_tokens: long, after, short, short_tokens: SHORT, together, given });
        }
    }
    bail!("no prompt of {long} tokens makes this model go on for {given} tokens")
}

/// The model's file in memory, a worker, and how long it took to load.
pub(crate) async fn load(file: &Path, threads: usize) -> Result<(Worker, Duration)> {
    started(file, threads, true).await.map(|(worker, took, _)| (worker, took))
}

/// The same, with or without look-up; and what the worker says of the model.
pub(super) async fn started(file: &Path, threads: usize, look_up: bool) -> Result<(Worker, Duration, ModelInfo)> {
    let model = open(file, "model.gguf")?;
    let worker = spawn(threads, look_up).await?;
    let begun = Instant::now();
    let info = worker.load(Format::Gguf, vec![model], Vec::new()).await?;
    Ok((worker, begun.elapsed(), info))
}

/// A file in memory, under the name that the runtime is told.
pub(crate) fn open(file: &Path, name: &str) -> Result<ModelFile> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    Ok(ModelFile::from_bytes(name, &bytes)?)
}

/// A worker with nothing loaded: this program again.
pub(crate) async fn spawn(threads: usize, look_up: bool) -> Result<Worker> {
    let program = std::env::current_exe()?;
    let mut args = vec!["worker".to_owned()];
    args.extend((!look_up).then(|| "--no-look-up".to_owned()));
    let config = WorkerConfig { program, args, threads, memory_bytes: MEMORY, allow_unsandboxed: false };
    Ok(Worker::spawn(config).await?)
}

/// One text.
pub(super) struct Timed {
    /// When its first token came.
    pub(super) first: Instant,
    pub(super) last: Instant,
    pub(super) tokens: u32,
}

/// What is sent to go on after a prompt.
pub(super) fn input(prompt: &str, max_tokens: u32) -> GenerateInput {
    let sampling = Sampling { max_tokens, ..Sampling::default() };
    GenerateInput { prompt: Prompt::Text(prompt.to_owned()), sampling, resume: Vec::new() }
}

pub(super) async fn generate(
    worker: &Worker,
    caller: &[u8],
    prompt: &str,
    max_tokens: u32,
    expected: usize,
) -> Result<Timed> {
    let mut stream = worker.generate(caller, input(prompt, max_tokens)).await?;
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

/// Our figures; without look-up only those that it may change.
pub(super) async fn ours(
    file: &Path,
    threads: usize,
    prompts: &Prompts,
    round: u32,
    look_up: bool,
) -> Result<Vec<(String, f64)>> {
    let (worker, load, _) = started(file, threads, look_up).await?;
    generate(&worker, b"warm", prompts.short.first().context("no prompt")?, 8, SHORT).await?;
    let mut figures = Vec::new();
    if look_up {
        figures.push(("load s".to_owned(), load.as_secs_f64()));
        figures.extend(long_prompt(&worker, prompts, round).await?);
    }
    if prompts.after {
        let text = generate(&worker, b"after", &prompts.long, prompts.given, prompts.long_tokens).await?;
        let rate = f64::from(prompts.given - 1) / (text.last - text.first).as_secs_f64();
        figures.push(("after it, tokens/s".to_owned(), rate));
    }
    for number in &prompts.together {
        let caller = format!("together {number}");
        let texts = prompts.short.iter().take(*number);
        let texts = texts.map(|p| generate(&worker, caller.as_bytes(), p, prompts.given, SHORT));
        let texts = futures::future::try_join_all(texts).await?;
        ensure!(texts.iter().all(|t| t.tokens == prompts.given), "a text ended before its time");
        let first = texts.iter().map(|t| t.first).max().context("no text")?;
        let last = texts.iter().map(|t| t.last).max().context("no text")?;
        let tokens = *number as f64 * f64::from(prompts.given - 1);
        figures.push((format!("{number} sequences, tokens/s"), tokens / (last - first).as_secs_f64()));
    }
    if look_up {
        figures.push(("peak memory MiB".to_owned(), peak_mib(worker.pid().context("no process")?)?));
    }
    worker.stop().await;
    Ok(figures)
}

/// The long prompt alone, and what it takes when it is known.
async fn long_prompt(worker: &Worker, prompts: &Prompts, round: u32) -> Result<Vec<(String, f64)>> {
    let first_token = async |caller: &[u8], prompt: &str, tokens: usize| -> Result<f64> {
        let begun = Instant::now();
        Ok((generate(worker, caller, prompt, 1, tokens).await?.first - begun).as_secs_f64())
    };
    let tokens = prompts.long_tokens;
    let seconds = first_token(b"prompt", &prompts.long, tokens).await?;
    let mut figures =
        vec![("prompt tokens/s".to_owned(), tokens as f64 / seconds), ("first token ms".to_owned(), seconds * 1e3)];
    if prompts.after {
        return Ok(figures);
    }
    // The same beginning twice, with another end: under a caller of its own, so that the first time is cold.
    let end = |n: usize| format!("{}{}", prompts.long, words(2_000 + n + round as usize * 10, AFTER));
    let cold = first_token(b"prefix", &end(0), tokens + AFTER).await?;
    let warm = first_token(b"prefix", &end(1), tokens + AFTER).await?;
    figures.push(("first token after a known prefix ms".to_owned(), warm * 1e3));
    figures.push(("known prefix / cold".to_owned(), warm / cold));
    Ok(figures)
}

fn peak_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// Their figures.
pub(super) fn llama(
    python: &Path,
    logs: &Path,
    file: &Path,
    threads: usize,
    prompts: &Prompts,
) -> Result<Vec<(String, f64)>> {
    let mut command = Command::new(python);
    command.arg(SCRIPT).arg("run").arg(file).arg(threads.to_string());
    let mut child = process::Child::start("llama", command, logs)?;
    child.ready()?;
    child.tell(&serde_json::to_string(prompts)?)?;
    let figures: std::collections::BTreeMap<String, f64> = serde_json::from_str(&child.expect("done")?.1)?;
    child.wait()?;
    Ok(figures.into_iter().collect())
}
