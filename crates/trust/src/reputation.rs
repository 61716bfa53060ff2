//! What a validator's record is worth. Owns the update of a record, the weight it gives a stake, and the test whether a finding
//! can be squared with the others'. Nothing here touches stake: that is [`crate::slash`]'s.

use crate::PPM;

/// A record: what was good and what was bad, in millionths of an event, old events counting less.
///
/// a ← 0.98 a + ok, b ← 0.98 b + 4 · bad. The mean of the Beta distribution over it is m = a / (a + b), and the weight is a
/// lower bound of that: max(0.05, m − 1.28 · sd). The idea is that of Jøsang and Ismail, "The Beta Reputation System" (2002).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reputation {
    /// a.
    pub good: u64,
    /// b.
    pub bad: u64,
}

/// The least weight, millionths. It is also a newcomer's, so that nobody gains by leaving a bad record behind.
pub const LEAST_PPM: u32 = 50_000;
/// How much more a bad event counts than a good one.
const BAD_WEIGHT: u64 = 4;
/// What remains of the record after an event, hundredths.
const KEPT: u64 = 98;
/// Standard deviations below the mean, hundredths: one in ten records is in truth worse than its weight says.
const BELOW: u128 = 128;
/// Events that one call may tell.
const EVENTS: u32 = 1_000_000;

impl Default for Reputation {
    /// A newcomer's: as if one good and one bad event were known.
    fn default() -> Self {
        Self { good: u64::from(PPM), bad: BAD_WEIGHT * u64::from(PPM) }
    }
}

impl Reputation {
    /// The record after one settled round with so many good and bad events, each at most a million.
    #[must_use]
    pub fn after(self, ok: u32, bad: u32) -> Self {
        let kept = |v: u64| v / 100 * KEPT + v % 100 * KEPT / 100;
        let events = |n: u32| u64::from(n.min(EVENTS)) * u64::from(PPM);
        Self {
            good: kept(self.good).saturating_add(events(ok)),
            bad: kept(self.bad).saturating_add(BAD_WEIGHT * events(bad)),
        }
    }

    /// ρ: what the record makes of a stake, millionths, from [`LEAST_PPM`] to below [`PPM`].
    #[must_use]
    pub fn weight_ppm(self) -> u32 {
        let ppm = u128::from(PPM);
        let (a, sum) = (u128::from(self.good), u128::from(self.good) + u128::from(self.bad));
        let Some(mean) = (a * ppm).checked_div(sum) else { return LEAST_PPM };
        // sd² = ab / ((a+b)² (a+b+1)), here in millionths squared: m (1 − m) / (a+b+1).
        let variance = mean * (ppm - mean) * ppm / (sum + ppm);
        let below = (variance.isqrt() * BELOW).div_ceil(100);
        u32::try_from(mean.saturating_sub(below)).unwrap_or(PPM).clamp(LEAST_PPM, PPM)
    }

    /// The weight of a stake with this record. Linear in the stake: parts of it weigh what the whole does.
    #[must_use]
    pub fn weight(self, stake: u64) -> u128 {
        u128::from(stake) * u128::from(self.weight_ppm())
    }
}

/// How far a finding may be from the score of its round before it counts against the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Standard deviations of a sample of that size, hundredths.
    pub deviations: u32,
    /// How far datasets may differ in truth, millionths.
    pub slack_ppm: u32,
}

impl Default for Reach {
    /// Four standard deviations and one part in a hundred: chance alone takes an honest validator beyond it once in 16,000 rounds.
    fn default() -> Self {
        Self { deviations: 400, slack_ppm: 10_000 }
    }
}

impl Reach {
    /// True if a quality found on so many samples can be squared with the score. A finding out of reach is an opinion: it
    /// may cost standing, never stake or bond.
    #[must_use]
    pub fn holds(&self, quality_ppm: u32, samples: u32, score_ppm: u32) -> bool {
        // Two right and two wrong answers are added (Agresti and Coull), so that a score of 0 or 1 leaves room too.
        let (n, ppm) = (u128::from(samples), u128::from(PPM));
        let p = (u128::from(score_ppm.min(PPM)) * n + 2 * ppm) / (n + 4);
        let sd = (p * (ppm - p) / (n + 4)).isqrt();
        let room = sd * u128::from(self.deviations) / 100 + u128::from(self.slack_ppm);
        u128::from(quality_ppm.abs_diff(score_ppm)) <= room
    }
}
