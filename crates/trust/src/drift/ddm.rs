//! DDM: Gama, Medas, Castillo, Rodrigues, "Learning with Drift Detection" (SBIA 2004). An error rate that grows beyond the best
//! it ever was by three of that moment's standard deviations.

use super::Drift;

/// Outcomes before it says anything.
const WARM_UP: f64 = 30.0;
/// Standard deviations above the best for a warning.
const WARN_AT: f64 = 2.0;
/// For a change.
const CHANGE_AT: f64 = 3.0;

/// The detector. It begins anew after a change.
#[derive(Clone, Debug)]
pub struct Ddm {
    outcomes: f64,
    rate: f64,
    best_rate: f64,
    best_deviation: f64,
    changed: bool,
}

impl Default for Ddm {
    fn default() -> Self {
        Self { outcomes: 0.0, rate: 0.0, best_rate: f64::INFINITY, best_deviation: f64::INFINITY, changed: false }
    }
}

impl Ddm {
    /// Takes one outcome: whether the model was wrong.
    pub fn update(&mut self, wrong: bool) -> Drift {
        if self.changed {
            *self = Self::default();
        }
        self.outcomes += 1.0;
        self.rate += (f64::from(u8::from(wrong)) - self.rate) / self.outcomes;
        if self.outcomes <= WARM_UP {
            return Drift::Steady;
        }
        let deviation = (self.rate * (1.0 - self.rate) / self.outcomes).sqrt();
        let now = self.rate + deviation;
        if now <= self.best_rate + self.best_deviation {
            (self.best_rate, self.best_deviation) = (self.rate, deviation);
        }
        self.changed = now > self.best_rate + CHANGE_AT * self.best_deviation;
        if self.changed {
            Drift::Changed
        } else if now > self.best_rate + WARN_AT * self.best_deviation {
            Drift::Warning
        } else {
            Drift::Steady
        }
    }
}
