//! The attacks that a domain gets, on samples that the seed draws, within budgets: what is told is what they left, at most.

use zero2ai_proto::tensor::Tensor;
use zero2ai_trust::{
    attacks::{
        AttackError, Model, Outcome, Space, Survival, accuracy, audio, curve,
        decision::{self, Norm},
        image::{self, CORRUPTIONS},
        square,
    },
    draw::Draws,
    report::{Curve, Report},
};

use super::{
    Run, model_error,
    texts::{on_prompts, on_queries},
};
use crate::{
    dataset::{Dataset, FEATURES, Medium, Samples},
    inputs::{self, Pixels, Subject},
    job::Said,
};

/// Samples that are attacked, drawn by the seed.
pub(super) const ATTACKED: usize = 24;
/// The same where each costs a corrupted picture for every kind and severity, or several texts.
pub(super) const FEW: usize = 12;
/// Questions that an attack on one sample may ask.
const QUERIES: u32 = 600;
/// The same of one run of Square, of which [`ROUNDS`] look for the smallest change.
const SQUARE: u32 = 150;
const ROUNDS: u32 = 4;
/// The same of HopSkipJump on a picture.
const JUMPS: u32 = 400;
/// Distances of a row's robustness curve, in standard deviations of each feature.
const DISTANCES: [f64; 7] = [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6];
/// Largest changes of a pixel, of 1.
const PIXELS: [f64; 6] = [0.0, 2.0 / 255.0, 4.0 / 255.0, 8.0 / 255.0, 16.0 / 255.0, 32.0 / 255.0];
/// Samples of other classes from which an attack may begin.
const BEGINNINGS: usize = 8;
/// Share of the attacked samples that must still be answered rightly under the mildest attack, by the lower end of its interval.
pub const HELD: f64 = 0.5;
/// The mildest attack on rows: what must hold.
pub const MILDEST_ROW: &str = "HopSkipJump at 0.05";
/// On pictures: all corruptions together at their first severity.
pub const MILDEST_PICTURE: &str = "all corruptions at 1";
/// On sounds: noise at 30 dB.
pub const MILDEST_SOUND: &str = "noise at 1";
/// On queries: all changes together at their first severity.
pub const MILDEST_TEXT: &str = "all changes at 1";

/// Whoever runs the model, as a thread that may block sees it.
pub trait Ask {
    /// One prediction.
    ///
    /// # Errors
    /// In words.
    fn predict(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String>;

    /// Continues a text by the likeliest tokens.
    ///
    /// # Errors
    /// In words.
    fn say(&mut self, prompt: &str, tokens: u32) -> Result<Said, String>;
}

/// A classifier whose inputs an attack changes.
struct Classifier<'a, F> {
    model: &'a mut dyn Ask,
    subject: &'a Subject,
    classes: u16,
    tensors: F,
}

impl<F: Fn(&[f32]) -> Result<Vec<Tensor>, String>> Model<Vec<f32>> for Classifier<'_, F> {
    fn predict(&mut self, batch: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, String> {
        let mut rows = Vec::with_capacity(batch.len());
        for values in batch {
            let outputs = self.model.predict((self.tensors)(values)?)?;
            rows.push(self.subject.scores(&outputs, self.classes)?);
        }
        Ok(rows)
    }
}

/// Attacks the model as its domain has it; returns how many samples were attacked.
pub(super) fn attack(
    report: &mut Report,
    run: &Run,
    model: &mut dyn Ask,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<u64, AttackError> {
    match &run.data.samples {
        Samples::Rows(rows, labels) => on_rows(report, run, rows, labels, model, progress),
        Samples::Pictures(_, labels) => on_pictures(report, run, labels, model, progress),
        Samples::Sounds(media, labels) => on_sounds(report, run, media, labels, model, progress),
        Samples::Prompts(prompts) => on_prompts(report, run, prompts, model, progress),
        Samples::Pairs(pairs) => on_queries(report, run, pairs, model, progress),
    }
}

/// Samples that are attacked.
pub(super) fn chosen(run: &Run, most: usize) -> Vec<usize> {
    Draws::new(&run.seed, "assess/attacked", 0).choose(run.data.len(), most)
}

/// What the attacks on one sample begin from: others of another class.
fn beginnings<'a>(labels: &'a [u16], label: u16) -> impl Iterator<Item = usize> + 'a {
    (0..labels.len()).filter(move |other| labels[*other] != label).take(BEGINNINGS)
}

fn on_rows(
    report: &mut Report,
    run: &Run,
    rows: &[Vec<f32>],
    labels: &[u16],
    model: &mut dyn Ask,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<u64, AttackError> {
    let Some(space) = space(rows) else {
        report.notes.push("Not attacked: no feature of these samples varies.".to_owned());
        return Ok(0);
    };
    let tensors = |values: &[f32]| Ok(inputs::row(values));
    let mut model = Classifier { model, subject: &run.subject, classes: run.findings.classes, tensors };
    let chosen = chosen(run, ATTACKED);
    let mut outcomes = Vec::with_capacity(chosen.len());
    for (done, sample) in chosen.iter().copied().enumerate() {
        let label = labels[sample];
        let begin: Vec<Vec<f32>> = beginnings(labels, label).map(|other| rows[other].clone()).collect();
        let settings = decision::Settings { norm: Norm::Max, budget: QUERIES, seed: &run.seed, sample: sample as u64 };
        outcomes.push(decision::attack(&mut model, &rows[sample], label, &space, &begin, settings)?);
        progress(done.saturating_add(1), chosen.len());
    }
    let unit = "largest change of a feature, in its standard deviations".to_owned();
    let points = curve(&outcomes, &DISTANCES);
    report.add_curve(Curve { attack: "HopSkipJump".into(), unit, points }, &[0.05]);
    Ok(chosen.len() as u64)
}

/// Every feature within what the samples show of it, and counted in its standard deviations; one that never varies must stay.
fn space(rows: &[Vec<f32>]) -> Option<Space> {
    let width = rows.first()?.len().min(FEATURES);
    let mut space = Space { low: Vec::new(), high: Vec::new(), scale: Vec::new() };
    for feature in 0..width {
        let values = || rows.iter().map(|row| row[feature]);
        let mean = values().map(f64::from).sum::<f64>() / rows.len() as f64;
        let variance = values().map(|v| (f64::from(v) - mean).powi(2)).sum::<f64>() / rows.len() as f64;
        space.low.push(values().fold(f32::INFINITY, f32::min));
        space.high.push(values().fold(f32::NEG_INFINITY, f32::max));
        // Finite samples have a finite deviation, up to what single precision holds.
        #[allow(clippy::cast_possible_truncation)]
        space.scale.push(variance.sqrt().min(f64::from(f32::MAX)) as f32);
    }
    space.scale.iter().any(|scale| *scale > 0.0).then_some(space)
}

fn on_pictures(
    report: &mut Report,
    run: &Run,
    labels: &[u16],
    model: &mut dyn Ask,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<u64, AttackError> {
    let Some(wanted) = run.subject.picture() else { return Ok(0) };
    let pixels = Pixels::new(wanted);
    let chosen = chosen(run, FEW);
    let mut like = None;
    let mut pictures = Vec::with_capacity(chosen.len());
    for sample in &chosen {
        let tensor = run.subject.inputs(&run.data, *sample).map_err(model_error)?.swap_remove(0);
        pictures.push(pixels.seen(&tensor).map_err(model_error)?);
        like.get_or_insert(tensor);
    }
    let Some(like) = like else { return Ok(0) };
    let tensors = |values: &[f32]| Ok(pixels.inputs(values, &like));
    let mut model = Classifier { model, subject: &run.subject, classes: run.findings.classes, tensors };
    let truth: Vec<u16> = chosen.iter().map(|i| labels[*i]).collect();
    let steps = CORRUPTIONS.len() + 2 * chosen.len();
    let mut all: Vec<Curve> = Vec::new();
    for (done, corruption) in CORRUPTIONS.into_iter().enumerate() {
        let mut points = Vec::new();
        for severity in 0..=5u8 {
            let change = |i: usize| {
                let picture: &Vec<f32> = &pictures[i];
                if severity == 0 {
                    return picture.clone();
                }
                let number = chosen[i] as u64;
                image::corrupt(picture, pixels.shape(), corruption, severity, &run.seed, number)
                    .unwrap_or_else(|| picture.clone())
            };
            points.push(accuracy(&mut model, &truth, f64::from(severity), change)?);
        }
        all.push(Curve { attack: corruption.name().to_owned(), unit: SEVERITY.into(), points });
        progress(done.saturating_add(1), steps);
    }
    together(report, "all corruptions", all, &[1, 3]);
    let outcomes = by_squares(run, &pictures, &truth, &chosen, &pixels, &mut model, &mut |done| {
        progress(CORRUPTIONS.len().saturating_add(done), steps);
    })?;
    let points = curve(&outcomes, &PIXELS);
    let unit = "largest change of a pixel, of 1".to_owned();
    report.add_curve(Curve { attack: "Square".into(), unit: unit.clone(), points }, &[]);
    let outcomes = by_jumps(run, &pictures, &truth, &chosen, &mut model, &mut |done| {
        progress(CORRUPTIONS.len().saturating_add(chosen.len()).saturating_add(done), steps);
    })?;
    report.add_curve(Curve { attack: "HopSkipJump".into(), unit, points: curve(&outcomes, &PIXELS) }, &[]);
    Ok(chosen.len() as u64)
}

pub(super) const SEVERITY: &str = "severity, 0 to 5";

fn by_squares(
    run: &Run,
    pictures: &[Vec<f32>],
    truth: &[u16],
    chosen: &[usize],
    pixels: &Pixels<'_>,
    model: &mut dyn Model<Vec<f32>>,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Outcome<Vec<f32>>>, AttackError> {
    let space = Space::uniform(pictures.first().map_or(0, Vec::len), 0.0, 1.0);
    let mut outcomes = Vec::with_capacity(pictures.len());
    for (i, picture) in pictures.iter().enumerate() {
        let epsilon = PIXELS.last().copied().unwrap_or_default();
        let settings = square::Settings { epsilon, budget: SQUARE, seed: &run.seed, sample: chosen[i] as u64 };
        outcomes.push(square::smallest(model, picture, truth[i], pixels.shape(), &space, settings, ROUNDS)?);
        progress(i.saturating_add(1));
    }
    Ok(outcomes)
}

/// HopSkipJump from pictures of other classes: it sees answers alone, where Square sees scores.
fn by_jumps(
    run: &Run,
    pictures: &[Vec<f32>],
    truth: &[u16],
    chosen: &[usize],
    model: &mut dyn Model<Vec<f32>>,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Outcome<Vec<f32>>>, AttackError> {
    let space = Space::uniform(pictures.first().map_or(0, Vec::len), 0.0, 1.0);
    let mut outcomes = Vec::with_capacity(pictures.len());
    for (i, picture) in pictures.iter().enumerate() {
        let begin: Vec<Vec<f32>> = beginnings(truth, truth[i]).map(|other| pictures[other].clone()).collect();
        let settings = decision::Settings { norm: Norm::Max, budget: JUMPS, seed: &run.seed, sample: chosen[i] as u64 };
        outcomes.push(decision::attack(model, picture, truth[i], &space, &begin, settings)?);
        progress(i.saturating_add(1));
    }
    Ok(outcomes)
}

/// Adds curves of one unit, and before them the one of all together, judged at some severities.
pub(super) fn together(report: &mut Report, name: &str, curves: Vec<Curve>, judged: &[u8]) {
    let mut points: Vec<Survival> = Vec::new();
    for point in curves.first().map(|c| c.points.as_slice()).unwrap_or_default() {
        let at = || curves.iter().flat_map(|c| &c.points).filter(|p| p.strength == point.strength);
        points.push(Survival::new(point.strength, at().map(|p| p.right).sum(), at().map(|p| p.samples).sum()));
    }
    let judged: Vec<f64> = judged.iter().copied().map(f64::from).collect();
    let unit = curves.first().map_or_else(|| SEVERITY.to_owned(), |c| c.unit.clone());
    report.add_curve(Curve { attack: name.to_owned(), unit, points }, &judged);
    for curve in curves {
        report.add_curve(curve, &[]);
    }
}

fn on_sounds(
    report: &mut Report,
    run: &Run,
    media: &[Medium],
    labels: &[u16],
    model: &mut dyn Ask,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<u64, AttackError> {
    let Some(wanted) = run.subject.sound() else { return Ok(0) };
    let chosen = chosen(run, ATTACKED);
    let sounds: Result<Vec<Vec<f32>>, String> = chosen.iter().map(|i| inputs::heard(wanted, &media[*i])).collect();
    let sounds = sounds.map_err(model_error)?;
    let tensors = |values: &[f32]| zero2ai_media::framed(wanted, values).map_err(|e| e.to_string());
    let mut model = Classifier { model, subject: &run.subject, classes: run.findings.classes, tensors };
    let truth: Vec<u16> = chosen.iter().map(|i| labels[*i]).collect();
    for (done, kind) in audio::CHANGES.into_iter().enumerate() {
        let mut points = Vec::new();
        for severity in 0..=5u8 {
            let change = |i: usize| match severity {
                0 => sounds[i].clone(),
                _ => audio::change(&sounds[i], kind, severity, &run.seed, chosen[i] as u64),
            };
            points.push(accuracy(&mut model, &truth, f64::from(severity), change)?);
        }
        let attack = match kind {
            audio::Change::Noise => "noise",
            audio::Change::Clipping => "clipping",
        };
        report.add_curve(Curve { attack: attack.into(), unit: SEVERITY.into(), points }, &[1.0]);
        progress(done.saturating_add(1), audio::CHANGES.len());
    }
    report
        .notes
        .push("Of sounds only noise and clipping are tried: no reverberation, codecs or adversarial noise.".to_owned());
    Ok(chosen.len() as u64)
}

/// Sizes of what the model is asked, in the unit that its cost grows with: bytes of text, samples of sound. None where all are of one size.
#[must_use]
pub fn sizes(data: &Dataset, subject: &Subject) -> Vec<u64> {
    match &data.samples {
        Samples::Prompts(all) => all.iter().map(|p| p.prompt.len() as u64).collect(),
        Samples::Pairs(all) => all.iter().map(|p| p.query.len() as u64).collect(),
        Samples::Sounds(all, _) => {
            let length =
                |m: &Medium| subject.sound().and_then(|w| inputs::heard(w, m).ok()).map_or(0, |s| s.len() as u64);
            all.iter().map(length).collect()
        }
        Samples::Rows(..) | Samples::Pictures(..) => Vec::new(),
    }
}
