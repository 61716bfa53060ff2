//! Figures from counts: scikit-learn's definition, to the unit.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss, clippy::cast_possible_truncation)]

use proptest::prelude::*;
use zero2ai_proto::tx::ClassCounts;
use zero2ai_trust::{CountsError, Macro, check_counts, macro_scores};

/// Counts from a confusion matrix: `matrix[truth][answer]`.
fn counts(matrix: &[Vec<u32>]) -> Vec<ClassCounts> {
    (0..matrix.len())
        .map(|k| ClassCounts {
            tp: matrix[k][k],
            fp: matrix.iter().enumerate().filter(|(t, _)| *t != k).map(|(_, row)| row[k]).sum(),
            fn_: matrix[k].iter().enumerate().filter(|(a, _)| *a != k).map(|(_, n)| n).sum(),
        })
        .collect()
}

#[test]
fn figures_follow_scikit_learns_definition() {
    // y_true = [0,0,0,1,1,2,2,2,2], y_pred = [0,1,2,1,1,2,2,0,2]; by hand, from scikit-learn's definition:
    // precision 0.638888…, recall 0.694444…, f1 0.65.
    let classes = counts(&[vec![1, 1, 1], vec![0, 2, 0], vec![1, 0, 3]]);
    let expected = Macro { precision_ppm: 638_888, recall_ppm: 694_444, f1_ppm: 650_000 };
    assert_eq!(macro_scores(&classes), Some(expected));
    assert_eq!(check_counts(&classes, 9, 6), Ok(()));
}

#[test]
fn a_class_never_seen_counts_as_zero_and_thirds_add_up() {
    let absent = ClassCounts::default();
    let right = ClassCounts { tp: 5, fp: 0, fn_: 0 };
    assert_eq!(macro_scores(&[right, absent]).unwrap().f1_ppm, 500_000);
    let third = ClassCounts { tp: 1, fp: 2, fn_: 2 };
    let two_thirds = ClassCounts { tp: 2, fp: 1, fn_: 1 };
    let half = Macro { precision_ppm: 500_000, recall_ppm: 500_000, f1_ppm: 500_000 };
    assert_eq!(macro_scores(&[third, two_thirds]), Some(half));
    assert_eq!(macro_scores(&[]), None);
    assert_eq!(macro_scores(&vec![right; 257]), None);
}

#[test]
fn the_largest_counts_do_not_overflow() {
    let most = ClassCounts { tp: u32::MAX, fp: u32::MAX, fn_: u32::MAX };
    let half = Macro { precision_ppm: 500_000, recall_ppm: 500_000, f1_ppm: 500_000 };
    assert_eq!(macro_scores(&vec![most; 256]), Some(half));
    assert!(check_counts(&vec![most; 256], u32::MAX, u32::MAX).is_err());
}

#[test]
fn counts_that_no_run_gives_are_refused() {
    let good = ClassCounts { tp: 3, fp: 1, fn_: 1 };
    assert_eq!(check_counts(&[good, good], 8, 6), Ok(()));
    assert!(matches!(check_counts(&[good, good], 8, 7), Err(CountsError::Sum { what: "true positives", .. })));
    assert!(matches!(check_counts(&[good, good], 9, 6), Err(CountsError::Sum { expected: 9, .. })));
    let lopsided = ClassCounts { tp: 3, fp: 0, fn_: 1 };
    assert!(matches!(
        check_counts(&[good, lopsided], 8, 6),
        Err(CountsError::Sum { what: "true and false positives", .. })
    ));
    assert_eq!(check_counts(&[ClassCounts::default()], 0, 0), Err(CountsError::NoSamples));
    assert_eq!(check_counts(&[], 0, 0), Err(CountsError::Classes(0)));
}

proptest! {
    /// Within one millionth of the same mean in floating point, for any confusion matrix.
    #[test]
    fn integers_follow_the_real_mean(matrix in (1usize..8).prop_flat_map(|n| {
        proptest::collection::vec(proptest::collection::vec(0u32..5_000, n), n)
    })) {
        let classes = counts(&matrix);
        let samples: u32 = matrix.iter().flatten().sum();
        let correct = (0..matrix.len()).map(|k| matrix[k][k]).sum();
        prop_assert_eq!(check_counts(&classes, samples, correct).is_ok(), samples > 0);
        let got = macro_scores(&classes).unwrap();
        let mean = |f: fn(f64, f64, f64) -> (f64, f64)| {
            let all = classes.iter().map(|c| f(c.tp.into(), c.fp.into(), c.fn_.into()));
            all.map(|(a, b)| if b == 0.0 { 0.0 } else { a / b }).sum::<f64>() / classes.len() as f64 * 1e6
        };
        for (got, real) in [
            (got.precision_ppm, mean(|tp, fp, _| (tp, tp + fp))),
            (got.recall_ppm, mean(|tp, _, n| (tp, tp + n))),
            (got.f1_ppm, mean(|tp, fp, n| (2.0 * tp, 2.0 * tp + fp + n))),
        ] {
            prop_assert!((f64::from(got) - real).abs() < 1.000_001, "{} for {}", got, real);
        }
    }
}
