//! Blur: defocus, glass, motion, zoom.
#![allow(clippy::float_arithmetic)]

use super::Picture;
use crate::draw::Draws;

/// The mean over a disk, its rim weighted by how much of each pixel lies within.
pub(super) fn defocus(picture: &Picture, level: usize) -> Picture {
    let radius = picture.scaled([3.0, 4.0, 6.0, 8.0, 10.0][level]);
    let reach = radius.ceil() as i64;
    let mut disk = Vec::new();
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            let weight = (radius + 0.5 - ((dy * dy + dx * dx) as f64).sqrt()).clamp(0.0, 1.0);
            if weight > 0.0 {
                disk.push((dy, dx, weight));
            }
        }
    }
    let total: f64 = disk.iter().map(|d| d.2).sum();
    picture.map(|y, x, c| disk.iter().map(|(dy, dx, w)| w * picture.at(y + dy, x + dx, c)).sum::<f64>() / total)
}

/// A normal blur of this width in pixels, in two passes.
pub(super) fn gaussian(picture: &Picture, width: f64) -> Picture {
    let reach = (3.0 * width).ceil().max(1.0) as i64;
    let weights: Vec<(i64, f64)> =
        (-reach..=reach).map(|d| (d, libm::exp(-((d * d) as f64) / (2.0 * width * width)))).collect();
    let total: f64 = weights.iter().map(|w| w.1).sum();
    let across = picture.map(|y, x, c| weights.iter().map(|(d, w)| w * picture.at(y, x + d, c)).sum::<f64>() / total);
    across.map(|y, x, c| weights.iter().map(|(d, w)| w * across.at(y + d, x, c)).sum::<f64>() / total)
}

pub(super) fn glass(picture: &Picture, level: usize, draws: &mut Draws) -> Picture {
    let (width, reach, rounds) = [(0.7, 1.0, 2), (0.9, 2.0, 1), (1.0, 2.0, 3), (1.1, 3.0, 2), (1.5, 4.0, 2)][level];
    let share = picture.scaled(224.0) / 224.0;
    let (width, reach) = ((width * share).max(0.4), picture.scaled(reach) as i64);
    let mut changed = gaussian(picture, width);
    let (h, w, channels) = (picture.shape.height, picture.shape.width, picture.shape.channels);
    for _ in 0..rounds {
        for y in 0..h as i64 {
            for x in 0..w as i64 {
                let mut away = || draws.below(2 * reach as usize + 1) as i64 - reach;
                let (dy, dx) = (away(), away());
                let other_y = (y + dy).clamp(0, h as i64 - 1) as usize;
                let other_x = (x + dx).clamp(0, w as i64 - 1) as usize;
                let (here, there) = ((y as usize * w + x as usize) * channels, (other_y * w + other_x) * channels);
                for c in 0..channels {
                    changed.values.swap(here + c, there + c);
                }
            }
        }
    }
    gaussian(&changed, width)
}

/// The mean along a line of this length at this angle.
pub(super) fn along(picture: &Picture, length: f64, angle: f64) -> Picture {
    let steps = (length.ceil() as i64).max(2);
    let (sine, cosine) = (libm::sin(angle), libm::cos(angle));
    picture.map(|y, x, c| {
        let place = |i: i64| (i as f64 / (steps - 1) as f64 - 0.5) * length;
        let value = |i: i64| picture.between(y as f64 + place(i) * sine, x as f64 + place(i) * cosine, c);
        (0..steps).map(value).sum::<f64>() / steps as f64
    })
}

pub(super) fn motion(picture: &Picture, level: usize, draws: &mut Draws) -> Picture {
    let length = picture.scaled([10.0, 15.0, 15.0, 20.0, 25.0][level]).max(2.0);
    let angle = draws.between(-std::f64::consts::FRAC_PI_4, std::f64::consts::FRAC_PI_4);
    along(picture, length, angle)
}

pub(super) fn zoom(picture: &Picture, level: usize) -> Picture {
    let (most, step) = [(0.10, 0.01), (0.15, 0.01), (0.20, 0.02), (0.25, 0.02), (0.30, 0.03)][level];
    let count = (most / step) as u32 + 1;
    let (cy, cx) = ((picture.shape.height as f64 - 1.0) / 2.0, (picture.shape.width as f64 - 1.0) / 2.0);
    picture.map(|y, x, c| {
        let value = |i: u32| {
            let by = 1.0 + f64::from(i) * step;
            picture.between(cy + (y as f64 - cy) / by, cx + (x as f64 - cx) / by, c)
        };
        (0..count).map(value).sum::<f64>() / f64::from(count)
    })
}
