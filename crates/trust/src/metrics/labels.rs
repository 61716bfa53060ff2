//! Figures of single-label classification from classes alone: accuracy, precision, recall and F1 per class, micro and
//! macro, as scikit-learn's `precision_recall_fscore_support` with `zero_division=0` defines them. Owns the way from
//! answers to counts; the ledger's own macro scores are computed from the same counts in integers ([`super::counts`]).
#![allow(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};
use zero2ai_proto::{limits::CLASSES, tx::ClassCounts};

use super::{MetricError, paired, sum};

/// Precision, recall and F1, each a share from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prf {
    /// tp / (tp + fp); 0 where nothing was said.
    pub precision: f64,
    /// tp / (tp + fn); 0 where there was nothing to find.
    pub recall: f64,
    /// 2·tp / (2·tp + fp + fn); 0 where that is 0 / 0.
    pub f1: f64,
}

/// What a set of answers comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    /// Counts per class, in class order: what an endorsement carries.
    pub counts: Vec<ClassCounts>,
    /// Samples.
    pub samples: u32,
    /// Samples whose class was right.
    pub correct: u32,
}

/// Counts answers against truths.
///
/// # Errors
/// No samples, lists of different lengths, no class or more than the network grades, or a class outside of `classes`.
pub fn count(truth: &[u16], answers: &[u16], classes: u16) -> Result<Labels, MetricError> {
    let n = paired(truth, answers)?;
    let samples = u32::try_from(n).map_err(|_| too_many("samples", n, u32::MAX as usize))?;
    if usize::from(classes) > CLASSES {
        return Err(too_many("classes", usize::from(classes), CLASSES));
    }
    let mut counts = vec![ClassCounts::default(); usize::from(classes)];
    let mut correct = 0;
    for (row, (&t, &a)) in truth.iter().zip(answers).enumerate() {
        if let Some(&class) = [t, a].iter().find(|c| **c >= classes) {
            return Err(MetricError::Class { row, class, classes });
        }
        if t == a {
            counts[usize::from(t)].tp += 1;
            correct += 1;
        } else {
            counts[usize::from(a)].fp += 1;
            counts[usize::from(t)].fn_ += 1;
        }
    }
    Ok(Labels { counts, samples, correct })
}

impl Labels {
    /// Share of answers that were right.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        share(f64::from(self.correct), f64::from(self.samples))
    }

    /// In class order.
    #[must_use]
    pub fn per_class(&self) -> Vec<Prf> {
        let count = |c: &ClassCounts| prf(f64::from(c.tp), f64::from(c.fp), f64::from(c.fn_));
        self.counts.iter().map(count).collect()
    }

    /// From the counts of all classes together. With one label per sample all three equal the accuracy.
    #[must_use]
    pub fn micro(&self) -> Prf {
        // At most 256 terms of 32 bits: exact in a double.
        let total = |part: fn(&ClassCounts) -> u32| self.counts.iter().map(|c| f64::from(part(c))).sum::<f64>();
        prf(total(|c| c.tp), total(|c| c.fp), total(|c| c.fn_))
    }

    /// The mean over classes, those that never occur included.
    #[must_use]
    pub fn macro_mean(&self) -> Prf {
        let all = self.per_class();
        let mean = |part: fn(&Prf) -> f64| share(sum(all.iter().map(part)), all.len() as f64);
        Prf { precision: mean(|p| p.precision), recall: mean(|p| p.recall), f1: mean(|p| p.f1) }
    }
}

fn prf(tp: f64, fp: f64, fn_: f64) -> Prf {
    Prf { precision: share(tp, tp + fp), recall: share(tp, tp + fn_), f1: share(2.0 * tp, 2.0 * tp + fp + fn_) }
}

/// `over / under`, 0 for 0 / 0.
fn share(over: f64, under: f64) -> f64 {
    if under > 0.0 { over / under } else { 0.0 }
}

fn too_many(what: &'static str, got: usize, limit: usize) -> MetricError {
    MetricError::TooMany { what, got, limit }
}
