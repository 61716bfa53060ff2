//! Layers and attention: every path and number of threads gives the same bits, rows do not see each other, and results are
//! near what double precision says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Random, bits};
use proptest::prelude::*;
use zero2ai_kernels::{Attend, KernelError, KeyValues, Path, Pool, add, attend, gate_silu, rms_norm, rotate};

/// A layer that changes its numbers in place.
type InPlace<'a> = &'a dyn Fn(&Pool, Path, &mut [f32]) -> Result<(), KernelError>;

/// Runs it by every path on one and on three threads; all must agree. Answers the result.
fn by_all(run: impl Fn(&Pool, Path) -> Vec<f32>) -> Vec<f32> {
    let pools = [1, 3].map(|threads| Pool::new(threads).unwrap());
    let mut results = Path::available().flat_map(|path| pools.each_ref().map(|pool| (path, run(pool, path))));
    let (_, first) = results.next().unwrap();
    for (path, result) in results {
        assert_eq!(bits(&result), bits(&first), "{}", path.name());
    }
    first
}

fn near(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() <= tolerance * (1.0 + want.abs()), "{index}: {got} for {want}");
    }
}

fn exact(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn norms_are_right_and_each_rows_own() {
    let mut random = Random(1);
    for (rows, width) in [(1, 1), (3, 50), (40, 576)] {
        let (x, weights) = (random.numbers(rows * width), random.numbers(width));
        let norm = |pool: &Pool, path, x: &[f32]| {
            let mut out = vec![0.0; x.len()];
            rms_norm(pool, path, x, &weights, 1e-5, &mut out).unwrap();
            out
        };
        let all = by_all(|pool, path| norm(pool, path, &x));
        let want: Vec<f64> = exact(&x)
            .chunks(width)
            .flat_map(|row| {
                let mean = row.iter().map(|v| v * v).sum::<f64>() / width as f64;
                row.iter().zip(&weights).map(|(v, w)| v / (mean + 1e-5).sqrt() * f64::from(*w)).collect::<Vec<_>>()
            })
            .collect();
        near(&all, &want, 1e-6);
        let pool = Pool::new(1).unwrap();
        let alone: Vec<_> = x.chunks(width).flat_map(|row| norm(&pool, Path::best(), row)).collect();
        assert_eq!(bits(&alone), bits(&all));
    }
}

#[test]
fn rotations_gates_and_sums_are_right() {
    let mut random = Random(2);
    for (rows, heads, pairs) in [(1, 1, 1), (5, 3, 9), (40, 9, 32)] {
        let width = heads * pairs * 2;
        let (x, y) = (random.numbers(rows * width), random.numbers(rows * width));
        let angles: Vec<f32> = random.numbers(rows * pairs);
        let sines: Vec<[f32; 2]> = angles.iter().map(|a| [a.sin(), a.cos()]).collect();
        let run = |work: InPlace<'_>| {
            by_all(|pool, path| {
                let mut x = x.clone();
                work(pool, path, &mut x).unwrap();
                x
            })
        };
        let turned = run(&|pool, path, x| rotate(pool, path, x, width, &sines));
        let mut want = exact(&x);
        for (index, pair) in want.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let [sin, cos] = sines[index / (heads * pairs) * pairs + index % pairs].map(f64::from);
            *pair = [pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos];
        }
        near(&turned, &want, 1e-6);
        let big: Vec<f32> = x.iter().map(|v| v * 100.0).collect();
        let gated = by_all(|pool, path| {
            let mut gate = big.clone();
            gate_silu(pool, path, &mut gate, &y).unwrap();
            gate
        });
        let want: Vec<f64> = exact(&big).iter().zip(exact(&y)).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        near(&gated, &want, 1e-6);
        let sum = run(&|pool, path, x| add(pool, path, x, &y));
        near(&sum, &exact(&x).iter().zip(exact(&y)).map(|(x, y)| x + y).collect::<Vec<_>>(), 1e-7);
    }
}

/// Attention in double precision.
fn reference(query: &[f32], keys: &[f32], values: &[f32], heads: usize, kv_heads: usize, dim: usize) -> Vec<f64> {
    let (rows, positions) = (query.len() / (heads * dim), keys.len() / (kv_heads * dim));
    let mut out = Vec::new();
    for row in 0..rows {
        for head in 0..heads {
            let seen = positions - rows + row + 1;
            let query = exact(&query[(row * heads + head) * dim..][..dim]);
            let place = |p: usize| (p * kv_heads + head / (heads / kv_heads)) * dim;
            let score = |p: usize| {
                let dot: f64 = exact(&keys[place(p)..][..dim]).iter().zip(&query).map(|(k, q)| k * q).sum();
                (dot / (dim as f64).sqrt()).exp()
            };
            let weights: Vec<f64> = (0..seen).map(score).collect();
            let total: f64 = weights.iter().sum();
            out.extend((0..dim).map(|d| {
                let sum: f64 = weights.iter().enumerate().map(|(p, w)| w * f64::from(values[place(p) + d])).sum();
                sum / total
            }));
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn attention_is_right_and_does_not_depend_on_its_parts(
        seed: u64, held in 0_usize..50, rows in 1_usize..20, kv_heads in 1_usize..4, group in 1_usize..5, dim in 1_usize..40, cut in 0_usize..20,
    ) {
        let mut random = Random(seed);
        let (heads, positions) = (kv_heads * group, held + rows);
        let (keys, values) = (random.numbers(positions * kv_heads * dim), random.numbers(positions * kv_heads * dim));
        let query: Vec<f32> = random.numbers(rows * heads * dim).iter().map(|q| q * 8.0).collect();
        let in_parts = |pool: &Pool, path, parts: &[usize]| {
            let mut cache = KeyValues::new(kv_heads, dim, positions).unwrap();
            let width = kv_heads * dim;
            cache.store(0, &keys[..held * width], &values[..held * width]).unwrap();
            let (mut first, mut out) = (held, vec![0.0; query.len()]);
            for rows in parts {
                let (start, end) = (first * width, (first + rows) * width);
                cache.store(first, &keys[start..end], &values[start..end]).unwrap();
                let place = (first - held) * heads * dim..(first - held + rows) * heads * dim;
                let work = Attend { cache: &cache, query: &query[place.clone()], heads, first };
                attend(pool, path, &work, &mut out[place]).unwrap();
                first += rows;
            }
            out
        };
        let whole = by_all(|pool, path| in_parts(pool, path, &[rows]));
        near(&whole, &reference(&query, &keys, &values, heads, kv_heads, dim), 1e-5);
        let pool = Pool::new(2).unwrap();
        let cut = cut.min(rows);
        prop_assert_eq!(bits(&in_parts(&pool, Path::best(), &[cut, rows - cut])), bits(&whole));
        prop_assert_eq!(bits(&in_parts(&pool, Path::best(), &vec![1; rows])), bits(&whole));
    }
}

#[test]
fn what_comes_later_is_not_seen_even_if_it_is_no_number() {
    let mut random = Random(5);
    let (dim, rows) = (32, 9);
    let numbers = random.numbers(rows * dim);
    let run = |last: f32| {
        by_all(|pool, path| {
            let mut later = numbers.clone();
            later[(rows - 1) * dim..].fill(last);
            let mut cache = KeyValues::new(1, dim, 20).unwrap();
            cache.store(0, &later, &later).unwrap();
            let mut out = vec![0.0; rows * dim];
            attend(pool, path, &Attend { cache: &cache, query: &numbers, heads: 1, first: 0 }, &mut out).unwrap();
            out
        })
    };
    let (clean, broken) = (run(0.5), run(f32::NAN));
    let before = (rows - 1) * dim;
    assert_eq!(bits(&clean[..before]), bits(&broken[..before]));
    assert!(broken[before..].iter().all(|v| v.is_nan()));
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let (pool, path) = (Pool::new(2).unwrap(), Path::best());
    let refused = |result: Result<(), KernelError>| assert!(matches!(result, Err(KernelError::Shape { .. })));
    refused(rms_norm(&pool, path, &[0.0; 5], &[0.0; 2], 1.0, &mut [0.0; 5]));
    refused(rms_norm(&pool, path, &[0.0; 4], &[], 1.0, &mut [0.0; 4]));
    refused(rms_norm(&pool, path, &[0.0; 4], &[0.0; 2], 1.0, &mut [0.0; 2]));
    refused(rotate(&pool, path, &mut [0.0; 8], 4, &[[0.0; 2]; 3]));
    refused(rotate(&pool, path, &mut [0.0; 8], 4, &[]));
    refused(rotate(&pool, path, &mut [0.0; 6], 3, &[[0.0; 2]; 2]));
    refused(gate_silu(&pool, path, &mut [0.0; 2], &[0.0; 3]));
    refused(add(&pool, path, &mut [0.0; 2], &[0.0; 1]));
    let mut cache = KeyValues::new(2, 4, 16).unwrap();
    refused(cache.store(0, &[0.0; 9], &[0.0; 9]));
    refused(cache.store(0, &[0.0; 16], &[0.0; 8]));
    refused(cache.store(15, &[0.0; 16], &[0.0; 16]));
    refused(cache.store(usize::MAX, &[0.0; 8], &[0.0; 8]));
    let with = |query, heads, first| Attend { cache: &cache, query, heads, first };
    refused(attend(&pool, path, &with(&[0.0; 12], 3, 0), &mut [0.0; 12]));
    refused(attend(&pool, path, &with(&[0.0; 8], 2, 16), &mut [0.0; 8]));
    refused(attend(&pool, path, &with(&[0.0; 8], 2, 0), &mut [0.0; 7]));
    refused(attend(&pool, path, &with(&[0.0; 9], 2, 0), &mut [0.0; 9]));
    assert!(matches!(KeyValues::new(1 << 30, 1 << 30, 1 << 30), Err(KernelError::Memory { .. })));
    assert!(matches!(KeyValues::new(1, 1, usize::MAX), Err(KernelError::Memory { .. })));
    attend(&pool, path, &with(&[], 2, 3), &mut []).unwrap();
}
