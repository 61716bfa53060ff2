//! How fast products and attention go here, by every path: `speed [THREADS]`. Sizes are those of a 135M-parameter llama.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use zero2ai_kernels::{
    Attend, BLOCK, Format, KeyValues, Packed, Path, Pool, Product, Rows, attend, gate_silu, rms_norm,
};

/// The matrices of one layer: outputs, inputs.
const LAYER: [(usize, usize); 7] =
    [(576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536)];
const LAYERS: usize = 30;

/// The best of several runs: what the machine can do where others use it too.
fn timed(mut work: impl FnMut()) -> Duration {
    let times = (0..9).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed()
    });
    times.min().unwrap()
}

fn main() {
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(2);
    let pool = Pool::new(threads).unwrap();
    for format in [Format::Q8_0, Format::Q4_0, Format::Q4_1] {
        let pack = |(n, k): (usize, usize)| {
            let bytes: Vec<u8> = (0..n * (k / BLOCK) * format.block_bytes()).map(|i| (i * 37 % 251) as u8).collect();
            Packed::new(format, &bytes, n, k).unwrap()
        };
        let matrices: Vec<_> = (0..LAYERS).flat_map(|_| LAYER.map(pack)).collect();
        for path in Path::available() {
            for rows in [1, 8, 128, 512] {
                if path.name() == "portable" && rows > 8 {
                    continue;
                }
                let x: Vec<f32> = (0..rows * 1536).map(|i| (i * 31 % 127) as f32 - 63.0).collect();
                let mut out = vec![0.0; rows * 1536];
                let mut quantised = Rows::new(path);
                let time = timed(|| {
                    for weights in &matrices {
                        quantised.fill(&pool, &x[..rows * weights.k()], weights.k()).unwrap();
                        let out = &mut out[..rows * weights.n()];
                        zero2ai_kernels::multiply(&pool, &quantised, &mut [Product { weights, out }]).unwrap();
                    }
                });
                let products: usize = matrices.iter().map(|m| m.n() * m.k() * rows).sum();
                let rate = products as f64 / time.as_secs_f64() / 1e9;
                println!("{format:?} {:>10} {rows:>4} rows: {time:>10.2?} ({rate:.0} G products/s)", path.name());
            }
        }
    }
    for path in Path::available().filter(|p| p.name() != "portable") {
        for (first, rows) in [(384, 128), (512, 1)] {
            let numbers = vec![0.5; 16 * 3 * 64];
            let page = || {
                let mut page = KeyValues::new(3, 64, 16).unwrap();
                page.store(0, &numbers, &numbers).unwrap();
                page
            };
            let pages: Vec<KeyValues> = std::iter::repeat_with(page).take(33).collect();
            let pages: Vec<&KeyValues> = pages.iter().collect();
            let (query, mut out) = (vec![0.5; rows * 576], vec![0.0; rows * 576]);
            let time = timed(|| {
                for _ in 0..LAYERS {
                    attend(&pool, path, &query, 9, &[Attend { pages: &pages, rows, first }], &mut out).unwrap();
                }
            });
            println!("attention {:>10} {rows:>4} rows at {first}: {time:.2?}", path.name());
        }
        let (mut x, y, mut out) = (vec![0.5; 128 * 1536], vec![0.5; 128 * 1536], vec![0.0; 128 * 576]);
        let gate = timed(|| (0..LAYERS).for_each(|_| gate_silu(&pool, path, &mut x, &y).unwrap()));
        let norm = timed(|| {
            for _ in 0..LAYERS {
                rms_norm(&pool, path, &y[..128 * 576], &y[..576], 1e-5, &mut out).unwrap();
            }
        });
        println!("{:>10} 128 rows: gates {gate:.2?}, norms {norm:.2?}", path.name());
    }
}
