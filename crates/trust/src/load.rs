//! Load tests by the rules of MLPerf Inference (Reddi et al. 2020, arXiv 1911.02549; the rules of `mlcommons/inference_policies`):
//! when queries are sent, how many are needed, and which percentile is told. Owns the arithmetic alone: whoever sends the
//! queries keeps the clock.
//!
//! Latencies are whole microseconds. A schedule is the same for the same seed; what is measured against it is not, and
//! latency is therefore left out of what two validators must agree on.
#![allow(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

use crate::draw::{Draws, Seed};

/// How queries arrive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// One query of one sample; the next when it is answered. Reports the 90th percentile.
    SingleStream,
    /// One query of this many samples; the next when it is answered. Reports the 99th percentile.
    MultiStream(u32),
    /// Queries of one sample at random times, this many a second on average, whether earlier ones are answered or not.
    /// Reports the 99th percentile.
    Server(f64),
    /// All samples in one query. Reports samples a second.
    Offline,
}

/// Samples of one Offline query: MLPerf's least.
pub const OFFLINE: u64 = 24_576;
/// Queries of one schedule.
pub const QUERIES: usize = 10_000_000;

impl Scenario {
    /// The percentile that is reported, in hundredths of a percent; `None` for Offline, which reports throughput.
    #[must_use]
    pub fn percentile(self) -> Option<u32> {
        match self {
            Self::SingleStream => Some(9_000),
            Self::MultiStream(_) | Self::Server(_) => Some(9_900),
            Self::Offline => None,
        }
    }

    /// Queries (samples for Offline) that a run needs before its figure is told without a caveat.
    #[must_use]
    pub fn needed(self) -> u64 {
        self.percentile().map_or(OFFLINE, least_samples)
    }

    /// When each of `queries` is to be sent, microseconds from the start; `None` where the next waits for the last answer
    /// (SingleStream, MultiStream). Offline sends everything at 0. Server's times are a Poisson process: the gaps are
    /// exponential. At most [`QUERIES`]; a rate that is not above 0 gives no times.
    #[must_use]
    pub fn schedule(self, queries: usize, seed: &Seed) -> Option<Vec<u64>> {
        let queries = queries.min(QUERIES);
        match self {
            Self::SingleStream | Self::MultiStream(_) => None,
            Self::Offline => Some(vec![0; queries]),
            Self::Server(rate) if rate > 0.0 && rate.is_finite() => {
                let mut draws = Draws::new(seed, "load/server", 0);
                let mut time = 0.0;
                let next = |_| {
                    time += draws.exponential() / rate * 1e6;
                    time as u64
                };
                Some((0..queries).map(next).collect())
            }
            Self::Server(_) => Some(Vec::new()),
        }
    }
}

/// Queries that a percentile (hundredths of a percent) needs, by MLPerf's rule: with a margin of a twentieth of the tail
/// and 99 % confidence, n = Φ⁻¹(0.995)²·p(1 − p)/margin², rounded up to a multiple of 2¹³. 90 % → 24,576, 97 % → 90,112,
/// 99 % → 270,336. 0 % and 100 % need endless ones: `u64::MAX`.
#[must_use]
pub fn least_samples(percentile: u32) -> u64 {
    const Z: f64 = 2.575_829_303_548_900_4;
    const BLOCK: u64 = 1 << 13;
    if percentile == 0 || percentile >= 10_000 {
        return u64::MAX;
    }
    let p = f64::from(percentile) / 10_000.0;
    let margin = (1.0 - p) / 20.0;
    let n = (Z / margin) * (Z / margin) * p * (1.0 - p);
    (n.ceil() as u64).div_ceil(BLOCK) * BLOCK
}

/// Latency of each answer from the time it was *scheduled*: what waits in a queue because the system is behind counts
/// (coordinated omission is the error of not counting it). Answers before their time count as 0.
#[must_use]
pub fn latencies(scheduled: &[u64], answered: &[u64]) -> Vec<u64> {
    scheduled.iter().zip(answered).map(|(s, a)| a.saturating_sub(*s)).collect()
}

/// A percentile of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentile {
    /// Which, hundredths of a percent.
    pub percentile: u32,
    /// The smallest latency that at least this share does not exceed (nearest rank: one that occurred), microseconds.
    pub micros: u64,
    /// Lowest value that the true percentile plausibly has (95 %), from order statistics; microseconds.
    pub low: u64,
    /// Highest, likewise; `None` where the samples do not reach far enough into the tail to say.
    pub high: Option<u64>,
    /// The samples were enough by [`least_samples`].
    pub enough: bool,
}

/// The percentile (hundredths of a percent) of latencies in any order. `None` without any, or above 100 %.
#[must_use]
pub fn percentile(latencies: &[u64], percentile: u32) -> Option<Percentile> {
    if latencies.is_empty() || percentile > 10_000 {
        return None;
    }
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let n = sorted.len() as u64;
    let rank = (n * u64::from(percentile)).div_ceil(10_000).clamp(1, n);
    // The number of latencies below the true percentile is binomial: its normal 95 % range, as ranks.
    let p = f64::from(percentile) / 10_000.0;
    let half = crate::metrics::interval::Z95 * (n as f64 * p * (1.0 - p)).sqrt();
    let below = (n as f64 * p - half).floor().max(1.0) as usize;
    let above = (n as f64 * p + half).ceil() as usize + 1;
    Some(Percentile {
        percentile,
        micros: sorted[rank as usize - 1],
        low: sorted[(below - 1).min(rank as usize - 1)],
        high: sorted.get(above - 1).copied(),
        enough: n >= least_samples(percentile),
    })
}

/// What a load run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadResult {
    /// How queries arrived.
    pub scenario: Scenario,
    /// Queries answered.
    pub queries: u64,
    /// Samples answered a second, over the whole run.
    pub samples_per_second: f64,
    /// 50, 90, 95, 99 and 99.9 %, as far as there is a sample for them.
    pub percentiles: Vec<Percentile>,
    /// The run was long enough for the scenario's own figure.
    pub enough: bool,
}

/// Sums up a run: latencies in microseconds, samples in all, and how long it took from the first query to the last answer.
#[must_use]
pub fn summary(scenario: Scenario, latencies: &[u64], samples: u64, micros: u64) -> LoadResult {
    let queries = latencies.len() as u64;
    let counted = if scenario == Scenario::Offline { samples } else { queries };
    LoadResult {
        scenario,
        queries,
        samples_per_second: if micros == 0 { 0.0 } else { samples as f64 * 1e6 / micros as f64 },
        percentiles: [5_000, 9_000, 9_500, 9_900, 9_990].into_iter().filter_map(|p| percentile(latencies, p)).collect(),
        enough: counted >= scenario.needed(),
    }
}
