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

/// How much of what was known of steps that give tokens each further one replaces.
const FORGET: f64 = 1.0 / 32.0;
/// Rows by which such steps must differ for their times to tell what a row costs.
const SPREAD: f64 = 0.7;
/// Part of a step that a row is taken to cost before that is known.
const ROW: f64 = 1.0 / 16.0;

/// What a row costs, as last seen.
#[derive(Debug, Default)]
pub(super) struct Pace {
    seconds: Option<f64>,
    giving: Option<Giving>,
}

/// Steps that give tokens, with no prompt in them: means, the latest counting most.
#[derive(Clone, Copy, Debug)]
struct Giving {
    rows: f64,
    tokens: f64,
    seconds: f64,
    /// Of squared rows, and of rows times seconds, less what the means explain.
    spread: f64,
    slope: f64,
    /// What a row more costs, part of a step's time.
    row: f64,
}

impl Pace {
    /// Tokens of prompts that the next step may read.
    pub(super) fn budget(&self, others: bool) -> usize {
        let Some(seconds) = self.seconds else { return AT_FIRST };
        let bearable = if others { BESIDE_OTHERS } else { ALONE };
        ((bearable.as_secs_f64() / seconds) as usize).clamp(LEAST, MOST)
    }

    /// As many tokens, given at the present rate, as take the time that one row more in a step does.
    pub(super) fn worth(&self) -> f64 {
        self.giving.map_or(ROW, |known| known.row * known.tokens)
    }

    /// Takes note of a step that read so many rows, none of a prompt, and gave so many tokens.
    pub(super) fn gave(&mut self, rows: usize, tokens: usize, took: Duration) {
        let (rows, tokens, seconds) = (rows as f64, tokens as f64, took.as_secs_f64().max(1e-9));
        let Some(known) = &mut self.giving else {
            self.giving = Some(Giving { rows, tokens, seconds, spread: 0.0, slope: 0.0, row: ROW });
            return;
        };
        // West's running covariance.
        let (more_rows, more_seconds) = (rows - known.rows, seconds - known.seconds);
        // One step that was held up by something else must not count for many.
        let more_seconds = more_seconds.min(known.seconds);
        known.rows += more_rows * FORGET;
        known.seconds += more_seconds * FORGET;
        known.tokens += (tokens - known.tokens) * FORGET;
        known.spread = (known.spread + more_rows * more_rows * FORGET) * (1.0 - FORGET);
        known.slope = (known.slope + more_rows * more_seconds * FORGET) * (1.0 - FORGET);
        if known.spread > SPREAD * SPREAD {
            // A row costs something, and not more than its share.
            known.row = (known.slope / known.spread / known.seconds).clamp(0.01, 1.0 / known.rows.max(1.0));
        }
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

    #[test]
    fn a_row_is_worth_what_it_costs_beside_what_a_step_gives() {
        let steps = |fixed: u64, row: u64| {
            let mut pace = Pace::default();
            for i in 0..400_u64 {
                let rows = 8 + i % 5;
                pace.gave(rows as usize, 8, Duration::from_micros(fixed + row * rows));
            }
            pace.worth()
        };
        // Eight tokens a step: of 5 ms where a row takes 0.3 of them; of 2 ms where it takes hardly anything.
        let (dear, cheap) = (steps(2_000, 300), steps(2_000, 1));
        assert!((0.4..0.55).contains(&dear), "{dear}");
        assert!((0.05..0.1).contains(&cheap), "{cheap}");
        let mut pace = Pace::default();
        assert!(pace.worth() > 0.0);
        (0..50).for_each(|_| pace.gave(1, 1, Duration::from_millis(3)));
        assert!((0.05..0.1).contains(&pace.worth()), "steps that are all alike tell nothing of rows");
    }
}
