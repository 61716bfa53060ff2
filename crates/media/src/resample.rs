//! Samples to another rate: band-limited interpolation with a windowed sinc (J. O. Smith, "Digital audio resampling"), in one pass
//! over a sound that is in memory whole. Any ratio, no state, nothing to flush: which is why it stands here, and no library.

use std::f64::consts::PI;

/// Zero crossings of the sinc on each side: its transition is a sixteenth of the band.
const CROSSINGS: usize = 32;
/// Steps of the table between two of them; between steps it is interpolated, with an error below 1e-6.
const STEPS: usize = 512;
/// Kaiser's window: beyond the transition less than a ten-thousandth is left.
const BETA: f64 = 9.0;
/// Part of the band that passes whole.
const PASS: f64 = 0.94;

/// Brings `samples` from one rate to another. The first stays where it is; what lies outside is silence.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // places in a sound, far below 2^53
pub(crate) fn resample(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
    if from == to {
        return samples.to_vec();
    }
    let count = (samples.len() as u64).saturating_mul(u64::from(to)).div_ceil(u64::from(from)) as usize;
    let ratio = f64::from(from) / f64::from(to);
    // Crossings of the sinc an input sample: fewer where the new rate cannot carry the band.
    let band = PASS * (1.0 / ratio).min(1.0);
    let reach = CROSSINGS as f64 / band;
    let table = table();
    let one = |index: usize| {
        let centre = index as f64 * ratio;
        let first = (centre - reach).ceil().max(0.0) as usize;
        let end = ((centre + reach).floor() as usize).saturating_add(1).min(samples.len());
        let weighted = samples.get(first..end).unwrap_or(&[]).iter().zip(first..);
        let sum: f64 = weighted.map(|(s, at)| f64::from(*s) * weight(&table, (at as f64 - centre).abs() * band)).sum();
        (sum * band) as f32
    };
    (0..count).map(one).collect()
}

/// The windowed sinc at 0, 1/STEPS, … CROSSINGS, and one zero behind.
#[allow(clippy::cast_precision_loss)]
fn table() -> Vec<f64> {
    let at = |index: usize| {
        let x = index as f64 / STEPS as f64;
        let sinc = if index == 0 { 1.0 } else { (PI * x).sin() / (PI * x) };
        let edge = x / CROSSINGS as f64;
        sinc * bessel(BETA * (1.0 - edge * edge).max(0.0).sqrt()) / bessel(BETA)
    };
    (0..=CROSSINGS * STEPS).map(at).chain([0.0, 0.0]).collect()
}

/// Between the table's steps.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn weight(table: &[f64], crossings: f64) -> f64 {
    let place = crossings * STEPS as f64;
    let (index, part) = (place as usize, place.fract());
    match table.get(index..index.saturating_add(2)) {
        Some([a, b]) => a + (b - a) * part,
        _ => 0.0,
    }
}

/// The modified Bessel function of order zero, by its series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > sum * 1e-12 {
        term *= (x / (2.0 * k)).powi(2);
        sum += term;
        k += 1.0;
    }
    sum
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    fn tone(frequency: f64, rate: u32, count: usize) -> Vec<f32> {
        (0..count).map(|i| (2.0 * PI * frequency * i as f64 / f64::from(rate)).sin() as f32).collect()
    }

    /// Largest distance in the middle, where nothing is missing at the ends.
    fn off(got: &[f32], want: &[f32]) -> f32 {
        let middle = got.len() / 4..got.len() * 3 / 4;
        got[middle.clone()].iter().zip(&want[middle]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_tone_stays_the_tone_at_any_rate() {
        for (from, to) in [(44_100, 16_000), (8_000, 16_000), (48_000, 16_000), (22_050, 44_100), (44_101, 15_999)] {
            let got = resample(&tone(1_000.0, from, from as usize / 5), from, to);
            assert_eq!(got.len(), (u64::from(from / 5) * u64::from(to)).div_ceil(u64::from(from)) as usize);
            let worst = off(&got, &tone(1_000.0, to, got.len()));
            assert!(worst < 1e-3, "{from} to {to}: off by {worst}");
        }
    }

    #[test]
    fn what_the_new_rate_cannot_carry_is_gone() {
        let got = resample(&tone(10_000.0, 44_100, 20_000), 44_100, 16_000);
        let worst = off(&got, &vec![0.0; got.len()]);
        assert!(worst < 1e-3, "{worst} of a tone beyond the band is left");
    }

    #[test]
    fn short_sounds_are_sounds() {
        assert_eq!(resample(&[], 8_000, 16_000), Vec::<f32>::new());
        assert_eq!(resample(&[0.5], 16_000, 16_000), [0.5]);
        assert_eq!(resample(&[0.5], 384_000, 1_000).len(), 1);
        assert_eq!(resample(&[0.5; 3], 1_000, 192_000).len(), 576);
    }
}
