//! Scaling by bilinear interpolation over the area that an output pixel stands for: Pillow's `BILINEAR` to the bit, since that is
//! what most models were trained and tested with. Fixed-point weights, across first, rounded to whole samples between the two.

/// Bits behind the point of a weight: what Pillow uses for samples of eight bits.
const PRECISION: u32 = 22;

/// The weights of one output pixel.
struct Weights {
    /// First input pixel.
    from: usize,
    weights: Vec<i64>,
}

/// One for each of `to` pixels out of `from`.
fn weights(from: usize, to: usize) -> Vec<Weights> {
    #[allow(clippy::cast_precision_loss)] // sides are far below 2^53
    let (scale, limit) = (from as f64 / to as f64, from as f64);
    let stretch = scale.max(1.0);
    let one = |index: usize| {
        #[allow(clippy::cast_precision_loss)]
        let centre = (index as f64 + 0.5) * scale;
        // Truncation is what is meant: both are within the picture.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let [first, end] = [centre - stretch, centre + stretch].map(|at| (at + 0.5).clamp(0.0, limit) as usize);
        #[allow(clippy::cast_precision_loss)]
        let triangle = |at: usize| (1.0 - ((at as f64 - centre + 0.5) / stretch).abs()).max(0.0);
        let raw: Vec<f64> = (first..end).map(triangle).collect();
        let sum: f64 = raw.iter().sum();
        #[allow(clippy::cast_possible_truncation)] // at most one, times 2^22
        let fixed = |w: f64| (w / sum * f64::from(1u32 << PRECISION) + 0.5) as i64;
        Weights { from: first, weights: raw.into_iter().map(fixed).collect() }
    };
    (0..to).map(one).collect()
}

/// A sample of summed products.
fn rounded(sum: i64) -> u8 {
    // Clamped, so that it fits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let sample = ((sum + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8;
    sample
}

/// Scales `pixels` (rows of `from.0` pixels of `channels` samples, `from.1` of them) to `to`. No side is zero.
pub(crate) fn resize(pixels: Vec<u8>, channels: usize, from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    let across = if from.0 == to.0 { pixels } else { resize_across(&pixels, channels, from, to.0) };
    if from.1 == to.1 { across } else { resize_down(&across, channels * to.0, to.1, from.1) }
}

fn resize_across(pixels: &[u8], channels: usize, (width, height): (usize, usize), to: usize) -> Vec<u8> {
    let weights = weights(width, to);
    let mut out = Vec::with_capacity(to * height * channels);
    for row in pixels.chunks_exact(width * channels) {
        for Weights { from, weights } in &weights {
            let part = &row[from * channels..];
            for channel in 0..channels {
                let samples = part[channel..].iter().step_by(channels);
                out.push(rounded(samples.zip(weights).map(|(s, w)| i64::from(*s) * w).sum()));
            }
        }
    }
    out
}

/// `row` is the samples of a row.
fn resize_down(pixels: &[u8], row: usize, to: usize, height: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(row * to);
    let mut sums = vec![0i64; row];
    for Weights { from, weights } in weights(height, to) {
        sums.fill(0);
        for (samples, weight) in pixels[from * row..].chunks_exact(row).zip(weights) {
            for (sum, sample) in sums.iter_mut().zip(samples) {
                *sum += i64::from(*sample) * weight;
            }
        }
        out.extend(sums.iter().map(|sum| rounded(*sum)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pixel_becomes_any_size_and_a_plain_picture_stays_plain() {
        assert_eq!(resize(vec![7, 8, 9], 3, (1, 1), (4, 3)), [7, 8, 9].repeat(12));
        let plain = resize(vec![200; 17 * 31], 1, (17, 31), (5, 90));
        assert!(plain.len() == 450 && plain.iter().all(|s| *s == 200), "{plain:?}");
    }

    #[test]
    fn an_edge_is_spread_over_the_area() {
        // Two pixels to four: a quarter and three quarters between them.
        assert_eq!(resize(vec![0, 200], 1, (2, 1), (4, 1)), [0, 50, 150, 200]);
        // Four to two: each has a triangle of four pixels' width.
        assert_eq!(resize(vec![0, 0, 255, 255], 1, (1, 4), (1, 2)), [36, 219]);
    }
}
