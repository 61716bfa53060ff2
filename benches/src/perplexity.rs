//! Perplexity of a fixed text: ours and llama.cpp's on the same files, and both on the same weights written out in single
//! precision, where no row of activations is rounded to 8 bits.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use zero2ai_proto::{
    ByteBuf,
    tensor::{DType, Tensor},
};

use crate::{
    report,
    results::Results,
    text::{LLAMA, OURS, SCRIPT, convert, load},
};

/// A README of this project, kept as it was: English that no model was trained on.
const PASSAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/passage.txt");
/// Tokens read of it.
const TOKENS: u32 = 2_000;
/// Beyond this share of difference from llama.cpp on the same file something is wrong, not rounded.
const WRONG: f64 = 0.002;

/// Settings of `perplexity`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A GGUF model of the llama family, in Q4_1
    #[arg(long)]
    model: PathBuf,
    /// The Python that has llama-cpp-python
    #[arg(long, default_value = "target/venv-llama/bin/python")]
    python: PathBuf,
    /// Folder for the files that are made
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// Write the raw figures here
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Said {
    tokens: Vec<u32>,
    mean: f64,
}

/// See the module.
pub(crate) fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.work)?;
    let settings = [("text", "benches/passage.txt".to_owned()), ("tokens", TOKENS.to_string())];
    let mut results = Results::new("perplexity", &settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for kind in ["Q8_0", "Q4_0", "Q4_1"] {
        let file = if kind == "Q4_1" {
            options.model.clone()
        } else {
            convert(&options.python, &options.model, &options.work.join(format!("text-{kind}.gguf")), kind)?
        };
        let plain = convert(&options.python, &file, &options.work.join(format!("text-{kind}-F32.gguf")), "F32")?;
        let reference = llama(options, &plain)?;
        let theirs = llama(options, &file)?;
        let own = runtime.block_on(ours(&file, &reference.tokens))?;
        let own_plain = runtime.block_on(ours(&plain, &reference.tokens))?;
        let share = own / (-theirs.mean).exp() - 1.0;
        ensure!(share.abs() < WRONG, "{kind}: the perplexity differs from llama.cpp's by {:.2} %", share * 100.0);
        let base = (-reference.mean).exp();
        for (name, perplexity) in [
            (format!("{LLAMA}, {kind} in single precision"), base),
            (format!("{OURS}, {kind} in single precision"), own_plain),
            (format!("{LLAMA}, {kind}"), (-theirs.mean).exp()),
            (format!("{OURS}, {kind}"), own),
        ] {
            results.add(
                &name,
                1,
                &[("perplexity", perplexity), ("more than the first, %", (perplexity / base - 1.0) * 100.0)],
            );
        }
    }
    println!("\n{}", report::perplexity(&results));
    results.save(options.json.as_deref())
}

fn llama(options: &Options, file: &Path) -> Result<Said> {
    let mut command = Command::new(&options.python);
    let done = command.arg(SCRIPT).arg("perplexity").arg(file).arg(PASSAGE).arg(TOKENS.to_string()).output()?;
    ensure!(done.status.success(), "llama.cpp failed: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).context("llama.cpp's answer")
}

async fn ours(file: &Path, tokens: &[u32]) -> Result<f64> {
    let (worker, _) = load(file, 2).await?;
    let row = |name: &str, ids: &[u32]| {
        let data: Vec<u8> = ids.iter().flat_map(|id| i64::from(*id).to_le_bytes()).collect();
        Tensor { name: name.into(), dtype: DType::I64, shape: vec![ids.len() as u64], data: ByteBuf::from(data) }
    };
    let outputs = worker.predict(vec![row("tokens", tokens), row("from", &[1])]).await?;
    let logs = outputs.iter().find(|o| o.name == "logprobs").context("no log-probabilities")?.to_f32()?;
    ensure!(logs.len() + 1 == tokens.len(), "{} log-probabilities of {} tokens", logs.len(), tokens.len());
    worker.stop().await;
    Ok((-logs.iter().map(|l| f64::from(*l)).sum::<f64>() / logs.len() as f64).exp())
}
