//! Shift: how far a validator's data lies from a reference sample of what the model was made for. With enough samples any
//! two real datasets differ "significantly", so a dataset fails only if the difference is both certain and large: then it
//! is of another domain, and a grade on it would say nothing.
#![allow(clippy::float_arithmetic)]

use std::collections::BTreeMap;

use super::{Check, Criterion, statistics};
use crate::{draw::Seed, metrics::sum};

/// One column of both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// What it is called.
    pub name: String,
    /// Its values.
    pub values: Values,
}

/// Values of a column: the reference's, then the validator's.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Numbers, compared by Kolmogorov and Smirnov.
    Numbers(Vec<f64>, Vec<f64>),
    /// Categories by the caller's ids, compared by χ².
    Categories(Vec<u32>, Vec<u32>),
}

/// Where a shift counts as another domain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Probability of failing a dataset that is not shifted at all, over all columns together (Holm).
    pub alpha: f64,
    /// Size of the effect in one column from which on it counts: the statistic D, or Cramér's V.
    pub effect: f64,
}

impl Default for Limits {
    /// One in a hundred; and 0.5: half of the mass lies elsewhere.
    fn default() -> Self {
        Self { alpha: 0.01, effect: 0.5 }
    }
}

/// Columns that are compared.
pub const COLUMNS: usize = 4_096;
/// Samples on each side below which nothing is said.
pub const ROWS: usize = 20;

/// Compares column by column, and all numeric columns together by MMD on ranks scaled to 0..1, with Holm's correction over
/// all of it. The same seed gives the same figures.
#[must_use]
pub fn check(columns: &[Column], limits: Limits, seed: &Seed) -> Check {
    if columns.is_empty() {
        return Check::not_assessable(Criterion::Shift, "the publisher gave no reference sample");
    }
    if columns.len() > COLUMNS {
        return Check::not_assessable(Criterion::Shift, "more than 4,096 columns: compare features, not raw values");
    }
    let mut tests: Vec<(String, f64, f64)> = columns.iter().filter_map(one).collect();
    if tests.is_empty() {
        return Check::not_assessable(Criterion::Shift, "no column has 20 values or more on both sides");
    }
    let joint = together(columns, seed);
    let mut p: Vec<f64> = tests.iter().map(|t| t.1).collect();
    p.extend(joint.map(|m| m.p));
    let adjusted = statistics::holm(&p);
    let mut check = Check::new(Criterion::Shift);
    let differing = adjusted.iter().zip(&tests).filter(|(p, _)| **p < limits.alpha).count();
    check.tell("columns compared", tests.len() as f64);
    check.tell("columns that differ, after Holm's correction", differing as f64);
    if let Some((m, p)) = joint.zip(adjusted.last()) {
        check.tell("all numbers together, MMD²", m.squared);
        check.tell("all numbers together, p after correction", *p);
    }
    for (test, p) in tests.iter_mut().zip(&adjusted) {
        test.1 = *p;
    }
    let worst = tests.into_iter().filter(|t| t.1 < limits.alpha).max_by(|a, b| a.2.total_cmp(&b.2));
    if let Some((name, _, effect)) = worst {
        check.at_most(format!("largest certain difference (0 to 1), in column {name}"), effect, limits.effect);
    }
    check.notes.push("A shift below the limit is welcome: the data is new to the model.".to_owned());
    check
}

/// (name, p, effect) of one column.
fn one(column: &Column) -> Option<(String, f64, f64)> {
    let (p, effect) = match &column.values {
        Values::Numbers(l, r) if l.len() >= ROWS && r.len() >= ROWS => {
            statistics::kolmogorov_smirnov(l, r).map(|(d, p)| (p, d))?
        }
        Values::Categories(l, r) if l.len() >= ROWS && r.len() >= ROWS => {
            let (left, right) = pooled(l, r);
            statistics::chi_square(&left, &right).map(|c| (c.p, c.v))?
        }
        _ => return None,
    };
    Some((column.name.clone(), p, effect))
}

/// Counts per category; those expected fewer than 5 times on either side are counted as one, since χ² is wrong on them
/// (Cochran 1954).
fn pooled(left: &[u32], right: &[u32]) -> (Vec<u64>, Vec<u64>) {
    let mut counts: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    left.iter().for_each(|c| counts.entry(*c).or_default().0 += 1);
    right.iter().for_each(|c| counts.entry(*c).or_default().1 += 1);
    let smaller = left.len().min(right.len()) as f64 / (left.len() + right.len()) as f64;
    let rare = |(l, r): (u64, u64)| (l + r) as f64 * smaller < 5.0;
    let mut rest = (0, 0);
    let mut out = (Vec::new(), Vec::new());
    for pair in counts.into_values() {
        if rare(pair) {
            rest = (rest.0 + pair.0, rest.1 + pair.1);
        } else {
            out.0.push(pair.0);
            out.1.push(pair.1);
        }
    }
    if rest != (0, 0) {
        out.0.push(rest.0);
        out.1.push(rest.1);
    }
    out
}

/// MMD over the numeric columns that have as many values as the first one, each replaced by its rank among both sides:
/// so no column's unit outweighs another's.
fn together(columns: &[Column], seed: &Seed) -> Option<statistics::Mmd> {
    let numbers: Vec<(&[f64], &[f64])> = columns
        .iter()
        .filter_map(|c| match &c.values {
            Values::Numbers(l, r) => Some((l.as_slice(), r.as_slice())),
            Values::Categories(..) => None,
        })
        .collect();
    let (n, m) = numbers.first().map(|(l, r)| (l.len(), r.len()))?;
    if n < ROWS || m < ROWS || numbers.iter().any(|(l, r)| l.len() != n || r.len() != m) {
        return None;
    }
    let mut rows = vec![Vec::with_capacity(numbers.len()); n + m];
    for (l, r) in numbers {
        let mut sorted: Vec<f64> = l.iter().chain(r).copied().collect();
        sorted.sort_by(f64::total_cmp);
        for (row, v) in rows.iter_mut().zip(l.iter().chain(r)) {
            row.push(sorted.partition_point(|s| s.total_cmp(v).is_lt()) as f64 / (n + m) as f64);
        }
    }
    let right = rows.split_off(n);
    statistics::mmd(&rows, &right, seed, "shift/mmd")
}

/// The population stability index over the deciles of `reference`, and the value it exceeds by chance with probability
/// `alpha`: (1/n + 1/m)·χ² with one degree of freedom less than bins. The usual fixed limits (0.1, 0.25) are noise on small
/// samples. Half a count is added to each bin. `None` below [`ROWS`] values or without two different bins.
#[must_use]
pub fn stability_index(reference: &[f64], other: &[f64], alpha: f64) -> Option<(f64, f64)> {
    if reference.len() < ROWS || other.len() < ROWS {
        return None;
    }
    let mut sorted = reference.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut edges: Vec<f64> = (1..10).map(|d| sorted[d * sorted.len() / 10]).collect();
    edges.dedup();
    let bins = edges.len() + 1;
    let shares = |values: &[f64]| -> Vec<f64> {
        let mut counts = vec![0.5; bins];
        values.iter().for_each(|v| counts[edges.partition_point(|e| e <= v)] += 1.0);
        let total = sum(counts.iter().copied());
        counts.into_iter().map(|c| c / total).collect()
    };
    let (p, q) = (shares(reference), shares(other));
    let index = sum(p.iter().zip(&q).map(|(p, q)| (p - q) * libm::log(p / q)));
    let scale = 1.0 / reference.len() as f64 + 1.0 / other.len() as f64;
    (bins > 1).then(|| (index, scale * statistics::chi_square_limit(bins as f64 - 1.0, alpha)))
}
