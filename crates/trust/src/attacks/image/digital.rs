//! Digital changes: contrast, elastic, pixelate, JPEG.
#![allow(clippy::float_arithmetic)]

use std::f64::consts::PI;

use super::{Picture, blur};
use crate::{attacks::square::Shape, draw::Draws};

pub(super) fn contrast(picture: &Picture, level: usize) -> Picture {
    let kept = [0.4, 0.3, 0.2, 0.1, 0.05][level];
    let n = (picture.shape.height * picture.shape.width) as f64;
    let channels = picture.shape.channels;
    let mean: Vec<f64> =
        (0..channels).map(|c| picture.values.iter().skip(c).step_by(channels).sum::<f64>() / n).collect();
    picture.map(|y, x, c| mean[c] + kept * (picture.at(y, x, c) - mean[c]))
}

/// Every place is taken from one that lies a little away, by a smooth random field.
pub(super) fn elastic(picture: &Picture, level: usize, draws: &mut Draws) -> Picture {
    let (width, most) = [(0.03, 0.02), (0.03, 0.03), (0.03, 0.04), (0.02, 0.05), (0.02, 0.06)][level];
    let size = picture.shape.height.min(picture.shape.width) as f64;
    let flat = Shape { channels: 1, ..picture.shape };
    let mut field = || {
        let values = (0..flat.height * flat.width).map(|_| draws.between(-1.0, 1.0)).collect();
        let smooth = blur::gaussian(&Picture { shape: flat, values }, (width * size).max(0.7));
        let largest = smooth.values.iter().fold(0.0f64, |l, v| l.max(v.abs())).max(1e-9);
        let reach = (most * size).max(0.4);
        smooth.map(|y, x, _| smooth.at(y, x, 0) / largest * reach)
    };
    let (down, right) = (field(), field());
    picture.map(|y, x, c| picture.between(y as f64 + down.at(y, x, 0), x as f64 + right.at(y, x, 0), c))
}

/// Means over larger pixels.
pub(super) fn pixelate(picture: &Picture, level: usize) -> Picture {
    let share = [0.6, 0.5, 0.4, 0.3, 0.25][level];
    let (h, w) = (picture.shape.height, picture.shape.width);
    let cells = |n: usize| ((n as f64 * share) as usize).max(1);
    // A cell of the coarse picture covers these rows or columns of the fine one.
    let cover = |i: i64, fine: usize, coarse: usize| {
        let cell = i as usize * coarse / fine;
        let (first, end) = ((cell * fine).div_ceil(coarse), ((cell + 1) * fine).div_ceil(coarse));
        (first as i64, end as i64)
    };
    picture.map(|y, x, c| {
        let (top, bottom) = cover(y, h, cells(h));
        let (left, right) = cover(x, w, cells(w));
        let sum: f64 = (top..bottom).map(|y| (left..right).map(|x| picture.at(y, x, c)).sum::<f64>()).sum();
        sum / ((bottom - top) * (right - left)).max(1) as f64
    })
}

/// The table for brightness of the JPEG standard (ITU-T T.81, annex K.1).
const TABLE: [[u16; 8]; 8] = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
];

/// Each block of 8 × 8 loses what its quantised cosines lose; quality as libjpeg scales it.
pub(super) fn jpeg(picture: &Picture, level: usize) -> Picture {
    let quality = [25.0, 18.0, 15.0, 10.0, 7.0][level];
    let scale = 5_000.0 / quality;
    let step = |v: usize, u: usize| ((f64::from(TABLE[v][u]) * scale + 50.0) / 100.0).floor().clamp(1.0, 255.0);
    let mut cosines = [[0.0; 8]; 8];
    for (u, row) in cosines.iter_mut().enumerate() {
        let weight = if u == 0 { (1.0f64 / 8.0).sqrt() } else { 0.5 };
        for (x, cell) in row.iter_mut().enumerate() {
            *cell = weight * libm::cos((2 * x + 1) as f64 * u as f64 * PI / 16.0);
        }
    }
    let mut changed = picture.clone();
    let (h, w, channels) = (picture.shape.height, picture.shape.width, picture.shape.channels);
    for top in (0..h).step_by(8) {
        for left in (0..w).step_by(8) {
            for c in 0..channels {
                let mut block = [[0.0; 8]; 8];
                for (y, row) in block.iter_mut().enumerate() {
                    for (x, cell) in row.iter_mut().enumerate() {
                        *cell = picture.at((top + y) as i64, (left + x) as i64, c) * 255.0 - 128.0;
                    }
                }
                let mut waves = turned(&block, &cosines, false);
                for (v, row) in waves.iter_mut().enumerate() {
                    for (u, wave) in row.iter_mut().enumerate() {
                        *wave = (*wave / step(v, u)).round() * step(v, u);
                    }
                }
                let back = turned(&waves, &cosines, true);
                for (y, row) in back.iter().enumerate().take(h - top) {
                    for (x, value) in row.iter().enumerate().take(w - left) {
                        let at = ((top + y) * w + left + x) * channels + c;
                        changed.values[at] = (value + 128.0).round() / 255.0;
                    }
                }
            }
        }
    }
    changed
}

/// The cosine transform of a block, or its inverse: one direction, then the other.
fn turned(block: &[[f64; 8]; 8], cosines: &[[f64; 8]; 8], inverse: bool) -> [[f64; 8]; 8] {
    let factor = |a: usize, b: usize| if inverse { cosines[b][a] } else { cosines[a][b] };
    let mut rows = [[0.0; 8]; 8];
    for (y, row) in rows.iter_mut().enumerate() {
        for (u, cell) in row.iter_mut().enumerate() {
            *cell = (0..8).map(|x| block[y][x] * factor(u, x)).sum();
        }
    }
    let mut out = [[0.0; 8]; 8];
    for (v, row) in out.iter_mut().enumerate() {
        for (u, cell) in row.iter_mut().enumerate() {
            *cell = (0..8).map(|y| rows[y][u] * factor(v, y)).sum();
        }
    }
    out
}
