//! Predictions of ONNX models: our worker beside ONNX Runtime, on the same inputs, in turns. Ours is one worker process with its
//! sandbox, timed from the caller's side, frames over the socket included; ONNX Runtime is timed inside its process, by
//! `onnx.py`. What both give is compared before anything is believed of the times.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use zero2ai_engine::Worker;
use zero2ai_proto::{
    ByteBuf,
    manifest::Format,
    tensor::{DType, Tensor, TensorSpec},
    worker::ModelInfo,
};

use crate::{
    process, report,
    results::Results,
    text::{open, spawn},
};

/// Names of the sides in the figures.
pub(crate) const OURS: &str = "zero2ai";
pub(crate) const THEIRS: &str = "ONNX Runtime";
/// The script that runs ONNX Runtime.
pub(crate) const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/onnx.py");
/// Predictions before those that count.
const WARM: usize = 3;
/// Predictions that count, at least.
const LEAST: usize = 5;
/// What an output may be off by, as a share of its largest value: beyond it the model is not run right.
const OFF: f64 = 0.02;

/// Settings of `onnx`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A model as NAME=FILE or NAME=FILE:SIZE,SIZE: sizes of its dimensions that are free, those of the first axis left out; may be
    /// given several times
    #[arg(long = "model", required = true)]
    models: Vec<String>,
    /// The Python that has onnxruntime
    #[arg(long, default_value = "target/venv/bin/python")]
    python: PathBuf,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Threads that compute; may be given several times
    #[arg(long, default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Seconds of predictions of each side
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Folder for logs
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// Write the raw figures here
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One model to measure.
struct Model {
    name: String,
    file: PathBuf,
    /// Sizes of free dimensions, in their order.
    sizes: Vec<u64>,
}

#[derive(Serialize)]
struct Asked<'a> {
    inputs: Vec<Given<'a>>,
    seconds: f64,
}

#[derive(Serialize)]
struct Given<'a> {
    name: &'a str,
    dtype: DType,
    shape: &'a [u64],
    data: String,
}

#[derive(Deserialize)]
struct Said {
    load: f64,
    ms: f64,
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    data: String,
}

/// See the module.
pub(crate) fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.work)?;
    let models = options.models.iter().map(|text| Model::read(text)).collect::<Result<Vec<_>>>()?;
    let mut results = Results::new("onnx", &[("seconds of each", options.seconds.to_string())]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for round in 1..=options.rounds {
        for (model, threads) in models.iter().flat_map(|m| options.threads.iter().map(move |t| (m, *t))) {
            let what = |side: &str| format!("{side}, {}, threads: {threads}", model.name);
            match runtime.block_on(ours(model, threads, options.seconds)) {
                Ok((inputs, outputs, figures)) => {
                    let said = theirs(options, model, threads, &inputs)?;
                    let off = furthest(&outputs, &said.outputs)?;
                    ensure!(
                        off < OFF,
                        "{}: an output differs from ONNX Runtime's by {off:.4} of its largest",
                        model.name
                    );
                    let figures = [figures.as_slice(), &[("off by, share of the largest", off)]].concat();
                    results.add(&what(OURS), round, &figures);
                    results.add(&what(THEIRS), round, &[("load s", said.load), ("ms", said.ms)]);
                }
                // What our runtime refuses is told, and not measured.
                Err(error) => results.add_failure(&what(OURS), round, &error),
            }
        }
    }
    println!("\n{}", report::onnx(&results));
    results.save(options.json.as_deref())
}

impl Model {
    fn read(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once('=').with_context(|| format!("'{text}' is not NAME=FILE"))?;
        let (file, sizes) = rest.split_once(':').unwrap_or((rest, ""));
        let sizes = sizes.split(',').filter(|s| !s.is_empty()).map(str::parse).collect::<Result<_, _>>();
        Ok(Self {
            name: name.to_owned(),
            file: file.into(),
            sizes: sizes.with_context(|| format!("sizes in '{text}'"))?,
        })
    }

    /// Inputs of the right shapes: the same in every round.
    fn inputs(&self, info: &ModelInfo) -> Result<Vec<Tensor>> {
        let mut sizes = self.sizes.iter().copied();
        info.inputs.iter().map(|spec| filled(spec, &mut sizes)).collect()
    }
}

/// Numbers between 0 and 1, ids of a vocabulary, bytes; a mask lets everything through.
fn filled(spec: &TensorSpec, sizes: &mut impl Iterator<Item = u64>) -> Result<Tensor> {
    let mut shape = Vec::new();
    for (axis, dim) in spec.shape.iter().enumerate() {
        shape.push(match dim {
            Some(fixed) => *fixed,
            None if axis == 0 => 1,
            None => sizes.next().with_context(|| format!("'{}' has a free dimension: say its size", spec.name))?,
        });
    }
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let count = shape.iter().product::<u64>();
    let mut data = Vec::new();
    for _ in 0..count {
        match spec.dtype {
            DType::F32 => data.extend((next() as f32 / (1 << 24) as f32).to_le_bytes()),
            DType::I64 if spec.name.contains("mask") => data.extend(1_i64.to_le_bytes()),
            DType::I64 if spec.name.contains("type") => data.extend(0_i64.to_le_bytes()),
            DType::I64 if shape.is_empty() || spec.name == "sr" => data.extend(16_000_i64.to_le_bytes()),
            DType::I64 => data.extend(i64::from(100 + next() % 900).to_le_bytes()),
            DType::I32 => data.extend(((next() % 256) as i32).to_le_bytes()),
            other => bail!("'{}' is {other:?}: not one this bench fills", spec.name),
        }
    }
    Ok(Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data: ByteBuf::from(data) })
}

type Figures = Vec<(&'static str, f64)>;

async fn ours(model: &Model, threads: usize, seconds: f64) -> Result<(Vec<Tensor>, Vec<Tensor>, Figures)> {
    let file = open(&model.file, "model.onnx")?;
    let worker = spawn(threads, true).await?;
    let begun = Instant::now();
    let info = worker.load(Format::Onnx, vec![file], Vec::new()).await?;
    let load = begun.elapsed().as_secs_f64();
    let inputs = model.inputs(&info)?;
    let outputs = worker.predict(inputs.clone()).await?;
    let ms = often(&worker, &inputs, seconds).await?;
    worker.stop().await;
    Ok((inputs, outputs, vec![("load s", load), ("ms", ms)]))
}

/// The median time of a prediction, milliseconds.
async fn often(worker: &Worker, inputs: &[Tensor], seconds: f64) -> Result<f64> {
    for _ in 0..WARM {
        worker.predict(inputs.to_vec()).await?;
    }
    let (end, mut took) = (Instant::now() + Duration::from_secs_f64(seconds), Vec::new());
    while Instant::now() < end || took.len() < LEAST {
        let given = inputs.to_vec();
        let begun = Instant::now();
        worker.predict(given).await?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    took.get(took.len() / 2).copied().context("no prediction")
}

fn theirs(options: &Options, model: &Model, threads: usize, inputs: &[Tensor]) -> Result<Said> {
    let inputs =
        inputs.iter().map(|t| Given { name: &t.name, dtype: t.dtype, shape: &t.shape, data: hex::encode(&t.data) });
    let asked = Asked { inputs: inputs.collect(), seconds: options.seconds };
    let mut command = Command::new(&options.python);
    command.arg(SCRIPT).arg("run").arg(&model.file).arg(threads.to_string());
    serde_json::from_str(&ask(command, &options.work, &asked)?).context("ONNX Runtime's answer")
}

/// Asks a script one thing, and returns what it says at its end.
pub(crate) fn ask(command: Command, logs: &Path, asked: &impl Serialize) -> Result<String> {
    let mut child = process::Child::start("onnx", command, logs)?;
    child.ready()?;
    child.tell(&serde_json::to_string(asked)?)?;
    let (_, said) = child.expect("done")?;
    child.wait()?;
    Ok(said)
}

/// Little-endian single precision out of a script's hexadecimal.
pub(crate) fn floats(text: &str) -> Result<Vec<f32>> {
    let bytes = hex::decode(text)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// How far an output of ours is from theirs at most, as a share of that output's largest value.
fn furthest(ours: &[Tensor], theirs: &[Output]) -> Result<f64> {
    let theirs: BTreeMap<&str, &str> = theirs.iter().map(|o| (o.name.as_str(), o.data.as_str())).collect();
    let (mut worst, mut compared) = (0.0_f64, 0);
    for output in ours.iter().filter(|o| o.dtype == DType::F32) {
        let Some(data) = theirs.get(output.name.as_str()) else { continue };
        let (own, other) = (output.to_f32()?, floats(data)?);
        ensure!(own.len() == other.len(), "'{}' has {} values, theirs {}", output.name, own.len(), other.len());
        let largest = other.iter().fold(1e-6_f64, |most, v| most.max(f64::from(v.abs())));
        let pairs = own.iter().zip(&other);
        worst = pairs.fold(worst, |most, (a, b)| most.max(f64::from((a - b).abs()) / largest));
        compared += 1;
    }
    ensure!(compared > 0, "no output could be compared");
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_with_its_sizes() -> Result<()> {
        let model = Model::read("magika=m.onnx:2048,7")?;
        assert_eq!((model.name.as_str(), model.sizes), ("magika", vec![2048, 7]));
        assert!(Model::read("magika").is_err() && Model::read("a=b:x").is_err());
        Ok(())
    }
}
