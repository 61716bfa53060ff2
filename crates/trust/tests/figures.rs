//! What holds of every figure: bounds, order, what is not defined, and the same bits on any number of threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use zero2ai_trust::{
    draw::Draws,
    metrics::{MetricError, interval, labels, regression, scores, text},
    ppm,
};

#[test]
fn what_is_not_defined_is_said_and_is_no_zero() {
    let undefined = |r: Result<f64, MetricError>| assert!(matches!(r, Err(MetricError::Undefined(_))), "{r:?}");
    undefined(scores::roc_auc(&[true, true], &[0.1, 0.2]));
    undefined(scores::roc_auc(&[false, false], &[0.1, 0.2]));
    undefined(scores::average_precision(&[false], &[0.1]));
    undefined(regression::r_squared(&[2.0, 2.0], &[1.0, 3.0]));
    assert_eq!(labels::count(&[], &[], 2), Err(MetricError::Empty));
    assert_eq!(labels::count(&[0], &[0, 1], 2), Err(MetricError::Lengths { left: 1, right: 2 }));
    assert_eq!(labels::count(&[0, 2], &[0, 1], 2), Err(MetricError::Class { row: 1, class: 2, classes: 2 }));
    assert!(matches!(scores::roc_auc(&[true], &[f64::NAN]), Err(MetricError::Value { row: 0, .. })));
    assert!(matches!(scores::log_loss(&[0], &[vec![0.2, 0.2]]), Err(MetricError::Value { row: 0, .. })));
    assert!(matches!(text::perplexity(&[0.5]), Err(MetricError::Value { row: 0, .. })));
    let long = "x ".repeat(text::UNITS + 1);
    assert!(matches!(text::word_errors(&long, "x"), Err(MetricError::TooMany { .. })));
}

#[test]
fn millionths_are_rounded_once_and_stay_in_bounds() {
    assert_eq!([ppm(0.0), ppm(1.0), ppm(1.5), ppm(-0.1), ppm(f64::NAN)], [0, 1_000_000, 1_000_000, 0, 0]);
    assert_eq!([ppm(0.123_456_4), ppm(0.123_456_5), ppm(2.0 / 3.0)], [123_456, 123_457, 666_667]);
}

#[test]
fn a_bootstrap_is_the_same_to_the_bit_on_any_number_of_threads() {
    let mut draws = Draws::new(&[3; 32], "data", 0);
    let truth: Vec<bool> = (0..80).map(|_| draws.unit() < 0.4).collect();
    let values: Vec<f64> = truth.iter().map(|t| draws.normal() + f64::from(u8::from(*t))).collect();
    let run = |threads, label: &str| {
        let draw = interval::Bootstrap { seed: &[9; 32], label, resamples: 200, threads };
        interval::bootstrap(truth.len(), draw, |rows| {
            let truth: Vec<bool> = rows.iter().map(|r| truth[*r]).collect();
            scores::roc_auc(&truth, &rows.iter().map(|r| values[*r]).collect::<Vec<_>>())
        })
        .unwrap()
    };
    let one = run(1, "auc");
    for threads in [0, 2, 3, 7, 200, 1_000] {
        assert_eq!(run(threads, "auc"), one, "{threads} threads");
    }
    assert_ne!(run(1, "other"), one);
    assert!(one.low < one.value && one.value < one.high && one.method == interval::Method::Bootstrap(200));
}

#[test]
fn intervals_hold_the_truth_about_as_often_as_they_say() {
    // 300 seeded experiments of 60 coin throws at 0.8, and of 60 normal values: 95 % means 285 of 300, and three
    // standard deviations are 11.
    let (mut shares, mut means) = (0, 0);
    for run in 0..300u64 {
        let mut draws = Draws::new(&[5; 32], "coverage", run);
        let hits = (0..60).filter(|_| draws.unit() < 0.8).count() as u64;
        let (low, high) = interval::wilson(hits, 60, interval::Z95);
        shares += u32::from((low..=high).contains(&0.8));
        let values: Vec<f64> = (0..60).map(|_| draws.normal()).collect();
        let draw = interval::Bootstrap { seed: &[5; 32], label: "mean", resamples: 200, threads: 1 };
        let mean = interval::bootstrap(60, draw, |rows| Ok(rows.iter().map(|r| values[*r]).sum::<f64>() / 60.0));
        let mean = mean.unwrap();
        means += u32::from((mean.low..=mean.high).contains(&0.0));
    }
    assert!((274..=297).contains(&shares), "Wilson held {shares} of 300");
    assert!((268..=297).contains(&means), "the bootstrap held {means} of 300");
}

#[test]
fn too_few_defined_resamples_are_no_interval() {
    let draw = interval::Bootstrap { seed: &[1; 32], label: "x", resamples: 100, threads: 1 };
    let sometimes = |rows: &[usize]| match rows == [0, 1, 2, 3] {
        true => Ok(1.0),
        false => Err(MetricError::Undefined("only on the whole set")),
    };
    assert!(matches!(interval::bootstrap(4, draw, sometimes), Err(MetricError::Undefined(_))));
}

proptest! {
    #[test]
    fn turning_all_scores_around_turns_the_area_around(
        pairs in prop::collection::vec((any::<bool>(), -20i32..20), 2..60)
    ) {
        let truth: Vec<bool> = pairs.iter().map(|p| p.0).collect();
        let values: Vec<f64> = pairs.iter().map(|p| f64::from(p.1)).collect();
        let turned: Vec<f64> = values.iter().map(|v| -v).collect();
        if let Ok(area) = scores::roc_auc(&truth, &values) {
            prop_assert!((0.0..=1.0).contains(&area));
            prop_assert!((area + scores::roc_auc(&truth, &turned).unwrap() - 1.0).abs() < 1e-12);
            // Only the order counts.
            let cubed: Vec<f64> = values.iter().map(|v| v * v * v).collect();
            prop_assert_eq!(area, scores::roc_auc(&truth, &cubed).unwrap());
        }
    }

    #[test]
    fn edits_are_a_distance(a in "[ab ]{0,12}", b in "[ab ]{0,12}", c in "[ab ]{0,12}") {
        let d = |x: &str, y: &str| text::word_errors(x, y).unwrap().edits;
        prop_assert_eq!(d(&a, &b), d(&b, &a));
        prop_assert_eq!(d(&a, &a), 0);
        prop_assert!(d(&a, &c) <= d(&a, &b) + d(&b, &c));
    }

    #[test]
    fn shares_lie_in_their_intervals(hits in 0u64..500, more in 0u64..500) {
        let n = hits + more;
        prop_assume!(n > 0);
        let e = interval::share(hits, n).unwrap();
        prop_assert!(0.0 <= e.low && e.low <= e.value && e.value <= e.high && e.high <= 1.0);
    }
}
