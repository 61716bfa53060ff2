//! Figures of generated and recognised text: perplexity, exact match and token F1 by SQuAD's rules, ROUGE-L, word and
//! character error rates. Owns how text is cut into words for each; two figures with different rules are not comparable.
#![allow(clippy::float_arithmetic)]

use std::collections::BTreeMap;

use super::{MetricError, sum};

/// Words (or characters, for [`character_errors`]) of one text: comparing two takes the product of their lengths.
pub const UNITS: usize = 20_000;

/// exp(−mean ln p) over the tokens of a corpus, from the natural logarithms of the probabilities the model gave the true
/// tokens. It depends on the tokenizer: compare only models that share one.
///
/// # Errors
/// No tokens, or a logarithm above 0 or not a number.
pub fn perplexity(log_probabilities: &[f64]) -> Result<f64, MetricError> {
    if log_probabilities.is_empty() {
        return Err(MetricError::Empty);
    }
    if let Some(row) = log_probabilities.iter().position(|l| l.is_nan() || *l > 0.0) {
        return Err(MetricError::Value { row, what: "a logarithm of no probability" });
    }
    Ok(libm::exp(-sum(log_probabilities.iter().copied()) / log_probabilities.len() as f64))
}

/// SQuAD's normal form (Rajpurkar et al. 2016, the official evaluation script): lower case, no ASCII punctuation, no
/// English articles, single spaces. In other languages the articles stay; the script does the same.
#[must_use]
pub fn squad_normal(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    // `\b(a|an|the)\b`: a word is a longest run of letters and digits, so the parts around a dash are words.
    let mut out = String::with_capacity(plain.len());
    let mut rest = plain.as_str();
    while let Some(first) = rest.chars().next() {
        let in_word = first.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != in_word).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        out.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = after;
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// True if the normal forms are equal.
#[must_use]
pub fn exact_match(reference: &str, answer: &str) -> bool {
    squad_normal(reference) == squad_normal(answer)
}

/// F1 over the words of the normal forms, as multisets; where one has no words, 1 if both have none (SQuAD 2.0).
#[must_use]
pub fn token_f1(reference: &str, answer: &str) -> f64 {
    let (reference, answer) = (squad_normal(reference), squad_normal(answer));
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for word in reference.split_whitespace() {
        *left.entry(word).or_default() += 1;
    }
    let (n, m) = (reference.split_whitespace().count(), answer.split_whitespace().count());
    let mut shared = 0;
    for word in answer.split_whitespace() {
        if let Some(count) = left.get_mut(word).filter(|c| **c > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    f1(shared, n, m)
}

/// The best of `figure` over several right answers; 0 without any.
#[must_use]
pub fn best_of(references: &[&str], answer: &str, figure: impl Fn(&str, &str) -> f64) -> f64 {
    references.iter().map(|r| figure(r, answer)).fold(0.0, f64::max)
}

/// ROUGE-L's F-measure (Lin 2004) as the package `rouge-score` computes it without stemming: words are runs of ASCII
/// letters and digits, so text in another script has none and the figure says nothing there. 0 where either has no words.
///
/// # Errors
/// A text of more than [`UNITS`] words.
pub fn rouge_l(reference: &str, answer: &str) -> Result<f64, MetricError> {
    let words = |text: &str| -> Vec<String> {
        let lower = text.to_lowercase();
        let runs = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
        runs.filter(|w| !w.is_empty()).map(str::to_owned).collect()
    };
    let (reference, answer) = (words(reference), words(answer));
    bounded("words", &reference)?;
    bounded("words", &answer)?;
    if reference.is_empty() || answer.is_empty() {
        return Ok(0.0);
    }
    Ok(f1(common(&reference, &answer), reference.len(), answer.len()))
}

/// Edits that turn references into answers, against the length of the references; add them up over a corpus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// Substitutions, deletions and insertions: the fewest that do (Levenshtein 1966).
    pub edits: u64,
    /// Words or characters of the references.
    pub units: u64,
}

impl Errors {
    /// Edits per unit; may exceed 1.
    ///
    /// # Errors
    /// The references are empty.
    pub fn rate(self) -> Result<f64, MetricError> {
        if self.units == 0 {
            return Err(MetricError::Undefined("an error rate needs a reference that is not empty"));
        }
        Ok(self.edits as f64 / self.units as f64)
    }
}

impl std::ops::Add for Errors {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { edits: self.edits.saturating_add(other.edits), units: self.units.saturating_add(other.units) }
    }
}

/// Word errors of one pair, the words cut at white space, case and punctuation as they are (jiwer's default): whoever
/// wants "Hello," to equal "hello" normalises both first, and says so.
///
/// # Errors
/// A text of more than [`UNITS`] words.
pub fn word_errors(reference: &str, answer: &str) -> Result<Errors, MetricError> {
    let words = |text: &'_ str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    errors("words", &words(reference), &words(answer))
}

/// Character errors of one pair, white space at both ends left out.
///
/// # Errors
/// A text of more than [`UNITS`] characters.
pub fn character_errors(reference: &str, answer: &str) -> Result<Errors, MetricError> {
    let characters = |text: &str| text.trim().chars().collect::<Vec<_>>();
    errors("characters", &characters(reference), &characters(answer))
}

fn errors<T: PartialEq>(what: &'static str, reference: &[T], answer: &[T]) -> Result<Errors, MetricError> {
    bounded(what, reference)?;
    bounded(what, answer)?;
    // One row of the table of distances: before step i it holds those of the first i − 1 units of the reference.
    let mut row: Vec<u64> = (0..=answer.len() as u64).collect();
    for (i, r) in reference.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i as u64 + 1;
        for (j, a) in answer.iter().enumerate() {
            let replaced = diagonal + u64::from(r != a);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    Ok(Errors { edits: row[answer.len()], units: reference.len() as u64 })
}

/// Length of the longest common subsequence.
fn common<T: PartialEq>(left: &[T], right: &[T]) -> usize {
    let mut row = vec![0; right.len() + 1];
    for l in left {
        let mut diagonal = 0;
        for (j, r) in right.iter().enumerate() {
            let longer = if l == r { diagonal + 1 } else { row[j].max(row[j + 1]) };
            diagonal = row[j + 1];
            row[j + 1] = longer;
        }
    }
    row[right.len()]
}

fn bounded<T>(what: &'static str, units: &[T]) -> Result<(), MetricError> {
    if units.len() > UNITS {
        return Err(MetricError::TooMany { what, got: units.len(), limit: UNITS });
    }
    Ok(())
}

/// F1 of `shared` among `n` and `m`; where one is 0, 1 if both are.
fn f1(shared: usize, n: usize, m: usize) -> f64 {
    if n == 0 || m == 0 {
        return if n == m { 1.0 } else { 0.0 };
    }
    2.0 * shared as f64 / (n + m) as f64
}
