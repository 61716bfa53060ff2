//! How many tokens of prompts one step may read: as many as take a bearable time on this machine, with this model.

use std::time::Duration;

/// How long a step may take while texts wait for their next tokens: readers notice gaps above some twentieth of a second.
const BESIDE_OTHERS: Duration = Duration::from_millis(50);
/// How long it may take when nobody waits for a token: so long does a cancel wait.
const ALONE: Duration = Duration::from_millis(250);
/// Fewer would waste what products of many rows save.
const LEAST: usize = 16;
/// More save nothing.
const MOST: usize = 512;
/// Before anything was measured.
const AT_FIRST: usize = 64;

/// What a row costs, as last seen.
#[derive(Debug, Default)]
pub(super) struct Pace {
    seconds: Option<f64>,
}

impl Pace {
    /// Tokens of prompts that the next step may read.
    pub(super) fn budget(&self, others: bool) -> usize {
        let Some(seconds) = self.seconds else { return AT_FIRST };
        let bearable = if others { BESIDE_OTHERS } else { ALONE };
        ((bearable.as_secs_f64() / seconds) as usize).clamp(LEAST, MOST)
    }

    /// Takes note of a step. Small ones cost what reading the weights costs, and tell nothing about rows.
    pub(super) fn saw(&mut self, rows: usize, took: Duration) {
        if rows >= LEAST {
            let now = took.as_secs_f64().max(1e-9) / rows as f64;
            // Half of what was known: a busy moment is soon forgotten.
            self.seconds = Some(self.seconds.map_or(now, |known| (known + now) / 2.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_models_read_little_at_a_time_and_fast_ones_much() {
        let mut pace = Pace::default();
        assert_eq!(pace.budget(true), AT_FIRST);
        pace.saw(1, Duration::from_secs(9));
        assert_eq!(pace.budget(true), AT_FIRST, "a single row tells nothing");
        pace.saw(64, Duration::from_millis(64));
        assert_eq!((pace.budget(true), pace.budget(false)), (50, 250));
        (0..30).for_each(|_| pace.saw(16, Duration::from_secs(16)));
        assert_eq!((pace.budget(true), pace.budget(false)), (LEAST, LEAST));
        (0..60).for_each(|_| pace.saw(512, Duration::ZERO));
        assert_eq!(pace.budget(true), MOST);
    }
}
