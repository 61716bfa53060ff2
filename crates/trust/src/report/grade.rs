//! From figures to a grade. Owns the rule: a figure counts by the end of its interval that is worse, so that few samples
//! never look like a good model; a dataset that fails the gate makes no grade at all, neither good nor bad.
#![allow(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

use super::{Better, Domain, Report};
use crate::{
    gate::{Gate, Outcome, listed},
    metrics::ppm,
};

/// What one metric counts for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// The metric's name.
    pub metric: String,
    /// The value that counts as 0.
    pub worst: f64,
    /// The value that counts as 1; below `worst` where less is better.
    pub best: f64,
    /// Its weight among the others; 0 if only `gate` matters.
    pub weight: u32,
    /// A value that its bound must reach, or the grade is negative whatever the rest.
    pub gate: Option<f64>,
}

/// What a publisher froze when he published: the rules and the marks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// One per metric that counts.
    pub rules: Vec<Rule>,
    /// Positive from here up, parts per million.
    pub accept_ppm: u32,
    /// Negative from here down, parts per million.
    pub reject_ppm: u32,
}

/// What the grade says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Good enough, and no gate failed.
    Positive,
    /// Not good enough, or a gate failed.
    Negative,
    /// Between the marks.
    Abstain,
    /// The dataset failed its gate: nothing follows for the model.
    Void,
    /// Not judged: domain unknown, or a figure that a rule asks for is missing.
    #[default]
    Ungraded,
}

/// The grade and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grade {
    /// What it says.
    pub decision: Decision,
    /// The weighted quality, parts per million; `None` where nothing was weighed.
    pub quality_ppm: Option<u32>,
    /// Why, a sentence each, the decisive ones first.
    pub reasons: Vec<String>,
}

/// Judges a report whose dataset gate is already judged.
#[must_use]
pub fn grade(report: &Report, policy: &Policy) -> Grade {
    let ungraded = |why: String| Grade { reasons: vec![why], ..Grade::default() };
    if report.subject.domain == Domain::Unknown {
        return ungraded("The model's domain is not known, and nothing is graded by a guess.".to_owned());
    }
    if let Gate::Void(failed) = &report.gate {
        let why = format!("The dataset fails its gate ({}): nothing follows for the model.", listed(failed));
        return Grade { decision: Decision::Void, quality_ppm: None, reasons: vec![why] };
    }
    let (mut reasons, mut weighed, mut weights, mut broken) = (Vec::new(), 0.0, 0u64, false);
    for rule in &policy.rules {
        let Some(metric) = report.metrics.iter().find(|m| m.name == rule.metric) else {
            return ungraded(format!("The policy asks for \"{}\", which was not measured.", rule.metric));
        };
        let bound = metric.bound();
        let span = rule.best - rule.worst;
        let part = if span == 0.0 { 0.0 } else { ((bound - rule.worst) / span).clamp(0.0, 1.0) };
        weighed += part * f64::from(rule.weight);
        weights += u64::from(rule.weight);
        let missed = |limit: f64| match metric.better {
            Better::Higher => bound < limit,
            Better::Lower => bound > limit,
        };
        if let Some(limit) = rule.gate.filter(|l| missed(*l)) {
            broken = true;
            reasons.push(format!("{}: {bound:.4} misses the gate of {limit:.4}.", rule.metric));
        }
    }
    for check in report.model_checks.iter().filter(|c| c.outcome == Outcome::Fail) {
        broken = true;
        reasons.push(format!("The model's answers fail the check for {}.", check.criterion));
    }
    if weights == 0 {
        return ungraded("The policy gives no metric a weight.".to_owned());
    }
    let quality = ppm(weighed / weights as f64);
    let decision = match () {
        () if broken || quality <= policy.reject_ppm => Decision::Negative,
        () if quality >= policy.accept_ppm => Decision::Positive,
        () => Decision::Abstain,
    };
    reasons.push(format!(
        "Quality {:.4}, from the worse end of each interval; accepted from {:.4} up, rejected from {:.4} down.",
        f64::from(quality) / 1e6,
        f64::from(policy.accept_ppm) / 1e6,
        f64::from(policy.reject_ppm) / 1e6
    ));
    if let Gate::Partial(open) = &report.gate {
        reasons.push(format!("Not assessed of the dataset: {}.", listed(open)));
    }
    if !report.robustness.is_empty() {
        reasons.push("Robustness was measured by black-box attacks, which bound it only from above.".to_owned());
    }
    Grade { decision, quality_ppm: Some(quality), reasons }
}
