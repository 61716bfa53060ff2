//! Layers and attention: every path and number of threads gives the same bits, rows do not see each other, and results are
//! near what double precision says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Random, bits, by_all, exact, near};
use proptest::prelude::*;
use zero2ai_kernels::{
    Attend, KernelError, KeyValues, Path, Pool, add, attend, attend_window, gate_silu, rms_norm, rotate,
};

/// A layer that changes its numbers in place.
type InPlace<'a> = &'a dyn Fn(&Pool, Path, &mut [f32]) -> Result<(), KernelError>;

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

/// Attention in double precision, over all positions up to a row's own.
fn reference(query: &[f32], keys: &[f32], values: &[f32], heads: usize, kv_heads: usize, dim: usize) -> Vec<f64> {
    reference_window(query, keys, values, [heads, kv_heads, dim], usize::MAX)
}

/// The same over the last `window` of them.
fn reference_window(
    query: &[f32],
    keys: &[f32],
    values: &[f32],
    [heads, kv_heads, dim]: [usize; 3],
    window: usize,
) -> Vec<f64> {
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
            let first = seen.saturating_sub(window);
            let weights: Vec<f64> = (first..seen).map(score).collect();
            let total: f64 = weights.iter().sum();
            out.extend((0..dim).map(|d| {
                let sum: f64 = weights.iter().zip(first..).map(|(w, p)| w * f64::from(values[place(p) + d])).sum();
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
        let width = kv_heads * dim;
        // Pages of so much room each, filled part after part, with attention after each.
        let in_parts = |pool: &Pool, path, parts: &[usize], room: usize| {
            let page = || KeyValues::new(kv_heads, dim, room).unwrap();
            let mut pages: Vec<_> = std::iter::repeat_with(page).take(positions.div_ceil(room)).collect();
            let mut store = |from: usize, to: usize| {
                for position in from..to {
                    let place = position * width..(position + 1) * width;
                    pages[position / room].store(position % room, &keys[place.clone()], &values[place]).unwrap();
                }
                let pages: Vec<&KeyValues> = pages.iter().collect();
                let place = (from.max(held) - held) * heads * dim..(to - held.min(to)) * heads * dim;
                let query = &query[place];
                let mut out = vec![0.0; query.len()];
                let work = Attend { pages: &pages, rows: query.len() / (heads * dim), first: from };
                attend(pool, path, query, heads, &[work], &mut out).unwrap();
                out
            };
            store(0, held);
            let (mut first, mut out) = (held, Vec::new());
            for rows in parts {
                out.extend(store(first, first + rows));
                first += rows;
            }
            out
        };
        let whole = by_all(|pool, path| in_parts(pool, path, &[rows], positions.next_multiple_of(16)));
        near(&whole, &reference(&query, &keys, &values, heads, kv_heads, dim), 1e-5);
        let pool = Pool::new(2).unwrap();
        let cut = cut.min(rows);
        prop_assert_eq!(bits(&in_parts(&pool, Path::best(), &[cut, rows - cut], 16)), bits(&whole));
        prop_assert_eq!(bits(&in_parts(&pool, Path::best(), &vec![1; rows], 32)), bits(&whole));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn windows_are_right_and_what_slid_out_of_them_is_not_seen(
        seed: u64, held in 0_usize..70, rows in 1_usize..20, kv_heads in 1_usize..3, group in 1_usize..5, dim in 1_usize..40,
        window in 1_usize..60, cut in 0_usize..20,
    ) {
        let mut random = Random(seed);
        let (heads, positions, width) = (kv_heads * group, held + rows, kv_heads * dim);
        let (mut keys, mut values) = (random.numbers(positions * width), random.numbers(positions * width));
        let query: Vec<f32> = random.numbers(rows * heads * dim).iter().map(|q| q * 8.0).collect();
        let pages = |keys: &[f32], values: &[f32], room: usize| -> Vec<KeyValues> {
            let parts = keys.chunks(room * width).zip(values.chunks(room * width));
            parts.map(|(keys, values)| {
                let mut page = KeyValues::new(kv_heads, dim, room).unwrap();
                page.store(0, keys, values).unwrap();
                page
            }).collect()
        };
        // In two parts, on pages of so much room.
        let run = |pool: &Pool, path, pages: &[KeyValues], cut: usize, window: usize| {
            let pages: Vec<&KeyValues> = pages.iter().collect();
            let mut out = vec![0.0; query.len()];
            let (query, mut rest) = (query.split_at(cut * heads * dim), &mut out[..]);
            for (query, first, rows) in [(query.0, held, cut), (query.1, held + cut, rows - cut)] {
                let (own, after) = rest.split_at_mut(query.len());
                rest = after;
                attend_window(pool, path, query, heads, &[Attend { pages: &pages, rows, first }], window, own).unwrap();
            }
            out
        };
        let small = pages(&keys, &values, 16);
        let whole = by_all(|pool, path| run(pool, path, &small, 0, window));
        near(&whole, &reference_window(&query, &keys, &values, [heads, kv_heads, dim], window), 1e-5);
        let pool = Pool::new(2).unwrap();
        prop_assert_eq!(bits(&run(&pool, Path::best(), &small, cut.min(rows), window)), bits(&whole));
        prop_assert_eq!(bits(&run(&pool, Path::best(), &pages(&keys, &values, 48), cut.min(rows), window)), bits(&whole));
        // A window over everything is none.
        let all = run(&pool, Path::best(), &small, 0, positions);
        prop_assert_eq!(bits(&all), bits(&run(&pool, Path::best(), &small, 0, usize::MAX)));
        // What no row sees may be no number at all.
        let unseen = (held + 1).saturating_sub(window) * width;
        keys[..unseen].fill(f32::NAN);
        values[..unseen].fill(f32::INFINITY);
        let broken = pages(&keys, &values, 16);
        prop_assert_eq!(bits(&by_all(|pool, path| run(pool, path, &broken, 0, window))), bits(&whole));
    }
}

#[test]
fn sequences_attended_to_together_do_not_see_each_other() {
    let mut random = Random(9);
    let (dim, kv_heads, heads) = (32, 2, 6);
    // Rows and positions before them, one of each sequence; the first two read the same page.
    let sequences = [(1_usize, 15_usize), (1, 15), (5, 11), (1, 40), (0, 3)];
    let shared = random.numbers(16 * kv_heads * dim);
    let pages: Vec<Vec<KeyValues>> = sequences
        .map(|(rows, first)| {
            let page = |index: usize| {
                let mut page = KeyValues::new(kv_heads, dim, 16).unwrap();
                let numbers = if index == 0 { shared.clone() } else { random.numbers(16 * kv_heads * dim) };
                page.store(0, &numbers, &numbers).unwrap();
                page
            };
            (0..(rows + first).div_ceil(16)).map(page).collect()
        })
        .into();
    let pages: Vec<Vec<&KeyValues>> = pages.iter().map(|pages| pages.iter().collect()).collect();
    let rows: usize = sequences.iter().map(|(rows, _)| rows).sum();
    let query = random.numbers(rows * heads * dim);
    let work = |index: usize| Attend { pages: &pages[index], rows: sequences[index].0, first: sequences[index].1 };
    let together = by_all(|pool, path| {
        let mut out = vec![0.0; query.len()];
        attend(pool, path, &query, heads, &[0, 1, 2, 3, 4].map(work), &mut out).unwrap();
        out
    });
    let (pool, mut start) = (Pool::new(1).unwrap(), 0);
    for (index, (rows, _)) in sequences.into_iter().enumerate() {
        let place = start..start + rows * heads * dim;
        let mut out = vec![0.0; place.len()];
        attend(&pool, Path::best(), &query[place.clone()], heads, &[work(index)], &mut out).unwrap();
        assert_eq!(bits(&out), bits(&together[place.clone()]), "sequence {index}");
        start = place.end;
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
            attend(pool, path, &numbers, 1, &[Attend { pages: &[&cache], rows, first: 0 }], &mut out).unwrap();
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
    let other = KeyValues::new(2, 4, 32).unwrap();
    let attend = |query: &[f32], heads, pages: &[&KeyValues], rows, first, out: &mut [f32]| {
        attend(&pool, path, query, heads, &[Attend { pages, rows, first }], out)
    };
    refused(attend(&[0.0; 12], 3, &[&cache], 1, 0, &mut [0.0; 12]));
    refused(attend(&[0.0; 8], 2, &[&cache], 1, 16, &mut [0.0; 8]));
    refused(attend(&[0.0; 8], 2, &[&cache], 1, usize::MAX, &mut [0.0; 8]));
    refused(attend(&[0.0; 8], 2, &[&cache], 1, 0, &mut [0.0; 7]));
    refused(attend(&[0.0; 8], 2, &[&cache], 2, 0, &mut [0.0; 8]));
    refused(attend(&[0.0; 9], 2, &[&cache], 1, 0, &mut [0.0; 9]));
    refused(attend(&[0.0; 8], 2, &[&cache, &other], 1, 0, &mut [0.0; 8]));
    refused(attend(&[0.0; 8], 2, &[], 1, 0, &mut [0.0; 8]));
    let empty = [Attend { pages: &[&cache], rows: 1, first: 0 }];
    refused(attend_window(&pool, path, &[0.0; 8], 2, &empty, 0, &mut [0.0; 8]));
    attend(&[0.0; 8], 2, &[&cache, &cache], 1, 31, &mut [0.0; 8]).unwrap();
    assert!(matches!(KeyValues::new(1 << 30, 1 << 30, 1 << 30), Err(KernelError::Memory { .. })));
    assert!(matches!(KeyValues::new(1, 1, usize::MAX), Err(KernelError::Memory { .. })));
    attend(&[], 2, &[&cache], 0, 3, &mut []).unwrap();
}
