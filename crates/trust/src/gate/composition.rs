//! What a dataset is made of: its share of adversarial samples, and whether it stresses compute time.
#![allow(clippy::float_arithmetic)]

use super::{Check, Criterion};

/// Adversarial share of a dataset unless the publisher froze another: 1 sample in 20 to 1 in 2. Above half it is no
/// sample of the real world any more.
pub const ADVERSARIAL: (f64, f64) = (0.05, 0.5);

/// Judges the share of adversarial samples: those made from others by the attacks of this crate, or collected as such.
/// `perturbed` counts those that truly differ from the sample they were made from; a copy is no attack.
#[must_use]
pub fn adversarial(total: u64, perturbed: Option<u64>, limits: (f64, f64)) -> Check {
    let Some(perturbed) = perturbed.filter(|_| total > 0) else {
        let why = "nothing says which samples are adversarial: mark them, or let the run add its own";
        return Check::not_assessable(Criterion::Adversarial, why);
    };
    let mut check = Check::new(Criterion::Adversarial);
    let share = perturbed.min(total) as f64 / total as f64;
    check.at_least("share of adversarial samples, at least", share, limits.0);
    check.at_most("share of adversarial samples, at most", share, limits.1);
    check
}

/// What a load run did with a dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Size of each input in the unit its cost grows with (tokens, pixels, samples of sound); empty if all have one size
    /// because the model takes no other.
    pub sizes: Vec<u64>,
    /// Calls under load.
    pub calls: u64,
    /// Calls that the percentiles of the report need: [`crate::load::least_samples`].
    pub calls_needed: u64,
    /// Most calls that were under way at once.
    pub concurrency: u32,
}

/// Concurrent calls that count as load.
pub const CONCURRENCY: u32 = 4;
/// How much larger than the median the largest input is, where sizes vary.
pub const SPREAD: f64 = 2.0;

/// Judges whether a dataset was used to stress compute time: enough calls for the percentiles reported, enough of them at
/// once, and, where the model takes inputs of any size, sizes that differ.
#[must_use]
pub fn stress(load: Option<&Load>) -> Check {
    let Some(load) = load.filter(|l| l.calls > 0) else {
        return Check::not_assessable(
            Criterion::Stress,
            "no load run: run the Server or Offline scenario on this dataset",
        );
    };
    let mut check = Check::new(Criterion::Stress);
    check.at_least("calls under load", load.calls as f64, load.calls_needed as f64);
    check.at_least("calls at once", f64::from(load.concurrency), f64::from(CONCURRENCY));
    let mut sizes = load.sizes.clone();
    sizes.sort_unstable();
    match (sizes.get(sizes.len() / 2), sizes.last()) {
        (Some(&median), Some(&largest)) => {
            check.at_least("largest input over the median", largest as f64 / median.max(1) as f64, SPREAD);
        }
        _ => check.notes.push("All inputs have one size, because the model takes no other.".to_owned()),
    }
    check
}
