//! ADWIN: Bifet and Gavaldà, "Learning from Time-Changing Data with Adaptive Windowing" (SDM 2007). A window over the outcomes that
//! drops its oldest part as soon as two halves of it differ by more than chance; kept in buckets of 1, 2, 4… outcomes, so
//! that its memory grows with the logarithm of its length.

use std::collections::VecDeque;

use super::Drift;

/// Buckets of one size; with one more, the two oldest become one of the next size.
const BUCKETS: usize = 5;
/// How often the window is looked at, outcomes.
const CLOCK: u64 = 32;
/// The window is left alone up to this length.
const GRACE: f64 = 10.0;
/// Each half must be as long as this.
const LEAST: f64 = 5.0;
/// Sizes of buckets: 2^40 outcomes are never reached, and the largest merge no more.
const SIZES: usize = 40;

/// Outcomes in a row: their sum, and the sum of the squares of their distances from their mean.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    length: f64,
    sum: f64,
    squares: f64,
}

impl Run {
    fn mean(self) -> f64 {
        self.sum / self.length
    }

    /// What the squares of two runs together exceed the sum of theirs by.
    fn between(self, other: Self) -> f64 {
        if self.length == 0.0 || other.length == 0.0 {
            return 0.0;
        }
        let apart = self.mean() - other.mean();
        self.length * other.length * apart * apart / (self.length + other.length)
    }

    fn with(self, other: Self) -> Self {
        let squares = self.squares + other.squares + self.between(other);
        Self { length: self.length + other.length, sum: self.sum + other.sum, squares }
    }

    fn without(self, part: Self) -> Self {
        let rest = Self { length: self.length - part.length, sum: self.sum - part.sum, squares: 0.0 };
        Self { squares: self.squares - part.squares - rest.between(part), ..rest }
    }
}

/// The detector.
#[derive(Clone, Debug)]
pub struct Adwin {
    /// How often it may be wrong in saying that something changed.
    delta: f64,
    /// By size, the smallest first; within a size the oldest first.
    buckets: Vec<VecDeque<Run>>,
    window: Run,
    ticks: u64,
}

impl Default for Adwin {
    /// Wrong in one of five hundred windows at most.
    fn default() -> Self {
        Self::new(0.002)
    }
}

impl Adwin {
    /// A detector that is wrong in a window with probability `delta` at most, kept between 1e-9 and 1.
    #[must_use]
    pub fn new(delta: f64) -> Self {
        let delta = if delta.is_finite() { delta.clamp(1e-9, 1.0) } else { 0.002 };
        Self { delta, buckets: vec![VecDeque::new()], window: Run::default(), ticks: 0 }
    }

    /// Takes one outcome, such as 1 for a wrong answer and 0 for a right one; what is not finite is passed over. It says
    /// [`Drift::Changed`] whichever way the mean has moved: [`Self::mean`] tells which.
    pub fn update(&mut self, outcome: f64) -> Drift {
        if !outcome.is_finite() {
            return Drift::Steady;
        }
        let one = Run { length: 1.0, sum: outcome, squares: 0.0 };
        if let Some(smallest) = self.buckets.first_mut() {
            smallest.push_back(one);
        }
        self.window = self.window.with(one);
        self.compress();
        self.ticks = self.ticks.wrapping_add(1);
        let mut changed = false;
        if self.ticks.is_multiple_of(CLOCK) && self.window.length > GRACE {
            while self.has_cut() {
                self.drop_oldest();
                changed = true;
            }
        }
        if changed { Drift::Changed } else { Drift::Steady }
    }

    /// The mean over the window; 0 while it is empty.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.window.length > 0.0 { self.window.mean() } else { 0.0 }
    }

    /// Outcomes in the window.
    #[must_use]
    pub fn width(&self) -> f64 {
        self.window.length
    }

    /// Makes two buckets of one size one of the next, where there is one too many.
    fn compress(&mut self) {
        for size in 0..SIZES {
            let Some(buckets) = self.buckets.get_mut(size).filter(|b| b.len() > BUCKETS) else { return };
            let (Some(older), Some(newer)) = (buckets.pop_front(), buckets.pop_front()) else { return };
            if self.buckets.len() == size + 1 {
                self.buckets.push(VecDeque::new());
            }
            if let Some(next) = self.buckets.get_mut(size + 1) {
                next.push_back(older.with(newer));
            }
        }
    }

    /// True if the window can be cut somewhere into two parts whose means differ by more than chance.
    fn has_cut(&self) -> bool {
        let (mut older, mut newer) = (Run::default(), self.window);
        for bucket in self.buckets.iter().rev().flatten() {
            (older, newer) = (older.with(*bucket), newer.without(*bucket));
            if newer.length < LEAST {
                return false;
            }
            if older.length >= LEAST && (older.mean() - newer.mean()).abs() > self.bound(older.length, newer.length) {
                return true;
            }
        }
        false
    }

    /// How far the means of two parts of the window may be apart by chance (the paper's theorem 3.2 in its form for large windows).
    fn bound(&self, older: f64, newer: f64) -> f64 {
        let sure = (2.0 * self.window.length.ln() / self.delta).ln();
        let inverse = 1.0 / (older - LEAST + 1.0) + 1.0 / (newer - LEAST + 1.0);
        let variance = self.window.squares / self.window.length;
        (2.0 * inverse * variance * sure).sqrt() + 2.0 / 3.0 * sure * inverse
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.buckets.last_mut() else { return };
        if let Some(bucket) = oldest.pop_front() {
            self.window = self.window.without(bucket);
        }
        if oldest.is_empty() && self.buckets.len() > 1 {
            self.buckets.pop();
        }
    }
}
