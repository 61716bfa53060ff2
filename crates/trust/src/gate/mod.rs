//! The dataset gate: the paper's five criteria for a validator's dataset, as pure functions with a typed outcome each. A
//! failed criterion voids the endorsement that rests on the dataset; what cannot be judged is said, never guessed.
//!
//! | the paper asks that a dataset … | module | criterion |
//! |---|---|---|
//! | 1. is free from known biases | [`bias`] | [`Criterion::Bias`] |
//! | 2. holds no private information | [`privacy`] | [`Criterion::Privacy`] |
//! | 3. is not the data the publisher used | [`overlap`], [`minhash`] | [`Criterion::Overlap`] |
//! | … and yet is of the model's domain | [`shift`], [`statistics`] | [`Criterion::Shift`] |
//! | 4. includes adversarial samples | [`composition`] | [`Criterion::Adversarial`] |
//! | 5. stresses compute time | [`composition`] | [`Criterion::Stress`] |
#![allow(clippy::float_arithmetic)]

use std::fmt;

use serde::{Deserialize, Serialize};

pub mod bias;
pub mod composition;
pub mod minhash;
pub mod overlap;
pub mod privacy;
pub mod shift;
pub mod statistics;

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// Classes and groups are balanced, and labels do not depend on the group.
    Bias,
    /// No personal data that can be found by form and checksum.
    Privacy,
    /// No samples of the publisher's.
    Overlap,
    /// Not of another world than what the model was made for.
    Shift,
    /// Enough adversarial samples.
    Adversarial,
    /// Enough load, and inputs of different sizes.
    Stress,
}

impl Criterion {
    /// It in a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bias => "bias",
            Self::Privacy => "privacy",
            Self::Overlap => "overlap",
            Self::Shift => "shift",
            Self::Adversarial => "adversarial samples",
            Self::Stress => "stress",
        }
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A list as people write it: `a`, `a and b`, `a, b and c`.
#[must_use]
pub fn listed<T: fmt::Display>(all: &[T]) -> String {
    match all {
        [] => String::new(),
        [one] => one.to_string(),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(ToString::to_string).collect();
            format!("{} and {last}", first.join(", "))
        }
    }
}

/// What a criterion came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds, as far as its notes say it was looked.
    Pass,
    /// It does not hold; the figures say by how much.
    Fail,
    /// It cannot be judged with what was given, and why.
    NotAssessable(String),
}

/// One number behind an outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is, in words, with its unit.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Where it would fail, if it is judged.
    pub limit: Option<f64>,
}

/// One criterion's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was judged.
    pub criterion: Criterion,
    /// What it came to.
    pub outcome: Outcome,
    /// The numbers behind it.
    pub figures: Vec<Figure>,
    /// What a reader must know: what was not looked for, what failed and where.
    pub notes: Vec<String>,
}

impl Check {
    fn new(criterion: Criterion) -> Self {
        Self { criterion, outcome: Outcome::Pass, figures: Vec::new(), notes: Vec::new() }
    }

    /// Cannot be judged, because of `why`.
    #[must_use]
    pub fn not_assessable(criterion: Criterion, why: &str) -> Self {
        Self { outcome: Outcome::NotAssessable(why.to_owned()), ..Self::new(criterion) }
    }

    /// True if it does not hold.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.outcome == Outcome::Fail
    }

    /// A number that is only told.
    fn tell(&mut self, name: impl Into<String>, value: f64) {
        self.figures.push(Figure { name: name.into(), value, limit: None });
    }

    /// A number that fails the check if it is above `limit`.
    fn at_most(&mut self, name: impl Into<String>, value: f64, limit: f64) {
        self.figures.push(Figure { name: name.into(), value, limit: Some(limit) });
        if value > limit {
            self.outcome = Outcome::Fail;
        }
    }

    /// A number that fails the check if it is below `limit`.
    fn at_least(&mut self, name: impl Into<String>, value: f64, limit: f64) {
        self.figures.push(Figure { name: name.into(), value, limit: Some(limit) });
        if value < limit {
            self.outcome = Outcome::Fail;
        }
    }
}

/// What the checks of one dataset come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// All criteria hold.
    Sound,
    /// None fails, but these could not be judged: the endorsement says so.
    Partial(Vec<Criterion>),
    /// These fail: an endorsement on this dataset is void.
    Void(Vec<Criterion>),
}

/// Judges a dataset by its checks. A criterion without a check counts as not assessable.
#[must_use]
pub fn judge(checks: &[Check]) -> Gate {
    use Criterion::{Adversarial, Bias, Overlap, Privacy, Shift, Stress};
    let all = [Bias, Privacy, Overlap, Shift, Adversarial, Stress];
    let having = |is: fn(&Outcome) -> bool| -> Vec<Criterion> {
        all.into_iter().filter(|c| checks.iter().any(|k| k.criterion == *c && is(&k.outcome))).collect()
    };
    let failed = having(|o| matches!(o, Outcome::Fail));
    if !failed.is_empty() {
        return Gate::Void(failed);
    }
    let passed = having(|o| matches!(o, Outcome::Pass));
    let open = having(|o| matches!(o, Outcome::NotAssessable(_)));
    let missing: Vec<Criterion> = all.into_iter().filter(|c| open.contains(c) || !passed.contains(c)).collect();
    if missing.is_empty() { Gate::Sound } else { Gate::Partial(missing) }
}
