//! Figures of classification from scores and probabilities: ROC-AUC, average precision (the area under the
//! precision-recall curve), log loss, calibration error. Owns how ties are treated: equal scores are one threshold.
#![allow(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};
use zero2ai_proto::tensor::argmax;

use super::{MetricError, finite, paired, sum};

/// Bins of the calibration error unless another number is asked: as in Guo et al. 2017.
pub const BINS: usize = 15;

/// How far the probabilities of one row may be from adding up to 1: what 32-bit softmax over many classes leaves.
const SUM_TOLERANCE: f64 = 1e-3;

/// Area under the ROC curve: the probability that a random positive scores above a random negative, ties counting half
/// (Mann and Whitney 1947). The pairs are counted in integers, so the result is one division.
///
/// # Errors
/// Lists that don't match, a score that is not finite, or one class only: there the area is not defined.
pub fn roc_auc(truth: &[bool], scores: &[f64]) -> Result<f64, MetricError> {
    let groups = by_score(truth, scores)?;
    // Twice the number of (positive, negative) pairs in the right order, from the lowest score up.
    let (mut twice, mut negatives) = (0u128, 0u128);
    for &(positive, negative) in groups.iter().rev() {
        twice += u128::from(positive) * (2 * negatives + u128::from(negative));
        negatives += u128::from(negative);
    }
    let positives: u128 = groups.iter().map(|g| u128::from(g.0)).sum();
    if positives == 0 || negatives == 0 {
        return Err(MetricError::Undefined("ROC-AUC needs samples of both classes"));
    }
    Ok(twice as f64 / (2 * positives * negatives) as f64)
}

/// Average precision: Σ (Rᵢ − Rᵢ₋₁)·Pᵢ over thresholds from the highest score down, as scikit-learn's
/// `average_precision_score`. No interpolation: the trapezoid is too optimistic (Davis and Goadrich 2006).
///
/// # Errors
/// As [`roc_auc`]; it is defined without negatives, not without positives.
pub fn average_precision(truth: &[bool], scores: &[f64]) -> Result<f64, MetricError> {
    let groups = by_score(truth, scores)?;
    let positives = groups.iter().map(|g| g.0).sum::<u64>() as f64;
    if positives == 0.0 {
        return Err(MetricError::Undefined("average precision needs at least one positive sample"));
    }
    let (mut tp, mut said) = (0u64, 0u64);
    Ok(sum(groups.iter().map(|&(positive, negative)| {
        tp += positive;
        said += positive + negative;
        (positive as f64 / positives) * (tp as f64 / said as f64)
    })))
}

/// [`roc_auc`] of each class against the rest, averaged over classes (`multi_class="ovr", average="macro"`).
///
/// # Errors
/// As [`roc_auc`], for any class.
pub fn roc_auc_one_vs_rest(truth: &[u16], rows: &[Vec<f64>]) -> Result<f64, MetricError> {
    one_vs_rest(truth, rows, roc_auc)
}

/// [`average_precision`] of each class against the rest, averaged over classes.
///
/// # Errors
/// As [`average_precision`], for any class.
pub fn average_precision_one_vs_rest(truth: &[u16], rows: &[Vec<f64>]) -> Result<f64, MetricError> {
    one_vs_rest(truth, rows, average_precision)
}

/// Mean of −ln p(true class). Probabilities are clipped to [2⁻⁵², 1 − 2⁻⁵²], as scikit-learn's `log_loss` does for
/// doubles, so that one certain mistake costs 36 and not infinity.
///
/// # Errors
/// Lists that don't match, a row that is no distribution over the classes, or a class outside of it.
pub fn log_loss(truth: &[u16], rows: &[Vec<f64>]) -> Result<f64, MetricError> {
    let classes = distributions(truth, rows)?;
    let clip = |p: f64| p.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
    let losses: Result<Vec<f64>, MetricError> = (truth.iter().zip(rows).enumerate())
        .map(|(row, (&class, p))| match p.get(usize::from(class)) {
            Some(p) => Ok(-libm::log(clip(*p))),
            None => Err(MetricError::Class { row, class, classes }),
        })
        .collect();
    losses.map(|l| sum(l.iter().copied()) / l.len() as f64)
}

/// One bin of a calibration curve: answers whose confidence lies in (low, high].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Lower edge, excluded (but for 0).
    pub low: f64,
    /// Upper edge, included.
    pub high: f64,
    /// Answers in it.
    pub samples: u64,
    /// Their mean confidence; 0 where there are none.
    pub confidence: f64,
    /// Share of them that were right; 0 where there are none.
    pub accuracy: f64,
}

/// What calibration comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error: Σ (bin's share of samples)·|accuracy − confidence| (Guo et al. 2017, arXiv 1706.04599).
    pub ece: f64,
    /// Bins of equal width, the empty ones too.
    pub bins: Vec<CalibrationBin>,
}

/// Calibration of the most likely class. The error depends on the number of bins and is biased upward on few samples:
/// compare only figures with the same number of bins.
///
/// # Errors
/// As [`log_loss`], and `bins` must be 1 to 1,000.
pub fn calibration(truth: &[u16], rows: &[Vec<f64>], bins: usize) -> Result<Calibration, MetricError> {
    distributions(truth, rows)?;
    let answers: Vec<(f64, bool)> = (truth.iter().zip(rows))
        .map(|(&class, p)| {
            let best = argmax(p);
            (p.get(best).copied().unwrap_or(0.0), best == usize::from(class))
        })
        .collect();
    binned(&answers, bins)
}

/// Calibration of any (confidence, was right) pairs.
///
/// # Errors
/// No answers, a confidence outside of [0, 1], or a number of bins outside of 1 to 1,000.
pub fn binned(answers: &[(f64, bool)], bins: usize) -> Result<Calibration, MetricError> {
    if answers.is_empty() {
        return Err(MetricError::Empty);
    }
    if bins == 0 || bins > 1_000 {
        return Err(MetricError::TooMany { what: "bins (or none)", got: bins, limit: 1_000 });
    }
    if let Some(row) = answers.iter().position(|(c, _)| !(0.0..=1.0).contains(c)) {
        return Err(MetricError::Value { row, what: "a confidence outside of 0 to 1" });
    }
    let width = 1.0 / bins as f64;
    // The edge i is i·width, as numpy's linspace makes it; a confidence on an edge belongs below it.
    let place = |c: f64| (1..bins).find(|i| c <= *i as f64 * width).unwrap_or(bins) - 1;
    let mut members: Vec<Vec<(f64, bool)>> = vec![Vec::new(); bins];
    for answer in answers {
        members[place(answer.0)].push(*answer);
    }
    let bins: Vec<CalibrationBin> = (members.iter().enumerate())
        .map(|(i, m)| {
            let n = m.len().max(1) as f64;
            CalibrationBin {
                low: i as f64 * width,
                high: (i + 1) as f64 * width,
                samples: m.len() as u64,
                confidence: sum(m.iter().map(|a| a.0)) / n,
                accuracy: m.iter().filter(|a| a.1).count() as f64 / n,
            }
        })
        .collect();
    let n = answers.len() as f64;
    let ece = sum(bins.iter().map(|b| b.samples as f64 / n * (b.accuracy - b.confidence).abs()));
    Ok(Calibration { ece, bins })
}

/// (positives, negatives) for each distinct score, from the highest down.
fn by_score(truth: &[bool], scores: &[f64]) -> Result<Vec<(u64, u64)>, MetricError> {
    paired(truth, scores)?;
    finite(scores)?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut groups: Vec<(u64, u64)> = Vec::new();
    let mut last = None;
    for i in order {
        // Compared as numbers: −0 and 0 are one threshold.
        if last != Some(scores[i] + 0.0) {
            groups.push((0, 0));
            last = Some(scores[i] + 0.0);
        }
        if let Some(group) = groups.last_mut() {
            if truth[i] { group.0 += 1 } else { group.1 += 1 }
        }
    }
    Ok(groups)
}

fn one_vs_rest(
    truth: &[u16],
    rows: &[Vec<f64>],
    figure: fn(&[bool], &[f64]) -> Result<f64, MetricError>,
) -> Result<f64, MetricError> {
    paired(truth, rows)?;
    let classes = same_width(rows)?;
    let each: Result<Vec<f64>, MetricError> = (0..classes)
        .map(|class| {
            let is: Vec<bool> = truth.iter().map(|t| *t == class).collect();
            let scores: Vec<f64> = rows.iter().map(|r| r[usize::from(class)]).collect();
            figure(&is, &scores)
        })
        .collect();
    each.map(|e| sum(e.iter().copied()) / f64::from(classes))
}

fn same_width(rows: &[Vec<f64>]) -> Result<u16, MetricError> {
    let width = rows.first().map_or(0, Vec::len);
    match rows.iter().position(|r| r.len() != width || r.is_empty()) {
        Some(row) => Err(MetricError::Value { row, what: "another number of scores than the first sample, or none" }),
        None => u16::try_from(width).map_err(|_| MetricError::TooMany {
            what: "classes",
            got: width,
            limit: usize::from(u16::MAX),
        }),
    }
}

/// Every row is a distribution over the same classes: how many.
fn distributions(truth: &[u16], rows: &[Vec<f64>]) -> Result<u16, MetricError> {
    paired(truth, rows)?;
    let classes = same_width(rows)?;
    for (row, p) in rows.iter().enumerate() {
        if p.iter().any(|v| !(0.0..=1.0).contains(v)) {
            return Err(MetricError::Value { row, what: "a probability outside of 0 to 1" });
        }
        if (sum(p.iter().copied()) - 1.0).abs() > SUM_TOLERANCE {
            return Err(MetricError::Value { row, what: "probabilities that do not add up to 1" });
        }
    }
    if let Some(row) = truth.iter().position(|t| *t >= classes) {
        return Err(MetricError::Class { row, class: truth[row], classes });
    }
    Ok(classes)
}
