//! The dataset gate on real data: held-out digits of the fixture, three sets that share no row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use zero2ai_trust::gate::{
    Outcome, bias,
    minhash::Salt,
    overlap::{self, Fingerprints, Overlap, Sample},
    privacy,
    shift::{self, Column, Values},
};

/// Pixels and classes of one file.
fn digits(file: &str) -> (Vec<Vec<f32>>, Vec<u16>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testnet/fixtures/digits").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let numbers = |line: &str| line.split(',').map(|c| c.trim().parse::<f32>()).collect::<Result<Vec<f32>, _>>().ok();
    let rows: Vec<Vec<f32>> = text.lines().filter_map(numbers).collect();
    assert!(rows.len() >= 100 && rows.iter().all(|r| r.len() == 65));
    rows.into_iter()
        .map(|mut r| {
            let class = r.pop().unwrap();
            (r, class as u16)
        })
        .unzip()
}

fn compare(publisher: &[Vec<f32>], validator: &[Vec<f32>]) -> Overlap {
    let salt = Salt::new([9; 32]);
    let prints = Fingerprints::of(&salt, publisher.iter().map(|r| Sample::Row(r, 2.0))).unwrap();
    overlap::compare(&salt, &prints, validator.iter().map(|r| Sample::Row(r, 2.0)), overlap::Limits::default())
}

fn judged(found: &Overlap) -> Outcome {
    overlap::check(Some(found), overlap::Limits::default()).outcome
}

#[test]
fn other_digits_do_not_overlap_and_the_same_ones_do_even_with_noise() {
    let ((first, _), (second, _)) = (digits("heldout-1.csv"), digits("heldout-2.csv"));
    let fresh = compare(&first, &second);
    println!("other rows: {fresh:?}");
    assert_eq!(judged(&fresh), Outcome::Pass);
    let same = compare(&first, &first);
    assert_eq!((same.exact as usize, judged(&same)), (first.len(), Outcome::Fail));
    // Brighter by less than half a step of 16 shades: no row is equal any more, nearly all are found.
    let brighter: Vec<Vec<f32>> = first.iter().map(|r| r.iter().map(|v| (v * 1.02).min(16.0)).collect()).collect();
    let near = compare(&first, &brighter);
    println!("brighter rows: {near:?}");
    assert!(near.exact == 0 && near.near as usize > first.len() * 9 / 10, "{near:?}");
}

#[test]
fn other_digits_are_of_the_same_domain_and_inverted_ones_are_not() {
    let ((first, _), (second, _)) = (digits("heldout-1.csv"), digits("heldout-2.csv"));
    let columns = |validator: &[Vec<f32>]| -> Vec<Column> {
        let column = |rows: &[Vec<f32>], k: usize| rows.iter().map(|r| f64::from(r[k])).collect::<Vec<f64>>();
        (0..64)
            .map(|k| Column {
                name: format!("pixel {k}"),
                values: Values::Numbers(column(&first, k), column(validator, k)),
            })
            .collect()
    };
    let same = shift::check(&columns(&second), shift::Limits::default(), &[1; 32]);
    assert_eq!(same.outcome, Outcome::Pass, "{same:?}");
    let inverted: Vec<Vec<f32>> = second.iter().map(|r| r.iter().map(|v| 16.0 - v).collect()).collect();
    assert_eq!(shift::check(&columns(&inverted), shift::Limits::default(), &[1; 32]).outcome, Outcome::Fail);
}

#[test]
fn digits_are_balanced_and_hold_no_private_data() {
    let (rows, classes) = digits("heldout-3.csv");
    assert_eq!(bias::dataset(&classes, 10, None, bias::Limits::default()).outcome, Outcome::Pass);
    let zeros = vec![0; classes.len()];
    assert_eq!(bias::dataset(&zeros, 10, None, bias::Limits::default()).outcome, Outcome::Fail);
    let lines: Vec<String> = rows.iter().map(|r| r.iter().map(f32::to_string).collect::<Vec<_>>().join(",")).collect();
    assert_eq!(privacy::check(lines.iter().map(String::as_str), 0).outcome, Outcome::Pass);
}
