//! Tests of two samples and what many tests cost: Kolmogorov and Smirnov, χ², maximum mean discrepancy, corrections. Owns
//! the tail probabilities, computed with `libm` so that every machine gets the same bits.
#![allow(clippy::float_arithmetic)]

use std::f64::consts::PI;

use crate::{
    draw::{Draws, Seed},
    metrics::sum,
};

/// The Kolmogorov–Smirnov statistic of two samples and its asymptotic p-value (Kolmogorov's distribution at
/// √(nm/(n+m))·D; on small or tied samples it is too large, so the test errs to the careful side). Values that are not
/// finite are left out; `None` if nothing remains of one.
#[must_use]
pub fn kolmogorov_smirnov(left: &[f64], right: &[f64]) -> Option<(f64, f64)> {
    let sorted = |values: &[f64]| {
        let mut v: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        v.sort_by(f64::total_cmp);
        v
    };
    let (left, right) = (sorted(left), sorted(right));
    if left.is_empty() || right.is_empty() {
        return None;
    }
    let (n, m) = (left.len() as f64, right.len() as f64);
    let (mut i, mut j, mut d) = (0, 0, 0.0f64);
    while i < left.len() && j < right.len() {
        // Equal values are passed on both sides before the distance is taken.
        let value = left[i].min(right[j]);
        while i < left.len() && left[i] <= value {
            i += 1;
        }
        while j < right.len() && right[j] <= value {
            j += 1;
        }
        d = d.max((i as f64 / n - j as f64 / m).abs());
    }
    Some((d, kolmogorov_tail((n * m / (n + m)).sqrt() * d)))
}

/// P(K > x) of Kolmogorov's distribution. Two series that converge fast on their side of 1.
#[must_use]
pub fn kolmogorov_tail(x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    if x < 1.0 {
        let term = |k: f64| libm::exp(-(2.0 * k - 1.0) * (2.0 * k - 1.0) * PI * PI / (8.0 * x * x));
        return (1.0 - (2.0 * PI).sqrt() / x * sum((1..=10).map(|k| term(f64::from(k))))).clamp(0.0, 1.0);
    }
    let term = |k: i32| f64::from(if k % 2 == 1 { 2 } else { -2 }) * libm::exp(-2.0 * f64::from(k * k) * x * x);
    sum((1..=20).map(term)).clamp(0.0, 1.0)
}

/// What the χ² test of homogeneity found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChiSquare {
    /// The statistic.
    pub statistic: f64,
    /// Its p-value.
    pub p: f64,
    /// Cramér's V, the size of the effect: 0 none, 1 nothing in common.
    pub v: f64,
}

/// χ² over the counts of each category in two samples (Pearson 1900), without Yates' correction. Categories in neither
/// are left out. `None` with fewer than two categories or an empty sample.
#[must_use]
pub fn chi_square(left: &[u64], right: &[u64]) -> Option<ChiSquare> {
    let pairs: Vec<(f64, f64)> =
        left.iter().zip(right).filter(|(l, r)| **l + **r > 0).map(|(l, r)| (*l as f64, *r as f64)).collect();
    let (n, m) = (sum(pairs.iter().map(|p| p.0)), sum(pairs.iter().map(|p| p.1)));
    if left.len() != right.len() || pairs.len() < 2 || n == 0.0 || m == 0.0 {
        return None;
    }
    let total = n + m;
    let statistic = sum(pairs.iter().map(|(l, r)| {
        let (el, er) = ((l + r) * n / total, (l + r) * m / total);
        (l - el) * (l - el) / el + (r - er) * (r - er) / er
    }));
    let p = chi_square_tail(pairs.len() as f64 - 1.0, statistic);
    // The smaller side of the table is 2 rows: V = √(χ²/N).
    Some(ChiSquare { statistic, p, v: (statistic / total).sqrt().min(1.0) })
}

/// P(X > x) of the χ² distribution with `df` degrees of freedom.
#[must_use]
pub fn chi_square_tail(df: f64, x: f64) -> f64 {
    gamma_tail(df / 2.0, x / 2.0)
}

/// The x that a χ² variable with `df` degrees of freedom exceeds with probability `p`; by bisection to 1e-10.
#[must_use]
pub fn chi_square_limit(df: f64, p: f64) -> f64 {
    let (mut low, mut high) = (0.0, 10.0 * df + 200.0);
    while high - low > 1e-10 * high {
        let middle = (low + high) / 2.0;
        if chi_square_tail(df, middle) > p { low = middle } else { high = middle }
    }
    high
}

/// Regularised upper incomplete gamma function Q(a, x): the series below a + 1, Lentz's continued fraction above (DLMF
/// 8.7.1 and 8.9.2).
fn gamma_tail(a: f64, x: f64) -> f64 {
    if x <= 0.0 || a <= 0.0 {
        return 1.0;
    }
    let scale = libm::exp(a * libm::log(x) - x - libm::lgamma(a));
    if x < a + 1.0 {
        let (mut term, mut total, mut k) = (1.0 / a, 1.0 / a, a);
        for _ in 0..1_000 {
            k += 1.0;
            term *= x / k;
            total += term;
            if term < total * 1e-17 {
                break;
            }
        }
        return (1.0 - scale * total).clamp(0.0, 1.0);
    }
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1e300, 1.0 / b);
    let mut fraction = d;
    for i in 1..1_000 {
        let an = -f64::from(i) * (f64::from(i) - a);
        b += 2.0;
        d = 1.0 / nonzero(an * d + b);
        c = nonzero(b + an / c);
        let step = c * d;
        fraction *= step;
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    (scale * fraction).clamp(0.0, 1.0)
}

fn nonzero(x: f64) -> f64 {
    if x.abs() < 1e-300 { 1e-300 } else { x }
}

/// Maximum mean discrepancy (Gretton et al. 2012, JMLR 13) between two sets of rows: a Gaussian kernel with the median
/// distance as width, and a permutation test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mmd {
    /// The unbiased estimate of MMD²; may be a little below 0.
    pub squared: f64,
    /// Share of permutations (this one included) that are as far apart: exact, whatever the distribution.
    pub p: f64,
}

/// Rows of one side that are compared: more are sampled down, since the kernel takes the square of their number.
pub const MMD_ROWS: usize = 200;
/// Permutations: the smallest p-value is 1/500.
pub const MMD_PERMUTATIONS: u32 = 499;

/// Compares two sets of rows; at most [`MMD_ROWS`] of each are drawn. `None` with fewer than two rows on a side or rows of
/// different widths.
#[must_use]
pub fn mmd(left: &[Vec<f64>], right: &[Vec<f64>], seed: &Seed, label: &str) -> Option<Mmd> {
    let width = left.first()?.len();
    if left.iter().chain(right).any(|r| r.len() != width || r.iter().any(|v| !v.is_finite())) {
        return None;
    }
    let mut draws = Draws::new(seed, label, 0);
    let picked = |rows: &[Vec<f64>], draws: &mut Draws| -> Vec<Vec<f64>> {
        draws.choose(rows.len(), MMD_ROWS).into_iter().map(|i| rows[i].clone()).collect()
    };
    let (mut rows, others) = (picked(left, &mut draws), picked(right, &mut draws));
    let n = rows.len();
    rows.extend(others);
    if n < 2 || rows.len() < n + 2 {
        return None;
    }
    let kernel = kernel(&rows);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let squared = discrepancy(&kernel, &order, n);
    let mut as_far = 1u32;
    for _ in 0..MMD_PERMUTATIONS {
        draws.shuffle(&mut order);
        as_far += u32::from(discrepancy(&kernel, &order, n) >= squared);
    }
    Some(Mmd { squared, p: f64::from(as_far) / f64::from(MMD_PERMUTATIONS + 1) })
}

/// exp(−d²/(2·median d²)) of all pairs.
struct Kernel {
    values: Vec<Vec<f64>>,
    /// Of each row, without the pair with itself.
    sums: Vec<f64>,
    /// Of all pairs, each once.
    total: f64,
}

fn kernel(rows: &[Vec<f64>]) -> Kernel {
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>();
    let mut values: Vec<Vec<f64>> = rows.iter().map(|a| rows.iter().map(|b| distance(a, b)).collect()).collect();
    let mut upper: Vec<f64> = (0..rows.len()).flat_map(|i| values[i][i + 1..].to_vec()).collect();
    upper.sort_by(f64::total_cmp);
    let median = upper.get(upper.len() / 2).copied().filter(|d| *d > 0.0).unwrap_or(1.0);
    for (i, row) in values.iter_mut().enumerate() {
        for (j, d) in row.iter_mut().enumerate() {
            *d = if i == j { 0.0 } else { libm::exp(-*d / (2.0 * median)) };
        }
    }
    let sums: Vec<f64> = values.iter().map(|r| sum(r.iter().copied())).collect();
    let total = sum(sums.iter().copied()) / 2.0;
    Kernel { values, sums, total }
}

/// The unbiased MMD² where the first `n` of `order` are one sample and the rest the other. Only the pairs within the first
/// are added up; the rest follows from the sums of the rows.
fn discrepancy(kernel: &Kernel, order: &[usize], n: usize) -> f64 {
    let m = order.len() - n;
    let (mut left, mut touching) = (0.0, 0.0);
    for (place, i) in order[..n].iter().enumerate() {
        touching += kernel.sums[*i];
        left += order[..place].iter().map(|j| kernel.values[*i][*j]).sum::<f64>();
    }
    let across = touching - 2.0 * left;
    let right = kernel.total - left - across;
    let pairs = |n: usize| (n * (n - 1) / 2) as f64;
    left / pairs(n) + right / pairs(m) - 2.0 * across / (n * m) as f64
}

/// Holm's correction (1979): adjusted p-values in the order given. Whoever rejects those below α errs anywhere with
/// probability at most α, whatever the tests share.
#[must_use]
pub fn holm(p: &[f64]) -> Vec<f64> {
    let order = ascending(p);
    let mut adjusted = vec![1.0; p.len()];
    let mut running = 0.0f64;
    for (place, i) in order.into_iter().enumerate() {
        running = running.max((p[i] * (p.len() - place) as f64).min(1.0));
        adjusted[i] = running;
    }
    adjusted
}

/// Benjamini and Hochberg's correction (1995): adjusted p-values in the order given. Of those below α, at most a share α
/// is wrong on average, if the tests are independent.
#[must_use]
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut adjusted = vec![1.0; p.len()];
    let mut running = 1.0f64;
    for (place, i) in ascending(p).into_iter().enumerate().rev() {
        running = running.min(p[i] * p.len() as f64 / (place + 1) as f64);
        adjusted[i] = running;
    }
    adjusted
}

fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    order
}
