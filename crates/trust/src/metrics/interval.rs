//! How sure a figure is: Wilson's interval for shares, a seeded percentile bootstrap for everything else. Owns the rule
//! that grades rest on the lower bound, so that few samples never look like a good model.
#![allow(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

use super::MetricError;
use crate::draw::{Draws, Seed};

/// 97.5 % point of the standard normal distribution: two-sided 95 %.
pub const Z95: f64 = 1.959_963_984_540_054;
/// Resamples of a bootstrap unless said otherwise: the ends of a 95 % interval then rest on 25 of them each.
pub const RESAMPLES: u32 = 1_000;
/// Resamples allowed.
const MOST_RESAMPLES: u32 = 100_000;

/// How an interval was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Wilson 1927, 95 %.
    Wilson,
    /// Percentiles 2.5 and 97.5 of this many resamples on which the figure is defined.
    Bootstrap(u32),
}

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure on the whole set.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Samples behind it.
    pub samples: u64,
    /// How the interval was found.
    pub method: Method,
}

/// Wilson's score interval (1927) of `hits` among `n` at `z` standard deviations: (low, high). It stays within 0 and 1
/// and holds its coverage at few samples and near the ends, where the usual ±z·√(p(1−p)/n) does not (Brown, Cai and
/// DasGupta 2001). (0, 1) for `n = 0`.
#[must_use]
pub fn wilson(hits: u64, n: u64, z: f64) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    wilson_at(hits.min(n) as f64 / n as f64, n as f64, z)
}

fn wilson_at(p: f64, n: f64, z: f64) -> (f64, f64) {
    let z2 = z * z;
    let middle = p + z2 / (2.0 * n);
    let half = z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    // At the ends the algebra gives exactly 0 and 1; rounding would leave 1e-17.
    let low = if p == 0.0 { 0.0 } else { (middle - half) / scale };
    let high = if p == 1.0 { 1.0 } else { (middle + half) / scale };
    (low.max(0.0), high.min(1.0))
}

/// The interval of a figure that lies between 0 and 1, made no narrower than Wilson's for a share of the same value on as many samples.
/// A bootstrap knows nothing of what it has not seen: five right answers out of five would give "1 to 1". A mean of values
/// between 0 and 1 varies at most as much as a share does, so this errs to the careful side.
#[must_use]
pub fn no_narrower_than_wilson(e: Estimate) -> Estimate {
    if e.samples == 0 || !(0.0..=1.0).contains(&e.value) {
        return e;
    }
    let (low, high) = wilson_at(e.value, e.samples as f64, Z95);
    Estimate { low: e.low.min(low), high: e.high.max(high), ..e }
}

/// A share with Wilson's interval.
///
/// # Errors
/// No samples.
pub fn share(hits: u64, n: u64) -> Result<Estimate, MetricError> {
    if n == 0 {
        return Err(MetricError::Empty);
    }
    let (low, high) = wilson(hits, n, Z95);
    Ok(Estimate { value: hits.min(n) as f64 / n as f64, low, high, samples: n, method: Method::Wilson })
}

/// What a bootstrap draws.
#[derive(Clone, Copy, Debug)]
pub struct Bootstrap<'a> {
    /// The run's seed.
    pub seed: &'a Seed,
    /// Names the figure, so that two figures of one run draw apart.
    pub label: &'a str,
    /// Resamples, 40 to 100,000; see [`RESAMPLES`].
    pub resamples: u32,
    /// Threads to use; the result does not depend on it. 0 counts as 1.
    pub threads: usize,
}

/// A figure with the percentile interval of a bootstrap (Efron 1979): `figure` is computed on the samples whose numbers
/// it gets, first on all `n`, then on `n` drawn with replacement, once per resample. Resample i is drawn from the stream
/// (seed, label, i) whatever thread does it. Where `figure` is not defined on a resample (one class only, say) that one is left out.
///
/// # Errors
/// What `figure` fails with on the whole set; or fewer than half of the resamples had it defined.
pub fn bootstrap(
    n: usize,
    draw: Bootstrap<'_>,
    figure: impl Fn(&[usize]) -> Result<f64, MetricError> + Sync,
) -> Result<Estimate, MetricError> {
    if n == 0 {
        return Err(MetricError::Empty);
    }
    let value = figure(&(0..n).collect::<Vec<_>>())?;
    let resamples = draw.resamples.clamp(40, MOST_RESAMPLES);
    let mut values: Vec<f64> = vec![f64::NAN; resamples as usize];
    let part = values.len().div_ceil(draw.threads.max(1));
    std::thread::scope(|scope| {
        for (t, slots) in values.chunks_mut(part).enumerate() {
            let figure = &figure;
            scope.spawn(move || {
                let mut rows = vec![0; n];
                for (i, slot) in slots.iter_mut().enumerate() {
                    let mut draws = Draws::new(draw.seed, draw.label, (t * part + i) as u64);
                    rows.fill_with(|| draws.below(n));
                    *slot = figure(&rows).unwrap_or(f64::NAN);
                }
            });
        }
    });
    values.retain(|v| !v.is_nan());
    if values.len() * 2 < resamples as usize {
        return Err(MetricError::Undefined("the figure exists on fewer than half of the resamples: too few samples"));
    }
    values.sort_by(f64::total_cmp);
    let kept = u32::try_from(values.len()).unwrap_or(u32::MAX);
    let (low, high) = (percentile(&values, 0.025), percentile(&values, 0.975));
    // The figure of the whole set may lie outside of a skewed set of resamples; the interval then reaches to it.
    Ok(Estimate {
        value,
        low: low.min(value),
        high: high.max(value),
        samples: n as u64,
        method: Method::Bootstrap(kept),
    })
}

/// The value that a share `q` of the sorted values does not exceed, interpolated as numpy's default does.
fn percentile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len().saturating_sub(1)) as f64;
    let (below, part) = (place.floor() as usize, place - place.floor());
    let at = |i: usize| sorted.get(i).or(sorted.last()).copied().unwrap_or(f64::NAN);
    at(below) + (at(below + 1) - at(below)) * part
}
