//! Changes that sounds suffer: noise and clipping, in five severities. Nothing cleverer: reverberation, codecs and
//! adversarial noise are not tried, and the report says so.
#![allow(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

use crate::draw::{Draws, Seed};

/// What happens to a sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// White noise at a ratio of signal to noise of 30, 20, 10, 5 and 0 dB.
    Noise,
    /// Everything above 0.8, 0.5, 0.3, 0.15 and 0.05 of the peak is cut off.
    Clipping,
}

/// Both.
pub const CHANGES: [Change; 2] = [Change::Noise, Change::Clipping];

const DECIBELS: [f64; 5] = [30.0, 20.0, 10.0, 5.0, 0.0];
const KEPT: [f32; 5] = [0.8, 0.5, 0.3, 0.15, 0.05];

/// The sound changed at severity 1 to 5 (others are taken as the nearest). Silence stays silence.
#[must_use]
pub fn change(sound: &[f32], change: Change, severity: u8, seed: &Seed, sample: u64) -> Vec<f32> {
    let level = usize::from(severity.clamp(1, 5)) - 1;
    match change {
        Change::Noise => {
            let power = sound.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() / sound.len().max(1) as f64;
            let deviation = (power / libm::pow(10.0, DECIBELS[level] / 10.0)).sqrt();
            let mut draws = Draws::new(seed, "attack/audio", sample);
            sound.iter().map(|v| (f64::from(*v) + deviation * draws.normal()) as f32).collect()
        }
        Change::Clipping => {
            let limit = KEPT[level] * sound.iter().fold(0.0f32, |p, v| p.max(v.abs()));
            sound.iter().map(|v| v.clamp(-limit, limit)).collect()
        }
    }
}
