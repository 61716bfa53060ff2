//! Block-quantised matrix products and the layers around them, for CPUs; the same bits on every instruction set.
//!
//! Weights are packed once from the blocks of a GGUF file (Q8_0, Q4_0, Q4_1) into the memory that is kept; rows of
//! activations are rounded to 8-bit blocks as they come. Dot products within a block are exact integers, and every sum of
//! floating point numbers has one fixed order, with fused multiply-adds at the same places everywhere. So a result
//! depends on nothing but its own row and weights: not on the instruction set, the number of threads, the row's place,
//! or the rows beside it. (Where a result is NaN, only that is the same: which NaN is not.)
//!
//! Inputs may hold anything. A non-finite activation makes the outputs of its row NaN; a non-finite scale makes the outputs
//! of its weights NaN or infinite; neither touches others.
//!
//! This crate knows nothing of models, files or processes. Alone in the workspace it holds `unsafe` code: the pool that
//! lends borrowed jobs to threads, buffers that several threads fill, and the instruction sets' own kernels.
//!
//! | module | owns |
//! |---|---|
//! | `path` | [`Path`]: which instruction set computes, as found at run time |
//! | `pool` | [`Pool`]: fork and join over threads that spin briefly, then sleep |
//! | `pack` | [`Packed`]: weights in the layout that the kernels read, [`Format`] |
//! | `rows` | [`Rows`]: activations rounded to blocks of 8-bit numbers |
//! | `product` | [`multiply`], [`matmul`]: work cut into tiles and shared out |
//! | `scalar`, `avx2`, `avxvnni`, `avx512` | one tile's product on each instruction set |
//! | `layers` | [`rms_norm`], [`rotate`], [`gate_silu`], [`add`] |
//! | `attention` | [`KeyValues`] of one layer, and [`attend`] over them, or over the last of them: [`attend_window`] |
//! | `bidirectional` | [`Bidirectional`]: attention in which every row sees its whole sequence |
//! | `encoder` | [`layer_norm`], [`add_bias`], [`gelu`] |
//! | `math` | the exponential, the error function and sums in a fixed order |
//! | `simd` | sixteen numbers side by side, on each instruction set |
//! | `ceiling` | what a machine could do at most: [`dot_products`], [`read_through`] |
//! | `memory` | buffers aligned for vector loads, and slices that threads share |

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
mod bidirectional;
mod ceiling;
mod encoder;
mod error;
mod layers;
mod math;
mod memory;
mod pack;
mod path;
mod pool;
mod product;
mod rows;
mod scalar;
mod simd;

pub use attention::{Attend, KeyValues, attend, attend_window};
pub use bidirectional::Bidirectional;
pub use ceiling::{dot_products, read_through};
pub use encoder::{add_bias, gelu, layer_norm};
pub use error::KernelError;
pub use layers::{add, gate_silu, rms_norm, rotate};
pub use pack::{BLOCK, Format, Packed};
pub use path::Path;
pub use pool::{MAX_THREADS, Pool};
pub use product::{Product, matmul, multiply};
pub use rows::Rows;
