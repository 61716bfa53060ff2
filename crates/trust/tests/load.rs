//! Schedules and percentiles of load tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use zero2ai_trust::load::{Scenario, latencies, least_samples, percentile, summary};

#[test]
fn the_numbers_of_queries_are_mlperfs() {
    assert_eq!([9_000, 9_500, 9_700, 9_900].map(least_samples), [24_576, 57_344, 90_112, 270_336]);
    assert_eq!([0, 10_000, 20_000].map(least_samples), [u64::MAX; 3]);
    assert_eq!(Scenario::SingleStream.needed(), 24_576);
    assert_eq!(Scenario::Server(1.0).needed(), 270_336);
    assert_eq!(Scenario::Offline.needed(), 24_576);
}

#[test]
fn a_servers_queries_are_a_poisson_process() {
    let n = 20_000;
    let times = Scenario::Server(500.0).schedule(n, &[1; 32]).unwrap();
    assert_eq!(times, Scenario::Server(500.0).schedule(n, &[1; 32]).unwrap());
    assert_ne!(times, Scenario::Server(500.0).schedule(n, &[2; 32]).unwrap());
    assert!(times.is_sorted());
    // 20,000 at 500 a second take 40 s; four standard deviations are 1.1 s.
    assert!(times.last().unwrap().abs_diff(40_000_000) < 1_100_000, "{:?}", times.last());
    // Counts per 100 ms have mean and variance 50.
    let mut counts = vec![0.0; 380];
    times.iter().filter(|t| **t < 38_000_000).for_each(|t| counts[(*t / 100_000) as usize] += 1.0);
    let mean = counts.iter().sum::<f64>() / 380.0;
    let variance = counts.iter().map(|c| (c - mean) * (c - mean)).sum::<f64>() / 380.0;
    assert!((0.8..1.25).contains(&(variance / mean)), "variance {variance}, mean {mean}");
    assert_eq!(Scenario::Server(0.0).schedule(5, &[1; 32]), Some(vec![]));
    assert_eq!(Scenario::Server(f64::NAN).schedule(5, &[1; 32]), Some(vec![]));
    assert_eq!(Scenario::Offline.schedule(3, &[1; 32]), Some(vec![0, 0, 0]));
    assert_eq!(Scenario::SingleStream.schedule(3, &[1; 32]), None);
}

#[test]
fn waiting_in_a_queue_counts() {
    // A system that answers one query in 10 ms gets one every 5 ms: the tenth has waited.
    let scheduled: Vec<u64> = (0..10).map(|i| i * 5_000).collect();
    let answered: Vec<u64> = (1..=10).map(|i| i * 10_000).collect();
    assert_eq!(latencies(&scheduled, &answered).last(), Some(&55_000));
}

#[test]
fn a_run_is_summed_up_and_says_if_it_was_too_short() {
    let times: Vec<u64> = (1..=1_000).collect();
    let result = summary(Scenario::SingleStream, &times, 1_000, 500_000);
    assert!(!result.enough && (result.samples_per_second - 2_000.0).abs() < 1e-9);
    let p50 = result.percentiles[0];
    assert_eq!((p50.percentile, p50.micros), (5_000, 500));
    assert!(p50.low < 500 && p50.high.unwrap() > 500);
    // The far tail of a thousand samples has no upper end.
    assert_eq!(result.percentiles.last().unwrap().high, None);
    assert!(summary(Scenario::Offline, &[500_000], 24_576, 500_000).enough);
}

proptest! {
    #[test]
    fn percentiles_are_values_that_occurred_and_grow(values in prop::collection::vec(0u64..1_000, 1..200)) {
        let mut last = 0;
        for p in [1, 500, 5_000, 9_000, 9_999, 10_000] {
            let found = percentile(&values, p).unwrap();
            prop_assert!(values.contains(&found.micros) && found.micros >= last);
            prop_assert!(found.low <= found.micros && found.high.is_none_or(|h| h >= found.micros));
            let share = values.iter().filter(|v| **v <= found.micros).count() * 10_000;
            prop_assert!(share >= p as usize * values.len());
            last = found.micros;
        }
        prop_assert_eq!(percentile(&values, 10_000).unwrap().micros, *values.iter().max().unwrap());
    }

    #[test]
    fn latency_is_never_negative(pairs in prop::collection::vec((any::<u64>(), any::<u64>()), 0..50)) {
        let (s, a): (Vec<u64>, Vec<u64>) = pairs.into_iter().unzip();
        prop_assert_eq!(latencies(&s, &a).len(), s.len());
    }
}
