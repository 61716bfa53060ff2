//! Attention in which every row of a sequence sees the whole sequence, as encoders have it: several sequences of any lengths
//! at once, without padding between them.
//!
//! The work is that of [`crate::attend`]. There, a row sees what is before it, and heads that share keys are taken together;
//! here [`TILE`] rows are handed over as so many heads of one row, the last of its sequence: so each sees all, and a key is
//! loaded once for all of them.

use std::ops::Range;

use crate::{
    Attend, KernelError, KeyValues, Path, Pool, attend,
    error::same,
    layers::{rows_at_once, whole_rows},
    math::LANES,
    memory::zeros,
};

/// Rows taken together: as many as [`crate::attend`] takes. The last tile of a sequence is filled with zeros.
const TILE: usize = 8;
/// Positions of a page of keys and values: the fewest that take no more memory than fewer. Pages are of one size, sequences are
/// not.
const PAGE: usize = LANES;

/// Attention within sequences of known lengths. Its memory serves every layer of a pass.
pub struct Bidirectional {
    heads: usize,
    head_dim: usize,
    /// Rows of all sequences.
    rows: usize,
    /// One of each sequence that is not empty.
    sequences: Vec<Sequence>,
    /// Their pages, one sequence's after the other's.
    pages: Vec<Page>,
    /// For every tile: its first row, and how many rows it has.
    tiles: Vec<(usize, usize)>,
    /// `[tile][head][row of the tile][dimension]`.
    query: Vec<f32>,
    /// Laid out as `query`.
    mixed: Vec<f32>,
}

struct Sequence {
    rows: usize,
    pages: Range<usize>,
}

struct Page {
    /// The row at its first position.
    first: usize,
    rows: usize,
    numbers: KeyValues,
}

impl Bidirectional {
    /// For sequences of so many rows each, one after the other.
    ///
    /// # Errors
    /// If a head has no numbers, or there is no memory.
    pub fn new(heads: usize, head_dim: usize, lengths: &[usize]) -> Result<Self, KernelError> {
        if heads == 0 || head_dim == 0 {
            return Err(KernelError::shape("numbers of heads", heads.saturating_mul(head_dim), "at least one"));
        }
        let (mut rows, mut sequences, mut pages, mut tiles) = (0_usize, Vec::new(), Vec::new(), Vec::new());
        for length in lengths.iter().copied().filter(|length| *length > 0) {
            let first = pages.len();
            for at in (0..length).step_by(PAGE) {
                let numbers = KeyValues::new(heads, head_dim, PAGE)?;
                pages.push(Page { first: rows.saturating_add(at), rows: PAGE.min(length - at), numbers });
            }
            sequences.push(Sequence { rows: length, pages: first..pages.len() });
            let firsts = (0..length).step_by(TILE);
            tiles.extend(firsts.map(|at| (rows.saturating_add(at), TILE.min(length - at))));
            rows = rows.saturating_add(length);
        }
        let numbers = heads.checked_mul(head_dim).and_then(|width| width.checked_mul(TILE)?.checked_mul(tiles.len()));
        let numbers = numbers.unwrap_or(usize::MAX);
        let (query, mixed) = (zeros(numbers, "rows of queries")?, zeros(numbers, "rows of attention")?);
        Ok(Self { heads, head_dim, rows, sequences, pages, tiles, query, mixed })
    }

    /// Softmax attention, scaled by one over the root of the head's size. All are laid out `[row][head][dimension]`, the rows
    /// of all sequences one after the other.
    ///
    /// # Errors
    /// If they are not of as many rows as there are.
    pub fn attend(
        &mut self,
        pool: &Pool,
        path: Path,
        query: &[f32],
        key: &[f32],
        value: &[f32],
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let (heads, dim) = (self.heads, self.head_dim);
        let width = heads * dim;
        let numbers = self.rows.saturating_mul(width);
        for (what, len) in [
            ("queries", query.len()),
            ("keys", key.len()),
            ("values", value.len()),
            ("outputs of attention", out.len()),
        ] {
            same(what, len, numbers)?;
        }
        if numbers == 0 {
            return Ok(());
        }
        whole_rows(numbers, width)?;
        pool.for_each_chunk(&mut self.pages, 1, 1, &|_, pages| {
            for Page { first, rows, numbers } in pages {
                let place = *first * width..(*first + *rows) * width;
                // The sizes are right by construction, so it cannot fail.
                let _ = numbers.store(0, &key[place.clone()], &value[place]);
            }
        })?;
        let tiles = &self.tiles;
        let tile_width = TILE * width;
        let at_once = rows_at_once(numbers, tile_width);
        pool.for_each_chunk(&mut self.query, tile_width, at_once, &|tile, place| {
            let (first, rows) = tiles[tile];
            for row in 0..rows {
                for (head, query) in query[(first + row) * width..][..width].chunks_exact(dim).enumerate() {
                    place[(head * TILE + row) * dim..][..dim].copy_from_slice(query);
                }
            }
        })?;
        let pages: Vec<&KeyValues> = self.pages.iter().map(|page| &page.numbers).collect();
        // Every tile is a row of its own, at its sequence's last position.
        let each = self.sequences.iter().flat_map(|sequence| {
            let pages = &pages[sequence.pages.clone()];
            (0..sequence.rows.div_ceil(TILE)).map(move |_| Attend { pages, rows: 1, first: sequence.rows - 1 })
        });
        attend(pool, path, &self.query, heads * TILE, &each.collect::<Vec<_>>(), &mut self.mixed)?;
        let (mixed, starts) = (&self.mixed, &self.starts());
        pool.for_each_chunk(out, width, rows_at_once(numbers, width), &|row, out| {
            let place = starts[row];
            for (head, out) in out.chunks_exact_mut(dim).enumerate() {
                out.copy_from_slice(&mixed[place + head * TILE * dim..][..dim]);
            }
        })
    }

    /// Where each row's first head lies among the tiles.
    fn starts(&self) -> Vec<usize> {
        let tile_width = TILE * self.heads * self.head_dim;
        let rows = self.tiles.iter().enumerate();
        rows.flat_map(|(tile, (_, rows))| (0..*rows).map(move |row| tile * tile_width + row * self.head_dim)).collect()
    }
}
