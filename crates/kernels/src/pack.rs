//! Weights in the layout that the kernels read, made once from the blocks of a GGUF file and turned back on demand.
//!
//! A matrix of `n` rows and `k` columns is cut into tiles of [`TILE`] rows and each row into blocks of [`BLOCK`] columns. A
//! tile is stored block after block; within a block, four neighbouring columns of all rows fill 64 bytes, row by row, so
//! that one vector load and one byte dot product serve all rows of the tile:
//!
//! | format | byte `g·64 + r·4 + c` of a block (row `r` of the tile) | scales of a block (16-bit floats) |
//! |---|---|---|
//! | Q8_0 | column `4g + c`, `g < 8`, plus 128 | `d` of every row |
//! | Q4_0 | column `8g + c` in the low half, `8g + 4 + c` in the high half, `g < 4` | `d` of every row |
//! | Q4_1 | the same | `d` of every row, then `m` of every row |
//!
//! A weight is `d·(q - 128)`, `d·(q - 8)` or `d·q + m`. Rows that fill up the last tile are zero.

use crate::{
    KernelError,
    error::same,
    math::half_to_f32,
    memory::{Lines, zeros},
};

/// Columns that share a scale: what GGUF's formats of this kind have.
pub const BLOCK: usize = 32;
/// Rows of a tile: single precision numbers in the widest vector.
pub(crate) const TILE: usize = 16;
/// Elements of one matrix, at most: what the layout's sizes are computed with must not overflow.
const MAX_ELEMENTS: usize = isize::MAX as usize / 8;

/// How weights are stored, in a GGUF file as here: at 8.5, 4.5 or 5 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A 16-bit scale and 32 signed bytes.
    Q8_0,
    /// A 16-bit scale and 32 half-bytes that stand for -8 to 7.
    Q4_0,
    /// A 16-bit scale, a 16-bit least value and 32 half-bytes that stand for 0 to 15.
    Q4_1,
}

impl Format {
    /// Bytes of one block in a GGUF file.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        self.head_bytes() + self.quant_bytes()
    }

    /// Bytes before a block's quants.
    const fn head_bytes(self) -> usize {
        2 * self.scales()
    }

    const fn quant_bytes(self) -> usize {
        match self {
            Self::Q8_0 => BLOCK,
            Self::Q4_0 | Self::Q4_1 => BLOCK / 2,
        }
    }

    /// 16-bit numbers before a block's quants.
    const fn scales(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_0 => 1,
            Self::Q4_1 => 2,
        }
    }

    /// Bytes of the quants of one block of a tile.
    pub(crate) const fn tile_bytes(self) -> usize {
        TILE * self.quant_bytes()
    }

    /// Scales of one block of a tile.
    pub(crate) const fn tile_scales(self) -> usize {
        TILE * self.scales()
    }

    /// Where a tile's block holds a column of a row: the byte, and how far its bits are shifted.
    #[inline(always)]
    pub(crate) const fn place(self, row: usize, column: usize) -> (usize, u32) {
        match self {
            Self::Q8_0 => (column / 4 * 64 + row * 4 + column % 4, 0),
            Self::Q4_0 | Self::Q4_1 => (column / 8 * 64 + row * 4 + column % 4, if column % 8 < 4 { 0 } else { 4 }),
        }
    }

    /// What is subtracted from a stored quant.
    pub(crate) const fn zero(self) -> i32 {
        match self {
            Self::Q8_0 => 128,
            Self::Q4_0 => 8,
            Self::Q4_1 => 0,
        }
    }

    /// The bits of a quant.
    pub(crate) const fn mask(self) -> u8 {
        match self {
            Self::Q8_0 => 0xff,
            Self::Q4_0 | Self::Q4_1 => 0x0f,
        }
    }
}

/// Weights of one matrix, ready for [`crate::multiply`].
pub struct Packed {
    format: Format,
    n: usize,
    k: usize,
    quants: Lines,
    scales: Vec<u16>,
}

impl Packed {
    /// Packs `n` rows of `k` columns from their GGUF blocks, row after row. Any values are taken, scales that are not
    /// finite included.
    ///
    /// # Errors
    /// If `k` is no multiple of [`BLOCK`], the bytes are not as many as the sizes say, or memory is short.
    pub fn new(format: Format, bytes: &[u8], n: usize, k: usize) -> Result<Self, KernelError> {
        if !k.is_multiple_of(BLOCK) {
            return Err(KernelError::shape("columns of a matrix", k, format!("a multiple of {BLOCK}")));
        }
        if n.checked_next_multiple_of(TILE).and_then(|rows| rows.checked_mul(k)).is_none_or(|all| all > MAX_ELEMENTS) {
            return Err(KernelError::shape("rows of a matrix", n, format!("at most {MAX_ELEMENTS} elements in all")));
        }
        let blocks = k / BLOCK;
        same("bytes of a matrix", bytes.len(), n * blocks * format.block_bytes())?;
        let tile_blocks = n.div_ceil(TILE) * blocks;
        let mut quants = Lines::zeroed(tile_blocks * format.tile_bytes(), "packed weights")?;
        let mut scales = zeros(tile_blocks * format.tile_scales(), "scales of packed weights")?;
        let stored = quants.bytes_mut();
        for (index, block) in bytes.chunks_exact(format.block_bytes()).enumerate() {
            let (row, block_index) = (index / blocks, index % blocks);
            let (tile, row) = (row / TILE * blocks + block_index, row % TILE);
            let (head, body) = block.split_at(format.head_bytes());
            for (which, scale) in head.as_chunks::<2>().0.iter().enumerate() {
                scales[tile * format.tile_scales() + which * TILE + row] = u16::from_le_bytes(*scale);
            }
            let stored = &mut stored[tile * format.tile_bytes()..][..format.tile_bytes()];
            for column in 0..BLOCK {
                let (place, shift) = format.place(row, column);
                stored[place] |= file_quant(format, body, column) << shift;
            }
        }
        Ok(Self { format, n, k, quants, scales })
    }

    /// [`Self::new`] for Q8_0.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn q8_0(bytes: &[u8], n: usize, k: usize) -> Result<Self, KernelError> {
        Self::new(Format::Q8_0, bytes, n, k)
    }

    /// [`Self::new`] for Q4_0.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn q4_0(bytes: &[u8], n: usize, k: usize) -> Result<Self, KernelError> {
        Self::new(Format::Q4_0, bytes, n, k)
    }

    /// [`Self::new`] for Q4_1.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn q4_1(bytes: &[u8], n: usize, k: usize) -> Result<Self, KernelError> {
        Self::new(Format::Q4_1, bytes, n, k)
    }

    /// Rows: outputs of a product.
    #[must_use]
    pub const fn n(&self) -> usize {
        self.n
    }

    /// Columns: inputs of a product.
    #[must_use]
    pub const fn k(&self) -> usize {
        self.k
    }

    /// How the weights are stored.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Writes the weights of one row as single precision numbers: how an embedding is looked up.
    ///
    /// # Errors
    /// If there is no such row, or `out` does not hold [`Self::k`] numbers.
    pub fn row(&self, row: usize, out: &mut [f32]) -> Result<(), KernelError> {
        if row >= self.n {
            return Err(KernelError::shape("row of a matrix", row, format!("less than {}", self.n)));
        }
        same("columns of a row", out.len(), self.k)?;
        for (block, out) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let (stored, scales) = self.block(row / TILE, block);
            let scale = half_to_f32(scales[row % TILE]);
            let least = scales.get(TILE + row % TILE).map_or(0.0, |m| half_to_f32(*m));
            for (column, out) in out.iter_mut().enumerate() {
                let (place, shift) = self.format.place(row % TILE, column);
                let quant = i32::from((stored[place] >> shift) & self.format.mask()) - self.format.zero();
                *out = scale.mul_add(quant as f32, least);
            }
        }
        Ok(())
    }

    /// The GGUF blocks that the weights were packed from, bit for bit.
    #[must_use]
    pub fn unpack(&self) -> Vec<u8> {
        let (format, blocks) = (self.format, self.k / BLOCK);
        let mut bytes = vec![0; self.n * blocks * format.block_bytes()];
        for (index, out) in bytes.chunks_exact_mut(format.block_bytes()).enumerate() {
            let (row, block) = (index / blocks, index % blocks);
            let (stored, scales) = self.block(row / TILE, block);
            let (head, body) = out.split_at_mut(format.head_bytes());
            for (which, scale) in head.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                *scale = scales[which * TILE + row % TILE].to_le_bytes();
            }
            for column in 0..BLOCK {
                let (place, shift) = format.place(row % TILE, column);
                let quant = (stored[place] >> shift) & format.mask();
                match format {
                    Format::Q8_0 => body[column] = quant ^ 0x80,
                    Format::Q4_0 | Format::Q4_1 => body[column % 16] |= quant << (column / 16 * 4),
                }
            }
        }
        bytes
    }

    /// Quants and scales of one block of a tile.
    fn block(&self, tile: usize, block: usize) -> (&[u8], &[u16]) {
        let index = tile * (self.k / BLOCK) + block;
        let (bytes, scales) = (self.format.tile_bytes(), self.format.tile_scales());
        (&self.quants.bytes()[index * bytes..][..bytes], &self.scales[index * scales..][..scales])
    }

    /// All blocks of a tile.
    pub(crate) fn tile(&self, tile: usize) -> (&[u8], &[u16]) {
        let blocks = self.k / BLOCK;
        let (bytes, scales) = (blocks * self.format.tile_bytes(), blocks * self.format.tile_scales());
        (&self.quants.bytes()[tile * bytes..][..bytes], &self.scales[tile * scales..][..scales])
    }
}

/// A quant of a block's body as GGUF stores it: four-bit ones have their second half of columns in the high bits.
const fn file_quant(format: Format, body: &[u8], column: usize) -> u8 {
    match format {
        Format::Q8_0 => body[column] ^ 0x80,
        Format::Q4_0 | Format::Q4_1 => (body[column % 16] >> (column / 16 * 4)) & 0x0f,
    }
}
