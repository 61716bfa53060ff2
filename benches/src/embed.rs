//! Embedding of texts: MiniLM's safetensors on our kernels beside its int8 export on ONNX Runtime. Tokens are made from the text
//! on both sides. What both give is compared: int8 is not single precision, but a text's row must point the same way.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use zero2ai_engine::{ModelFile, Worker};
use zero2ai_proto::{manifest::Format, texts::Texts};

use crate::{
    onnx::{OURS, SCRIPT, THEIRS, ask, floats},
    report,
    results::Results,
    text::{open, spawn, words},
};

/// Texts at a time.
const TOGETHER: [usize; 3] = [1, 8, 32];
/// Texts, and how many words they have, in turns.
const TEXTS: usize = 64;
const LENGTHS: [usize; 4] = [12, 20, 30, 58];
/// The cosine between our row of a text and theirs, at least.
const ALIKE: f64 = 0.95;

/// Settings of `embed`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Folder of the embedder: config.json, tokenizer.json, model.safetensors
    #[arg(long)]
    model: PathBuf,
    /// The same model as ONNX, in int8
    #[arg(long)]
    onnx: PathBuf,
    /// The Python that has onnxruntime and tokenizers
    #[arg(long, default_value = "target/venv/bin/python")]
    python: PathBuf,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Threads that compute; may be given several times
    #[arg(long, default_values_t = [2, 1])]
    threads: Vec<usize>,
    /// Seconds of each side for each number of texts at a time
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Folder for logs
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// Write the raw figures here
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Asked<'a> {
    texts: &'a [String],
    together: [usize; 3],
    seconds: f64,
}

#[derive(Deserialize)]
struct Said {
    load: f64,
    rates: BTreeMap<usize, f64>,
    rows: String,
}

/// See the module.
pub(crate) fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.work)?;
    let texts: Vec<String> = LENGTHS.iter().cycle().take(TEXTS).enumerate().map(|(n, long)| words(n, *long)).collect();
    let settings = [("texts", format!("{TEXTS} of {LENGTHS:?} words")), ("theirs", "int8".to_owned())];
    let mut results = Results::new("embed", &settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for round in 1..=options.rounds {
        for threads in options.threads.iter().copied() {
            let (mut figures, rows) = runtime.block_on(ours(options, threads, &texts))?;
            let said = theirs(options, threads, &texts)?;
            let alike = least_alike(&rows, &floats(&said.rows)?)?;
            ensure!(alike > ALIKE, "a text's row and theirs have a cosine of {alike:.3} only");
            figures.push(("cosine to theirs, least".to_owned(), alike));
            let borrowed: Vec<_> = figures.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            results.add(&format!("{OURS}, threads: {threads}"), round, &borrowed);
            let named: Vec<_> = said.rates.iter().map(|(many, rate)| (rate_of(*many), *rate)).collect();
            let mut other: Vec<_> = named.iter().map(|(name, rate)| (name.as_str(), *rate)).collect();
            other.push(("load s", said.load));
            results.add(&format!("{THEIRS}, threads: {threads}"), round, &other);
        }
    }
    println!("\n{}", report::embed(&results));
    results.save(options.json.as_deref())
}

/// A figure's name.
fn rate_of(many: usize) -> String {
    format!("{many} at a time, texts/s")
}

async fn ours(options: &Options, threads: usize, texts: &[String]) -> Result<(Vec<(String, f64)>, Vec<f32>)> {
    let files = folder(&options.model)?;
    let worker = spawn(threads, true).await?;
    let begun = Instant::now();
    worker.load(Format::Safetensors, files, Vec::new()).await?;
    let mut figures = vec![("load s".to_owned(), begun.elapsed().as_secs_f64())];
    for many in TOGETHER {
        figures.push((rate_of(many), rate(&worker, texts, many, options.seconds).await?));
    }
    let rows = worker.embed(&Texts::new(texts.get(..8).context("too few texts")?)).await?.values;
    worker.stop().await;
    Ok((figures, rows))
}

/// Every file of a folder, by its path in it.
fn folder(path: &Path) -> Result<Vec<ModelFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            for inner in folder(&entry.path())? {
                let name = format!("{}/{}", entry.file_name().to_string_lossy(), inner.name());
                files.push(open(&entry.path().join(inner.name()), &name)?);
            }
        } else {
            files.push(open(&entry.path(), &entry.file_name().to_string_lossy())?);
        }
    }
    Ok(files)
}

/// Texts a second, so many in a call and one call after the other.
async fn rate(worker: &Worker, texts: &[String], many: usize, seconds: f64) -> Result<f64> {
    let mut turn = texts.iter().cycle();
    let mut next = || turn.by_ref().take(many).map(String::as_str).collect::<Vec<_>>();
    worker.embed(&Texts::new(&next())).await?;
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs_f64(seconds) {
        worker.embed(&Texts::new(&next())).await?;
        count += many;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

fn theirs(options: &Options, threads: usize, texts: &[String]) -> Result<Said> {
    let mut command = Command::new(&options.python);
    command
        .arg(SCRIPT)
        .arg("embed")
        .arg(&options.onnx)
        .arg(options.model.join("tokenizer.json"))
        .arg(threads.to_string());
    let asked = Asked { texts, together: TOGETHER, seconds: options.seconds };
    serde_json::from_str(&ask(command, &options.work, &asked)?).context("ONNX Runtime's answer")
}

/// The least cosine of the rows of one text; both sides' rows have length one.
fn least_alike(ours: &[f32], theirs: &[f32]) -> Result<f64> {
    ensure!(!ours.is_empty() && ours.len() == theirs.len(), "{} values, theirs {}", ours.len(), theirs.len());
    let width = ours.len() / 8;
    let rows = ours.chunks(width).zip(theirs.chunks(width));
    let cosines = rows.map(|(a, b)| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>());
    Ok(cosines.fold(1.0, f64::min))
}
