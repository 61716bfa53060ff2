//! Rows of activations, rounded to blocks of 8-bit numbers as they come: once, for all matrices they are multiplied with.
//!
//! Rows are laid out in panels of as many as a kernel takes at once. A panel is stored block after block, and a block of a
//! panel of `m` rows takes `44·m` bytes: 32 signed bytes of each row; then each row's scale `s` (f32); then -128 times the
//! sum of its bytes (i32), which undoes the offset of the weights; then `s` times that sum (f32), for weights with a
//! least value.

use crate::{
    BLOCK, KernelError, Path, Pool,
    math::ROUND,
    memory::Lines,
    path::{Kind, on_path},
};

/// Bytes of one row's block.
pub(crate) const ROW_BLOCK: usize = BLOCK + 12;
/// Activations below this are taken as zero: their reciprocal would not be finite. 2^-120.
const LEAST: u32 = 7 << 23;
/// The bits of infinity; larger ones are NaN.
const INFINITE: u32 = 0x7f80_0000;
/// The largest 8-bit number that has a negative of the same size.
const MOST: f32 = 127.0;
/// Numbers rounded at once where it pays to call other threads: about ten microseconds of work.
const SHARE: usize = 32_768;

/// Activations ready for [`crate::multiply`]. Its memory is kept for the next ones.
pub struct Rows {
    path: Path,
    rows: usize,
    k: usize,
    lines: Lines,
}

impl Rows {
    /// None yet. Products with them will be computed by `path`.
    #[must_use]
    pub fn new(path: Path) -> Self {
        Self { path, rows: 0, k: 0, lines: Lines::default() }
    }

    /// Rounds the rows of `x`, `k` numbers each. A block's scale is its largest magnitude over 127; a block that holds NaN or
    /// infinity gets the scale NaN, one whose magnitudes are all below 2^-120 is zero.
    ///
    /// # Errors
    /// If `k` is no multiple of [`BLOCK`], `x` no multiple of `k`, or memory is short; it holds no rows then.
    pub fn fill(&mut self, pool: &Pool, x: &[f32], k: usize) -> Result<(), KernelError> {
        self.rows = 0;
        if k == 0 || !k.is_multiple_of(BLOCK) || !x.len().is_multiple_of(k) {
            let what = if x.len().is_multiple_of(BLOCK) { "columns of a row" } else { "numbers in rows" };
            return Err(KernelError::shape(what, k, format!("a multiple of {BLOCK} that divides {}", x.len())));
        }
        let rows = x.len() / k;
        let row_bytes = k / BLOCK * ROW_BLOCK;
        let panel = panel_rows(self.path);
        let bytes = x.len() / BLOCK * ROW_BLOCK;
        self.lines.grow(bytes, "activations")?;
        let path = self.path;
        let at_once = if x.len() < SHARE { usize::MAX } else { 1 };
        let panels = &mut self.lines.bytes_mut()[..bytes];
        pool.for_each_chunk(panels, panel * row_bytes, at_once, &|index, out| {
            let rows = &x[index * panel * k..][..out.len() / row_bytes * k];
            fill_panel(path, rows, k, out);
        })?;
        (self.rows, self.k) = (rows, k);
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(crate) const fn path(&self) -> Path {
        self.path
    }

    pub(crate) const fn k(&self) -> usize {
        self.k
    }

    /// A panel's bytes and how many rows it has.
    pub(crate) fn panel(&self, index: usize) -> (&[u8], usize) {
        let (panel, row_bytes) = (panel_rows(self.path), self.k / BLOCK * ROW_BLOCK);
        let rows = self.rows.saturating_sub(index * panel).min(panel);
        (&self.lines.bytes()[index * panel * row_bytes..][..rows * row_bytes], rows)
    }
}

/// Rows that a kernel of this path takes at once: as many sums as its registers hold.
pub(crate) const fn panel_rows(path: Path) -> usize {
    match path.kind() {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => 16,
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni | Kind::Avx2 => 4,
        Kind::Portable => 4,
    }
}

on_path! {
    /// Rounds the rows of one panel.
    fn fill_panel(x: &[f32], k: usize, out: &mut [u8]) {
        let rows = x.len() / k;
        for (block, out) in out.chunks_exact_mut(rows * ROW_BLOCK).enumerate() {
            let (bytes, out) = out.split_at_mut(rows * BLOCK);
            let (scales, out) = out.split_at_mut(rows * 4);
            let (offsets, sums) = out.split_at_mut(rows * 4);
            let places = bytes.as_chunks_mut::<BLOCK>().0.iter_mut().zip(scales.as_chunks_mut::<4>().0);
            let places = places.zip(offsets.as_chunks_mut::<4>().0.iter_mut().zip(sums.as_chunks_mut::<4>().0));
            for (row, ((bytes, scale), (offset, scaled))) in places.enumerate() {
                let Some(x) = x[row * k..].as_chunks::<BLOCK>().0.get(block) else { return };
                let (s, sum) = fill_block(x, bytes);
                *scale = s.to_ne_bytes();
                *offset = (-128 * sum).to_ne_bytes();
                *scaled = (s * sum as f32).to_ne_bytes();
            }
        }
    }
}

/// Rounds one block; answers its scale and the sum of its bytes.
#[inline(always)]
fn fill_block(x: &[f32; BLOCK], out: &mut [u8; BLOCK]) -> (f32, i32) {
    // Bits without their sign order as magnitudes do, with NaN above all: unlike a maximum of numbers, this has one
    // result whatever the order.
    let mut most = 0;
    for v in x {
        most = most.max(v.to_bits() & !(1 << 31));
    }
    if !(LEAST..INFINITE).contains(&most) {
        *out = [0; BLOCK];
        return (if most < LEAST { 0.0 } else { f32::NAN }, 0);
    }
    let most = f32::from_bits(most);
    let inverse = MOST / most;
    let mut sum = 0_i32;
    for (v, byte) in x.iter().zip(out) {
        // The nearest integer in the lowest bits, as a two's complement of any width.
        let bits = (v * inverse + ROUND).to_bits();
        *byte = bits as u8;
        sum = sum.wrapping_add(bits.wrapping_sub(ROUND.to_bits()).cast_signed());
    }
    (most / MOST, sum)
}
