//! The report of a validator's run: everything a person or a program needs to judge a model, as one value that reads and
//! writes JSON. Owns its shape; how it looks on a page is another crate's.
//!
//! | module | owns |
//! |---|---|
//! | [`figures`] | from answers to metrics with intervals, per domain |
//! | [`grade`] | from metrics and checks to a grade, with its reasons |
//!
//! What goes on the ledger is not this report but the counts behind it ([`crate::metrics::labels::Labels::counts`]) and roots.
#![allow(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

use crate::{
    attacks::Survival,
    gate::{Check, Gate},
    load::{LoadResult, Percentile, percentile},
    metrics::{interval::Estimate, labels::Prf, scores::Calibration},
};

pub mod figures;
pub mod grade;

pub use grade::{Decision, Grade, Policy, Rule};

/// Version of the report's shape; a reader refuses what it does not know.
pub const VERSION: u16 = 1;

/// What kind of data a model takes, as the engine's ranked guess or the manifest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// Text in, text or classes out.
    Text,
    /// Text in, vectors out.
    Embedding,
    /// Pictures.
    Image,
    /// Sounds.
    Audio,
    /// Rows of numbers.
    Tabular,
    /// Not known: never graded.
    Unknown,
}

/// Which way a figure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// One figure with its interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name: what a [`Rule`] calls it.
    pub name: String,
    /// Which way it is good.
    pub better: Better,
    /// The figure.
    pub estimate: Estimate,
}

impl Metric {
    /// The end of the interval that counts: the lower one where more is better, the upper one where less is.
    #[must_use]
    pub fn bound(&self) -> f64 {
        match self.better {
            Better::Higher => self.estimate.low,
            Better::Lower => self.estimate.high,
        }
    }
}

/// Figures of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// What it is called.
    pub name: String,
    /// Samples of it.
    pub samples: u64,
    /// Its figures.
    pub prf: Prf,
}

/// Accuracy on a part of the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Which part.
    pub name: String,
    /// Share of right answers.
    pub accuracy: Estimate,
}

/// How accuracy falls under one attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Which attack.
    pub attack: String,
    /// The unit of its strength.
    pub unit: String,
    /// From weak to strong.
    pub points: Vec<Survival>,
}

/// How fast a language model writes: until the first token, and from each to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenTimes {
    /// Answers.
    pub answers: u64,
    /// 50, 90 and 99 % of the times until the first token.
    pub first: Vec<Percentile>,
    /// The same of the times from each token to the next; empty where no answer has two.
    pub each: Vec<Percentile>,
}

impl TokenTimes {
    /// From microseconds; `None` without answers.
    pub fn of(first: impl IntoIterator<Item = u64>, each: impl IntoIterator<Item = u64>) -> Option<Self> {
        let (first, each): (Vec<u64>, Vec<u64>) = (first.into_iter().collect(), each.into_iter().collect());
        let told = |times: &[u64]| [5_000, 9_000, 9_900].into_iter().filter_map(|p| percentile(times, p)).collect();
        let answers = first.len() as u64;
        (answers > 0).then(|| Self { answers, first: told(&first), each: told(&each) })
    }
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The model's name and version, as the user gave them.
    pub model: String,
    /// What it takes.
    pub domain: Domain,
    /// The dataset, as the user gave it.
    pub dataset: String,
    /// Samples in it.
    pub samples: u64,
    /// Root over the samples, hexadecimal.
    pub dataset_root: String,
    /// The run's seed, hexadecimal: with it a second validator repeats the run.
    pub seed: String,
}

/// A validator's run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u16,
    /// What was measured.
    pub subject: Subject,
    /// Figures with intervals.
    pub metrics: Vec<Metric>,
    /// Figures per class; empty where there are none.
    pub classes: Vec<Class>,
    /// Accuracy per part of the data.
    pub slices: Vec<Slice>,
    /// Calibration, where the model gives probabilities.
    pub calibration: Option<Calibration>,
    /// Robustness, one curve per attack.
    pub robustness: Vec<Curve>,
    /// Load runs.
    pub load: Vec<LoadResult>,
    /// How fast text came, of language models.
    #[serde(default)]
    pub tokens: Option<TokenTimes>,
    /// The dataset gate's checks.
    pub dataset_checks: Vec<Check>,
    /// What they come to.
    pub gate: Gate,
    /// Checks of the model's own answers (fairness between groups); one that fails makes the grade negative.
    pub model_checks: Vec<Check>,
    /// The grade and why.
    pub grade: Grade,
    /// What a reader must know: what was not measured and why.
    pub notes: Vec<String>,
}

impl Report {
    /// A report without figures yet, on this subject. Fill it, then call [`Report::finish`].
    #[must_use]
    pub fn new(subject: Subject) -> Self {
        Self {
            version: VERSION,
            subject,
            metrics: Vec::new(),
            classes: Vec::new(),
            slices: Vec::new(),
            calibration: None,
            robustness: Vec::new(),
            load: Vec::new(),
            tokens: None,
            dataset_checks: Vec::new(),
            gate: Gate::Partial(Vec::new()),
            model_checks: Vec::new(),
            grade: Grade::default(),
            notes: Vec::new(),
        }
    }

    /// Adds the points of an attack, and the accuracy at each strength in `judged` as a metric with Wilson's interval,
    /// called `ATTACK at STRENGTH`, so that a rule can ask for it.
    pub fn add_curve(&mut self, curve: Curve, judged: &[f64]) {
        for point in curve.points.iter().filter(|p| judged.contains(&p.strength)) {
            if let Ok(estimate) = crate::metrics::interval::share(point.right, point.samples) {
                let name = format!("{} at {}", curve.attack, point.strength);
                self.metrics.push(Metric { name, better: Better::Higher, estimate });
            }
        }
        self.robustness.push(curve);
    }

    /// Judges the dataset by its checks and the model by the policy.
    #[must_use]
    pub fn finish(mut self, policy: &Policy) -> Self {
        self.gate = crate::gate::judge(&self.dataset_checks);
        self.grade = grade::grade(&self, policy);
        self
    }
}
