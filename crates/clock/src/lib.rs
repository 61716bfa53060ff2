//! The wall clock of this machine, as the wire counts time: the one function that reads it. What is decided by time takes it as an
//! argument, so that it can be tried; who has a task or a connection asks here.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 UTC; 0 on a machine whose clock stands before that. It may jump, in both directions: durations are
/// measured by [`std::time::Instant`].
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_milliseconds_and_goes_on() {
        let before = super::now_ms();
        // Between 2020 and 2100.
        assert!((1_577_836_800_000..4_102_444_800_000).contains(&before), "{before}");
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!((5..60_000).contains(&(super::now_ms() - before)));
    }
}
