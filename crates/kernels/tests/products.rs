//! Products: every path against the portable one bit for bit, all against double precision, and nothing written outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{FORMATS, Random, bits, weights};
use proptest::prelude::*;
use zero2ai_kernels::{BLOCK, Format, KernelError, Packed, Path, Pool, Product, Rows, matmul, multiply};

/// What stands around an output buffer and must still stand there afterwards.
const GUARD: f32 = 12_345.678;
const GUARDS: usize = 40;

/// The product by one path, its buffer watched at both ends.
fn product(pool: &Pool, path: Path, weights: &Packed, x: &[f32]) -> Vec<f32> {
    let outputs = x.len() / weights.k() * weights.n();
    let mut out = vec![GUARD; outputs + 2 * GUARDS];
    let mut rows = Rows::new(path);
    rows.fill(pool, x, weights.k()).unwrap();
    let place = &mut out[GUARDS..GUARDS + outputs];
    multiply(pool, &rows, &mut [Product { weights, out: place }]).unwrap();
    let (before, rest) = out.split_at(GUARDS);
    let (inner, after) = rest.split_at(outputs);
    assert!(before.iter().chain(after).all(|v| *v == GUARD), "{} wrote outside its outputs", path.name());
    inner.to_vec()
}

fn portable() -> Path {
    Path::available().last().unwrap()
}

#[test]
fn this_machine_tests_what_it_has() {
    let names: Vec<_> = Path::available().map(Path::name).collect();
    println!("paths tested here: {names:?}");
    assert_eq!(names.last(), Some(&"portable"));
    assert_eq!(Path::best().name(), names[0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_path_gives_the_same_bits(seed: u64, rows in 1_usize..38, n in 1_usize..70, blocks in 1_usize..6, threads in 1_usize..4) {
        let mut random = Random(seed);
        let k = blocks * BLOCK;
        let x = random.numbers(rows * k);
        let (one, several) = (Pool::new(1).unwrap(), Pool::new(threads).unwrap());
        for format in FORMATS {
            let packed = Packed::new(format, &random.blocks(format, n, k), n, k).unwrap();
            let want = bits(&product(&one, portable(), &packed, &x));
            for path in Path::available() {
                prop_assert_eq!(&bits(&product(&several, path, &packed, &x)), &want, "{} {:?}", path.name(), format);
            }
        }
    }

    #[test]
    fn any_bytes_and_any_activations_give_the_same_bits(seed: u64, rows in 1_usize..20, n in 1_usize..40) {
        let mut random = Random(seed);
        let k = 2 * BLOCK;
        // Any bits: NaN, infinities and denormals among scales and activations.
        let x: Vec<f32> = (0..rows * k).map(|_| match random.bits() {
            any if any % 16 == 0 => f32::from_bits((any >> 32) as u32),
            other => (other >> 40) as f32,
        }).collect();
        let pool = Pool::new(1).unwrap();
        for format in FORMATS {
            let bytes: Vec<u8> = (0..n * 2 * format.block_bytes()).map(|_| random.bits() as u8).collect();
            let packed = Packed::new(format, &bytes, n, k).unwrap();
            let want = bits(&product(&pool, portable(), &packed, &x));
            for path in Path::available() {
                prop_assert_eq!(&bits(&product(&pool, path, &packed, &x)), &want, "{} {:?}", path.name(), format);
            }
        }
    }

    #[test]
    fn packing_loses_nothing(seed: u64, n in 1_usize..50, blocks in 1_usize..5) {
        let mut random = Random(seed);
        let k = blocks * BLOCK;
        for format in FORMATS {
            let bytes: Vec<u8> = (0..n * blocks * format.block_bytes()).map(|_| random.bits() as u8).collect();
            let packed = Packed::new(format, &bytes, n, k).unwrap();
            prop_assert_eq!(packed.unpack(), bytes);
            let bytes = random.blocks(format, n, k);
            let packed = Packed::new(format, &bytes, n, k).unwrap();
            let exact = weights(format, &bytes);
            let mut row = vec![0.0; k];
            for index in 0..n {
                packed.row(index, &mut row).unwrap();
                for (got, want) in row.iter().zip(&exact[index * k..]) {
                    // One rounding, of d·q + m.
                    prop_assert!((f64::from(*got) - want).abs() <= want.abs() * 6e-8, "{got} {want}");
                }
            }
        }
    }
}

#[test]
fn a_rows_result_depends_on_nothing_around_it() {
    let mut random = Random(1);
    let (n, k) = (75, 96);
    let x = random.numbers(37 * k);
    for format in FORMATS {
        let packed = Packed::new(format, &random.blocks(format, n, k), n, k).unwrap();
        for path in Path::available() {
            let pools = [1, 2, 3].map(|threads| Pool::new(threads).unwrap());
            let alone: Vec<_> = x.chunks(k).flat_map(|row| product(&pools[0], path, &packed, row)).collect();
            for rows in 1..=37 {
                for (first, pool) in [0, 37 - rows].into_iter().zip(pools.iter().cycle().skip(rows % 3)) {
                    let together = product(pool, path, &packed, &x[first * k..(first + rows) * k]);
                    assert_eq!(
                        bits(&together),
                        bits(&alone[first * n..(first + rows) * n]),
                        "{rows} rows from {first}"
                    );
                }
            }
        }
    }
}

#[test]
fn products_are_near_what_double_precision_says() {
    let mut random = Random(2);
    let (n, k, rows) = (50, 576, 9);
    let pool = Pool::new(2).unwrap();
    let x = random.numbers(rows * k);
    for format in FORMATS {
        let bytes = random.blocks(format, n, k);
        let exact = weights(format, &bytes);
        let mut out = vec![0.0; rows * n];
        matmul(&pool, &Packed::new(format, &bytes, n, k).unwrap(), &x, &mut out).unwrap();
        let (mut squares, mut errors) = (0.0, 0.0);
        for (index, got) in out.iter().enumerate() {
            let (row, column) = (index / n, index % n);
            let (x, w) = (&x[row * k..][..k], &exact[column * k..][..k]);
            let want: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * w).sum();
            // A rounded activation is off by half of its block's largest over 127, at most.
            let blocks = x.chunks(BLOCK).zip(w.chunks(BLOCK));
            let bound: f64 = blocks
                .map(|(x, w)| {
                    let step = x.iter().fold(0.0_f32, |most, v| most.max(v.abs())) / 127.0;
                    f64::from(step) * 0.5001 * w.iter().map(|w| w.abs()).sum::<f64>()
                })
                .sum();
            assert!((f64::from(*got) - want).abs() <= bound + 1e-6, "{format:?} {index}: {got} for {want}");
            squares += want * want;
            errors += (f64::from(*got) - want).powi(2);
        }
        let relative = (errors / squares).sqrt();
        assert!(relative < 0.008, "{format:?}: {relative}");
    }
}

#[test]
fn values_that_are_no_numbers_stay_in_their_row_and_column() {
    let (n, k, rows) = (20, 64, 5);
    let pool = Pool::new(2).unwrap();
    let mut random = Random(3);
    for format in FORMATS {
        let bytes = random.blocks(format, n, k);
        let clean = Packed::new(format, &bytes, n, k).unwrap();
        let mut broken = bytes.clone();
        let row = 17 * (k / BLOCK) * format.block_bytes();
        broken[row..row + 2].copy_from_slice(&0x7e00_u16.to_le_bytes());
        let broken = Packed::new(format, &broken, n, k).unwrap();
        let x = random.numbers(rows * k);
        for path in Path::available() {
            let want = product(&pool, path, &clean, &x);
            for (index, got) in product(&pool, path, &broken, &x).iter().enumerate() {
                assert!(if index % n == 17 { got.is_nan() } else { *got == want[index] }, "{index}: {got}");
            }
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = x.clone();
                x[3 * k + 40] = bad;
                for (index, got) in product(&pool, path, &clean, &x).iter().enumerate() {
                    assert!(if index / n == 3 { got.is_nan() } else { *got == want[index] }, "{index}: {got}");
                }
            }
            // The least and the largest magnitudes there are.
            let tiny = product(&pool, path, &clean, &vec![f32::from_bits(1); k]);
            assert!(tiny.iter().all(|v| *v == 0.0), "{tiny:?}");
            let huge = product(&pool, path, &clean, &vec![f32::MAX; k]);
            assert!(huge.iter().all(|v| *v != 0.0), "{huge:?}");
        }
    }
}

#[test]
fn rows_enough_for_several_threads_give_the_same_bits() {
    let mut random = Random(6);
    let (n, k, rows) = (49, 1_536, 45);
    let x = random.numbers(rows * k);
    let packed = Packed::new(Format::Q4_1, &random.blocks(Format::Q4_1, n, k), n, k).unwrap();
    let want = bits(&product(&Pool::new(1).unwrap(), portable(), &packed, &x));
    for (path, threads) in Path::available().zip([2, 3, 4].into_iter().cycle()) {
        let pool = Pool::new(threads).unwrap();
        assert_eq!(bits(&product(&pool, path, &packed, &x)), want, "{}", path.name());
    }
}

#[test]
fn several_matrices_go_at_once() {
    let mut random = Random(4);
    let (k, rows) = (64, 3);
    let pool = Pool::new(2).unwrap();
    let x = random.numbers(rows * k);
    let matrices: Vec<_> = [(Format::Q8_0, 33), (Format::Q4_1, 1), (Format::Q4_0, 64)]
        .map(|(format, n)| Packed::new(format, &random.blocks(format, n, k), n, k).unwrap())
        .into();
    let mut outs: Vec<_> = matrices.iter().map(|m| vec![0.0; rows * m.n()]).collect();
    let mut quantised = Rows::new(Path::best());
    quantised.fill(&pool, &x, k).unwrap();
    let mut products: Vec<_> = matrices.iter().zip(&mut outs).map(|(weights, out)| Product { weights, out }).collect();
    multiply(&pool, &quantised, &mut products).unwrap();
    for (weights, out) in matrices.iter().zip(outs) {
        assert_eq!(bits(&out), bits(&product(&pool, portable(), weights, &x)));
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let pool = Pool::new(1).unwrap();
    let shape = |result: Result<(), KernelError>| matches!(result, Err(KernelError::Shape { .. }));
    assert!(shape(Packed::q8_0(&[0; 33], 1, 31).map(drop)), "k no multiple of a block");
    assert!(shape(Packed::q8_0(&[0; 33], 1, 32).map(drop)), "a byte too few");
    assert!(shape(Packed::q4_0(&[0; 36], 1, 32).map(drop)), "a block too many");
    assert!(shape(Packed::q4_1(&[], usize::MAX, 1 << 40).map(drop)), "sizes beyond counting");
    assert!(shape(Packed::q4_1(&[], usize::MAX / 64, 64).map(drop)), "sizes beyond memory");
    let packed = Packed::q8_0(&[0; 68], 2, 32).unwrap();
    assert_eq!((packed.n(), packed.k(), packed.format()), (2, 32, Format::Q8_0));
    assert!(shape(matmul(&pool, &packed, &[0.0; 33], &mut [0.0; 2])), "half a row");
    assert!(shape(matmul(&pool, &packed, &[0.0; 32], &mut [0.0; 3])), "an output too many");
    assert!(shape(packed.row(2, &mut [0.0; 32])) && shape(packed.row(0, &mut [0.0; 31])));
    let mut rows = Rows::new(Path::best());
    rows.fill(&pool, &[0.0; 64], 64).unwrap();
    assert!(shape(multiply(&pool, &rows, &mut [Product { weights: &packed, out: &mut [0.0; 2] }])), "other columns");
    assert!(shape(rows.fill(&pool, &[0.0; 64], 0)) && rows.is_empty());
    matmul(&pool, &packed, &[], &mut []).unwrap();
    matmul(&pool, &Packed::q8_0(&[], 0, 32).unwrap(), &[1.0; 32], &mut []).unwrap();
}
