//! From answers to figures with intervals, for each kind of answer. Owns which figures are told: all that are defined;
//! what is not is named in the notes, never filled in.
#![allow(clippy::float_arithmetic)]

use std::collections::BTreeMap;

use zero2ai_proto::tensor::argmax;

use super::{Better, Class, Metric, Report, Slice};
use crate::{
    draw::Seed,
    metrics::{
        MetricError,
        interval::{self, Bootstrap, Estimate},
        labels, regression, retrieval, scores, text,
    },
};

/// What the intervals are drawn with.
#[derive(Clone, Copy, Debug)]
pub struct Drawing<'a> {
    /// The run's seed.
    pub seed: &'a Seed,
    /// Resamples of each bootstrap; see [`interval::RESAMPLES`].
    pub resamples: u32,
    /// Threads; the figures do not depend on it.
    pub threads: usize,
}

/// Answers of a classifier.
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a> {
    /// The true class of each sample.
    pub truth: &'a [u16],
    /// A score per class for each sample: probabilities, if they add up to 1.
    pub rows: &'a [Vec<f64>],
    /// What the classes are called; how many there are.
    pub names: &'a [String],
    /// A part of the data per sample, if there are parts.
    pub slices: Option<&'a [String]>,
}

/// Slices that are told, the largest first; the rest would be noise.
pub const SLICES: usize = 50;

/// Figures that may exceed 1 (or fall below 0): their intervals are the bootstrap's alone, and rest on at least [`LEAST`] samples.
const UNBOUNDED: [&str; 7] = ["log loss", "MAE", "RMSE", "R²", "WER", "CER", "perplexity"];
/// Samples below which a bootstrap says too little to be told.
pub const LEAST: u64 = 20;

/// Adds the figures of a classifier.
///
/// # Errors
/// No samples, or answers that do not fit truths and classes.
pub fn classification(report: &mut Report, answers: Answers<'_>, drawing: Drawing<'_>) -> Result<(), MetricError> {
    let Answers { truth, rows, names, slices } = answers;
    let classes = u16::try_from(names.len()).unwrap_or(u16::MAX);
    if let Some(row) = rows.iter().position(|r| r.len() != names.len() || r.iter().any(|v| v.is_nan())) {
        return Err(MetricError::Value {
            row,
            what: "another number of scores than classes, or one that is no number",
        });
    }
    let said: Vec<u16> = rows.iter().map(|r| argmax(r) as u16).collect();
    let counted = labels::count(truth, &said, classes)?;
    let right: Vec<bool> = truth.iter().zip(&said).map(|(t, s)| t == s).collect();
    push(report, "accuracy", Better::Higher, interval::share(u64::from(counted.correct), u64::from(counted.samples)));

    macros(report, truth, &said, classes, drawing);
    for (name, figure) in
        [("ROC-AUC", scores::roc_auc_one_vs_rest as OverRows), ("PR-AUC", scores::average_precision_one_vs_rest)]
    {
        over_rows(report, name, Better::Higher, answers, figure, drawing);
    }
    calibrated(report, answers, &right, drawing);
    let per_class = counted.per_class();
    report.classes = (names.iter().zip(&per_class).zip(&counted.counts))
        .map(|((name, prf), c)| Class { name: name.clone(), samples: u64::from(c.tp) + u64::from(c.fn_), prf: *prf })
        .collect();
    if let Some(parts) = slices.filter(|s| s.len() == truth.len()) {
        report.slices = sliced(parts, &right);
    }
    Ok(())
}

/// Macro averages, by class alone.
fn macros(report: &mut Report, truth: &[u16], said: &[u16], classes: u16, drawing: Drawing<'_>) {
    type Part = fn(&labels::Prf) -> f64;
    let parts: [(&str, Part); 3] =
        [("macro F1", |p| p.f1), ("macro precision", |p| p.precision), ("macro recall", |p| p.recall)];
    for (name, part) in parts {
        let figure = |picked: &[usize]| {
            let (t, s): (Vec<u16>, Vec<u16>) = picked.iter().map(|i| (truth[*i], said[*i])).unzip();
            labels::count(&t, &s, classes).map(|c| part(&c.macro_mean()))
        };
        push(report, name, Better::Higher, interval::bootstrap(truth.len(), draw(drawing, name), figure));
    }
}

type OverRows = fn(&[u16], &[Vec<f64>]) -> Result<f64, MetricError>;

fn over_rows(
    report: &mut Report,
    name: &str,
    better: Better,
    answers: Answers<'_>,
    figure: OverRows,
    drawing: Drawing<'_>,
) {
    let over = |picked: &[usize]| {
        let truth: Vec<u16> = picked.iter().map(|i| answers.truth[*i]).collect();
        let rows: Vec<Vec<f64>> = picked.iter().map(|i| answers.rows[*i].clone()).collect();
        figure(&truth, &rows)
    };
    push(report, name, better, interval::bootstrap(answers.truth.len(), draw(drawing, name), over));
}

/// Log loss and calibration, if the scores are probabilities.
fn calibrated(report: &mut Report, answers: Answers<'_>, right: &[bool], drawing: Drawing<'_>) {
    let calibration = match scores::calibration(answers.truth, answers.rows, scores::BINS) {
        Ok(calibration) => calibration,
        Err(why) => {
            let note = format!("Log loss and calibration are left out: the scores are no probabilities ({why}).");
            return report.notes.push(note);
        }
    };
    over_rows(report, "log loss", Better::Lower, answers, scores::log_loss, drawing);
    let confidence: Vec<f64> = answers.rows.iter().map(|r| r[argmax(r)]).collect();
    let ece = |picked: &[usize]| {
        let pairs: Vec<(f64, bool)> = picked.iter().map(|i| (confidence[*i], right[*i])).collect();
        scores::binned(&pairs, scores::BINS).map(|c| c.ece)
    };
    push(report, "ECE", Better::Lower, interval::bootstrap(right.len(), draw(drawing, "ECE"), ece));
    report.calibration = Some(calibration);
}

/// Share of right answers per part, the largest parts first; lists of different lengths give the parts that both have.
#[must_use]
pub fn sliced(parts: &[String], right: &[bool]) -> Vec<Slice> {
    let mut counts: BTreeMap<&String, (u64, u64)> = BTreeMap::new();
    for (part, right) in parts.iter().zip(right) {
        let c = counts.entry(part).or_default();
        c.0 += u64::from(*right);
        c.1 += 1;
    }
    let mut all: Vec<Slice> = (counts.into_iter())
        .filter_map(|(name, (hits, n))| {
            interval::share(hits, n).ok().map(|accuracy| Slice { name: name.clone(), accuracy })
        })
        .collect();
    all.sort_by_key(|s| std::cmp::Reverse(s.accuracy.samples));
    all.truncate(SLICES);
    all
}

/// Adds the figures of numeric predictions.
///
/// # Errors
/// No samples, lists of different lengths, values that are not finite.
pub fn numbers(report: &mut Report, truth: &[f64], answers: &[f64], drawing: Drawing<'_>) -> Result<(), MetricError> {
    regression::mean_absolute_error(truth, answers)?;
    let over = |figure: fn(&[f64], &[f64]) -> Result<f64, MetricError>| {
        move |picked: &[usize]| {
            let (t, a): (Vec<f64>, Vec<f64>) = picked.iter().map(|i| (truth[*i], answers[*i])).unzip();
            figure(&t, &a)
        }
    };
    for (name, better, figure) in [
        ("MAE", Better::Lower, over(regression::mean_absolute_error)),
        ("RMSE", Better::Lower, over(regression::root_mean_squared_error)),
        ("R²", Better::Higher, over(regression::r_squared)),
    ] {
        push(report, name, better, interval::bootstrap(truth.len(), draw(drawing, name), figure));
    }
    Ok(())
}

/// Adds the figures of answers in words: exact match, token F1 and ROUGE-L, against the best of each sample's references.
///
/// # Errors
/// No samples, lists of different lengths, a text that is too long.
pub fn answers(
    report: &mut Report,
    references: &[Vec<&str>],
    answers: &[&str],
    drawing: Drawing<'_>,
) -> Result<(), MetricError> {
    crate::metrics::paired(references, answers)?;
    let pairs = || references.iter().zip(answers);
    let exact = pairs().filter(|(r, a)| r.iter().any(|r| text::exact_match(r, a))).count() as u64;
    push(report, "exact match", Better::Higher, interval::share(exact, answers.len() as u64));
    let f1: Vec<f64> = pairs().map(|(r, a)| text::best_of(r, a, text::token_f1)).collect();
    means(report, "token F1", Better::Higher, &f1, drawing);
    let rouge = |(all, answer): (&Vec<&str>, &&str)| {
        all.iter().map(|r| text::rouge_l(r, answer)).try_fold(0.0, |best: f64, r| r.map(|r| best.max(r)))
    };
    let rouge: Result<Vec<f64>, MetricError> = pairs().map(rouge).collect();
    means(report, "ROUGE-L", Better::Higher, &rouge?, drawing);
    Ok(())
}

/// Adds the figures of recognised speech or print: word and character error rates over the corpus.
///
/// # Errors
/// No samples, lists of different lengths, a text that is too long.
pub fn transcripts(
    report: &mut Report,
    references: &[&str],
    said: &[&str],
    drawing: Drawing<'_>,
) -> Result<(), MetricError> {
    crate::metrics::paired(references, said)?;
    type Count = fn(&str, &str) -> Result<text::Errors, MetricError>;
    let counts: [(&'static str, Count); 2] = [("WER", text::word_errors), ("CER", text::character_errors)];
    for (name, count) in counts {
        let each: Result<Vec<text::Errors>, MetricError> =
            references.iter().zip(said).map(|(r, a)| count(r, a)).collect();
        let each = each?;
        let rate = |picked: &[usize]| picked.iter().fold(text::Errors::default(), |sum, i| sum + each[*i]).rate();
        push(report, name, Better::Lower, interval::bootstrap(each.len(), draw(drawing, name), rate));
    }
    Ok(())
}

/// Adds perplexity, from the logarithms of the probabilities of each text's tokens; resampled by text.
///
/// # Errors
/// No tokens, or a logarithm of no probability.
pub fn language(report: &mut Report, texts: &[Vec<f64>], drawing: Drawing<'_>) -> Result<(), MetricError> {
    let over = |picked: &[usize]| {
        text::perplexity(&picked.iter().flat_map(|i| texts[*i].iter().copied()).collect::<Vec<f64>>())
    };
    over(&(0..texts.len()).collect::<Vec<_>>())?;
    push(report, "perplexity", Better::Lower, interval::bootstrap(texts.len(), draw(drawing, "perplexity"), over));
    Ok(())
}

/// Adds the figures of search: mean reciprocal rank, and recall at each of `ks`.
///
/// # Errors
/// No queries, or one without relevant items.
pub fn search(
    report: &mut Report,
    queries: &[retrieval::Query],
    ks: &[usize],
    drawing: Drawing<'_>,
) -> Result<(), MetricError> {
    retrieval::mean_reciprocal_rank(queries)?;
    let ranks: Vec<f64> = queries.iter().map(retrieval::Query::reciprocal_rank).collect();
    means(report, "MRR", Better::Higher, &ranks, drawing);
    for k in ks {
        let each: Result<Vec<f64>, MetricError> = queries.iter().map(|q| q.recall_at(*k)).collect();
        means(report, &format!("recall@{k}"), Better::Higher, &each?, drawing);
    }
    Ok(())
}

/// A mean with a bootstrap over its values.
fn means(report: &mut Report, name: &str, better: Better, values: &[f64], drawing: Drawing<'_>) {
    let mean = |picked: &[usize]| Ok(crate::metrics::sum(picked.iter().map(|i| values[*i])) / picked.len() as f64);
    push(report, name, better, interval::bootstrap(values.len(), draw(drawing, name), mean));
}

fn draw<'a>(drawing: Drawing<'a>, label: &'a str) -> Bootstrap<'a> {
    Bootstrap { seed: drawing.seed, label, resamples: drawing.resamples, threads: drawing.threads }
}

/// A figure, or a note that says why it is missing.
fn push(report: &mut Report, name: &str, better: Better, estimate: Result<Estimate, MetricError>) {
    match estimate {
        Ok(e) if UNBOUNDED.contains(&name) && e.samples < LEAST => {
            report.notes.push(format!("{name} is left out: {} samples, and its interval needs {LEAST}.", e.samples));
        }
        Ok(estimate) => {
            let estimate =
                if UNBOUNDED.contains(&name) { estimate } else { interval::no_narrower_than_wilson(estimate) };
            report.metrics.push(Metric { name: name.to_owned(), better, estimate });
        }
        Err(why) => report.notes.push(format!("{name} is left out: {why}.")),
    }
}
