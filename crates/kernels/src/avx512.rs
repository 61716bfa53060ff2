//! The kernel for 512-bit vectors with byte dot products: a vector holds one column group of all sixteen rows of a tile.

use std::arch::x86_64::*;

use crate::{BLOCK, Format, product::Tile, rows::ROW_BLOCK, scalar::format};

/// Bytes ahead of its use that weights are asked for where memory is the limit. Too far and they fall out of the first
/// cache; too near and the loads wait.
const AHEAD: usize = 4096;

/// Repeats a block for M = 0..16. The compiler leaves a plain loop over eleven or more sums rolled, and the sums in memory.
macro_rules! unroll {
    ($m:ident $body:block) => { unroll!($m $body; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15) };
    ($m:ident $body:block; $($index:literal)*) => { $({ const $m: usize = $index; $body })* };
}

/// See [`crate::product::Kernel`].
///
/// # Safety
/// As said there.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(crate) unsafe fn tile<const FORMAT: u8, const ROWS: usize>(tile: &Tile<'_>) {
    let format = const { format(FORMAT) };
    let narrow = !matches!(format, Format::Q8_0);
    let lines = format.tile_bytes() / 64;
    let (mut quants, mut scales, mut panel) = (tile.quants.as_ptr(), tile.scales.as_ptr(), tile.panel.as_ptr());
    let blocks = tile.quants.len() / format.tile_bytes();
    let low = _mm512_set1_epi8(0x0f);
    let mut sums = [_mm512_setzero_ps(); 16];
    // SAFETY: all loads stay within the tile's quants, scales and panel, which hold `blocks` blocks of this format and of
    // ROWS rows by the contract; quants are aligned to 64 bytes, and so is every block of them. Stores go where the contract
    // allows. A prefetch touches nothing, so its address may lie anywhere.
    unsafe {
        for _ in 0..blocks {
            let mut weights = [_mm512_setzero_si512(); 8];
            for line in 0..lines {
                let loaded = _mm512_load_si512(quants.add(line * 64).cast());
                if narrow {
                    weights[2 * line] = _mm512_and_si512(loaded, low);
                    weights[2 * line + 1] = _mm512_and_si512(_mm512_srli_epi16::<4>(loaded), low);
                } else {
                    weights[line] = loaded;
                }
                if ROWS <= 8 {
                    _mm_prefetch::<_MM_HINT_T0>(quants.wrapping_add(line * 64 + AHEAD).cast());
                }
            }
            let scale = _mm512_cvtph_ps(_mm256_loadu_si256(scales.cast()));
            let least = match format {
                Format::Q4_1 => _mm512_cvtph_ps(_mm256_loadu_si256(scales.add(16).cast())),
                Format::Q8_0 | Format::Q4_0 => _mm512_setzero_ps(),
            };
            let words = panel.add(ROWS * BLOCK).cast::<i32>();
            unroll!(M {
                if M < ROWS {
                    let offset = || _mm512_set1_epi32(words.add(ROWS + M).read_unaligned());
                    let mut dot = match format {
                        Format::Q8_0 => offset(),
                        Format::Q4_0 => _mm512_srai_epi32::<4>(offset()), // From 128 times the sum to 8 times.
                        Format::Q4_1 => _mm512_setzero_si512(),
                    };
                    let bytes = panel.add(M * BLOCK).cast::<i32>();
                    for (group, weights) in weights.iter().enumerate() {
                        let bytes = _mm512_set1_epi32(bytes.add(group).read_unaligned());
                        dot = _mm512_dpbusd_epi32(dot, *weights, bytes);
                    }
                    let row_scale = _mm512_set1_ps(words.cast::<f32>().add(M).read_unaligned());
                    sums[M] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(scale, row_scale), sums[M]);
                    if matches!(format, Format::Q4_1) {
                        let scaled_sum = words.cast::<f32>().add(2 * ROWS + M).read_unaligned();
                        sums[M] = _mm512_fmadd_ps(least, _mm512_set1_ps(scaled_sum), sums[M]);
                    }
                }
            });
            quants = quants.add(format.tile_bytes());
            scales = scales.add(format.tile_scales());
            panel = panel.add(ROWS * ROW_BLOCK);
        }
        unroll!(M {
            if M < ROWS {
                _mm512_storeu_ps(tile.out.add(M * tile.stride), sums[M]);
            }
        });
    }
}
