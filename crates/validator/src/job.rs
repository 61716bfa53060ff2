//! A validation run: predictions → counts per class → an endorsement's body. The verdict is not decided here: every node
//! computes it from the counts.

use std::{future::Future, time::Instant};

use zero2ai_ledger::receipt_log::root_of;
use zero2ai_proto::{
    Digest,
    name::ModelName,
    tensor::Tensor,
    tx::{ClassCounts, Endorse},
};

use crate::{leaves::Row, samples::Dataset};

/// Whoever runs the model.
pub trait Predictor: Sync {
    /// Runs one prediction.
    fn predict(&self, inputs: Vec<Tensor>) -> impl Future<Output = Result<Vec<Tensor>, String>> + Send;
}

/// Why a run gave no figures.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The model failed on a sample.
    #[error("the model failed on sample {row}: {why}")]
    Model {
        /// The sample, from 0.
        row: usize,
        /// Why.
        why: String,
    },
    /// The model's answer has another shape than its task says.
    #[error("sample {row}: expected {expected} class scores as 32-bit floats: {why}")]
    Answer {
        /// The sample, from 0.
        row: usize,
        /// Classes of the model.
        expected: u16,
        /// What came.
        why: String,
    },
    /// A sample of a class that the model does not have.
    #[error("sample {row} is of class {class}, and the model has classes 0 to {last}: is this the right file?")]
    Class {
        /// The sample, from 0.
        row: usize,
        /// Its class.
        class: u16,
        /// The model's last class.
        last: u16,
    },
}

/// What a run found.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// Per class, in class order.
    pub classes: Vec<ClassCounts>,
    /// Samples.
    pub samples: u32,
    /// Samples whose class was right.
    pub correct: u32,
    /// Median latency of one prediction, microseconds.
    pub p50_us: u32,
    /// Root over the samples.
    pub dataset_root: Digest,
    /// Root over the predicted classes, in sample order.
    pub predictions_root: Digest,
    /// The scores per class of each sample, as they came; empty unless they were to be kept.
    pub answers: Vec<Vec<f32>>,
    /// Label, answer and sample hash of each, in sample order: what a round's leaves are made of.
    pub rows: Vec<Row>,
    /// How long each prediction took, in sample order, microseconds.
    pub latencies_us: Vec<u32>,
}

impl Findings {
    /// The body of the endorsement that says so.
    #[must_use]
    pub fn endorse(self, name: ModelName, version: u32) -> Endorse {
        Endorse {
            name,
            version,
            classes: self.classes,
            samples: self.samples,
            correct: self.correct,
            p50_us: self.p50_us,
            dataset_root: self.dataset_root,
            predictions_root: self.predictions_root,
        }
    }
}

/// Runs `model` over every sample, one at a time (so that the latency is one call's), and counts. `progress` hears how
/// many are done. `keep` keeps the scores of all samples, for a report.
///
/// # Errors
/// See [`JobError`].
pub async fn run<P: Predictor>(
    model: &P,
    data: &Dataset,
    classes: u16,
    keep: bool,
    mut progress: impl FnMut(usize, usize),
) -> Result<Findings, JobError> {
    let mut counts = vec![ClassCounts::default(); usize::from(classes)];
    let (mut correct, mut micros, mut said) = (0u32, Vec::with_capacity(data.rows.len()), Vec::new());
    let (mut answers, mut rows) = (Vec::new(), Vec::with_capacity(data.classes.len()));
    for (row, truth) in data.classes.iter().copied().enumerate() {
        if truth >= classes {
            return Err(JobError::Class { row, class: truth, last: classes.saturating_sub(1) });
        }
        let input = data.tensor(row).into_iter().collect();
        let start = Instant::now();
        let outputs = model.predict(input).await.map_err(|why| JobError::Model { row, why })?;
        micros.push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX));
        let scores =
            predicted_scores(&outputs, classes).map_err(|why| JobError::Answer { row, expected: classes, why })?;
        if scores.iter().any(|s| s.is_nan()) {
            let why = "a score is not a number".to_owned();
            return Err(JobError::Answer { row, expected: classes, why });
        }
        let class = best(&scores);
        if keep {
            answers.push(scores);
        }
        said.push(class.to_le_bytes().to_vec());
        let sample: Vec<u8> = data.rows[row].iter().flat_map(|value| value.to_le_bytes()).collect();
        rows.push(Row { label: truth, answer: class, sample: Row::hash(&sample) });
        if class == truth {
            correct += 1;
            counts[usize::from(truth)].tp += 1;
        } else {
            counts[usize::from(class)].fp += 1;
            counts[usize::from(truth)].fn_ += 1;
        }
        progress(row + 1, data.classes.len());
    }
    let mut sorted = micros.clone();
    sorted.sort_unstable();
    Ok(Findings {
        classes: counts,
        samples: u32::try_from(said.len()).unwrap_or(u32::MAX),
        correct,
        p50_us: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
        dataset_root: data.root(),
        predictions_root: root_of(said),
        rows,
        answers,
        latencies_us: micros,
    })
}

/// The scores of the first output.
///
/// # Errors
/// In words, if they are not one number for each class.
pub fn predicted_scores(outputs: &[Tensor], classes: u16) -> Result<Vec<f32>, String> {
    let scores = outputs.first().ok_or("no output")?.to_f32().map_err(|e| e.to_string())?;
    if scores.len() != usize::from(classes) {
        return Err(format!("{} values", scores.len()));
    }
    if scores.is_empty() { Err("no classes".to_owned()) } else { Ok(scores) }
}

/// The class with the highest score; of equal scores the lowest class, as numpy's `argmax`.
fn best(scores: &[f32]) -> u16 {
    let best = (0..scores.len()).rev().max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
    u16::try_from(best).unwrap_or(u16::MAX)
}
