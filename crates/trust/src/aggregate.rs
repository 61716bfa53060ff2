//! The score of a version over its rounds: a mean that forgets. Owns how fast old rounds fade, and how much a score is worth
//! once they have. What is stored is two integers; nothing is touched while no round ends.

use crate::{PPM, score::ScoreParts};

/// How rounds add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aging {
    /// Heights of an epoch; 0 counts as 1.
    pub epoch: u64,
    /// λ: what a round counts for one epoch later, millionths; more than [`MOST_KEPT_PPM`] counts as that.
    pub keep_ppm: u32,
    /// Samples that one round counts for at most, so that nobody buys a score with a single huge round.
    pub cap: u32,
    /// Samples, faded as they are, at which the confidence is one half.
    pub half: u64,
}

/// The slowest fading: without one the sums would grow for ever.
pub const MOST_KEPT_PPM: u32 = 999_000;

impl Default for Aging {
    /// A tenth is forgotten in 10,000 heights.
    fn default() -> Self {
        Self { epoch: 10_000, keep_ppm: 900_000, cap: 100_000, half: 10_000 }
    }
}

impl Aging {
    fn epoch_of(&self, height: u64) -> u64 {
        height / self.epoch.max(1)
    }

    /// `sum` after `epochs`, rounded down: λ^epochs by repeated squaring of a fraction of 2^62.
    fn faded(&self, sum: u64, mut epochs: u64) -> u64 {
        const ONE: u128 = 1 << 62;
        let mut base = u128::from(self.keep_ppm.min(MOST_KEPT_PPM)) * ONE / u128::from(PPM);
        let mut factor = ONE;
        while epochs > 0 && factor > 0 {
            if epochs & 1 == 1 {
                factor = (factor * base) >> 62;
            }
            base = (base * base) >> 62;
            epochs >>= 1;
        }
        u64::try_from((u128::from(sum) * factor) >> 62).unwrap_or(u64::MAX)
    }
}

/// What the rounds of a version came to: A ← λA + N·S, D ← λD + N, and the score is A / D.
///
/// It can be kept of a version, where S is the score of a round, or of each validator and version, where S is what he found and the
/// version's score is the [`crate::round_score`] of them all. The second costs a row of state each and is much harder to push: 40 %
/// of the weight that lie quietly move a median by about one deviation of the findings it is taken of, and findings over many rounds
/// scatter less than one round's. `examples/incentives` measures both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cumulative {
    /// A: scores times samples, in millionths of a sample.
    pub weighted: u64,
    /// D: samples, in millionths.
    pub samples: u64,
    /// The epoch as of which both are told.
    pub epoch: u64,
}

impl Cumulative {
    /// With the round that ended at `height`. A round without a score changes nothing. Rounds that are told late have faded as
    /// much as if they had been told in time, so their order makes no difference beyond rounding.
    #[must_use]
    pub fn with_round(self, height: u64, round: &ScoreParts, aging: &Aging) -> Self {
        let Some(score_ppm) = round.score_ppm else { return self };
        let samples = round.samples.min(u64::from(aging.cap));
        let round = Self {
            weighted: samples.saturating_mul(u64::from(score_ppm.min(PPM))),
            samples: samples.saturating_mul(u64::from(PPM)),
            epoch: aging.epoch_of(height),
        };
        let epoch = self.epoch.max(round.epoch);
        let (held, new) = (self.at(epoch, aging), round.at(epoch, aging));
        Self {
            weighted: held.weighted.saturating_add(new.weighted),
            samples: held.samples.saturating_add(new.samples),
            epoch,
        }
    }

    /// The same, as of `height`.
    #[must_use]
    pub fn aged(self, height: u64, aging: &Aging) -> Self {
        self.at(aging.epoch_of(height), aging)
    }

    fn at(self, epoch: u64, aging: &Aging) -> Self {
        let lag = epoch.saturating_sub(self.epoch);
        Self {
            weighted: aging.faded(self.weighted, lag),
            samples: aging.faded(self.samples, lag),
            epoch: self.epoch.max(epoch),
        }
    }

    /// The score, millionths; `None` while less than one sample is left of all rounds.
    #[must_use]
    pub fn score_ppm(self) -> Option<u32> {
        let score = u128::from(self.weighted) * u128::from(PPM) / u128::from(self.samples.max(1));
        let score = u32::try_from(score).unwrap_or(PPM).min(PPM);
        (self.samples >= u64::from(PPM)).then_some(score)
    }

    /// How far the score can be relied on, millionths: D / (D + half).
    #[must_use]
    pub fn confidence_ppm(self, aging: &Aging) -> u32 {
        let samples = u128::from(self.samples);
        let half = u128::from(aging.half.max(1)) * u128::from(PPM);
        u32::try_from(samples * u128::from(PPM) / (samples + half)).unwrap_or(PPM)
    }

    /// True if the version should be graded anew: at `height` the confidence has faded below `floor_ppm`.
    #[must_use]
    pub fn is_stale(self, height: u64, floor_ppm: u32, aging: &Aging) -> bool {
        self.aged(height, aging).confidence_ppm(aging) < floor_ppm
    }
}
