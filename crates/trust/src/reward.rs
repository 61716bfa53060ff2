//! What honest work earns: agreement with the others beyond chance, and the division of a pool by it. Owns both formulas; who pays
//! the pool is the ledger's.
//!
//! Correlated Agreement (Shnayder, Agarwal, Frongillo, Parkes, "Informed Truthfulness in Multi-Task Peer Prediction", arXiv
//! 1603.03151) pays agreement on shared tasks less agreement across different tasks, so that a constant answer earns nothing. We
//! differ in the peer: theirs is drawn at random, ours is the round's score, a weighted median of all. Against random peers
//! whoever splits his stake becomes his own peer and earns by it; a median stands where it stood when a stake is split.

use crate::PPM;

/// One model that a validator graded: what it found and what the round came to, both millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// What the validator found.
    pub found_ppm: u32,
    /// The score of the round.
    pub score_ppm: u32,
}

/// Models that one epoch's agreement is computed over at most; further ones are left out. The work grows with the square.
pub const MODELS: usize = 1_024;

/// How alike two qualities are, millionths: one if equal, nothing from `tolerance_ppm` on.
fn likeness(x: u32, y: u32, tolerance_ppm: u32) -> i128 {
    let tolerance = tolerance_ppm.max(1);
    i128::from(tolerance.saturating_sub(x.abs_diff(y))) * i128::from(PPM) / i128::from(tolerance)
}

/// Agreement beyond chance, millionths: the mean likeness on the same model less the mean likeness across different ones. From −1 to
/// 1; nothing with less than two models. The same answer for every model gives exactly 0.
#[must_use]
pub fn agreement(shared: &[Shared], tolerance_ppm: u32) -> i64 {
    let shared = &shared[..shared.len().min(MODELS)];
    let n = i128::try_from(shared.len()).unwrap_or(0);
    if n < 2 {
        return 0;
    }
    let same: i128 = shared.iter().map(|s| likeness(s.found_ppm, s.score_ppm, tolerance_ppm)).sum();
    let all: i128 = shared
        .iter()
        .map(|s| shared.iter().map(|t| likeness(s.found_ppm, t.score_ppm, tolerance_ppm)).sum::<i128>())
        .sum();
    // same / n − (all − same) / (n (n − 1)), over one denominator.
    let beyond = (same * n - all).div_euclid(n * (n - 1));
    i64::try_from(beyond).unwrap_or(0)
}

/// What a validator may claim of a pool: its weight (see [`crate::Reputation::weight`]) times its agreement, if that is
/// positive. `void` if an opening of it failed in the epoch: then nothing of the whole epoch is paid, so that who makes numbers
/// up cannot live off the endorsements that were not challenged.
#[must_use]
pub fn claim(weight: u128, agreement_ppm: i64, void: bool) -> u128 {
    let agreement = if void { 0 } else { u128::try_from(agreement_ppm).unwrap_or(0).min(u128::from(PPM)) };
    weight.saturating_mul(agreement)
}

/// A pool, divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What each claim gets, in the order of the claims.
    pub shares: Vec<u64>,
    /// What is left by rounding, for the next pool; all of it if there are no claims.
    pub rest: u64,
}

/// Divides a pool by claims, each share rounded down: shares and rest add up to the pool, and a claim that is split gets no more
/// than it got whole, not even by rounding.
#[must_use]
pub fn split(pool: u64, claims: &[u128]) -> Split {
    let total = claims.iter().fold(0u128, |sum, c| sum.saturating_add(*c));
    // Cut to 64 bits, so that products fit.
    let shift = 64u32.saturating_sub(total.leading_zeros());
    let whole = total >> shift;
    let mut rest = pool;
    let shares = claims.iter().map(|claim| {
        let share = (u128::from(pool) * (claim >> shift)).checked_div(whole).unwrap_or(0);
        // Only sums of claims beyond 128 bits could ask for more than there is.
        let share = u64::try_from(share).unwrap_or(u64::MAX).min(rest);
        rest -= share;
        share
    });
    Split { shares: shares.collect(), rest }
}

/// Divides what a publisher set aside for failing samples: by how many samples each validator had shown him that the version before
/// got wrong and the new one gets right. A sample counts for the first who showed it; the publisher pays, so nobody
/// gains by showing samples to himself. [`split`] rounds.
#[must_use]
pub fn bounty(pool: u64, fixed: &[u32]) -> Split {
    split(pool, &fixed.iter().map(|n| u128::from(*n)).collect::<Vec<_>>())
}
