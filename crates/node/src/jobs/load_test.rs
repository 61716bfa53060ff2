//! A model under load, by the scenarios of MLPerf: several samples at once, queries at random times, everything in one go. Each is held to
//! seconds, so that a report comes to an end; what that is too short for, the report says.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures::stream::{FuturesUnordered, StreamExt as _};
use zero2ai_engine::Worker;
use zero2ai_proto::{rpc::RpcError, tensor::Tensor};
use zero2ai_trust::{
    draw::Seed,
    gate::composition::Load,
    load::{LoadResult, Scenario, latencies, least_samples, summary},
};
use zero2ai_validator::{
    Dataset, Findings, Predictor as _, Subject, assess::attacked::sizes, dataset::Samples, job::tokens,
    search::embed_calls,
};

use crate::{
    jobs::{Tell, report::Local, tell},
    serve::errors::invalid,
};

/// Time of one scenario. An answer in hand is waited for.
const TIME: Duration = Duration::from_secs(10);
/// Samples of a query of MultiStream.
const STREAMS: u32 = 8;
/// Share of what one call after the other gives that Server asks for: above, the queue only grows.
const BUSY: f64 = 0.7;
/// Queries a second of Server at most: beyond, the clock and not the model would be measured.
const RATE: f64 = 5_000.0;
/// Calls under way at once at most; a worker takes more, and says that it is busy beyond.
const AT_ONCE: usize = 32;
/// Distinct samples that are asked; a run comes back to the first.
const DISTINCT: usize = 256;
/// Which percentile the dataset's gate asks enough calls for, hundredths of a percent.
const JUDGED: u32 = 9_000;

/// What one query is.
enum Query {
    Tensors(Vec<Tensor>),
    Text(String, u32),
}

/// Runs all scenarios but SingleStream, which the run itself was.
pub(crate) async fn run(
    worker: &Worker,
    subject: &Subject,
    data: &Dataset,
    findings: &Findings,
    seed: Seed,
    progress: &Tell,
) -> Result<(Vec<LoadResult>, Option<Load>), RpcError> {
    let queries = queries(subject, data).map_err(invalid)?;
    let bench = Bench { worker: Local::new(worker), queries, most: AtomicU64::new(0), under_way: AtomicU64::new(0) };
    tell(progress, "under load: several at once", 0, 0);
    let multi = bench.multi().await.map_err(invalid)?;
    tell(progress, "under load: at random times", 0, 0);
    let mean = findings.latencies_us.iter().map(|l| f64::from(*l)).sum::<f64>() / f64::from(findings.samples.max(1));
    let rate = (BUSY * 1e6 / mean.max(1.0)).min(RATE);
    bench.most.store(0, Ordering::Relaxed);
    let server = bench.server(rate, &seed).await.map_err(invalid)?;
    tell(progress, "under load: all at once", 0, 0);
    let offline = bench.offline().await.map_err(invalid)?;
    let most = bench.most.load(Ordering::Relaxed);
    let load = Load {
        sizes: sizes(data, subject),
        calls: [&server, &multi].iter().map(|r| r.queries).max().unwrap_or(0),
        calls_needed: least_samples(JUDGED),
        concurrency: u32::try_from(most).unwrap_or(u32::MAX),
    };
    Ok((vec![multi, server, offline], Some(load)))
}

fn queries(subject: &Subject, data: &Dataset) -> Result<Vec<Query>, String> {
    let count = data.len().min(DISTINCT);
    match &data.samples {
        Samples::Prompts(all) => Ok(all.iter().take(count).map(|p| Query::Text(p.prompt.clone(), tokens(p))).collect()),
        Samples::Pairs(all) => {
            let one =
                |text: &String| embed_calls(std::slice::from_ref(text)).map(|mut c| Query::Tensors(c.swap_remove(0).1));
            all.iter().take(count).map(|p| one(&p.query)).collect()
        }
        _ => (0..count).map(|i| subject.inputs(data, i).map(Query::Tensors)).collect(),
    }
}

struct Bench<'a> {
    worker: Local<'a>,
    queries: Vec<Query>,
    most: AtomicU64,
    under_way: AtomicU64,
}

impl Bench<'_> {
    /// Asks the nth query.
    async fn ask(&self, nth: usize) -> Result<(), String> {
        let now = self.under_way.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        self.most.fetch_max(now, Ordering::Relaxed);
        let query = &self.queries[nth % self.queries.len().max(1)];
        let asked = match query {
            Query::Tensors(tensors) => self.worker.predict(tensors.clone()).await.map(|_| ()),
            Query::Text(prompt, tokens) => self.worker.say(prompt, *tokens).await.map(|_| ()),
        };
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        asked
    }

    /// One query of several samples after the other.
    async fn multi(&self) -> Result<LoadResult, String> {
        let (start, mut took, mut nth) = (Instant::now(), Vec::new(), 0usize);
        while start.elapsed() < TIME {
            let begun = Instant::now();
            let all = (0..STREAMS as usize).map(|i| self.ask(nth.saturating_add(i)));
            futures::future::try_join_all(all).await?;
            nth = nth.saturating_add(STREAMS as usize);
            took.push(micros(begun));
        }
        Ok(summary(Scenario::MultiStream(STREAMS), &took, nth as u64, micros(start)))
    }

    /// Queries when they are due, whether earlier ones are answered or not; latency counts from then, the wait for a place included.
    async fn server(&self, rate: f64, seed: &Seed) -> Result<LoadResult, String> {
        let scenario = Scenario::Server(rate);
        // As many as fall into the time on average.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = ((rate * TIME.as_secs_f64()) as usize).max(1);
        let due = scenario.schedule(count, seed).unwrap_or_default();
        let (start, mut answered) = (Instant::now(), vec![0u64; due.len()]);
        let mut under_way = FuturesUnordered::new();
        for (nth, at) in due.iter().enumerate() {
            loop {
                let left = at.saturating_sub(micros(start));
                if left == 0 && under_way.len() < AT_ONCE {
                    break;
                }
                tokio::select! {
                    Some(done) = under_way.next() => {
                        let (which, result): (usize, Result<(), String>) = done;
                        result?;
                        answered[which] = micros(start);
                    }
                    () = tokio::time::sleep(Duration::from_micros(left)), if left > 0 => {}
                }
            }
            under_way.push(async move { (nth, self.ask(nth).await) });
        }
        while let Some((which, result)) = under_way.next().await {
            result?;
            answered[which] = micros(start);
        }
        Ok(summary(scenario, &latencies(&due, &answered), due.len() as u64, micros(start)))
    }

    /// All samples in one go.
    async fn offline(&self) -> Result<LoadResult, String> {
        let start = Instant::now();
        let mut all = futures::stream::iter((0..).take_while(|_| start.elapsed() < TIME).map(|nth| self.ask(nth)))
            .buffer_unordered(AT_ONCE);
        let mut done = 0u64;
        while let Some(result) = all.next().await {
            result?;
            done = done.saturating_add(1);
        }
        Ok(summary(Scenario::Offline, &[micros(start)], done, micros(start)))
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
