//! Changes that sounds suffer: noise and clipping, in five severities. Nothing cleverer: reverberation, codecs and
//! adversarial noise are not tried, and the report says so.
//!
//! | severity | noise: signal to noise over the whole sound | clipping: what is kept of the peak |
//! |---|---|---|
//! | 1 | 30 dB | 0.8 |
//! | 2 | 20 dB | 0.5 |
//! | 3 | 10 dB | 0.2 |
//! | 4 | 0 dB | 0.05 |
//! | 5 | -10 dB | 0.01 |
//!
//! Signal and noise are mean powers over all samples, pauses included: within words a sound of many pauses keeps a better ratio. Clipping
//! is not made up for in loudness. However hard, it leaves the places where a sound crosses zero, and of a tone a square wave, 6 dB above
//! its own harmonics: models that listen for voices bear more of it than of noise.
#![allow(clippy::float_arithmetic)]

use serde::{Deserialize, Serialize};

use crate::draw::{Draws, Seed};

/// What happens to a sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// White noise at a ratio of signal to noise of 30, 20, 10, 0 and -10 dB.
    Noise,
    /// Everything above 0.8, 0.5, 0.2, 0.05 and 0.01 of the peak is cut off.
    Clipping,
}

/// Both.
pub const CHANGES: [Change; 2] = [Change::Noise, Change::Clipping];

const DECIBELS: [f64; 5] = [30.0, 20.0, 10.0, 0.0, -10.0];
const KEPT: [f32; 5] = [0.8, 0.5, 0.2, 0.05, 0.01];

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
