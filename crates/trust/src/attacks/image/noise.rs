//! Noise: Gaussian, shot, impulse.
#![allow(clippy::float_arithmetic)]

use super::Picture;
use crate::draw::Draws;

pub(super) fn gaussian(picture: &Picture, level: usize, draws: &mut Draws) -> Picture {
    let deviation = [0.08, 0.12, 0.18, 0.26, 0.38][level];
    picture.map(|y, x, c| picture.at(y, x, c) + deviation * draws.normal())
}

pub(super) fn shot(picture: &Picture, level: usize, draws: &mut Draws) -> Picture {
    let photons = [60.0, 25.0, 12.0, 5.0, 3.0][level];
    picture.map(|y, x, c| f64::from(draws.poisson(picture.at(y, x, c) * photons)) / photons)
}

pub(super) fn impulse(picture: &Picture, level: usize, draws: &mut Draws) -> Picture {
    let share = [0.03, 0.06, 0.09, 0.17, 0.27][level];
    picture.map(|y, x, c| {
        // Two draws for every value, hit or not: so the hits of one severity do not move with the values of another.
        let (hit, on) = (draws.unit() < share, draws.unit() < 0.5);
        if hit { f64::from(u8::from(on)) } else { picture.at(y, x, c) }
    })
}
