//! Macro-averaged precision, recall and F1 from integer counts, as scikit-learn defines them. Owns the exact arithmetic,
//! so that an independent verifier can repeat it to the last unit.
#![deny(clippy::float_arithmetic)]

use zero2ai_proto::{limits::CLASSES, tx::ClassCounts};

use crate::PPM;

/// Bits of fraction that one class keeps before the mean is taken. The largest intermediate is a 33-bit count times 10^6
/// (20 bits) times 2^40, summed over 256 classes: 101 bits, inside `u128`. Fewer bits would let the mean drift by a unit.
const FRACTION_BITS: u32 = 40;

/// Macro averages over all classes, millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Macro {
    /// Mean of tp / (tp + fp).
    pub precision_ppm: u32,
    /// Mean of tp / (tp + fn).
    pub recall_ppm: u32,
    /// Mean of 2·tp / (2·tp + fp + fn).
    pub f1_ppm: u32,
}

/// The macro averages of scikit-learn's `precision_recall_fscore_support(average="macro", zero_division=0,
/// labels=<all classes>)`: a class whose denominator is 0 counts as 0, and counts in the mean.
///
/// The recipe, for other implementations (`//` rounds down, n classes): each class gives
/// `q = numerator * 10**6 * 2**40 // denominator` (0 if the denominator is 0), and the mean is
/// `(sum(q) + n) // (n * 2**40)`. The `+ n` makes up for the n roundings, so that thirds that add up to a whole do so
/// here; the result is the exact mean rounded down, unless that lies within 2^-40 below the next millionth, and it
/// differs from the real-valued mean by less than one millionth either way.
///
/// `None` without classes or with more than [`CLASSES`].
#[must_use]
pub fn macro_scores(classes: &[ClassCounts]) -> Option<Macro> {
    if classes.is_empty() || classes.len() > CLASSES {
        return None;
    }
    let mean = |fraction: fn(u128, u128, u128) -> (u128, u128)| {
        let sum: u128 = classes
            .iter()
            .map(|c| fraction(u128::from(c.tp), u128::from(c.fp), u128::from(c.fn_)))
            .map(|(over, under)| ((over * u128::from(PPM)) << FRACTION_BITS).checked_div(under).unwrap_or(0))
            .sum();
        let n = classes.len() as u128;
        u32::try_from((sum + n) / (n << FRACTION_BITS)).ok()
    };
    Some(Macro {
        precision_ppm: mean(|tp, fp, _| (tp, tp + fp))?,
        recall_ppm: mean(|tp, _, fn_| (tp, tp + fn_))?,
        f1_ppm: mean(|tp, fp, fn_| (2 * tp, 2 * tp + fp + fn_))?,
    })
}

/// Counts that cannot come from any run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountsError {
    /// No class, or more than the network grades.
    #[error("{0} classes; 1 to {CLASSES} can be graded")]
    Classes(usize),
    /// Nothing was measured.
    #[error("no samples: an endorsement rests on at least one")]
    NoSamples,
    /// Sums that every confusion matrix obeys do not hold.
    #[error("{what} of all classes add up to {sum}, but {expected} were told: count again from the predictions")]
    Sum {
        /// Which counts.
        what: &'static str,
        /// What they add up to.
        sum: u64,
        /// What they must add up to.
        expected: u64,
    },
}

/// Checks what holds for every single-label classification: each sample is in one class and gets one answer, so true
/// positives add up to `correct`, and both (tp + fn) and (tp + fp) to `samples`.
///
/// # Errors
/// The first of these that does not hold.
pub fn check_counts(classes: &[ClassCounts], samples: u32, correct: u32) -> Result<(), CountsError> {
    if classes.is_empty() || classes.len() > CLASSES {
        return Err(CountsError::Classes(classes.len()));
    }
    if samples == 0 {
        return Err(CountsError::NoSamples);
    }
    // At most 256 terms of 33 bits: no overflow in 64.
    let total = |part: fn(&ClassCounts) -> u64| classes.iter().map(part).sum::<u64>();
    let sums = [
        ("true positives", total(|c| u64::from(c.tp)), u64::from(correct)),
        ("true positives and false negatives", total(|c| u64::from(c.tp) + u64::from(c.fn_)), u64::from(samples)),
        ("true and false positives", total(|c| u64::from(c.tp) + u64::from(c.fp)), u64::from(samples)),
    ];
    match sums.into_iter().find(|(_, sum, expected)| sum != expected) {
        Some((what, sum, expected)) => Err(CountsError::Sum { what, sum, expected }),
        None => Ok(()),
    }
}
