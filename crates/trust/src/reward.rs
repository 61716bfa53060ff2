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
fn likeness(x: u32, y: u32, tolerance_ppm: u32) -> u64 {
    let tolerance = tolerance_ppm.max(1);
    u64::from(tolerance.saturating_sub(x.abs_diff(y))) * u64::from(PPM) / u64::from(tolerance)
}

/// Likenesses, summed up as findings come, so that the end of an epoch is no more work than any other block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Of each finding with the score of its own round, millionths.
    pub same: u64,
    /// Of every finding with every score.
    pub all: u64,
}

impl Sums {
    /// The sums with one more finding, `next`, behind those of `before`, which these are the sums of.
    #[must_use]
    pub fn with(self, before: &[Shared], next: Shared, tolerance_ppm: u32) -> Self {
        let like = |f: &Shared, s: &Shared| likeness(f.found_ppm, s.score_ppm, tolerance_ppm);
        let own = like(&next, &next);
        let others = before.iter().map(|b| like(&next, b).saturating_add(like(b, &next)));
        let all = others.fold(self.all.saturating_add(own), u64::saturating_add);
        Self { same: self.same.saturating_add(own), all }
    }

    /// Agreement beyond chance of `n` findings whose sums these are, millionths; see [`agreement`].
    #[must_use]
    pub fn agreement(self, n: usize) -> i64 {
        let n = i128::try_from(n).unwrap_or(0);
        if n < 2 {
            return 0;
        }
        // same / n − (all − same) / (n (n − 1)), over one denominator.
        let beyond = (i128::from(self.same) * n - i128::from(self.all)).div_euclid(n * (n - 1));
        i64::try_from(beyond).unwrap_or(0)
    }
}

/// Agreement beyond chance, millionths: the mean likeness on the same model less the mean likeness across different ones. From −1 to
/// 1; nothing with less than two models. The same answer for every model gives exactly 0.
#[must_use]
pub fn agreement(shared: &[Shared], tolerance_ppm: u32) -> i64 {
    let shared = &shared[..shared.len().min(MODELS)];
    let sum = |(sums, i): (Sums, usize), next: &Shared| (sums.with(&shared[..i], *next, tolerance_ppm), i + 1);
    shared.iter().fold((Sums::default(), 0), sum).0.agreement(shared.len())
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

/// What one of several claims gets of a pool, rounded down: for who pays them one after the other. All of them together get no more than
/// the pool if `total` is their sum.
#[must_use]
pub fn share(pool: u64, claim: u64, total: u64) -> u64 {
    let share = (u128::from(pool) * u128::from(claim)).checked_div(u128::from(total)).unwrap_or(0);
    u64::try_from(share).unwrap_or(u64::MAX).min(pool)
}

/// Divides what a publisher set aside for failing samples: by how many samples each validator had shown him that the version before
/// got wrong and the new one gets right. A sample counts for the first who showed it; the publisher pays, so nobody
/// gains by showing samples to himself. [`split`] rounds.
#[must_use]
pub fn bounty(pool: u64, fixed: &[u32]) -> Split {
    split(pool, &fixed.iter().map(|n| u128::from(*n)).collect::<Vec<_>>())
}
