//! What the processor and its memory could do at most, and how much of that our texts reach: the byte dot products of the
//! instruction set in use, out of registers, and reading as much memory as a model has, over and over.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result};
use zero2ai_kernels::{Path as Instructions, Pool, dot_products, read_through};
use zero2ai_proto::worker::ModelInfo;

use super::{
    Options, files,
    side::{generate, started, words},
};
use crate::results::Results;

/// Numbers of a row of the shipped model: its embedding is its head, and only the last row of a prompt goes through that.
const WIDTH: u64 = 576;
/// Tokens of the prompt, and of the text.
const LONG: usize = 512;
const SHORT: usize = 32;
const GIVEN: u32 = 64;
/// Each limit is measured for about so long.
const SECONDS: f64 = 0.5;
/// Rounds of dot products at a time.
const ROUNDS: usize = 2_000_000;

pub(super) fn run(options: &Options, model: &str) -> Result<Results> {
    let path = Instructions::best();
    let settings = [("model", model.to_owned()), ("instructions", path.name().to_owned())];
    let mut results = Results::new("text-ceilings", &settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for round in 1..=options.rounds {
        for threads in options.threads.iter().copied() {
            for (kind, file) in files(options)? {
                let bytes = std::fs::metadata(&file)?.len();
                let (dots, read) = limits(threads, path, bytes)?;
                let (prompt, text, info) = runtime.block_on(reached(&file, threads))?;
                let vocabulary = info.outputs.first().and_then(|o| o.shape.first().copied().flatten());
                let layers = info.parameters.saturating_sub(vocabulary.context("no vocabulary")? * WIDTH);
                let (wanted, touched) = (prompt * layers as f64 / 1e9, text * bytes as f64 / 1e9);
                let figures = [
                    ("dot products G/s", dots),
                    ("prompt tokens/s", prompt),
                    ("prompt, share of dot products", wanted / dots),
                    ("memory GB/s", read),
                    ("1 sequence without look-up, tokens/s", text),
                    ("1 sequence, share of memory", touched / read),
                ];
                results.add(&format!("{kind}, threads: {threads}"), round, &figures);
            }
        }
    }
    Ok(results)
}

/// Billions of multiply-adds a second, and billions of bytes read a second.
fn limits(threads: usize, path: Instructions, bytes: u64) -> Result<(f64, f64)> {
    let pool = Pool::new(threads)?;
    let (begun, mut done) = (Instant::now(), 0_u64);
    while begun.elapsed().as_secs_f64() < SECONDS {
        done += dot_products(&pool, path, ROUNDS)?;
    }
    let dots = done as f64 / begun.elapsed().as_secs_f64() / 1e9;
    let memory = vec![1_u8; usize::try_from(bytes)?];
    // Pages are there after the first time.
    read_through(&pool, path, &memory)?;
    let (begun, mut read) = (Instant::now(), 0_u64);
    while begun.elapsed().as_secs_f64() < SECONDS {
        read_through(&pool, path, &memory)?;
        read += bytes;
    }
    Ok((dots, read as f64 / begun.elapsed().as_secs_f64() / 1e9))
}

/// Tokens of a prompt a second, and of one text without look-up; and the model.
async fn reached(file: &Path, threads: usize) -> Result<(f64, f64, ModelInfo)> {
    let (worker, _, info) = started(file, threads, false).await?;
    generate(&worker, b"warm", &words(1, SHORT), 8, SHORT).await?;
    let begun = Instant::now();
    let prompt = generate(&worker, b"prompt", &words(1_000, LONG), 1, LONG).await?;
    let prompt = LONG as f64 / (prompt.first - begun).as_secs_f64();
    let text = generate(&worker, b"text", &words(2, SHORT), GIVEN, SHORT).await?;
    let text = f64::from(text.tokens.saturating_sub(1)) / (text.last - text.first).as_secs_f64();
    worker.stop().await;
    Ok((prompt, text, info))
}
