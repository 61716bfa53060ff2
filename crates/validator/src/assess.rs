//! From a run to its report: figures with intervals, robustness, latency, the dataset's gate, the grade. What could not be
//! measured is a note, never a guess.

use zero2ai_proto::tx::Thresholds;
use zero2ai_trust::{
    PPM,
    attacks::{
        AttackError, Model, Space, curve,
        decision::{Norm, Settings, attack},
    },
    draw::{Draws, Seed},
    gate::{bias, composition},
    load::{Scenario, summary},
    metrics::MetricError,
    report::{
        Curve, Domain, Policy, Report, Rule, Subject,
        figures::{self, Answers, Drawing},
    },
};

use crate::{
    job::Findings,
    samples::{Dataset, FEATURES},
};

/// Samples that are attacked, drawn by the seed.
const ATTACKED: usize = 24;
/// Questions that an attack on one sample may ask.
const QUERIES: u32 = 600;
/// Distances of the robustness curve, in standard deviations of each feature.
const DISTANCES: [f64; 7] = [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6];
/// Scores that all resamples of a figure look at, about: of many samples fewer resamples are drawn, since each sorts them.
const LOOKS: usize = 50_000_000;
/// Samples of other classes from which an attack may begin.
const BEGINNINGS: usize = 8;

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
    /// The model and version.
    pub model: String,
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
}

/// The report. `model` answers the attacks' questions; `progress` hears how many samples were attacked, of how many.
///
/// # Errors
/// See [`AssessError`].
pub fn assess(
    run: &Run,
    model: &mut dyn Model<Vec<f32>>,
    progress: impl FnMut(usize, usize),
) -> Result<Report, AssessError> {
    let Run { data, findings, seed, .. } = run;
    let mut report = Report::new(Subject {
        model: run.model.clone(),
        domain: Domain::Tabular,
        dataset: run.dataset.clone(),
        samples: data.rows.len() as u64,
        dataset_root: findings.dataset_root.to_string(),
        seed: zero2ai_proto::Digest(*seed).to_string(),
    });
    let classes = findings.classes.len();
    let names: Vec<String> = (0..classes).map(|class| format!("class {class}")).collect();
    let rows: Vec<Vec<f64>> = findings.answers.iter().map(|row| row.iter().copied().map(f64::from).collect()).collect();
    let answers = Answers { truth: &data.classes, rows: &rows, names: &names, slices: None };
    let cells = rows.len().saturating_mul(classes).max(1);
    let resamples = u32::try_from((LOOKS / cells).clamp(40, 1_000)).unwrap_or(40);
    figures::classification(&mut report, answers, Drawing { seed, resamples, threads: run.threads })?;
    if let Err(error) = attacked(&mut report, run, model, progress) {
        // A model that fails on changed samples is no reason to say nothing of the others.
        report.notes.push(format!("Robustness was not measured to its end: {error}."));
    }

    let latencies: Vec<u64> = findings.latencies_us.iter().copied().map(u64::from).collect();
    let all = latencies.iter().fold(0u64, |sum, one| sum.saturating_add(*one));
    report.load.push(summary(Scenario::SingleStream, &latencies, latencies.len() as u64, all));
    let count = u16::try_from(classes).unwrap_or(u16::MAX);
    report.dataset_checks = vec![
        bias::dataset(&data.classes, count, None, bias::Limits::default()),
        composition::adversarial(rows.len() as u64, None, composition::ADVERSARIAL),
        composition::stress(None),
    ];
    report.notes.push(
        "Not assessed: privacy (the samples are numbers, not text) and overlap with the publisher's data or shift from it (no \
         fingerprints were published)."
            .to_owned(),
    );
    report.notes.push(
        "The verdict on the ledger rests on the macro F1 itself; the grade here on the lower end of its interval."
            .to_owned(),
    );
    let Thresholds { accept_ppm, reject_ppm } = run.thresholds;
    let rule = Rule { metric: "macro F1".into(), worst: 0.0, best: 1.0, weight: 1, gate: None };
    Ok(report.finish(&Policy { rules: vec![rule], accept_ppm: accept_ppm.min(PPM), reject_ppm }))
}

/// Looks for the smallest change of some samples that makes their answers wrong.
fn attacked(
    report: &mut Report,
    run: &Run,
    model: &mut dyn Model<Vec<f32>>,
    mut progress: impl FnMut(usize, usize),
) -> Result<(), AttackError> {
    let data = &run.data;
    let Some(space) = space(data) else {
        report.notes.push("Not attacked: no feature of these samples varies.".to_owned());
        return Ok(());
    };
    let mut draws = Draws::new(&run.seed, "assess/attacked", 0);
    let chosen = draws.choose(data.rows.len(), ATTACKED);
    let mut outcomes = Vec::with_capacity(chosen.len());
    for (done, sample) in chosen.iter().copied().enumerate() {
        let label = data.classes[sample];
        let others = (0..data.rows.len()).filter(|other| data.classes[*other] != label);
        let beginnings: Vec<Vec<f32>> = others.take(BEGINNINGS).map(|other| data.rows[other].clone()).collect();
        let settings = Settings { norm: Norm::Max, budget: QUERIES, seed: &run.seed, sample: sample as u64 };
        outcomes.push(attack(model, &data.rows[sample], label, &space, &beginnings, settings)?);
        progress(done.saturating_add(1), chosen.len());
    }
    let points = curve(&outcomes, &DISTANCES);
    let unit = "largest change of a feature, in its standard deviations".to_owned();
    report.add_curve(Curve { attack: "HopSkipJump".into(), unit, points }, &[]);
    Ok(())
}

/// Every feature within what the samples show of it, and counted in its standard deviations; one that never varies must stay.
fn space(data: &Dataset) -> Option<Space> {
    let width = data.rows.first()?.len().min(FEATURES);
    let mut space = Space { low: Vec::new(), high: Vec::new(), scale: Vec::new() };
    for feature in 0..width {
        let values = || data.rows.iter().map(|row| row[feature]);
        let mean = values().map(f64::from).sum::<f64>() / data.rows.len() as f64;
        let variance = values().map(|v| (f64::from(v) - mean).powi(2)).sum::<f64>() / data.rows.len() as f64;
        space.low.push(values().fold(f32::INFINITY, f32::min));
        space.high.push(values().fold(f32::NEG_INFINITY, f32::max));
        // Finite samples have a finite deviation, up to what single precision holds.
        #[allow(clippy::cast_possible_truncation)]
        space.scale.push(variance.sqrt().min(f64::from(f32::MAX)) as f32);
    }
    space.scale.iter().any(|scale| *scale > 0.0).then_some(space)
}
