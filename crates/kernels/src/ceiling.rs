//! What a machine could do at most, for benches to hold results against: byte dot products out of registers, and memory read
//! once through. Nothing here is used to compute anything.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(target_arch = "x86_64")]
use crate::path::Kind;
use crate::{KernelError, Path, Pool, math::LANES, path::on_path};

/// Sums kept side by side: more than a dot product takes cycles, times as many as start in one.
const CHAINS: usize = 12;
/// Bytes taken side by side when memory is read.
const SIDE: usize = 128;
/// Bytes that a thread reads at once.
const RUN: usize = 1 << 20;

/// Does `rounds` of nothing but byte dot products on every thread of the pool, all operands in registers, with the instruction
/// that the path's kernels use. Answers how many multiply-adds that were.
///
/// # Errors
/// As [`Pool::for_each`].
pub fn dot_products(pool: &Pool, path: Path, rounds: usize) -> Result<u64, KernelError> {
    let done = AtomicU64::new(0);
    // Some shares a thread, so that all end together.
    let shares = pool.threads().saturating_mul(4);
    let each = rounds / 4;
    pool.for_each(shares, 1, &|range| {
        for _ in range {
            done.fetch_add(dots(path, each), Ordering::Relaxed);
        }
    })?;
    Ok(done.into_inner())
}

fn dots(path: Path, rounds: usize) -> u64 {
    let bytes = match path.kind() {
        // SAFETY: a path of this kind exists only where these features were found.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => unsafe { dots_avx512(rounds) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni => unsafe { dots_avxvnni(rounds) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { dots_avx2(rounds) },
        _ => dots_portable(rounds),
    };
    (rounds * CHAINS * bytes) as u64
}

/// Each answers the bytes of one of its operands.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dots_avx512(rounds: usize) -> usize {
    let (a, b) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
    let mut sums = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    black_box(sums);
    64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,avxvnni")]
fn dots_avxvnni(rounds: usize) -> usize {
    let (a, b) = (black_box(_mm256_set1_epi8(3)), black_box(_mm256_set1_epi8(5)));
    let mut sums = [_mm256_setzero_si256(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_dpbusd_avx_epi32(*sum, a, b);
        }
    }
    black_box(sums);
    32
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dots_avx2(rounds: usize) -> usize {
    let (a, b, ones) =
        (black_box(_mm256_set1_epi8(3)), black_box(_mm256_set1_epi8(5)), black_box(_mm256_set1_epi16(1)));
    let mut sums = [_mm256_setzero_si256(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            // The product is of what changes, so that no compiler takes it out of the loop.
            let pairs = _mm256_maddubs_epi16(_mm256_xor_si256(a, *sum), b);
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    black_box(sums);
    32
}

fn dots_portable(rounds: usize) -> usize {
    let (a, b) = (black_box([3_i8; LANES]), black_box([5_i8; LANES]));
    let mut sums = [[0_i32; LANES]; CHAINS];
    for _ in 0..rounds {
        for sum in black_box(&mut sums) {
            for lane in 0..LANES {
                sum[lane] = sum[lane].wrapping_add(i32::from(a[lane]) * i32::from(b[lane]));
            }
        }
    }
    black_box(sums);
    LANES
}

/// Reads all of `memory` once, on all threads, and answers something that follows from every byte.
///
/// # Errors
/// As [`Pool::for_each`].
pub fn read_through(pool: &Pool, path: Path, memory: &[u8]) -> Result<u64, KernelError> {
    let all = AtomicU64::new(0);
    pool.for_each(memory.len().div_ceil(RUN), 1, &|range| {
        for run in range {
            let part = memory.get(run * RUN..).unwrap_or_default();
            let mut sums = [0_u8; SIDE];
            read_part(path, &part[..part.len().min(RUN)], &mut sums);
            all.fetch_xor(u64::from(sums.iter().fold(0, |all, sum| all ^ sum)), Ordering::Relaxed);
        }
    })?;
    Ok(all.into_inner())
}

on_path! {
    // Byte by byte as it is written: so the compiler reads whole registers at a time.
    fn read_part(part: &[u8], sums: &mut [u8; SIDE]) {
        let (rows, last) = part.as_chunks::<SIDE>();
        let mut own = *sums;
        for row in rows {
            for lane in 0..SIDE {
                own[lane] ^= row[lane];
            }
        }
        for (sum, byte) in own.iter_mut().zip(last) {
            *sum ^= byte;
        }
        *sums = own;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_read_and_every_product_done() {
        let pool = Pool::new(2).unwrap();
        let mut memory = vec![0_u8; RUN * 2 + 1_003];
        for path in Path::available() {
            assert!(dot_products(&pool, path, 400).unwrap() >= 400 * 2 * (CHAINS * LANES) as u64);
            for at in [0, 77, RUN - 1, RUN, RUN * 2 + 1_002] {
                let before = read_through(&pool, path, &memory).unwrap();
                memory[at] ^= 0x40;
                assert_ne!(read_through(&pool, path, &memory).unwrap(), before, "{at} by {}", path.name());
            }
        }
    }
}
