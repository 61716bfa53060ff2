//! The kernel in plain Rust: what every other must equal, bit for bit.

use crate::{BLOCK, Format, math::half_to_f32, pack::TILE, product::Tile, rows::ROW_BLOCK};

/// The format that a kernel's number stands for.
pub(crate) const fn format(number: u8) -> Format {
    match number {
        n if n == Format::Q8_0 as u8 => Format::Q8_0,
        n if n == Format::Q4_0 as u8 => Format::Q4_0,
        _ => Format::Q4_1,
    }
}

/// See [`crate::product::Kernel`].
///
/// # Safety
/// `out` may be written as said there. The rest of the contract is checked by bounds here.
pub(crate) unsafe fn tile<const FORMAT: u8, const ROWS: usize>(tile: &Tile<'_>) {
    let format = const { format(FORMAT) };
    let mut sums = [[0.0_f32; TILE]; ROWS];
    let blocks = tile.quants.chunks_exact(format.tile_bytes()).zip(tile.scales.chunks_exact(format.tile_scales()));
    for ((quants, scales), panel) in blocks.zip(tile.panel.chunks_exact(ROWS * ROW_BLOCK)) {
        for (row, sums) in sums.iter_mut().enumerate() {
            let bytes = &panel[row * BLOCK..][..BLOCK];
            let word = |at: usize| panel[ROWS * BLOCK..].as_chunks::<4>().0[at * ROWS + row];
            let (scale, offset) = (f32::from_ne_bytes(word(0)), i32::from_ne_bytes(word(1)));
            let scaled_sum = f32::from_ne_bytes(word(2));
            for (column, sum) in sums.iter_mut().enumerate() {
                let mut dot = offset / 128 * format.zero();
                for (index, byte) in bytes.iter().enumerate() {
                    let (place, shift) = format.place(column, index);
                    let quant = (quants[place] >> shift) & format.mask();
                    dot += i32::from(quant) * i32::from(byte.cast_signed());
                }
                *sum = (dot as f32).mul_add(half_to_f32(scales[column]) * scale, *sum);
                if let Some(least) = scales.get(TILE + column) {
                    *sum = half_to_f32(*least).mul_add(scaled_sum, *sum);
                }
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: the caller says that TILE outputs of every row may be written.
        unsafe { tile.out.add(row * tile.stride).copy_from_nonoverlapping(sums.as_ptr(), TILE) };
    }
}
