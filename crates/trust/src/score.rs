//! What one endorsement says and what many come to. Owns the rule of the round score: the weighted median, which a
//! minority of the counted weight cannot push outside what the others found.

use std::{cmp::Reverse, collections::BTreeMap};

use zero2ai_proto::{Digest, state::Verdict, tx::Thresholds};

/// Distinct datasets that a score needs at least: with two, one validator alone decides the median.
pub const MIN_DATASETS: usize = 3;

/// The verdict on a quality: positive from `accept_ppm` up, else negative from `reject_ppm` down, else abstaining.
#[must_use]
pub fn verdict(quality_ppm: u32, thresholds: Thresholds) -> Verdict {
    if quality_ppm >= thresholds.accept_ppm {
        Verdict::Positive
    } else if quality_ppm <= thresholds.reject_ppm {
        Verdict::Negative
    } else {
        Verdict::Abstain
    }
}

/// One endorsement, as far as the score is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// What it weighs; 1 for everyone while there is neither stake nor reputation.
    pub weight: u64,
    /// The quality it found, millionths.
    pub quality_ppm: u32,
    /// Root over its samples: equal roots mean one dataset.
    pub dataset_root: Digest,
    /// Samples.
    pub samples: u32,
    /// Height at which it was committed to.
    pub height: u64,
    /// Its place among the commitments of that block.
    pub index: u32,
}

/// What a round of votes comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreParts {
    /// The largest quality that at least half of the counted weight supports, millionths; `None` below
    /// [`MIN_DATASETS`] distinct datasets.
    pub score_ppm: Option<u32>,
    /// Distinct dataset roots.
    pub datasets: u32,
    /// Samples over distinct datasets.
    pub samples: u64,
}

/// Which votes count: of each dataset the one that [`round_score`] lets stand for it, and of equal ones the first here.
#[must_use]
pub fn counted(votes: &[Vote]) -> Vec<bool> {
    let precedence = |v: &Vote| (v.height, v.index, Reverse(v.weight), v.quality_ppm, v.samples);
    let mut first: BTreeMap<Digest, usize> = BTreeMap::new();
    for (place, vote) in votes.iter().enumerate().filter(|(_, v)| v.weight > 0) {
        let held = first.entry(vote.dataset_root).or_insert(place);
        if precedence(vote) < precedence(&votes[*held]) {
            *held = place;
        }
    }
    votes.iter().enumerate().map(|(place, vote)| first.get(&vote.dataset_root) == Some(&place)).collect()
}

/// The score of a set of votes; their order does not matter.
///
/// Votes on one dataset count once: the one committed to first stands for it, however heavy the others are. A commitment hides
/// its root until it is revealed, so whoever copied a root came later. Votes with one place (there is none on a
/// ledger) go by weight, then by the lowest quality, then by the fewest samples. The score is the largest x such that votes of
/// quality x or more carry at least half of the counted weight. Those who carry less than half of the *counted* weight cannot
/// move it beyond the qualities of the rest. What is left: who grades on data that others can guess (a public test set) can be
/// forestalled; [`conflicts`] names such roots, and a re-run of the model on them tells who lied.
#[must_use]
pub fn round_score(votes: &[Vote]) -> ScoreParts {
    let mut counted: Vec<Vote> =
        votes.iter().zip(counted(votes)).filter(|(_, counts)| *counts).map(|(v, _)| *v).collect();
    counted.sort_by_key(|v| Reverse(v.quality_ppm));
    // Halves are compared by subtraction: twice a sum of weights could be more than fits.
    let total = counted.iter().fold(0u128, |sum, v| sum.saturating_add(u128::from(v.weight)));
    let mut support = 0u128;
    let median = counted.iter().find(|v| {
        support = support.saturating_add(u128::from(v.weight));
        support >= total.saturating_sub(support)
    });
    ScoreParts {
        score_ppm: median.filter(|_| counted.len() >= MIN_DATASETS).map(|v| v.quality_ppm),
        datasets: u32::try_from(counted.len()).unwrap_or(u32::MAX),
        samples: counted.iter().fold(0, |sum, v| sum.saturating_add(u64::from(v.samples))),
    }
}

/// Datasets on which votes differ, in order. A model answers one dataset in one way, so one of them lied or erred, and a re-run
/// shows who.
#[must_use]
pub fn conflicts(votes: &[Vote]) -> Vec<Digest> {
    let mut found: BTreeMap<Digest, (u32, bool)> = BTreeMap::new();
    for vote in votes {
        let (quality, differ) = found.entry(vote.dataset_root).or_insert((vote.quality_ppm, false));
        *differ |= *quality != vote.quality_ppm;
    }
    found.into_iter().filter(|(_, (_, differ))| *differ).map(|(root, _)| root).collect()
}
