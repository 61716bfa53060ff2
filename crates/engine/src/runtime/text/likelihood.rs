//! How likely tokens are by the model's own distribution. The C library is not asked: its last bit may differ between CPUs.

use super::sampler::rank;

/// Scores after one position, as probabilities.
pub(super) struct Likelihood<'a> {
    scores: &'a [f32],
    most: f64,
    log_sum: f64,
}

impl<'a> Likelihood<'a> {
    pub(super) fn new(scores: &'a [f32]) -> Self {
        let most = scores.iter().fold(f32::NEG_INFINITY, |most, s| most.max(*s)).into();
        let log_sum = libm::log(scores.iter().map(|s| libm::exp(f64::from(*s) - most)).sum());
        Self { scores, most, log_sum }
    }

    /// Natural logarithm of a token's probability; minus infinity for one that does not exist.
    pub(super) fn log(&self, id: u32) -> f64 {
        let score = usize::try_from(id).ok().and_then(|id| self.scores.get(id));
        score.map_or(f64::NEG_INFINITY, |score| (f64::from(*score) - self.most - self.log_sum).min(0.0))
    }

    /// The logarithm of the likeliest token's probability.
    pub(super) fn highest(&self) -> f64 {
        -self.log_sum
    }

    /// The likeliest tokens, the likeliest first; of equal ones the lower id.
    pub(super) fn likeliest(&self, count: usize) -> Vec<u32> {
        let mut tokens: Vec<(u32, f32)> = (0_u32..).zip(self.scores.iter().copied()).collect();
        rank(&mut tokens, count.min(self.scores.len()));
        tokens.truncate(count);
        tokens.into_iter().map(|(id, _)| id).collect()
    }
}

/// A logarithm as it is told: without its sign, millionths, as large as fits at most.
pub(super) fn minus_micro(log: f64) -> u32 {
    // A cast from beyond the range gives its end; NaN, which no finite score leads to, gives 0.
    (-log * 1e6).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_the_scores() {
        let likelihood = Likelihood::new(&[1.0, 3.0, 2.0, 3.0]);
        let sum = 1_f64.exp() + 2_f64.exp() + 2.0 * 3_f64.exp();
        for (id, score) in [1.0_f64, 3.0, 2.0, 3.0].into_iter().enumerate() {
            assert!((likelihood.log(id as u32) - (score.exp() / sum).ln()).abs() < 1e-12);
        }
        assert!((likelihood.highest() - (3_f64.exp() / sum).ln()).abs() < 1e-12);
        assert_eq!(likelihood.likeliest(3), [1, 3, 2]);
        assert_eq!(likelihood.likeliest(9), [1, 3, 2, 0]);
        assert_eq!((minus_micro(likelihood.log(9)), minus_micro(-0.0), minus_micro(-0.5)), (u32::MAX, 0, 500_000));
        assert_eq!(Likelihood::new(&[5.0]).log(0), 0.0);
    }
}
