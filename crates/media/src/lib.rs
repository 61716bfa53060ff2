//! Pictures and sounds to the tensors that a model takes, as its publisher said
//! ([`Preparation`](zero2ai_proto::prepare::Preparation)): bytes in, tensors out. Runs at the caller.
//!
//! What a file is, its content says, never its name. Sizes are held to their limits before anything is allocated for them, and
//! a decoder that panics on a hostile file is an error here. This crate knows nothing of files, sockets or models.
//!
//! | module | owns |
//! |---|---|
//! | `kind` | [`Kind`]: what bytes are, by their first ones |
//! | `picture` | bytes to pixels |
//! | `fit` | pixels to a tensor: scaled, placed, normalised |
//! | `resize` | scaling, to the bit as Pillow does it |
//! | `sound` | bytes to samples of one channel |
//! | `resample` | samples to another rate |
//! | `frames` | samples to tensors |
//! | `error` | [`MediaError`] |

mod error;
mod fit;
mod frames;
mod kind;
mod picture;
mod resample;
mod resize;
mod sound;

pub use error::MediaError;
pub use kind::Kind;

use std::panic::{AssertUnwindSafe, catch_unwind};

use zero2ai_proto::{
    limits::FRAME_BYTES,
    prepare::{Preparation, SoundInput},
    tensor::Tensor,
};

/// Bytes of the tensors of one call: what is left of a frame is for what is signed beside them.
pub const CALL_BYTES: usize = FRAME_BYTES - 256 * 1024;

/// Makes a model's inputs of files' contents: several pictures are a batch, in their order; a sound is one file.
///
/// # Errors
/// A preparation out of its bounds; content that is of another kind, damaged, empty, too large, or more than one call carries.
pub fn prepare(preparation: &Preparation, contents: &[impl AsRef<[u8]>]) -> Result<Vec<Tensor>, MediaError> {
    preparation.check().map_err(|e| MediaError::Preparation(e.to_string()))?;
    match (preparation, contents) {
        (_, []) => Err(MediaError::Count { given: 0, what: "at least one file is needed" }),
        (Preparation::Picture(wanted), _) => {
            let mut batch = fit::Batch::new(wanted, contents.len())?;
            for (index, content) in contents.iter().enumerate() {
                let bytes = content.as_ref();
                let added = guarded(|| batch.add(&picture::decode(bytes)?));
                added.map_err(|e| e.of_several(index, contents.len()))?;
            }
            Ok(vec![batch.finish()])
        }
        (Preparation::Sound(wanted), [content]) => guarded(|| {
            let longest = frames::longest(wanted);
            let sound = sound::decode(content.as_ref(), wanted.rate, longest)?;
            frames::tensors(wanted, &sound)
        }),
        (Preparation::Sound(_), several) => {
            Err(MediaError::Count { given: several.len(), what: "a sound is one file: its frames are the rows" })
        }
    }
}

/// The samples of a sound, at the rate and in the one channel that a model takes: [`framed`] makes its inputs of them, and
/// [`prepare`] does both.
///
/// # Errors
/// Content that is of another kind, damaged, empty, or more than one call carries.
pub fn samples(wanted: &SoundInput, content: &[u8]) -> Result<Vec<f32>, MediaError> {
    guarded(|| sound::decode(content, wanted.rate, frames::longest(wanted)))
}

/// A model's inputs of samples at its own rate.
///
/// # Errors
/// None, or more than one call carries.
pub fn framed(wanted: &SoundInput, samples: &[f32]) -> Result<Vec<Tensor>, MediaError> {
    frames::tensors(wanted, samples)
}

/// Decoders are others' code that reads hostile bytes: where one panics, this file is not read, and nothing else happens.
fn guarded<T>(work: impl FnOnce() -> Result<T, MediaError>) -> Result<T, MediaError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(MediaError::Panicked))
}
