//! From a run to its report: figures with intervals, robustness, latency, the dataset's gate, the grade. What could not be
//! measured is a note, never a guess.
//!
//! | module | owns |
//! |---|---|
//! | [`attacked`] | which attacks a domain gets, and how much of them |
//! | `texts` | the attacks on texts |
//! | [`criteria`] | the checks of the dataset and of the answers |

use zero2ai_proto::tx::Thresholds;
use zero2ai_trust::{
    PPM,
    attacks::AttackError,
    draw::Seed,
    gate::composition::Load,
    load::{LoadResult, Scenario, summary},
    metrics::MetricError,
    report::{
        Domain, Policy, Report, Rule, Subject as About, TokenTimes,
        figures::{self, Drawing},
    },
};

use crate::{
    dataset::{Dataset, Samples},
    inputs::Subject,
    job::{Answers, Findings, Said, answer},
    prints::Prints,
};

pub mod attacked;
pub mod criteria;
mod texts;

pub use attacked::Ask;

/// Scores that all resamples of a figure look at, about: of many samples fewer resamples are drawn, since each sorts them.
const LOOKS: usize = 50_000_000;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AssessError {
    /// The answers give no figures.
    #[error("the answers give no figures: {0}")]
    Figures(#[from] MetricError),
}

/// What was run, for its report.
#[derive(Clone, Debug)]
pub struct Run {
    /// The model.
    pub subject: Subject,
    /// The dataset's name.
    pub dataset: String,
    /// Its samples.
    pub data: Dataset,
    /// What the model made of them.
    pub findings: Findings,
    /// What is drawn comes from it: a second validator with it gets the same report, latencies aside.
    pub seed: Seed,
    /// The version's, frozen by its publisher.
    pub thresholds: Thresholds,
    /// Threads to use; only the time depends on it.
    pub threads: usize,
    /// What the publisher left of his data.
    pub prints: Option<Prints>,
    /// Load runs, and what they say of the dataset.
    pub load: (Vec<LoadResult>, Option<Load>),
}

/// The report. `model` answers the attacks' questions; `progress` hears how many samples were attacked, of how many.
///
/// # Errors
/// See [`AssessError`].
pub fn assess(run: &Run, model: &mut dyn Ask, progress: &mut dyn FnMut(usize, usize)) -> Result<Report, AssessError> {
    let mut report = begin(run)?;
    let attacked = match attacked::attack(&mut report, run, model, progress) {
        Ok(attacked) => attacked,
        Err(error) => {
            // A model that fails on changed samples is no reason to say nothing of the others.
            report.notes.push(format!("Robustness was not measured to its end: {error}."));
            0
        }
    };
    Ok(finish(report, run, attacked))
}

/// The figures of what was answered; no attacks yet.
fn begin(run: &Run) -> Result<Report, AssessError> {
    let Run { data, findings, seed, .. } = run;
    let mut report = Report::new(About {
        model: run.subject.name.clone(),
        domain: run.subject.domain,
        dataset: run.dataset.clone(),
        samples: data.len() as u64,
        dataset_root: findings.dataset_root.to_string(),
        seed: zero2ai_proto::Digest(*seed).to_string(),
    });
    let cells = data.len().saturating_mul(usize::from(findings.classes)).max(1);
    let resamples = u32::try_from((LOOKS / cells).clamp(40, 1_000)).unwrap_or(40);
    let drawing = Drawing { seed, resamples, threads: run.threads };
    match &findings.answers {
        Answers::Scores(scores) => classified(&mut report, run, scores, drawing)?,
        Answers::Words(said, logs) => spoken(&mut report, data, said, logs, drawing)?,
        Answers::Found(found) => figures::search(&mut report, found, &[1, 5, 10], drawing)?,
    }
    let right = criteria::right(data, &findings.answers);
    if let Some(slices) = &data.slices {
        report.slices = figures::sliced(slices, &right);
    } else if let Some(groups) = &data.groups {
        report.slices = figures::sliced(groups, &right);
    }
    report.notes.extend(data.notes.iter().cloned());
    Ok(report)
}

fn classified(report: &mut Report, run: &Run, scores: &[Vec<f32>], drawing: Drawing<'_>) -> Result<(), AssessError> {
    let classes = usize::from(run.findings.classes);
    let name = |class: usize| run.data.names.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
    let names: Vec<String> = (0..classes).map(name).collect();
    let rows: Vec<Vec<f64>> = scores.iter().map(|row| row.iter().copied().map(f64::from).collect()).collect();
    let truth = run.data.labels().unwrap_or_default();
    let answers = figures::Answers { truth, rows: &rows, names: &names, slices: None };
    figures::classification(report, answers, drawing)?;
    Ok(())
}

fn spoken(
    report: &mut Report,
    data: &Dataset,
    said: &[Said],
    logs: &[Vec<f64>],
    drawing: Drawing<'_>,
) -> Result<(), AssessError> {
    let Samples::Prompts(prompts) = &data.samples else { return Ok(()) };
    let references: Vec<Vec<&str>> = prompts.iter().map(|p| p.expected.iter().map(String::as_str).collect()).collect();
    let answers: Vec<&str> = said.iter().map(|s| answer(&s.text)).collect();
    figures::answers(report, &references, &answers, drawing)?;
    let told: Vec<Vec<f64>> = logs.iter().filter(|l| !l.is_empty()).cloned().collect();
    if let Err(why) = figures::language(report, &told, drawing) {
        report.notes.push(format!("perplexity is left out: {why}."));
    }
    report.notes.push(
        "An answer is the first line of what the model says behind the prompt, by its likeliest tokens. Perplexity is of the first expected \
         answer behind its prompt."
            .to_owned(),
    );
    report.tokens = TokenTimes::of(
        said.iter().map(|s| u64::from(s.first_us)),
        said.iter().flat_map(|s| s.each_us.iter().copied().map(u64::from)),
    );
    Ok(())
}

/// Latency, the dataset's checks and the grade.
fn finish(mut report: Report, run: &Run, attacked: u64) -> Report {
    let latencies: Vec<u64> = run.findings.latencies_us.iter().copied().map(u64::from).collect();
    let all = latencies.iter().fold(0u64, |sum, one| sum.saturating_add(*one));
    report.load.push(summary(Scenario::SingleStream, &latencies, latencies.len() as u64, all));
    report.load.extend(run.load.0.iter().cloned());
    report.dataset_checks = criteria::dataset(&run.data, &run.subject, run.findings.classes, run.prints.as_ref());
    report.dataset_checks.push(criteria::adversarial(&run.data, attacked));
    report.dataset_checks.push(criteria::stress(run.load.1.as_ref()));
    report.model_checks = criteria::answers(&run.data, &run.findings);
    report.notes.push(
        "The verdict on the ledger rests on the share or the macro F1 itself; the grade here on the lower end of its interval."
            .to_owned(),
    );
    let measured = |name: &str| report.metrics.iter().any(|m| m.name == name);
    let policy = policy(run.subject.domain, run.thresholds, &measured);
    report.finish(&policy)
}

/// What a domain is graded by: one figure between the publisher's thresholds, and the gate that its attacks must pass where they
/// were run. The gate asks little: half of what is attacked in the mildest way is still right, by the lower end of its interval.
#[must_use]
pub fn policy(domain: Domain, thresholds: Thresholds, measured: &dyn Fn(&str) -> bool) -> Policy {
    let (quality, gate) = match domain {
        Domain::Text => ("exact match", None),
        Domain::Embedding => ("recall@1", Some(attacked::MILDEST_TEXT)),
        Domain::Image => ("macro F1", Some(attacked::MILDEST_PICTURE)),
        Domain::Audio => ("macro F1", Some(attacked::MILDEST_SOUND)),
        Domain::Tabular | Domain::Unknown => ("macro F1", Some(attacked::MILDEST_ROW)),
    };
    let rule = |metric: &str, weight, gate| Rule { metric: metric.to_owned(), worst: 0.0, best: 1.0, weight, gate };
    let mut rules = vec![rule(quality, 1, None)];
    rules.extend(gate.filter(|name| measured(name)).map(|name| rule(name, 0, Some(attacked::HELD))));
    let Thresholds { accept_ppm, reject_ppm } = thresholds;
    Policy { rules, accept_ppm: accept_ppm.min(PPM), reject_ppm }
}

/// Attacks that cannot be run for want of something, in words.
pub(crate) fn model_error(why: String) -> AttackError {
    AttackError::Model(why)
}
