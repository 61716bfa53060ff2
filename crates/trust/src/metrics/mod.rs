//! Figures of a model's answers. [`counts`] is what the ledger recomputes, in integers; the rest is what a validator
//! computes from predictions, in doubles, and rounds once at the end.
//!
//! | module | owns | checked against |
//! |---|---|---|
//! | [`counts`] | integer macro scores (ledger) | scikit-learn's definition |
//! | [`labels`] | accuracy, precision, recall, F1 per class, micro and macro | scikit-learn |
//! | [`scores`] | ROC-AUC, average precision, log loss, calibration | scikit-learn |
//! | [`regression`] | MAE, RMSE, R² | scikit-learn |
//! | [`text`] | perplexity, exact match, token F1, ROUGE-L, WER, CER | rouge-score, jiwer, SQuAD's rules |
//! | [`retrieval`] | reciprocal rank, recall at k | scikit-learn |
//! | [`interval`] | Wilson and bootstrap intervals | SciPy |
//!
//! The goldens are made by `testnet/goldens/trust.py` and compared within 1e-9.
#![allow(clippy::float_arithmetic)]

pub mod counts;
pub mod interval;
pub mod labels;
pub mod regression;
pub mod retrieval;
pub mod scores;
pub mod text;

/// Why a figure cannot be computed. None of these is a zero: a figure that is not defined is not a bad one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// Nothing was measured.
    #[error("no samples: a figure rests on at least one")]
    Empty,
    /// Two lists that belong together have different lengths.
    #[error("{left} truths, but {right} answers: each sample needs both")]
    Lengths {
        /// Truths.
        left: usize,
        /// Answers.
        right: usize,
    },
    /// A class that is not below the number of classes.
    #[error("sample {row} names class {class}, and there are {classes} classes, counted from 0")]
    Class {
        /// The sample, from 0.
        row: usize,
        /// Its class.
        class: u16,
        /// How many there are.
        classes: u16,
    },
    /// A value that is not a finite number, or not a probability where one is needed.
    #[error("sample {row} holds {what}")]
    Value {
        /// The sample, from 0.
        row: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The figure is not defined on such data.
    #[error("not defined here: {0}")]
    Undefined(&'static str),
    /// More than is computed.
    #[error("{got} {what}; at most {limit} are computed: split the set")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many came.
        got: usize,
        /// How many may.
        limit: usize,
    },
}

/// A share as millionths, rounded to the nearest (halves up), within 0 and [`crate::PPM`]; 0 for NaN. The only way from
/// a double to a figure of the ledger: a difference of 1e-13 between two machines would matter only to a share that lies
/// that close to a half of a millionth, and with `libm` there is no such difference.
#[must_use]
pub fn ppm(share: f64) -> u32 {
    (share * f64::from(crate::PPM)).round().clamp(0.0, f64::from(crate::PPM)) as u32
}

/// The sum in the order given, with the lost low bits carried along (Neumaier 1974): one order, one result, and
/// close enough to exact that any other summation agrees to 1e-12.
pub(crate) fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut total, mut lost) = (0.0f64, 0.0f64);
    for value in values {
        let next = total + value;
        lost += if total.abs() >= value.abs() { (total - next) + value } else { (value - next) + total };
        total = next;
    }
    total + lost
}

/// Both lists have the same length, at least 1: that length.
pub(crate) fn paired<A, B>(left: &[A], right: &[B]) -> Result<usize, MetricError> {
    match (left.len(), right.len()) {
        (l, r) if l != r => Err(MetricError::Lengths { left: l, right: r }),
        (0, _) => Err(MetricError::Empty),
        (n, _) => Ok(n),
    }
}

/// All values are finite.
pub(crate) fn finite(values: &[f64]) -> Result<(), MetricError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(row) => Err(MetricError::Value { row, what: "a value that is not a finite number" }),
        None => Ok(()),
    }
}
