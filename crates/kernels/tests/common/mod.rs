//! Random numbers from a seed, GGUF blocks made of them, what a block means in double precision, and how results are compared:
//! bit for bit between paths and threads, and nearly with double precision.
#![allow(dead_code, clippy::unwrap_used)]

use zero2ai_kernels::{BLOCK, Format, Path, Pool};

pub(crate) const FORMATS: [Format; 3] = [Format::Q8_0, Format::Q4_0, Format::Q4_1];

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In -1..1.
    pub(crate) fn number(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    pub(crate) fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    /// A plausible 16-bit scale: 2^-7 to 2^-3, either sign.
    fn scale(&mut self) -> u16 {
        let bits = self.bits();
        ((8 + bits % 4) << 10 | (bits >> 8 & 0x3ff) | (bits >> 20 & 1) << 15) as u16
    }

    /// Blocks of `n` rows of `k` columns, any quants in them.
    pub(crate) fn blocks(&mut self, format: Format, n: usize, k: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..n * (k / BLOCK) * format.block_bytes()).map(|_| self.bits() as u8).collect();
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            for scale in 0..if format == Format::Q4_1 { 2 } else { 1 } {
                block[2 * scale..2 * scale + 2].copy_from_slice(&self.scale().to_le_bytes());
            }
        }
        bytes
    }
}

fn half(bytes: &[u8]) -> f64 {
    let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
    let fraction = f64::from(bits & 0x3ff) / 1024.0;
    let magnitude = match i32::from(bits >> 10 & 31) {
        0 => fraction * 2.0_f64.powi(-14),
        e => (1.0 + fraction) * 2.0_f64.powi(e - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// The weights that blocks stand for, as GGUF defines them.
pub(crate) fn weights(format: Format, bytes: &[u8]) -> Vec<f64> {
    let mut all = Vec::new();
    for block in bytes.chunks_exact(format.block_bytes()) {
        for i in 0..BLOCK {
            let nibble = |start: usize| f64::from(block[start + i % 16] >> (i / 16 * 4) & 15);
            all.push(match format {
                Format::Q8_0 => half(block) * f64::from(block[2 + i] as i8),
                Format::Q4_0 => half(block) * (nibble(2) - 8.0),
                Format::Q4_1 => half(block) * nibble(4) + half(&block[2..]),
            });
        }
    }
    all
}

/// Bits, with all NaN taken as one.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}

/// Runs it by every path on one and on three threads; all must agree. Answers the result.
pub(crate) fn by_all(run: impl Fn(&Pool, Path) -> Vec<f32>) -> Vec<f32> {
    let pools = [1, 3].map(|threads| Pool::new(threads).unwrap());
    let mut results = Path::available().flat_map(|path| pools.each_ref().map(|pool| (path, run(pool, path))));
    let (_, first) = results.next().unwrap();
    for (path, result) in results {
        assert_eq!(bits(&result), bits(&first), "{}", path.name());
    }
    first
}

pub(crate) fn near(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() <= tolerance * (1.0 + want.abs()), "{index}: {got} for {want}");
    }
}

pub(crate) fn exact(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}
