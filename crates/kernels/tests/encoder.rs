//! An encoder's layers and its attention: every path and number of threads gives the same bits, sequences do not see each
//! other, and results are near double precision.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Random, bits, by_all, exact, near};
use proptest::prelude::*;
use zero2ai_kernels::{Bidirectional, KernelError, Path, Pool, add_bias, gelu, layer_norm};

/// Changes a copy of `x`, and all of it row by row, which must give the same.
fn in_place(x: &[f32], width: usize, work: impl Fn(&Pool, Path, &mut [f32]) -> Result<(), KernelError>) -> Vec<f32> {
    let all = by_all(|pool, path| {
        let mut x = x.to_vec();
        work(pool, path, &mut x).unwrap();
        x
    });
    let mut alone = x.to_vec();
    for row in alone.chunks_mut(width) {
        work(&Pool::new(1).unwrap(), Path::best(), row).unwrap();
    }
    assert_eq!(bits(&alone), bits(&all));
    all
}

#[test]
fn norms_biases_and_gelu_are_right_and_each_rows_own() {
    let mut random = Random(1);
    for (rows, width) in [(1, 1), (3, 50), (70, 384)] {
        let (weights, bias) = (random.numbers(width), random.numbers(width));
        // Far from zero: that is what the second pass of the norm is for.
        let x: Vec<f32> = random.numbers(rows * width).iter().map(|v| v * 4.0 + 100.0).collect();
        let normed = in_place(&x, width, |pool, path, x| layer_norm(pool, path, x, &weights, &bias, 1e-5));
        let exactly = exact(&x);
        let want = exactly.chunks(width).flat_map(|row| {
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
            let numbers = row.iter().zip(&weights).zip(&bias);
            numbers
                .map(|((v, w), b)| (v - mean) / (variance + 1e-5).sqrt() * f64::from(*w) + f64::from(*b))
                .collect::<Vec<_>>()
        });
        near(&normed, &want.collect::<Vec<_>>(), if width == 1 { 2e-2 } else { 3e-5 });

        let x: Vec<f32> = random.numbers(rows * width).iter().map(|v| v * 8.0).collect();
        let sums: Vec<f64> = x.iter().zip(bias.iter().cycle()).map(|(v, b)| f64::from(v + b)).collect();
        let biased = in_place(&x, width, |pool, path, x| add_bias(pool, path, x, &bias));
        near(&biased, &sums, 0.0);
        let gated = in_place(&x, width, |pool, path, x| gelu(pool, path, x, &bias));
        let want = sums.iter().map(|v| v / 2.0 * (1.0 + libm::erf(v / 2.0_f64.sqrt())));
        near(&gated, &want.collect::<Vec<_>>(), 1e-6);
    }
}

/// Attention of one sequence in double precision.
fn reference(query: &[f32], key: &[f32], value: &[f32], heads: usize, dim: usize) -> Vec<f64> {
    let rows = query.len() / (heads * dim);
    let mut out = Vec::new();
    for row in 0..rows {
        for head in 0..heads {
            let place = |row: usize| (row * heads + head) * dim;
            let query = exact(&query[place(row)..][..dim]);
            let score = |row: usize| {
                let dot: f64 = exact(&key[place(row)..][..dim]).iter().zip(&query).map(|(k, q)| k * q).sum();
                (dot / (dim as f64).sqrt()).exp()
            };
            let weights: Vec<f64> = (0..rows).map(score).collect();
            let total: f64 = weights.iter().sum();
            out.extend((0..dim).map(|d| {
                let sum: f64 = weights.iter().enumerate().map(|(r, w)| w * f64::from(value[place(r) + d])).sum();
                sum / total
            }));
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn each_row_sees_its_whole_sequence_and_no_other(
        seed: u64, lengths in prop::collection::vec(0_usize..40, 1..6), heads in 1_usize..5, dim in 1_usize..40,
    ) {
        let mut random = Random(seed);
        let width = heads * dim;
        let numbers = lengths.iter().sum::<usize>() * width;
        let query: Vec<f32> = random.numbers(numbers).iter().map(|q| q * 8.0).collect();
        let (key, value) = (random.numbers(numbers), random.numbers(numbers));
        let run = |pool: &Pool, path, lengths: &[usize], place: std::ops::Range<usize>| {
            let mut work = Bidirectional::new(heads, dim, lengths).unwrap();
            let mut out = vec![0.0; place.len()];
            let [query, key, value] = [&query, &key, &value].map(|numbers| &numbers[place.clone()]);
            // Twice, as the layers of a pass use it: nothing of the first may be seen.
            work.attend(pool, path, value, query, key, &mut out).unwrap();
            work.attend(pool, path, query, key, value, &mut out).unwrap();
            out
        };
        let together = by_all(|pool, path| run(pool, path, &lengths, 0..numbers));
        let (pool, mut start) = (Pool::new(1).unwrap(), 0);
        for length in lengths {
            let place = start..start + length * width;
            let alone = run(&pool, Path::best(), &[length], place.clone());
            prop_assert_eq!(bits(&alone), bits(&together[place.clone()]));
            let [query, key, value] = [&query, &key, &value].map(|numbers| &numbers[place.clone()]);
            near(&alone, &reference(query, key, value, heads, dim), 1e-5);
            start = place.end;
        }
    }
}

#[test]
fn what_is_no_number_in_one_sequence_stays_there() {
    let mut random = Random(3);
    let (heads, dim, lengths) = (2, 16, [5, 9]);
    let clean = random.numbers(14 * heads * dim);
    let mut broken = clean.clone();
    broken[0] = f32::NAN;
    let run = |numbers: &[f32]| {
        by_all(|pool, path| {
            let mut out = vec![0.0; numbers.len()];
            let mut work = Bidirectional::new(heads, dim, &lengths).unwrap();
            work.attend(pool, path, numbers, numbers, numbers, &mut out).unwrap();
            out
        })
    };
    let first = 5 * heads * dim;
    assert_eq!(bits(&run(&clean)[first..]), bits(&run(&broken)[first..]));
    assert!(run(&broken)[0].is_nan());
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let (pool, path) = (Pool::new(2).unwrap(), Path::best());
    let refused = |result: Result<(), KernelError>| assert!(matches!(result, Err(KernelError::Shape { .. })));
    refused(layer_norm(&pool, path, &mut [0.0; 5], &[0.0; 2], &[0.0; 2], 1.0));
    refused(layer_norm(&pool, path, &mut [0.0; 4], &[0.0; 2], &[0.0; 1], 1.0));
    refused(layer_norm(&pool, path, &mut [0.0; 4], &[], &[], 1.0));
    refused(add_bias(&pool, path, &mut [0.0; 5], &[0.0; 2]));
    refused(gelu(&pool, path, &mut [0.0; 5], &[]));
    refused(Bidirectional::new(0, 4, &[1]).map(|_| ()));
    let mut work = Bidirectional::new(1, 4, &[2]).unwrap();
    refused(work.attend(&pool, path, &[0.0; 4], &[0.0; 8], &[0.0; 8], &mut [0.0; 8]));
    refused(work.attend(&pool, path, &[0.0; 8], &[0.0; 8], &[0.0; 8], &mut [0.0; 9]));
    let huge = Bidirectional::new(1 << 30, 1 << 30, &[1 << 10]);
    assert!(matches!(huge, Err(KernelError::Memory { .. })));
    let mut none = Bidirectional::new(3, 4, &[0, 0]).unwrap();
    none.attend(&pool, path, &[], &[], &[], &mut []).unwrap();
}
