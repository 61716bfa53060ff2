//! A token bucket: who takes more than there is waits until it has come in. Debts are paid in the order in which they were
//! made, so nobody starves.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: u64,
    burst: u64,
    /// When all that was taken will have come in; in the past by at most the time in which a burst does.
    paid: Mutex<Option<Instant>>,
}

impl Bucket {
    /// `per_second` bytes on average, and `burst` more after a pause.
    pub(super) fn new(per_second: u64, burst: u64) -> Self {
        Self { per_second: per_second.max(1), burst, paid: Mutex::default() }
    }

    /// Takes `bytes`, and says how long to wait before they are used.
    pub(super) fn take(&self, bytes: usize, now: Instant) -> Duration {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let full = now.checked_sub(self.time(self.burst)).unwrap_or(now);
        let after = paid.map_or(full, |at| at.max(full)) + self.time(bytes as u64);
        *paid = Some(after);
        after.saturating_duration_since(now)
    }

    fn time(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_is_free_and_comes_back() {
        let (bucket, now) = (Bucket::new(1_000, 500), Instant::now() + Duration::from_secs(60));
        assert_eq!(bucket.take(500, now), Duration::ZERO);
        assert_eq!(bucket.take(100, now), Duration::from_millis(100));
        assert_eq!(bucket.take(100, now), Duration::from_millis(200));
        let later = now + Duration::from_secs(60);
        assert_eq!(bucket.take(500, later), Duration::ZERO);
        assert_eq!(bucket.take(1, later), Duration::from_millis(1));
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_the_rate_and_one_burst(takes in prop::collection::vec((1usize..3_000, 0u64..50), 1..200)) {
            let (bucket, start) = (Bucket::new(10_000, 2_000), Instant::now() + Duration::from_secs(60));
            let (mut now, mut total) = (start, 0);
            for (bytes, pause) in takes {
                now += Duration::from_millis(pause);
                total += bytes as u64;
                // Whoever waits as he is told has, by then, no more than this.
                now += bucket.take(bytes, now);
                let passed = u64::try_from(now.duration_since(start).as_millis()).unwrap_or(u64::MAX);
                prop_assert!(total <= 2_000 + passed * 10 + 10, "{total} bytes in {passed} ms");
            }
        }
    }
}
