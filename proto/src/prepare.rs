//! How a picture or a sound becomes the tensors that a model takes: said by its publisher, in integers, and carried out by the
//! caller, so that a provider never decodes anything but tensors.

use serde::{Deserialize, Serialize};

use crate::{
    limits::{DIMENSIONS, FRAME_BYTES, LABEL_BYTES, PICTURE_SIDE, SOUND_RATE, TENSORS},
    manifest::ManifestError,
    tensor::{DType, TensorSpec},
};

/// Bytes of the tensor that one picture or one frame of sound becomes: a call must have room for it.
const TENSOR_BYTES: u64 = FRAME_BYTES as u64 / 2;
/// Elements of one tensor of zeros.
const ZEROS: u64 = TENSOR_BYTES / 8;

/// What a version's content is, and how it becomes tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preparation {
    /// Pictures, one a row of the batch.
    Picture(PictureInput),
    /// One sound, whole or as frames.
    Sound(SoundInput),
}

/// See [`Preparation::Picture`]. A picture is turned as its metadata say, loses its transparency, is scaled (bilinear, over
/// every pixel that falls into a smaller one), and its samples s (0 to 255) become (s - mean) / deviation, or stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureInput {
    /// Name of the model's input; empty means "the only one".
    pub input: String,
    /// Pixels across, 1 to [`PICTURE_SIDE`].
    pub width: u32,
    /// Pixels down, 1 to [`PICTURE_SIDE`].
    pub height: u32,
    /// What a pixel is.
    pub colour: Colour,
    /// Order of the dimensions.
    pub layout: Layout,
    /// How the picture comes to that size.
    pub fit: Fit,
    /// Absent: elements are `U8`, the samples themselves. Present: elements are `F32`.
    pub scale: Option<PixelScale>,
}

/// How samples become single-precision numbers, channel by channel in the order of [`PictureInput::colour`]. In thousandths of a
/// sample's step, which give the usual constants exactly: 0.485 of white is 123,675.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelScale {
    /// Taken off, thousandths of a step: one number a channel.
    pub mean_milli: Vec<u32>,
    /// Divided by, thousandths of a step, at least 1: one number a channel.
    pub deviation_milli: Vec<u32>,
}

/// What a pixel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Colour {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One number: 0.299 red + 0.587 green + 0.114 blue.
    Grey,
}

impl Colour {
    /// Numbers of a pixel.
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// Order of a picture's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// `[batch, channels, height, width]`.
    Nchw,
    /// `[batch, height, width, channels]`.
    Nhwc,
    /// `[batch, height × width × channels]`, pixel by pixel.
    Flat,
}

/// How a picture comes to the size that a model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fit {
    /// Both sides as they must be; proportions are lost.
    Stretch,
    /// Scaled until it covers the size, and the middle of it cut out.
    Cover,
    /// Scaled until it fits into the size, at the top left; the rest is zeros in the tensor.
    Contain,
    /// As high as it must be and as wide as it then is, at the left; the rest is zeros in the tensor. A wider one is squeezed. For
    /// lines of text.
    Line,
}

/// See [`Preparation::Sound`]. The channels' mean, from -1 to 1 in `F32`, is brought to the sample rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoundInput {
    /// Name of the model's input; empty means "the only one".
    pub input: String,
    /// Samples a second, 1,000 to [`SOUND_RATE`].
    pub rate: u32,
    /// Absent: the tensor is `[1, samples]`. Present: `[frames, samples of a frame]`.
    pub frames: Option<Frames>,
    /// Further inputs, all zeros: a recurrent model's state before the first sample.
    pub zeros: Vec<Zeros>,
}

/// How a sound is cut: frame i begins at sample i × hop - lead, and what lies before or behind the sound is zeros. There are as many
/// as it takes for the last sample to be in one, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    /// Samples of a frame.
    pub window: u32,
    /// Samples from one frame's begin to the next one's, 1 to the window.
    pub hop: u32,
    /// Zeros before the first sample, fewer than the window.
    pub lead: u32,
}

/// A tensor of zeros, `F32`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zeros {
    /// Name of the model's input.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<u64>,
}

impl Preparation {
    /// Checks every bound.
    ///
    /// # Errors
    /// Says the first thing that is wrong.
    pub fn check(&self) -> Result<(), ManifestError> {
        let checked = match self {
            Self::Picture(picture) => picture.check(),
            Self::Sound(sound) => sound.check(),
        };
        checked.map_err(|why| ManifestError(format!("how its input is prepared: {why}")))
    }

    /// Checks that what it makes is what a model with these inputs takes.
    ///
    /// # Errors
    /// Says the first input that differs, with both shapes.
    pub fn suits(&self, inputs: &[TensorSpec]) -> Result<(), ManifestError> {
        let made = self.makes();
        let fail = |why: String| Err(ManifestError(format!("how its input is prepared: {why}")));
        for spec in &made {
            let only = inputs.len() == 1 && spec.name.is_empty();
            let Some(input) = inputs.iter().find(|i| only || i.name == spec.name) else {
                let names: Vec<_> = inputs.iter().map(|i| i.name.as_str()).collect();
                return fail(format!("the model has no input '{}'; it has {names:?}", spec.name));
            };
            let mut dims = input.shape.iter().zip(&spec.shape);
            let same = input.shape.len() == spec.shape.len() && dims.all(|(a, b)| a.is_none() || b.is_none() || a == b);
            if !same || input.dtype != spec.dtype {
                return fail(format!(
                    "input '{}' takes {:?} {}, and it would be given {:?} {}",
                    input.name,
                    input.dtype,
                    input.shape_text(),
                    spec.dtype,
                    spec.shape_text()
                ));
            }
        }
        if made.len() == inputs.len() {
            return Ok(());
        }
        fail(format!("it makes {} tensors, and the model takes {}", made.len(), inputs.len()))
    }

    /// The tensors it makes; a free dimension is how many pictures, frames or samples there are.
    #[must_use]
    pub fn makes(&self) -> Vec<TensorSpec> {
        match self {
            Self::Picture(picture) => vec![picture.makes()],
            Self::Sound(sound) => sound.makes(),
        }
    }
}

impl PictureInput {
    fn check(&self) -> Result<(), String> {
        if self.input.len() > LABEL_BYTES {
            return Err(format!("the input's name is longer than {LABEL_BYTES} bytes"));
        }
        if ![self.width, self.height].iter().all(|side| (1..=PICTURE_SIDE).contains(side)) {
            return Err(format!("pictures of {} × {} pixels; sides of 1 to {PICTURE_SIDE}", self.width, self.height));
        }
        if let Some(scale) = &self.scale {
            let channels = self.colour.channels();
            if scale.mean_milli.len() != channels || scale.deviation_milli.len() != channels {
                return Err(format!("pixels have {channels} channels: give as many means and deviations"));
            }
            if scale.deviation_milli.contains(&0) {
                return Err("a deviation of zero: numbers are divided by it".into());
            }
        }
        let element = if self.scale.is_some() { DType::F32 } else { DType::U8 };
        let bytes = u64::from(self.width) * u64::from(self.height) * (self.colour.channels() * element.size()) as u64;
        if bytes > TENSOR_BYTES {
            return Err(format!("a picture becomes {bytes} bytes; at most {TENSOR_BYTES} fit a call"));
        }
        Ok(())
    }

    fn makes(&self) -> TensorSpec {
        let [width, height] = [self.width, self.height].map(u64::from);
        let channels = self.colour.channels() as u64;
        let shape = match self.layout {
            Layout::Nchw => vec![channels, height, width],
            Layout::Nhwc => vec![height, width, channels],
            Layout::Flat => vec![height.saturating_mul(width).saturating_mul(channels)],
        };
        let shape = std::iter::once(None).chain(shape.into_iter().map(Some)).collect();
        let dtype = if self.scale.is_some() { DType::F32 } else { DType::U8 };
        TensorSpec { name: self.input.clone(), dtype, shape }
    }
}

impl SoundInput {
    fn check(&self) -> Result<(), String> {
        if !(1_000..=SOUND_RATE).contains(&self.rate) {
            return Err(format!("{} samples a second; 1,000 to {SOUND_RATE}", self.rate));
        }
        if let Some(Frames { window, hop, lead }) = self.frames
            && (u64::from(window) * 4 > TENSOR_BYTES || !(1..=window).contains(&hop) || lead >= window)
        {
            return Err(format!(
                "frames of {window} samples every {hop} with {lead} before: the hop is 1 to the window, the lead less"
            ));
        }
        let names = || self.zeros.iter().map(|z| &z.name).chain([&self.input]);
        if self.zeros.len() >= TENSORS || names().any(|name| name.len() > LABEL_BYTES) {
            return Err(format!("more than {} inputs of zeros, or a name beyond {LABEL_BYTES} bytes", TENSORS - 1));
        }
        let elements = |z: &Zeros| z.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d).filter(|n| *n > 0));
        let mut sizes = self.zeros.iter().map(|z| elements(z).filter(|_| z.shape.len() <= DIMENSIONS));
        if sizes.try_fold(0u64, |sum, n| sum.checked_add(n?)).is_none_or(|sum| sum > ZEROS) {
            return Err(format!("its zeros have no sizes, too many dimensions, or more than {ZEROS} elements"));
        }
        Ok(())
    }

    fn makes(&self) -> Vec<TensorSpec> {
        let shape = match self.frames {
            None => vec![Some(1), None],
            Some(frames) => vec![None, Some(u64::from(frames.window))],
        };
        let sound = TensorSpec { name: self.input.clone(), dtype: DType::F32, shape };
        let zeros = self.zeros.iter().map(|z| TensorSpec {
            name: z.name.clone(),
            dtype: DType::F32,
            shape: z.shape.iter().copied().map(Some).collect(),
        });
        std::iter::once(sound).chain(zeros).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn picture() -> PictureInput {
        let scale = PixelScale { mean_milli: vec![127_500; 3], deviation_milli: vec![127_500; 3] };
        let (colour, layout, fit) = (Colour::Bgr, Layout::Nchw, Fit::Line);
        PictureInput { input: "x".into(), width: 192, height: 48, colour, layout, fit, scale: Some(scale) }
    }

    fn sound() -> SoundInput {
        let frames = Some(Frames { window: 576, hop: 512, lead: 64 });
        let zeros = vec![Zeros { name: "h".into(), shape: vec![1, 1, 128] }];
        SoundInput { input: "input".into(), rate: 16_000, frames, zeros }
    }

    fn spec(name: &str, shape: &[Option<u64>]) -> TensorSpec {
        TensorSpec { name: name.into(), dtype: DType::F32, shape: shape.to_vec() }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        Preparation::Picture(picture()).check().unwrap();
        let scale = |mean: &[u32], deviation: &[u32]| {
            Some(PixelScale { mean_milli: mean.into(), deviation_milli: deviation.into() })
        };
        for (wrong, word) in [
            (PictureInput { width: 0, ..picture() }, "sides"),
            (PictureInput { height: PICTURE_SIDE + 1, ..picture() }, "sides"),
            (PictureInput { width: 2_000, height: 2_000, ..picture() }, "fit a call"),
            (PictureInput { scale: scale(&[0], &[1]), ..picture() }, "channels"),
            (PictureInput { scale: scale(&[0; 3], &[1, 0, 1]), ..picture() }, "zero"),
            (PictureInput { input: "x".repeat(300), ..picture() }, "name"),
        ] {
            let error = Preparation::Picture(wrong).check().unwrap_err();
            assert!(error.0.contains(word), "{error}");
        }
        Preparation::Sound(sound()).check().unwrap();
        let frames = |window, hop, lead| Some(Frames { window, hop, lead });
        let zeros = |shape: &[u64]| vec![Zeros { name: "h".into(), shape: shape.to_vec() }];
        for (wrong, word) in [
            (SoundInput { rate: 0, ..sound() }, "second"),
            (SoundInput { frames: frames(0, 0, 0), ..sound() }, "hop"),
            (SoundInput { frames: frames(10, 0, 0), ..sound() }, "hop"),
            (SoundInput { frames: frames(10, 11, 0), ..sound() }, "hop"),
            (SoundInput { frames: frames(10, 10, 10), ..sound() }, "lead"),
            (SoundInput { frames: frames(u32::MAX, 1, 0), ..sound() }, "hop"),
            (SoundInput { zeros: zeros(&[u64::MAX, 2]), ..sound() }, "zeros"),
            (SoundInput { zeros: zeros(&[0]), ..sound() }, "zeros"),
            (SoundInput { zeros: zeros(&[1; 9]), ..sound() }, "zeros"),
        ] {
            let error = Preparation::Sound(wrong).check().unwrap_err();
            assert!(error.0.contains(word), "{error}");
        }
    }

    #[test]
    fn it_is_held_to_what_the_model_takes() {
        let (picture, sound) = (Preparation::Picture(picture()), Preparation::Sound(sound()));
        picture.suits(&[spec("x", &[None, Some(3), None, None])]).unwrap();
        sound.suits(&[spec("h", &[Some(1), Some(1), Some(128)]), spec("input", &[None, Some(576)])]).unwrap();
        for (inputs, word) in [
            (vec![spec("y", &[None, Some(3), None, None])], "no input 'x'"),
            (vec![spec("x", &[None, None, None, Some(3)])], "[?, 3, 48, 192]"),
            (vec![spec("x", &[None; 4]), spec("y", &[None])], "takes 2"),
            (vec![TensorSpec { dtype: DType::U8, ..spec("x", &[None; 4]) }], "U8"),
        ] {
            let error = picture.suits(&inputs).unwrap_err();
            assert!(error.0.contains(word), "{error}");
        }
    }
}
