//! A validation run: answers → counts → an endorsement's body. The verdict is not decided here: every node computes it from the counts.

use std::{future::Future, time::Instant};

use zero2ai_ledger::receipt_log::root_of;
use zero2ai_proto::{
    Digest,
    manifest::Task,
    name::ModelName,
    tensor::{Tensor, argmax},
    tx::{ClassCounts, Endorse},
};
use zero2ai_trust::metrics::{labels, retrieval::Query, text::exact_match};

use crate::{
    dataset::{Dataset, Prompt, Samples},
    inputs::{self, Subject},
    leaves::Row,
    search::search,
};

/// Tokens of one answer at most.
const TOKENS: u32 = 128;

/// What a language model said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Its text.
    pub text: String,
    /// Until the first token came, microseconds.
    pub first_us: u32,
    /// From each token to the next, microseconds.
    pub each_us: Vec<u32>,
}

/// Whoever runs the model.
pub trait Predictor: Sync {
    /// Runs one prediction.
    fn predict(&self, inputs: Vec<Tensor>) -> impl Future<Output = Result<Vec<Tensor>, String>> + Send;

    /// Continues a text by the likeliest tokens.
    fn say(&self, prompt: &str, tokens: u32) -> impl Future<Output = Result<Said, String>> + Send;
}

/// Why a run gave no figures.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Data and model do not fit each other.
    #[error("{0}")]
    Unfit(String),
    /// The model failed on a sample.
    #[error("the model failed on sample {row}: {why}")]
    Model {
        /// The sample, from 0.
        row: usize,
        /// Why.
        why: String,
    },
    /// A sample cannot be given to the model.
    #[error("sample {row} cannot be used: {why}")]
    Sample {
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

/// What the model answered, sample by sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Answers {
    /// Scores per class.
    Scores(Vec<Vec<f32>>),
    /// Texts; beside them the natural logarithms of the probabilities of the expected answer's tokens, where the model tells them.
    Words(Vec<Said>, Vec<Vec<f64>>),
    /// The texts in the order in which each query finds them.
    Found(Vec<Query>),
}

/// What a run found.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// What the ledger is told: per class, in class order; of what is no classifier one, of right and wrong samples.
    pub counts: Vec<ClassCounts>,
    /// Classes that answers are told apart by.
    pub classes: u16,
    /// Samples.
    pub samples: u32,
    /// Samples whose answer was right.
    pub correct: u32,
    /// Median latency of one answer, microseconds.
    pub p50_us: u32,
    /// Root over the samples.
    pub dataset_root: Digest,
    /// Root over the answers, in sample order: classes, texts, or the place of what was found first.
    pub predictions_root: Digest,
    /// What a round's leaves are made of, in sample order: label, answer and hash of each sample. Of what is no classifier the label is
    /// 0, and the answer 0 if it was right, else 1.
    pub rows: Vec<Row>,
    /// How long each answer took, in sample order, microseconds.
    pub latencies_us: Vec<u32>,
    /// The answers.
    pub answers: Answers,
}

impl Findings {
    /// The body of the endorsement that says so.
    #[must_use]
    pub fn endorse(&self, name: ModelName, version: u32) -> Endorse {
        Endorse {
            name,
            version,
            classes: self.counts.clone(),
            samples: self.samples,
            correct: self.correct,
            p50_us: self.p50_us,
            dataset_root: self.dataset_root,
            predictions_root: self.predictions_root,
        }
    }
}

/// Runs `model` over every sample, one at a time (so that the latency is one call's), and counts. `progress` hears how many are done.
///
/// # Errors
/// See [`JobError`].
pub async fn run<P: Predictor>(
    model: &P,
    subject: &Subject,
    data: &Dataset,
    progress: impl FnMut(usize, usize) + Send,
) -> Result<Findings, JobError> {
    let classes = subject.classes(data).map_err(JobError::Unfit)?;
    match &data.samples {
        Samples::Prompts(prompts) => speak(model, data, prompts, progress).await,
        Samples::Pairs(pairs) => search(model, data, pairs, progress).await,
        Samples::Rows(_, labels) | Samples::Pictures(_, labels) | Samples::Sounds(_, labels) => {
            classify(model, subject, data, labels, classes, progress).await
        }
    }
}

async fn classify<P: Predictor>(
    model: &P,
    subject: &Subject,
    data: &Dataset,
    truth: &[u16],
    classes: u16,
    mut progress: impl FnMut(usize, usize) + Send,
) -> Result<Findings, JobError> {
    if let Some(row) = truth.iter().position(|t| *t >= classes) {
        return Err(JobError::Class { row, class: truth[row], last: classes.saturating_sub(1) });
    }
    let (mut micros, mut scores) = (Vec::with_capacity(truth.len()), Vec::with_capacity(truth.len()));
    for row in 0..truth.len() {
        let input = subject.inputs(data, row).map_err(|why| JobError::Sample { row, why })?;
        let start = Instant::now();
        let outputs = model.predict(input).await.map_err(|why| JobError::Model { row, why })?;
        micros.push(elapsed(start));
        let given = subject.scores(&outputs, classes);
        scores.push(given.map_err(|why| JobError::Answer { row, expected: classes, why })?);
        progress(row.saturating_add(1), truth.len());
    }
    let said: Vec<u16> = scores.iter().map(|row| best(row)).collect();
    let counted = labels::count(truth, &said, classes).map_err(|e| JobError::Unfit(e.to_string()))?;
    let leaves = said.iter().map(|class| class.to_le_bytes().to_vec()).collect();
    let right: Vec<bool> = said.iter().zip(truth).map(|(s, t)| s == t).collect();
    let mut found = findings(data, &right, leaves, micros, Answers::Scores(scores));
    found.classes = classes;
    if matches!(subject.task, Task::Classify { .. }) {
        found.counts = counted.counts;
        for (row, (label, answer)) in found.rows.iter_mut().zip(truth.iter().zip(&said)) {
            (row.label, row.answer) = (*label, *answer);
        }
    }
    Ok(found)
}

async fn speak<P: Predictor>(
    model: &P,
    data: &Dataset,
    prompts: &[Prompt],
    mut progress: impl FnMut(usize, usize) + Send,
) -> Result<Findings, JobError> {
    let (mut all, mut logs, mut micros) = (Vec::new(), Vec::new(), Vec::new());
    for (row, sample) in prompts.iter().enumerate() {
        let fail = |why| JobError::Model { row, why };
        let start = Instant::now();
        let said = model.say(&sample.prompt, tokens(sample)).await.map_err(fail)?;
        micros.push(elapsed(start));
        logs.push(log_probabilities(model, sample).await.map_err(fail)?);
        all.push(said);
        progress(row.saturating_add(1), prompts.len());
    }
    let right: Vec<bool> = prompts.iter().zip(&all).map(|(p, said)| is_right(p, &said.text)).collect();
    let leaves = all.iter().map(|said| said.text.clone().into_bytes()).collect();
    Ok(findings(data, &right, leaves, micros, Answers::Words(all, logs)))
}

/// Tokens that an answer may take: as many as the longest expected one has bytes, and some.
#[must_use]
pub fn tokens(sample: &Prompt) -> u32 {
    let longest = sample.expected.iter().map(String::len).max().unwrap_or(0);
    u32::try_from(longest).unwrap_or(TOKENS).saturating_add(4).min(TOKENS)
}

/// The part of what was said that is the answer: its first line that is not blank.
#[must_use]
pub fn answer(said: &str) -> &str {
    said.trim_start().lines().next().unwrap_or_default().trim_end()
}

/// True if the answer is one of those expected, but for case, punctuation and articles (the rules of SQuAD).
#[must_use]
pub fn is_right(sample: &Prompt, said: &str) -> bool {
    sample.expected.iter().any(|e| exact_match(e, answer(said)))
}

/// How likely the model takes the first expected answer for, token by token behind the prompt.
async fn log_probabilities<P: Predictor>(model: &P, sample: &Prompt) -> Result<Vec<f64>, String> {
    let Some(expected) = sample.expected.first() else { return Ok(Vec::new()) };
    let counted = model.predict(vec![inputs::text(&sample.prompt)]).await?;
    let Some(count) = counted.iter().find(|t| t.name == "tokens").and_then(|t| t.shape.first()) else {
        return Ok(Vec::new());
    };
    let blank = sample.prompt.ends_with(char::is_whitespace) || expected.starts_with(char::is_whitespace);
    let whole = format!("{}{}{expected}", sample.prompt, if blank { "" } else { " " });
    let from = inputs::from(i64::try_from(*count).map_err(|e| e.to_string())?.max(1));
    let told = model.predict(vec![inputs::text(&whole), from]).await;
    // An answer that melts into the prompt's last token has no tokens of its own.
    let Ok(told) = told else { return Ok(Vec::new()) };
    let logs = told.iter().find(|t| t.name == "logprobs").map(Tensor::to_f32).transpose().map_err(|e| e.to_string())?;
    Ok(logs.unwrap_or_default().into_iter().map(f64::from).collect())
}

pub(crate) fn findings(
    data: &Dataset,
    right: &[bool],
    leaves: Vec<Vec<u8>>,
    micros: Vec<u32>,
    answers: Answers,
) -> Findings {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (samples, correct) = (count(right.len()), count(right.iter().filter(|r| **r).count()));
    let wrong = samples.saturating_sub(correct);
    let mut sorted = micros.clone();
    sorted.sort_unstable();
    Findings {
        counts: vec![ClassCounts { tp: correct, fp: wrong, fn_: wrong }],
        classes: 1,
        samples,
        correct,
        p50_us: sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
        dataset_root: data.root(),
        predictions_root: root_of(leaves),
        rows: rows(data, right),
        latencies_us: micros,
        answers,
    }
}

fn rows(data: &Dataset, right: &[bool]) -> Vec<Row> {
    let row = |(sample, right): (usize, &bool)| Row {
        label: 0,
        answer: u16::from(!right),
        sample: Row::hash(&data.leaf(sample)),
    };
    right.iter().enumerate().map(row).collect()
}

pub(crate) fn elapsed(start: Instant) -> u32 {
    u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// The class with the highest score, as [`argmax`] has it.
#[must_use]
pub fn best(scores: &[f32]) -> u16 {
    u16::try_from(argmax(scores)).unwrap_or(u16::MAX)
}
