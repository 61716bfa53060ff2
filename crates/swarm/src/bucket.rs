//! A token bucket: pure arithmetic, the time goes in.

/// Bytes at a rate, with a burst. What is taken beyond the burst is a debt that time pays back.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    bytes_per_s: u64,
    burst: u64,
    /// Bytes that may be taken; negative is a debt.
    level: i64,
    last_us: u64,
}

impl TokenBucket {
    /// A full bucket. A rate of 0 counts as one byte a second.
    pub(crate) fn new(bytes_per_s: u64, burst: u64) -> Self {
        let burst = burst.min(i64::MAX as u64 / 4);
        Self { bytes_per_s: bytes_per_s.max(1), burst, level: i64::try_from(burst).unwrap_or(i64::MAX), last_us: 0 }
    }

    /// Bytes that may be taken at `now_us` (microseconds, never going back) without a debt.
    pub(crate) fn spare(&mut self, now_us: u64) -> u64 {
        self.refill(now_us);
        u64::try_from(self.level).unwrap_or(0)
    }

    /// Takes `bytes`, into debt if need be, and says after how many microseconds they may flow.
    pub(crate) fn take(&mut self, now_us: u64, bytes: u64) -> u64 {
        self.refill(now_us);
        self.level = self.level.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.wait_us()
    }

    /// Microseconds until the debt is paid.
    pub(crate) fn debt_us(&mut self, now_us: u64) -> u64 {
        self.refill(now_us);
        self.wait_us()
    }

    fn wait_us(&self) -> u64 {
        if self.level >= 0 {
            return 0;
        }
        let debt = u128::from(self.level.unsigned_abs()) * 1_000_000;
        u64::try_from(debt.div_ceil(u128::from(self.bytes_per_s))).unwrap_or(u64::MAX)
    }

    fn refill(&mut self, now_us: u64) {
        let passed = now_us.saturating_sub(self.last_us);
        let gained = u128::from(passed) * u128::from(self.bytes_per_s) / 1_000_000;
        // Only the time of whole bytes is used up: what is left over counts at the next look.
        let used = gained * 1_000_000 / u128::from(self.bytes_per_s);
        self.last_us = self.last_us.saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(gained).min(i64::try_from(self.burst).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_the_rest_waits_its_time() {
        let mut bucket = TokenBucket::new(1_000, 500);
        assert_eq!(bucket.spare(0), 500);
        assert_eq!(bucket.take(0, 500), 0);
        assert_eq!(bucket.take(0, 100), 100_000);
        assert_eq!(bucket.take(0, 100), 200_000);
        assert_eq!(bucket.debt_us(150_000), 50_000);
        assert_eq!(bucket.spare(1_000_000), 500, "never more than the burst");
    }

    #[test]
    fn whatever_the_steps_no_more_flows_than_rate_times_time_and_burst() {
        for step_us in [1, 7, 999, 12_345, 3_000_000] {
            let mut bucket = TokenBucket::new(2_500, 1_000);
            let (mut now, mut taken) = (0u64, 0u64);
            for _ in 0..20_000 {
                now += step_us;
                let spare = bucket.spare(now);
                if spare >= 10 {
                    assert_eq!(bucket.take(now, spare), 0);
                    taken += spare;
                }
            }
            let most = 1_000 + now * 2_500 / 1_000_000;
            assert!(taken <= most, "{taken} of {most} with steps of {step_us}");
            assert!(step_us > 100_000 || taken + 20 >= most * 9 / 10, "{taken} of {most} with steps of {step_us}");
        }
    }

    #[test]
    fn absurd_numbers_do_not_overflow() {
        let mut bucket = TokenBucket::new(u64::MAX, u64::MAX);
        assert_eq!(bucket.take(u64::MAX, u64::MAX / 8), 0);
        let _ = bucket.take(u64::MAX, u64::MAX);
        let mut slow = TokenBucket::new(0, 0);
        assert_eq!(slow.take(0, u64::MAX), u64::MAX);
    }
}
