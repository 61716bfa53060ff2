//! Products of rows with packed matrices: cuts the work into tiles, shares it out, and calls the path's kernel for each.

use crate::{
    BLOCK, Format, KernelError, Packed, Path, Pool, Rows, error::same, memory::Parts, pack::TILE, path::Kind,
    rows::panel_rows, scalar,
};
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512, avxvnni};

/// Weights that one thread takes at once, bytes: they stay in its second-level cache while panels of rows pass over them.
const GROUP: usize = 384 * 1024;
/// Groups a thread should find where memory is the limit (one panel): few long runs read it best.
const RUNS: usize = 2;
/// Groups a thread should find where computing is the limit: more of them, so that all threads end together.
const SHARES: usize = 8;

/// One tile times one panel, as a kernel takes it. Pointers, since the last tile's outputs go elsewhere.
pub(crate) struct Tile<'a> {
    /// The tile's quants, whole blocks; starts at a cache line.
    pub(crate) quants: &'a [u8],
    /// The tile's scales.
    pub(crate) scales: &'a [u16],
    /// The panel.
    pub(crate) panel: &'a [u8],
    /// Where the first row's outputs go, [`TILE`] of them.
    pub(crate) out: *mut f32,
    /// Outputs between one row and the next.
    pub(crate) stride: usize,
}

/// Computes a tile. Sums go over blocks in order: `sum = fma(exact integer, d · s, sum)`, and for weights with a least value
/// `sum = fma(m, s · sum of bytes, sum)` after it.
///
/// # Safety
/// The CPU has the features the kernel enables; the tile's parts have the lengths that the kernel's format and number of
/// rows ask for and the same number of blocks; `out` may be written at `row · stride + 0..TILE` for all rows.
pub(crate) type Kernel = unsafe fn(&Tile<'_>);

/// A matrix and where the product with it goes.
pub struct Product<'a> {
    /// The matrix.
    pub weights: &'a Packed,
    /// One row of [`Packed::n`] outputs for every row of inputs.
    pub out: &'a mut [f32],
}

/// Multiplies the same rows with several matrices, in one go.
///
/// # Errors
/// If an output or a matrix does not fit the rows; nothing is computed then.
pub fn multiply(pool: &Pool, rows: &Rows, products: &mut [Product<'_>]) -> Result<(), KernelError> {
    for product in products.iter() {
        same("columns of a matrix", product.weights.k(), rows.k())?;
        let outputs = rows.len().checked_mul(product.weights.n());
        same("outputs of a product", product.out.len(), outputs.unwrap_or(usize::MAX))?;
    }
    if rows.is_empty() {
        return Ok(());
    }
    let panel = panel_rows(rows.path());
    let panels = rows.len().div_ceil(panel);
    let shares = pool.threads().saturating_mul(if panels == 1 { RUNS } else { SHARES });
    let tiles: usize = products.iter().map(|p| p.weights.n().div_ceil(TILE)).sum();
    let jobs: Vec<Job<'_>> =
        products.iter_mut().map(|p| Job { weights: p.weights, n: p.weights.n(), out: Parts::new(p.out) }).collect();
    // Ranges of one matrix each, so that a thread reads one stretch of memory.
    let mut ranges = Vec::new();
    for (job, matrix) in jobs.iter().enumerate() {
        let tile_bytes = (rows.k() / BLOCK * matrix.weights.format().tile_bytes()).max(1);
        let group = (GROUP / tile_bytes).clamp(1, tiles.div_ceil(shares).max(1));
        let tiles = matrix.n.div_ceil(TILE);
        ranges.extend((0..tiles).step_by(group).map(|start| (job, start..start.saturating_add(group).min(tiles))));
    }
    pool.for_each(ranges.len(), 1, &|claimed| {
        for (job, tiles) in ranges.get(claimed).unwrap_or_default() {
            let Some(job) = jobs.get(*job) else { continue };
            for panel_index in 0..panels {
                let (panel_bytes, panel_rows) = rows.panel(panel_index);
                let Some(kernel) = kernel(rows.path(), job.weights.format(), panel_rows) else { continue };
                for tile in tiles.clone() {
                    job.tile(kernel, panel_bytes, panel_index * panel, panel_rows, tile);
                }
            }
        }
    })
}

/// Rounds `x`, rows of [`Packed::k`] numbers, and multiplies it by the matrix: `out = x · weightsᵀ`, by the best path here.
///
/// # Errors
/// If the sizes do not fit, or memory is short.
pub fn matmul(pool: &Pool, weights: &Packed, x: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
    let mut rows = Rows::new(Path::best());
    rows.fill(pool, x, weights.k())?;
    multiply(pool, &rows, &mut [Product { weights, out }])
}

struct Job<'a> {
    weights: &'a Packed,
    n: usize,
    out: Parts<'a, f32>,
}

impl Job<'_> {
    /// One tile's outputs for one panel.
    fn tile(&self, kernel: Kernel, panel: &[u8], first_row: usize, rows: usize, tile: usize) {
        let (quants, scales) = self.weights.tile(tile);
        let (first, width) = (tile * TILE, (self.n - tile * TILE).min(TILE));
        if width < TILE {
            // Rows beyond the matrix are computed too, to where they do no harm.
            let mut whole = [0.0_f32; TILE * TILE];
            let tile = Tile { quants, scales, panel, out: whole.as_mut_ptr(), stride: TILE };
            // SAFETY: the kernel is of the rows' path, the matrix's format and the panel's number of rows (at most TILE);
            // `multiply` checked that both have the same number of columns.
            unsafe { kernel(&tile) };
            for (row, values) in whole.as_chunks::<TILE>().0.iter().take(rows).enumerate() {
                let start = (first_row + row) * self.n + first;
                // SAFETY: every tile of a job is computed once, and these outputs belong to this tile alone.
                let out = unsafe { self.out.part(start..start + width) };
                out.copy_from_slice(&values[..width]);
            }
            return;
        }
        let start = first_row * self.n + first;
        let end = start + (rows - 1) * self.n + TILE;
        let Some(out) = self.out.pointer(start..end) else { return };
        let tile = Tile { quants, scales, panel, out, stride: self.n };
        // SAFETY: as above; and the outputs of this tile lie at `row · n + 0..TILE` from `out`, all within the range that
        // `pointer` checked. Tiles do not overlap and each is computed once, so no other thread touches them.
        unsafe { kernel(&tile) };
    }
}

/// The kernel of a path for weights of this format and so many rows.
fn kernel(path: Path, format: Format, rows: usize) -> Option<Kernel> {
    /// Every kernel is compiled for each number of rows: the sums stay in registers then.
    macro_rules! table {
        ($module:ident: $($rows:literal)*) => {
            match (format, rows) {
                $((Format::Q8_0, $rows) => $module::tile::<{ Format::Q8_0 as u8 }, $rows> as Kernel,
                  (Format::Q4_0, $rows) => $module::tile::<{ Format::Q4_0 as u8 }, $rows> as Kernel,
                  (Format::Q4_1, $rows) => $module::tile::<{ Format::Q4_1 as u8 }, $rows> as Kernel,)*
                _ => return None,
            }
        };
    }
    Some(match path.kind() {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => table!(avx512: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni => table!(avxvnni: 1 2 3 4),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => table!(avx2: 1 2 3 4),
        Kind::Portable => table!(scalar: 1 2 3 4),
    })
}
