//! How fast bytes go and how long the rest takes, from what was seen in the last seconds.

use std::{collections::VecDeque, time::Duration};

use crate::output::bytes;

/// How far back the rate looks: long enough to be steady, short enough to follow a disk that slows down.
const WINDOW: Duration = Duration::from_secs(8);
/// Before this much was seen, a rate would be a guess.
const FIRST: Duration = Duration::from_millis(500);
/// Sightings kept; more of them in the window are passed over.
const SIGHTINGS: usize = 256;

/// The rate of one step.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// When how much was done.
    seen: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// At `now` since any start, `done` bytes were done.
    pub(super) fn saw(&mut self, now: Duration, done: u64) {
        if self.seen.back().is_some_and(|(_, before)| done < *before) {
            self.seen.clear();
        }
        // The newest that is older than the window stays: the rate is over the whole window.
        while self.seen.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.seen.pop_front();
        }
        let close = |(at, _): &(Duration, u64)| now.saturating_sub(*at) < WINDOW / SIGHTINGS as u32;
        if self.seen.len() > 1 && self.seen.back().is_some_and(close) {
            self.seen.pop_back();
        }
        self.seen.push_back((now, done));
    }

    /// Bytes in a second; `None` while too little was seen.
    fn per_second(&self) -> Option<u64> {
        let ((from, first), (to, last)) = (self.seen.front()?, self.seen.back()?);
        let took = to.saturating_sub(*from);
        let done = u128::from(last.saturating_sub(*first));
        if took < FIRST {
            return None;
        }
        u64::try_from(done.checked_mul(1_000_000)? / took.as_micros()).ok()
    }

    /// `1.20 GB of 9.80 GB, 310.0 MB/s, 28 s left`.
    pub(super) fn words(&self, total: u64) -> String {
        let done = self.seen.back().map_or(0, |(_, done)| *done);
        let mut text = format!("{} of {}", bytes(done), bytes(total));
        if let Some(rate) = self.per_second() {
            text += &format!(", {}/s", bytes(rate));
            if let Some(left) = total.saturating_sub(done).checked_div(rate) {
                text += &format!(", {} left", time(left));
            }
        }
        text
    }
}

fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_steady_step_tells_its_rate_and_its_end() {
        let mut rate = Rate::default();
        rate.saw(at(0), 0);
        assert_eq!(rate.words(1_000 * MB), "0 B of 1.00 GB");
        (1..=100).for_each(|n| rate.saw(at(n * 20), n * 2 * MB));
        assert_eq!(rate.words(1_000 * MB), "200.0 MB of 1.00 GB, 100.0 MB/s, 8 s left");
    }

    #[test]
    fn the_past_is_forgotten_and_a_stall_divides_by_nothing() {
        let mut rate = Rate::default();
        (0..=100).for_each(|n| rate.saw(at(n * 100), n * 10 * MB));
        (1..=200).for_each(|n| rate.saw(at(10_000 + n * 100), 1_000 * MB + n * MB));
        assert_eq!(rate.words(2_000 * MB), "1.20 GB of 2.00 GB, 10.0 MB/s, 80 s left");
        (1..=200).for_each(|n| rate.saw(at(30_000 + n * 100), 1_200 * MB));
        assert_eq!(rate.words(2_000 * MB), "1.20 GB of 2.00 GB, 0 B/s");
        rate.saw(at(50_000), 5);
        assert_eq!(rate.words(10), "5 B of 10 B");
        assert!(rate.seen.len() == 1);
        (0..100_000).for_each(|n| rate.saw(at(50_000), n));
        assert!(rate.seen.len() < 3, "bounded however often it is told");
    }

    #[test]
    fn times_read_well() {
        assert_eq!((time(119), time(120), time(7_260)), ("119 s".into(), "2 min".into(), "2 h 1 min".into()));
    }
}
