//! The fifteen common corruptions of pictures in five severities (Hendrycks and Dietterich 2019, arXiv 1903.12261). Owns
//! the list, the strengths and the picture they work on.
//!
//! Strengths are those of ImageNet-C; lengths in pixels shrink with the picture (they were chosen for 224 × 224), never
//! below one. Snow, frost and fog are drawn from the seed instead of from photographs, and JPEG is its quantisation of 8 × 8
//! blocks with the standard's table for brightness on every channel: figures here are comparable with each other, not with published
//! ones.
#![allow(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

use super::square::Shape;
use crate::draw::{Draws, Seed};

mod blur;
mod digital;
mod noise;
mod weather;

/// A corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corruption {
    /// Normal noise on every value.
    GaussianNoise,
    /// Poisson noise, as little light makes it.
    ShotNoise,
    /// Values that are all off or all on.
    ImpulseNoise,
    /// Out of focus: a disk.
    DefocusBlur,
    /// Frosted glass: pixels change places with near ones.
    GlassBlur,
    /// A line in a random direction.
    MotionBlur,
    /// Moving towards the camera.
    ZoomBlur,
    /// Bright flakes.
    Snow,
    /// Bright crystals over a darker picture.
    Frost,
    /// A bright cloud.
    Fog,
    /// All brighter.
    Brightness,
    /// All nearer to the mean.
    Contrast,
    /// Stretched in waves.
    Elastic,
    /// Larger pixels.
    Pixelate,
    /// Compressed.
    Jpeg,
}

/// All fifteen, in the paper's order.
pub const CORRUPTIONS: [Corruption; 15] = [
    Corruption::GaussianNoise,
    Corruption::ShotNoise,
    Corruption::ImpulseNoise,
    Corruption::DefocusBlur,
    Corruption::GlassBlur,
    Corruption::MotionBlur,
    Corruption::ZoomBlur,
    Corruption::Snow,
    Corruption::Frost,
    Corruption::Fog,
    Corruption::Brightness,
    Corruption::Contrast,
    Corruption::Elastic,
    Corruption::Pixelate,
    Corruption::Jpeg,
];

impl Corruption {
    /// What a person calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GaussianNoise => "Gaussian noise",
            Self::ShotNoise => "shot noise",
            Self::ImpulseNoise => "impulse noise",
            Self::DefocusBlur => "defocus blur",
            Self::GlassBlur => "glass blur",
            Self::MotionBlur => "motion blur",
            Self::ZoomBlur => "zoom blur",
            Self::Snow => "snow",
            Self::Frost => "frost",
            Self::Fog => "fog",
            Self::Brightness => "brightness",
            Self::Contrast => "contrast",
            Self::Elastic => "elastic",
            Self::Pixelate => "pixelate",
            Self::Jpeg => "JPEG",
        }
    }
}

/// A picture with values from 0 to 1: row by row, channels of a pixel together.
#[derive(Clone, Debug, PartialEq)]
struct Picture {
    shape: Shape,
    values: Vec<f64>,
}

impl Picture {
    /// The value at a place; beyond an edge the nearest one.
    fn at(&self, y: i64, x: i64, channel: usize) -> f64 {
        let y = y.clamp(0, self.shape.height as i64 - 1) as usize;
        let x = x.clamp(0, self.shape.width as i64 - 1) as usize;
        self.values[(y * self.shape.width + x) * self.shape.channels + channel]
    }

    /// Between places: linear in both directions.
    fn between(&self, y: f64, x: f64, channel: usize) -> f64 {
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = (y - top, x - left);
        let at = |dy: i64, dx: i64| self.at(top as i64 + dy, left as i64 + dx, channel);
        let upper = at(0, 0) * (1.0 - right) + at(0, 1) * right;
        let lower = at(1, 0) * (1.0 - right) + at(1, 1) * right;
        upper * (1.0 - down) + lower * down
    }

    /// A picture of the same shape, value by value.
    fn map(&self, mut value: impl FnMut(i64, i64, usize) -> f64) -> Self {
        let mut values = Vec::with_capacity(self.values.len());
        for y in 0..self.shape.height as i64 {
            for x in 0..self.shape.width as i64 {
                values.extend((0..self.shape.channels).map(|c| value(y, x, c)));
            }
        }
        Self { shape: self.shape, values }
    }

    /// A length for 224 pixels at this picture's size, at least 1.
    fn scaled(&self, length: f64) -> f64 {
        (length * self.shape.height.min(self.shape.width) as f64 / 224.0).max(1.0)
    }
}

/// The picture corrupted at severity 1 to 5 (others are taken as the nearest); `values` are from 0 to 1 and so is what comes
/// back. The same seed and sample number give the same bits. `None` if the shape has another number of values, or none, or
/// a value is not finite.
#[must_use]
pub fn corrupt(
    values: &[f32],
    shape: Shape,
    corruption: Corruption,
    severity: u8,
    seed: &Seed,
    sample: u64,
) -> Option<Vec<f32>> {
    let size = shape.height.checked_mul(shape.width)?.checked_mul(shape.channels)?;
    if size == 0 || size != values.len() || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let picture = Picture { shape, values: values.iter().map(|v| f64::from(*v).clamp(0.0, 1.0)).collect() };
    let level = usize::from(severity.clamp(1, 5)) - 1;
    let mut draws = Draws::new(seed, &format!("attack/corruption/{corruption:?}/{level}"), sample);
    let d = &mut draws;
    let changed = match corruption {
        Corruption::GaussianNoise => noise::gaussian(&picture, level, d),
        Corruption::ShotNoise => noise::shot(&picture, level, d),
        Corruption::ImpulseNoise => noise::impulse(&picture, level, d),
        Corruption::DefocusBlur => blur::defocus(&picture, level),
        Corruption::GlassBlur => blur::glass(&picture, level, d),
        Corruption::MotionBlur => blur::motion(&picture, level, d),
        Corruption::ZoomBlur => blur::zoom(&picture, level),
        Corruption::Snow => weather::snow(&picture, level, d),
        Corruption::Frost => weather::frost(&picture, level, d),
        Corruption::Fog => weather::fog(&picture, level, d),
        Corruption::Brightness => weather::brightness(&picture, level),
        Corruption::Contrast => digital::contrast(&picture, level),
        Corruption::Elastic => digital::elastic(&picture, level, d),
        Corruption::Pixelate => digital::pixelate(&picture, level),
        Corruption::Jpeg => digital::jpeg(&picture, level),
    };
    Some(changed.values.into_iter().map(|v| v.clamp(0.0, 1.0) as f32).collect())
}
