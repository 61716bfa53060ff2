//! The checks of a dataset and of a model's answers to it: which of the pure ones apply to which data.

use zero2ai_trust::gate::{
    Check, Criterion, bias,
    composition::{self, Load},
    privacy,
};

use crate::{
    dataset::{Dataset, Samples},
    inputs::Subject,
    job::{Answers, Findings, best, is_right},
    prints::{self, Prints},
    search::first_is_relevant,
};

/// The checks that need no run: bias, privacy, overlap with the publisher's data, and shift from it.
#[must_use]
pub fn dataset(data: &Dataset, subject: &Subject, classes: u16, prints: Option<&Prints>) -> Vec<Check> {
    let bias = match data.labels() {
        Some(labels) => bias::dataset(labels, classes, data.group_numbers().as_deref(), bias::Limits::default()),
        None => Check::not_assessable(Criterion::Bias, "these samples have no classes to be balanced"),
    };
    let overlap = prints.map_or_else(prints::none, |prints| prints.check(data, subject));
    let shift = Check::not_assessable(
        Criterion::Shift,
        "a publisher leaves fingerprints of his data, not a sample to compare with",
    );
    vec![bias, private(data), overlap, shift]
}

fn private(data: &Dataset) -> Check {
    match &data.samples {
        Samples::Prompts(all) => {
            let texts = all.iter().flat_map(|p| std::iter::once(&p.prompt).chain(&p.expected));
            privacy::check(texts.map(String::as_str), 0)
        }
        Samples::Pairs(all) => privacy::check(all.iter().flat_map(|p| [p.query.as_str(), p.relevant.as_str()]), 0),
        _ => Check::not_assessable(Criterion::Privacy, "only text is searched for personal data"),
    }
}

/// The share of samples that the run attacked: each counts as one more, which differs from the one it was made from. A share below what is asked
/// for is no fault of the dataset.
#[must_use]
pub fn adversarial(data: &Dataset, attacked: u64) -> Check {
    let total = (data.len() as u64).saturating_add(attacked);
    let least = composition::ADVERSARIAL.0;
    if (attacked as f64) < least * total as f64 {
        let why = if attacked == 0 {
            "nothing was attacked: a report attacks".to_owned()
        } else {
            format!("the run attacked {attacked} of {} samples, and a share of {least} is asked for", data.len())
        };
        return Check::not_assessable(Criterion::Adversarial, &why);
    }
    composition::adversarial(total, Some(attacked), composition::ADVERSARIAL)
}

/// Whether the dataset was used to stress compute time. A load run that was too short for it is no fault of the dataset.
#[must_use]
pub fn stress(load: Option<&Load>) -> Check {
    match load {
        Some(load) if load.calls < load.calls_needed => {
            let why = format!(
                "the load run made {} calls in its time, and the percentiles need {}",
                load.calls, load.calls_needed
            );
            Check::not_assessable(Criterion::Stress, &why)
        }
        load => composition::stress(load),
    }
}

/// Which answers were right, sample by sample.
#[must_use]
pub fn right(data: &Dataset, answers: &Answers) -> Vec<bool> {
    match (answers, &data.samples) {
        (Answers::Scores(scores), _) => {
            let truth = data.labels().unwrap_or_default();
            scores.iter().zip(truth).map(|(row, truth)| best(row) == *truth).collect()
        }
        (Answers::Words(said, _), Samples::Prompts(prompts)) => {
            prompts.iter().zip(said).map(|(p, s)| is_right(p, &s.text)).collect()
        }
        (Answers::Found(found), _) => found.iter().map(first_is_relevant).collect(),
        (Answers::Words(..), _) => Vec::new(),
    }
}

/// Fairness between the groups that a column names: whether one group is answered rightly more often than another, and, of two
/// classes, demographic parity and equalised odds of the second.
#[must_use]
pub fn answers(data: &Dataset, findings: &Findings) -> Vec<Check> {
    let Some(groups) = data.group_numbers() else { return Vec::new() };
    let limits = bias::Limits::default();
    let right: Vec<u16> = right(data, &findings.answers).into_iter().map(u16::from).collect();
    let mut accuracy = bias::answers(&vec![1; right.len()], &right, 1, &groups, limits);
    accuracy.notes.retain(|note| !note.contains("lacks positives"));
    accuracy.notes.push("Compared is how often a group is answered rightly.".to_owned());
    let mut checks = vec![accuracy];
    if let (Answers::Scores(scores), Some(truth), 2) = (&findings.answers, data.labels(), findings.classes)
        && each_group_has(truth, &groups, bias::GROUP)
    {
        let said: Vec<u16> = scores.iter().map(|row| best(row)).collect();
        let mut second = bias::answers(truth, &said, 1, &groups, limits);
        let name = data.names.get(1).map_or("class 1", String::as_str);
        second.notes.push(format!("Compared is how often a group is answered '{name}'."));
        checks.push(second);
    }
    checks
}

/// True if every group has so many samples of either class: below, a rate over them means little.
fn each_group_has(truth: &[u16], groups: &[u32], least: u64) -> bool {
    let mut counts: std::collections::BTreeMap<(u32, bool), u64> = std::collections::BTreeMap::new();
    for (class, group) in truth.iter().zip(groups) {
        *counts.entry((*group, *class == 1)).or_default() += 1;
    }
    let all: std::collections::BTreeSet<u32> = groups.iter().copied().collect();
    all.into_iter().all(|g| [true, false].iter().all(|c| counts.get(&(g, *c)).is_some_and(|n| *n >= least)))
}
