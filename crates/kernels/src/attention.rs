//! One layer's keys and values in pages, and attention of many sequences over theirs.
//!
//! A sequence's pages are of equal room and may lie anywhere; several sequences may read the same page.
//! Keys are kept in groups of [`LANES`] positions, transposed, so that one vector holds a dimension of all of them and no
//! sum runs across a vector. Heads that share keys, and neighbouring rows, are taken together, so that a key is loaded once
//! for several queries. Neither changes a query's result: its sums go over dimensions, then positions, in order.

use crate::{
    KernelError, Path, Pool,
    error::same,
    math::{LANES, exp, sum_lanes},
    memory::{Parts, zeros},
    path::Kind,
    simd::Vector,
};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

/// Queries taken together, at most: their sums fill the registers of the widest path.
const TOGETHER: usize = 8;

/// Keys and values of one layer, with room for a known number of positions.
pub struct KeyValues {
    heads: usize,
    head_dim: usize,
    room: usize,
    /// `[head][group of positions][dimension][position in its group]`.
    keys: Vec<f32>,
    /// `[head][position][dimension]`.
    values: Vec<f32>,
}

impl KeyValues {
    /// Positions there is room for.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.room
    }

    /// Bytes of memory for so many positions; saturated.
    #[must_use]
    pub const fn bytes(heads: usize, head_dim: usize, room: usize) -> u64 {
        let padded = room.saturating_add(LANES - 1) as u64;
        padded.saturating_mul(heads as u64).saturating_mul(head_dim as u64).saturating_mul(8)
    }

    /// Room for `room` positions of `heads` heads of `head_dim` numbers.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn new(heads: usize, head_dim: usize, room: usize) -> Result<Self, KernelError> {
        let what = "keys and values";
        let padded = room.checked_next_multiple_of(LANES);
        let sizes = padded.and_then(|room| Some((room, room.checked_mul(heads)?.checked_mul(head_dim)?)));
        let (room, count) = sizes.ok_or(KernelError::Memory { what, bytes: usize::MAX })?;
        Ok(Self { heads, head_dim, room, keys: zeros(count, what)?, values: zeros(count, what)? })
    }

    /// Writes rows of keys and values, one a position, from position `at` on.
    ///
    /// # Errors
    /// If they are not whole rows, not of the same number, or there is no room for them.
    pub fn store(&mut self, at: usize, keys: &[f32], values: &[f32]) -> Result<(), KernelError> {
        let (dim, width) = (self.head_dim, self.heads * self.head_dim);
        let rows = keys.len().checked_div(width).unwrap_or(0);
        same("numbers in rows of keys", keys.len(), rows * width)?;
        same("numbers in rows of values", values.len(), keys.len())?;
        if at.checked_add(rows).is_none_or(|end| end > self.room) {
            return Err(KernelError::shape("positions of keys", at, format!("at most {} with theirs", self.room)));
        }
        for row in 0..rows {
            let position = at + row;
            for head in 0..self.heads {
                let source = row * width + head * dim;
                let place = (head * self.room + position) * dim;
                self.values[place..place + dim].copy_from_slice(&values[source..source + dim]);
                let group = (head * self.room + position / LANES * LANES) * dim + position % LANES;
                let places = self.keys[group..].iter_mut().step_by(LANES);
                places.zip(&keys[source..source + dim]).for_each(|(place, key)| *place = *key);
            }
        }
        Ok(())
    }
}

/// One sequence's rows of queries, and what they attend to.
pub struct Attend<'a> {
    /// Its keys and values in order, pages of equal room; those of the rows themselves are stored already.
    pub pages: &'a [&'a KeyValues],
    /// Rows of queries.
    pub rows: usize,
    /// The position of the first row. Each row sees itself and all positions before it.
    pub first: usize,
}

/// Softmax attention, scaled by one over the root of the head's size. `query` holds the rows of all sequences one after the
/// other, `[row][head][dimension]`; `heads` of a row are a multiple of the pages'. `out` is laid out as the queries are.
///
/// # Errors
/// If the sizes do not fit each other, or positions lie beyond the pages' room.
pub fn attend(
    pool: &Pool,
    path: Path,
    query: &[f32],
    heads: usize,
    sequences: &[Attend<'_>],
    out: &mut [f32],
) -> Result<(), KernelError> {
    attend_window(pool, path, query, heads, sequences, usize::MAX, out)
}

/// [`attend`] where each row sees the last `window` positions alone, its own among them.
///
/// # Errors
/// As there, and if `window` is 0.
pub fn attend_window(
    pool: &Pool,
    path: Path,
    query: &[f32],
    heads: usize,
    sequences: &[Attend<'_>],
    window: usize,
    out: &mut [f32],
) -> Result<(), KernelError> {
    if window == 0 {
        return Err(KernelError::shape("positions of a window", window, "at least 1".to_owned()));
    }
    same("outputs of attention", out.len(), query.len())?;
    let Some(page) = sequences.iter().find_map(|s| s.pages.first()) else {
        return same("numbers in rows of queries", query.len(), 0);
    };
    let shape = Shape { dim: page.head_dim, heads, group: heads.checked_div(page.heads).unwrap_or(0), window };
    if shape.group.saturating_mul(page.heads) != heads {
        return Err(KernelError::shape("heads of queries", heads, format!("a multiple of {}", page.heads)));
    }
    // The units of all sequences are handed out as one job: `starts` tells whose a unit is, and which row is its first.
    let (mut starts, mut units, mut rows) = (Vec::with_capacity(sequences.len()), 0_usize, 0_usize);
    for sequence in sequences {
        sequence.check(page)?;
        starts.push((units, rows));
        units += shape.tiles(sequence.rows) * page.heads;
        rows = rows.saturating_add(sequence.rows);
    }
    let numbers = rows.checked_mul(heads.saturating_mul(shape.dim));
    same("numbers in rows of queries", query.len(), numbers.unwrap_or(usize::MAX))?;
    let parts = Parts::new(out);
    pool.for_each(units, 1, &|claimed| {
        let mut scratch = Scratch::default();
        for unit in claimed {
            let index = starts.partition_point(|(start, _)| *start <= unit) - 1;
            let (start, row) = starts[index];
            shape.unit(path, &sequences[index], unit - start, row, query, &parts, &mut scratch);
        }
    })
}

impl Attend<'_> {
    fn check(&self, like: &KeyValues) -> Result<(), KernelError> {
        let shape = |page: &KeyValues| (page.heads, page.head_dim, page.room);
        if let Some(page) = self.pages.iter().find(|page| shape(page) != shape(like)) {
            return Err(KernelError::shape(
                "positions of a page",
                page.room,
                format!("{} as in the others", like.room),
            ));
        }
        let room = self.pages.len().saturating_mul(like.room);
        if self.first.checked_add(self.rows).is_none_or(|end| end > room) {
            return Err(KernelError::shape("positions of queries", self.first, format!("at most {room} with theirs")));
        }
        Ok(())
    }
}

/// Sizes of the heads.
struct Shape {
    /// Numbers of a head.
    dim: usize,
    /// Heads of a row of queries.
    heads: usize,
    /// Of them, heads that share one head of keys.
    group: usize,
    /// Positions that a row sees, at most.
    window: usize,
}

impl Shape {
    /// Tiles of queries that look at one head of keys.
    const fn tiles(&self, rows: usize) -> usize {
        (rows * self.group).div_ceil(TOGETHER)
    }

    /// One tile of one head. `row` is the sequence's first row among all queries.
    #[allow(clippy::too_many_arguments, reason = "the inside of one loop")]
    fn unit(
        &self,
        path: Path,
        sequence: &Attend<'_>,
        unit: usize,
        row: usize,
        query: &[f32],
        parts: &Parts<'_, f32>,
        scratch: &mut Scratch,
    ) {
        let Self { dim, heads, group, window } = *self;
        let tiles = self.tiles(sequence.rows);
        let (head, tile) = (unit / tiles, unit % tiles);
        let queries = tile * TOGETHER..(tile * TOGETHER + TOGETHER).min(sequence.rows * group);
        // Where each query lies, and which positions it sees.
        let place = |index: usize| {
            let start = ((row + index / group) * heads + head * group + index % group) * dim;
            let end = sequence.first + index / group + 1;
            (start, [end.saturating_sub(window), end])
        };
        let pages = sequence.pages;
        macro_rules! by_number {
            ($($number:literal)*) => {
                match queries.len() {
                    $($number => {
                        let places: [_; $number] = std::array::from_fn(|index| place(queries.start + index));
                        let seen = places.map(|(_, seen)| seen);
                        let query = places.map(|(start, _)| &query[start..start + dim]);
                        mix_on::<$number>(path, &Tile { query, seen, pages, head }, scratch);
                    })*
                    _ => {}
                }
            };
        }
        by_number!(1 2 3 4 5 6 7 8);
        for (index, mixed) in queries.zip(scratch.mixed.chunks_exact(dim)) {
            let (start, _) = place(index);
            // SAFETY: every unit is handed out once, and a query belongs to one unit; places of queries do not overlap.
            unsafe { parts.part(start..start + dim) }.copy_from_slice(mixed);
        }
    }
}

/// Queries of one tile, and the head they look at.
struct Tile<'a, const N: usize> {
    /// Each query's numbers.
    query: [&'a [f32]; N],
    /// Positions that each sees, from the first to before the second: at least one, ending at most seven behind another's.
    seen: [[usize; 2]; N],
    /// The sequence's pages.
    pages: &'a [&'a KeyValues],
    /// The head of them.
    head: usize,
}

impl KeyValues {
    /// One head's keys and values.
    #[inline(always)]
    fn head(&self, head: usize) -> (&[f32], &[f32]) {
        let length = self.room * self.head_dim;
        let place = head * length..head * length + length;
        (&self.keys[place.clone()], &self.values[place])
    }
}

/// Memory that a thread uses from tile to tile.
#[derive(Default)]
struct Scratch {
    /// One query's scores, then weights, after the other's.
    scores: Vec<[f32; LANES]>,
    /// Numbers of all queries side by side: `[dimension or position][query]`.
    across: Vec<f32>,
    /// What comes out, one query after the other.
    mixed: Vec<f32>,
}

/// [`mix`], compiled for each path.
fn mix_on<const N: usize>(path: Path, tile: &Tile<'_, N>, scratch: &mut Scratch) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
    fn avx512<const N: usize>(tile: &Tile<'_, N>, scratch: &mut Scratch) {
        // SAFETY: this function has what the vector needs.
        unsafe { mix::<__m512, N>(tile, scratch) };
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn avx2<const N: usize>(tile: &Tile<'_, N>, scratch: &mut Scratch) {
        // SAFETY: this function has what the vector needs.
        unsafe { mix::<[__m256; 2], N>(tile, scratch) };
    }

    match path.kind() {
        // SAFETY: a path of this kind exists only where these features were found.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => unsafe { avx512(tile, scratch) },
        // SAFETY: a path of these kinds exists only where these features were found.
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni | Kind::Avx2 => unsafe { avx2(tile, scratch) },
        // SAFETY: plain code needs nothing.
        Kind::Portable => unsafe { mix::<[f32; LANES], N>(tile, scratch) },
    }
}

/// Attention of some queries over one head, each over the positions it sees.
///
/// # Safety
/// The caller has what `V` needs.
#[inline(always)]
unsafe fn mix<V: Vector, const N: usize>(tile: &Tile<'_, N>, scratch: &mut Scratch) {
    let Tile { query, seen, pages, head } = tile;
    let (dim, room) = (query[0].len(), pages[0].room);
    // From the first position that any sees to the last; and those that all see, none if windows are that short.
    let (mut first, mut most, mut all) = (usize::MAX, 0, [0, usize::MAX]);
    for [from, to] in seen {
        (first, most) = (first.min(*from), most.max(*to));
        all = [all[0].max(*from), all[1].min(*to)];
    }
    if all[0] >= all[1] {
        all = [most, most];
    }
    // Scores are kept from the first group of positions on that any sees.
    let skipped = first / LANES;
    let (groups, base) = (most.div_ceil(LANES) - skipped, skipped * LANES);
    let Scratch { scores, across, mixed } = scratch;

    // Scores, a group of positions at a time.
    scores.clear();
    scores.resize(N * groups, [0.0; LANES]);
    side_by_side::<N>(across, dim, |index, dimension| query[index][dimension]);
    let scale = 1.0 / (dim as f32).sqrt();
    let (page, within) = (skipped / (room / LANES), skipped % (room / LANES));
    let keys = pages[page..].iter().flat_map(|page| page.head(*head).0.chunks_exact(dim * LANES));
    for (group, keys) in keys.skip(within).take(groups).enumerate() {
        let all = std::iter::once((keys.as_chunks::<LANES>().0.iter(), across.as_chunks::<N>().0));
        let mut sums = [[0.0; LANES]; N];
        // SAFETY: the caller has what the vector needs.
        unsafe { weighted::<V, N, _>(all, &mut sums) };
        for (index, sums) in sums.into_iter().enumerate() {
            scores[index * groups + group] = sums.map(|sum| sum * scale);
        }
    }

    let mut totals = [0.0_f32; N];
    for (index, total) in totals.iter_mut().enumerate() {
        let [from, to] = seen[index].map(|position| position - base);
        *total = 1.0 / soften(&mut scores[index * groups..][..to.div_ceil(LANES)], from, to);
    }

    // Values, some dimensions of all queries at a time: what each sees before the positions that all see, those, and the rest.
    let value = |position: usize| &pages[position / room].head(*head).1[position % room * dim..][..dim];
    let weights = scores.as_flattened();
    let weight = |index: usize, position: usize| weights[index * groups * LANES + position - base];
    let [start, end] = all;
    side_by_side::<N>(across, end - start, |index, at| weight(index, start + at));
    mixed.clear();
    mixed.resize(N * dim, 0.0);
    let wide = dim / LANES * LANES;
    for part in (0..wide).step_by(LANES) {
        let mut sums = [[0.0; LANES]; N];
        for (index, sums) in sums.iter_mut().enumerate() {
            let [from, to] = seen[index];
            add_each(sums, (from..start.min(to)).map(|p| (weight(index, p), &value(p)[part..])));
        }
        let weights = across.as_chunks::<N>().0;
        let parts = (start / room..end.div_ceil(room)).map(|page| {
            let [from, to] = [start.max(page * room), end.min((page + 1) * room)];
            let values = pages[page].head(*head).1[(from - page * room) * dim..].chunks_exact(dim);
            (values.filter_map(|value| value[part..].first_chunk()), &weights[from - start..to - start])
        });
        // SAFETY: the caller has what the vector needs.
        unsafe { weighted::<V, N, _>(parts, &mut sums) };
        for (index, sums) in sums.iter_mut().enumerate() {
            add_each(sums, (end..seen[index][1]).map(|p| (weight(index, p), &value(p)[part..])));
            mixed[index * dim + part..][..LANES].copy_from_slice(&sums.map(|sum| sum * totals[index]));
        }
    }
    for (index, mixed) in mixed.chunks_exact_mut(dim).enumerate() {
        for (offset, out) in mixed[wide..].iter_mut().enumerate() {
            let mut sum = 0.0_f32;
            for position in seen[index][0]..seen[index][1] {
                sum = weight(index, position).mul_add(value(position)[wide + offset], sum);
            }
            *out = sum * totals[index];
        }
    }
}

/// Adds vectors, each times its number, in order.
#[inline(always)]
fn add_each<'a>(sums: &mut [f32; LANES], weighted: impl Iterator<Item = (f32, &'a [f32])>) {
    for (weight, value) in weighted {
        let value = &value[..LANES];
        for lane in 0..LANES {
            sums[lane] = weight.mul_add(value[lane], sums[lane]);
        }
    }
}

/// Lays the numbers of N queries side by side.
#[inline(always)]
fn side_by_side<const N: usize>(across: &mut Vec<f32>, count: usize, number: impl Fn(usize, usize) -> f32) {
    across.clear();
    across.resize(count * N, 0.0);
    for index in 0..N {
        for (at, place) in across.as_chunks_mut::<N>().0.iter_mut().enumerate() {
            place[index] = number(index, at);
        }
    }
}

/// Adds to every query's sums all vectors, each times the query's number for it, in order. A part's vectors are taken as far
/// as it has numbers.
///
/// # Safety
/// The caller has what `V` needs.
#[inline(always)]
unsafe fn weighted<'a, V: Vector, const N: usize, Vectors: Iterator<Item = &'a [f32; LANES]>>(
    parts: impl Iterator<Item = (Vectors, &'a [[f32; N]])>,
    plain: &mut [[f32; LANES]; N],
) {
    // SAFETY: the caller has what the vector needs.
    unsafe {
        let mut sums = [V::splat(0.0); N];
        for index in 0..N {
            sums[index] = V::load(&plain[index]);
        }
        for (vectors, numbers) in parts {
            for (numbers, vector) in numbers.iter().zip(vectors) {
                let vector = V::load(vector);
                for index in 0..N {
                    sums[index] = V::splat(numbers[index]).fma(vector, sums[index]);
                }
            }
        }
        for index in 0..N {
            sums[index].store(&mut plain[index]);
        }
    }
}

/// Makes the scores from `from` to before `to` the powers that softmax weighs with, the rest zero; answers their sum.
#[inline(always)]
fn soften(scores: &mut [[f32; LANES]], from: usize, to: usize) -> f32 {
    if let Some(last) = scores.last_mut() {
        last[(to - 1) % LANES + 1..].fill(f32::NEG_INFINITY);
    }
    scores.as_flattened_mut()[..from].fill(f32::NEG_INFINITY);
    let mut largest = [f32::NEG_INFINITY; LANES];
    for scores in scores.iter() {
        for lane in 0..LANES {
            largest[lane] = if scores[lane] > largest[lane] { scores[lane] } else { largest[lane] };
        }
    }
    let mut top = f32::NEG_INFINITY;
    for lane in largest {
        top = if lane > top { lane } else { top };
    }
    let mut sums = [0.0_f32; LANES];
    for scores in scores.iter_mut() {
        for lane in 0..LANES {
            scores[lane] = exp(scores[lane] - top);
            sums[lane] += scores[lane];
        }
    }
    sum_lanes(sums)
}
