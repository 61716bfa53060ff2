//! The first token of a long prompt through a node (peer RPC: a signed request, its admission, the stream) beside the same
//! worker asked from this process. In turns, each time another prompt, so that nothing is known of it.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use zero2ai_client::{Client, TextEvent};
use zero2ai_proto::ModelRef;

use super::{
    Options,
    side::{generate, input, started, words},
};
use crate::{
    files::Scratch,
    results::Results,
    rpc::node::{Node, join},
};

/// Names of the rows.
pub(crate) const IN_PROCESS: &str = "in process";
pub(crate) const THROUGH: &str = "through a node, peer RPC";
/// Tokens of a prompt.
const LONG: usize = 512;
/// Prompts of one round.
const PROMPTS: usize = 8;
/// Patience with a text.
const LONGEST: Duration = Duration::from_secs(120);
const NAME: &str = "bench/text";

pub(super) fn run(options: &Options, model: &str) -> Result<Results> {
    let threads = options.threads.first().copied().unwrap_or(1);
    let settings = [
        ("model", model.to_owned()),
        ("prompt tokens", LONG.to_string()),
        ("threads", threads.to_string()),
        ("prompts of a round", PROMPTS.to_string()),
    ];
    let mut results = Results::new("text-rpc", &settings);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let work = Scratch::new(fs::canonicalize(&options.work)?.join("text-rpc"))?;
    let node = Node::start(&options.program, work.path(), &format!("[worker]\nthreads = {threads}\n"))?;
    node.publish(&fs::canonicalize(&options.model)?, NAME)?;
    runtime.block_on(measure(options, threads, &node, &mut results))?;
    Ok(results)
}

async fn measure(options: &Options, threads: usize, node: &Node, results: &mut Results) -> Result<()> {
    let client = join(&node.invite(1)?).await?;
    let (worker, _, _) = started(&options.model, threads, true).await?;
    let mut seed = 5_000;
    // Both have packed their weights and know how much they can read at once.
    for _ in 0..2 {
        generate(&worker, b"warm", &words(seed, LONG), 1, LONG).await?;
        first_token(&client, &words(seed, LONG)).await?;
        seed += 1;
    }
    for round in 1..=options.rounds {
        let (mut alone, mut through) = (Vec::new(), Vec::new());
        for _ in 0..PROMPTS {
            let prompt = words(seed, LONG);
            seed += 1;
            let begun = Instant::now();
            alone.push((generate(&worker, b"one", &prompt, 1, LONG).await?.first - begun).as_secs_f64() * 1e3);
            through.push(first_token(&client, &prompt).await?.as_secs_f64() * 1e3);
        }
        let (alone, through) = (median(alone)?, median(through)?);
        results.add(IN_PROCESS, round, &[("first token ms", alone)]);
        results.add(THROUGH, round, &[("first token ms", through), ("× in process", through / alone)]);
    }
    worker.stop().await;
    Ok(())
}

/// Until the first token; the name was looked up a moment ago, as a client that goes on asking has.
async fn first_token(client: &Client, prompt: &str) -> Result<Duration> {
    let name: ModelRef = NAME.parse().context("the name")?;
    let found = client.find(&name).await?;
    let begun = Instant::now();
    let mut text = client.generate(&found, input(prompt, 1), LONGEST).await?;
    match text.next().await.transpose()? {
        Some(TextEvent::Token(_)) => {
            let took = begun.elapsed();
            // To its end, so that its place is free.
            while text.next().await.transpose()?.is_some() {}
            Ok(took)
        }
        _ => bail!("no token came"),
    }
}

fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("no value")
}
