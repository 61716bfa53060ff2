//! Attacks without gradients: what a validator, who sees a model's answers and nothing else, can do to break it. Budgeted in
//! queries, drawn from a seed, the same to the bit for whoever repeats them against the same model.
//!
//! **Black-box: they bound robustness only from above.** An attack that fails proves nothing: a better one, or one that sees
//! the weights, may succeed. So every distance found here is an [`AtMost`], and no result of this module says "robust".
//!
//! | module | domain | owns |
//! |---|---|---|
//! | [`square`] | pictures, rows | random search over squares with scores (Square) |
//! | [`decision`] | pictures, tables | boundary search with decisions alone (HopSkipJump); bounds and immutable features |
//! | [`image`] | pictures | the 15 common corruptions in five severities |
//! | [`text`] | text | typos, case, spacing, homoglyphs, word order; canaries against prompt injection |
//! | [`rows`] | tables | copies nearby, to train on |
//! | [`audio`] | sounds | noise and clipping |
#![allow(clippy::float_arithmetic)]

use std::fmt;

use serde::{Deserialize, Serialize};
use zero2ai_proto::tensor::argmax;

pub mod audio;
pub mod decision;
pub mod image;
pub mod rows;
pub mod square;
pub mod text;

/// Whoever runs the model. Preprocessing (layout, normalising, tokens) is the implementation's business.
pub trait Model<X> {
    /// A score per class for each input, in the order given; the highest is the answer, of equal ones the first.
    ///
    /// # Errors
    /// In words; the attack then ends with [`AttackError::Model`].
    fn predict(&mut self, batch: &[X]) -> Result<Vec<Vec<f32>>, String>;
}

/// Why an attack could not be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttackError {
    /// The model failed.
    #[error("the model failed while it was attacked: {0}")]
    Model(String),
    /// The model's answer has another shape than its inputs.
    #[error("the model gave {got} rows of scores for {asked} inputs")]
    Rows {
        /// Rows that came.
        got: usize,
        /// Inputs that were sent.
        asked: usize,
    },
    /// Input and space do not fit each other.
    #[error("the input has {values} values, and {what}")]
    Shape {
        /// Values of the input.
        values: usize,
        /// What does not fit.
        what: &'static str,
    },
}

/// The true value is at most this: found by an attack that sees answers only.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AtMost(pub f64);

impl fmt::Display for AtMost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "≤ {:.4} (black-box)", self.0)
    }
}

/// What an attack on one sample came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<X> {
    /// The answer is wrong without any change.
    AlreadyWrong,
    /// A changed input gets a wrong answer.
    Broken {
        /// That input.
        adversarial: X,
        /// How far it lies from the sample, in the attack's norm: the robust radius is at most this.
        distance: AtMost,
        /// Inputs the model was asked about.
        queries: u32,
    },
    /// Nothing was found within the budget. This proves nothing.
    Held {
        /// Inputs the model was asked about.
        queries: u32,
    },
}

impl<X> Outcome<X> {
    /// 0 for already wrong, the distance if broken, `None` if it held.
    #[must_use]
    pub fn distance(&self) -> Option<f64> {
        match self {
            Self::AlreadyWrong => Some(0.0),
            Self::Broken { distance, .. } => Some(distance.0),
            Self::Held { .. } => None,
        }
    }
}

/// What inputs may look like, value by value. Distances count in units of `scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    /// Least value of each.
    pub low: Vec<f32>,
    /// Largest value of each.
    pub high: Vec<f32>,
    /// What a change by 1 means for each value (1 for pixels; a feature's standard deviation, say); 0 = must not change.
    pub scale: Vec<f32>,
}

impl Space {
    /// `n` values between `low` and `high`, all of which may change.
    #[must_use]
    pub fn uniform(n: usize, low: f32, high: f32) -> Self {
        Self { low: vec![low; n], high: vec![high; n], scale: vec![1.0; n] }
    }

    fn check(&self, values: &[f32]) -> Result<(), AttackError> {
        let shape = |what| Err(AttackError::Shape { values: values.len(), what });
        let n = values.len();
        if n == 0 || self.low.len() != n || self.high.len() != n || self.scale.len() != n {
            return shape("the space has another number of them");
        }
        if values.iter().any(|v| !v.is_finite()) {
            return shape("one of them is not finite");
        }
        let finite = self.low.iter().chain(&self.high).chain(&self.scale).all(|v| v.is_finite());
        if !finite || self.low.iter().zip(&self.high).any(|(l, h)| l > h) || self.scale.iter().any(|s| *s < 0.0) {
            return shape("the space's bounds or scales are not ordered finite numbers");
        }
        if self.scale.iter().all(|s| *s == 0.0) {
            return shape("none of them may change");
        }
        Ok(())
    }

    /// The sample moved by `step` (in units of scale), kept within the bounds. Values that may not change stay, bounds or not.
    fn moved(&self, origin: &[f32], step: &[f64]) -> Vec<f32> {
        (origin.iter().zip(step).enumerate())
            .map(|(i, (x, s))| {
                if self.scale[i] == 0.0 {
                    return *x;
                }
                ((f64::from(*x) + s * f64::from(self.scale[i])) as f32).clamp(self.low[i], self.high[i])
            })
            .collect()
    }

    /// How far `other` lies from `origin`, value by value, in units of scale.
    fn step(&self, origin: &[f32], other: &[f32]) -> Vec<f64> {
        (origin.iter().zip(other).zip(&self.scale))
            .map(|((x, y), s)| if *s == 0.0 { 0.0 } else { (f64::from(*y) - f64::from(*x)) / f64::from(*s) })
            .collect()
    }
}

/// The model behind a budget of queries.
struct Oracle<'a, X> {
    model: &'a mut dyn Model<X>,
    label: usize,
    used: u32,
    budget: u32,
}

impl<'a, X> Oracle<'a, X> {
    fn new(model: &'a mut dyn Model<X>, label: u16, budget: u32) -> Self {
        Self { model, label: usize::from(label), used: 0, budget }
    }

    fn left(&self) -> usize {
        (self.budget - self.used) as usize
    }

    /// The margin of the true class over the best other one for each input, as far as the budget goes: not above 0 where
    /// the answer is wrong. Empty once the budget is spent.
    fn margins(&mut self, batch: &[X]) -> Result<Vec<f64>, AttackError> {
        let batch = &batch[..batch.len().min(self.left())];
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.used += batch.len() as u32;
        let rows = self.model.predict(batch).map_err(AttackError::Model)?;
        if rows.len() != batch.len() {
            return Err(AttackError::Rows { got: rows.len(), asked: batch.len() });
        }
        Ok(rows.iter().map(|r| margin(r, self.label)).collect())
    }

    /// True if the answer to `input` is wrong; `None` once the budget is spent.
    fn wrong(&mut self, input: X) -> Result<Option<bool>, AttackError> {
        Ok(self.margins(&[input])?.first().map(|m| *m <= 0.0))
    }
}

/// Score of `label` minus the best other score. A tie is right if the label comes first, as in argmax: the margin is then the
/// least positive number. A row without the label, or with a score that is no number, is wrong.
fn margin(row: &[f32], label: usize) -> f64 {
    let Some(own) = row.get(label).filter(|_| row.iter().all(|v| !v.is_nan())) else { return f64::NEG_INFINITY };
    let others = row.iter().enumerate().filter(|(class, _)| *class != label).map(|(_, score)| f64::from(*score));
    let Some(other) = others.reduce(f64::max) else { return f64::INFINITY };
    let gap = f64::from(*own) - other;
    if argmax(row) == label { gap.max(f64::MIN_POSITIVE) } else { gap.min(0.0) }
}

/// Share of samples that still get the right answer at one strength.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Survival {
    /// Strength of the attack in its own unit (a distance, a severity).
    pub strength: f64,
    /// Samples that were right.
    pub right: u64,
    /// Samples attacked.
    pub samples: u64,
    /// right / samples: what a better attack leaves is at most this.
    pub accuracy: AtMost,
}

impl Survival {
    /// `right` of `samples` at this strength.
    #[must_use]
    pub fn new(strength: f64, right: u64, samples: u64) -> Self {
        Self { strength, right, samples, accuracy: AtMost(right as f64 / samples.max(1) as f64) }
    }
}

/// The robustness curve: at each strength, how many samples held or were broken only by a larger distance.
#[must_use]
pub fn curve<X>(outcomes: &[Outcome<X>], strengths: &[f64]) -> Vec<Survival> {
    let right = |s: f64| outcomes.iter().filter(|o| o.distance().is_none_or(|d| d > s)).count();
    strengths.iter().map(|s| Survival::new(*s, right(*s) as u64, outcomes.len() as u64)).collect()
}

/// The curve of the strongest of several attacks on the same samples: each counts with the smallest distance that any of them
/// found. Runs of another length than the first are left out.
#[must_use]
pub fn strongest<X>(runs: &[&[Outcome<X>]], strengths: &[f64]) -> Vec<Survival> {
    let samples = runs.first().map_or(0, |r| r.len());
    let nearest = |i: usize| {
        let found = runs.iter().filter(|r| r.len() == samples).filter_map(|r| r[i].distance());
        found.fold(f64::INFINITY, f64::min)
    };
    let all: Vec<f64> = (0..samples).map(nearest).collect();
    let right = |s: f64| all.iter().filter(|d| **d > s).count() as u64;
    strengths.iter().map(|s| Survival::new(*s, right(*s), samples as u64)).collect()
}

/// Accuracy on changed inputs, in batches of 64: `change` gets the number of a sample and makes its input.
///
/// # Errors
/// What the model fails with.
pub fn accuracy<X>(
    model: &mut dyn Model<X>,
    labels: &[u16],
    strength: f64,
    change: impl Fn(usize) -> X,
) -> Result<Survival, AttackError> {
    let mut right = 0;
    for (part, batch) in labels.chunks(64).enumerate() {
        let inputs: Vec<X> = (0..batch.len()).map(|i| change(part * 64 + i)).collect();
        let rows = model.predict(&inputs).map_err(AttackError::Model)?;
        if rows.len() != batch.len() {
            return Err(AttackError::Rows { got: rows.len(), asked: batch.len() });
        }
        right += rows.iter().zip(batch).filter(|(r, l)| margin(r, usize::from(**l)) > 0.0).count() as u64;
    }
    Ok(Survival::new(strength, right, labels.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_is_above_nothing_where_the_answer_is_right_and_there_alone() {
        let rows: [&[f32]; 6] =
            [&[0.2, 0.8], &[0.5, 0.5], &[-0.0, 0.0], &[0.0, 0.4, 0.4], &[f32::INFINITY; 2], &[0.1, 0.1, 0.7]];
        for row in rows {
            for label in 0..row.len() {
                assert_eq!(margin(row, label) > 0.0, argmax(row) == label, "{row:?}, class {label}");
            }
        }
        assert!(margin(&[0.1, f32::NAN], 0) < 0.0 && margin(&[0.1], 3) < 0.0);
    }
}
