//! The kernel for 256-bit vectors without byte dot products: two halves of a tile, eight rows each.

use std::arch::x86_64::*;

use crate::{BLOCK, Format, product::Tile, rows::ROW_BLOCK, scalar::format};

/// See [`crate::product::Kernel`].
///
/// # Safety
/// As said there.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn tile<const FORMAT: u8, const ROWS: usize>(tile: &Tile<'_>) {
    let format = const { format(FORMAT) };
    let lines = format.tile_bytes() / 64;
    let blocks = tile.quants.len() / format.tile_bytes();
    let (one, low, top) = (_mm256_set1_epi16(1), _mm256_set1_epi8(0x0f), _mm256_set1_epi8(-128));
    for half in 0..2 {
        // SAFETY: all loads stay within the tile's quants, scales and panel, which hold `blocks` blocks of this format and of
        // ROWS rows by the contract (a half's vectors are the first or second 32 bytes of each line, 16 bytes of scales);
        // quants are aligned to 64 bytes, so halves of lines to 32. Stores go where the contract allows.
        unsafe {
            let (mut quants, mut scales) = (tile.quants.as_ptr().add(half * 32), tile.scales.as_ptr().add(half * 8));
            let mut panel = tile.panel.as_ptr();
            let mut sums = [_mm256_setzero_ps(); ROWS];
            for _ in 0..blocks {
                let words = panel.add(ROWS * BLOCK).cast::<i32>();
                let word = |which: usize, row: usize| words.add(which * ROWS + row).read_unaligned();
                let bytes = |row: usize, group: usize| {
                    _mm256_set1_epi32(panel.add(row * BLOCK + group * 4).cast::<i32>().read_unaligned())
                };
                let mut dots = [_mm256_setzero_si256(); ROWS];
                for line in 0..lines {
                    let loaded = _mm256_load_si256(quants.add(line * 64).cast());
                    if matches!(format, Format::Q8_0) {
                        // Weights as they are, their sign moved to the activations: a pair of products is at most
                        // 2·128·127 and does not saturate 16 bits.
                        let weights = _mm256_xor_si256(loaded, top);
                        let magnitudes = _mm256_abs_epi8(weights);
                        for (row, dot) in dots.iter_mut().enumerate() {
                            let pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(bytes(row, line), weights));
                            *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, one));
                        }
                    } else {
                        // 16 bits hold the sum of a whole block's eight pairs: 8·2·15·127 = 30,480.
                        let first = _mm256_and_si256(loaded, low);
                        let second = _mm256_and_si256(_mm256_srli_epi16::<4>(loaded), low);
                        for (row, dot) in dots.iter_mut().enumerate() {
                            let a = _mm256_maddubs_epi16(first, bytes(row, 2 * line));
                            let b = _mm256_maddubs_epi16(second, bytes(row, 2 * line + 1));
                            *dot = _mm256_add_epi16(*dot, _mm256_add_epi16(a, b));
                        }
                    }
                }
                let scale = _mm256_cvtph_ps(_mm_loadu_si128(scales.cast()));
                for (row, (dot, sum)) in dots.iter().zip(&mut sums).enumerate() {
                    let dot = match format {
                        Format::Q8_0 => *dot,
                        Format::Q4_0 => {
                            let offset = _mm256_set1_epi32(word(1, row) / 16); // From 128 times the sum to 8 times.
                            _mm256_add_epi32(_mm256_madd_epi16(*dot, one), offset)
                        }
                        Format::Q4_1 => _mm256_madd_epi16(*dot, one),
                    };
                    let row_scale = _mm256_set1_ps(f32::from_bits(word(0, row).cast_unsigned()));
                    *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(scale, row_scale), *sum);
                    if matches!(format, Format::Q4_1) {
                        let least = _mm256_cvtph_ps(_mm_loadu_si128(scales.add(16).cast()));
                        let scaled_sum = _mm256_set1_ps(f32::from_bits(word(2, row).cast_unsigned()));
                        *sum = _mm256_fmadd_ps(least, scaled_sum, *sum);
                    }
                }
                quants = quants.wrapping_add(format.tile_bytes());
                scales = scales.wrapping_add(format.tile_scales());
                panel = panel.add(ROWS * ROW_BLOCK);
            }
            for (row, sum) in sums.iter().enumerate() {
                _mm256_storeu_ps(tile.out.add(row * tile.stride + half * 8), *sum);
            }
        }
    }
}
