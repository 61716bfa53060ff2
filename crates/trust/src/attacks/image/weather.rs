//! Weather: snow, frost, fog, brightness.
#![allow(clippy::float_arithmetic)]

use super::{Picture, blur};
use crate::{attacks::square::Shape, draw::Draws};

/// Clouds from 0 to 1: octaves of smooth noise, each half as fine and `decay` times weaker.
fn clouds(shape: Shape, decay: f64, draws: &mut Draws) -> Picture {
    let flat = Shape { channels: 1, ..shape };
    let mut total = Picture { shape: flat, values: vec![0.0; shape.height * shape.width] };
    let (mut cell, mut weight) = (shape.height.max(shape.width) as f64, 1.0);
    while cell >= 1.0 {
        let side = Shape {
            height: (shape.height as f64 / cell).ceil() as usize + 2,
            width: (shape.width as f64 / cell).ceil() as usize + 2,
            channels: 1,
        };
        let values = (0..side.height * side.width).map(|_| draws.unit()).collect();
        let coarse = Picture { shape: side, values };
        total = total.map(|y, x, _| total.at(y, x, 0) + weight * coarse.between(y as f64 / cell, x as f64 / cell, 0));
        cell /= 2.0;
        weight /= decay;
    }
    let (low, high) = total.values.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    total.map(|y, x, _| if high > low { (total.at(y, x, 0) - low) / (high - low) } else { 0.0 })
}

pub(super) fn fog(picture: &Picture, level: usize, draws: &mut Draws) -> Picture {
    let (much, decay) = [(1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)][level];
    let cloud = clouds(picture.shape, decay, draws);
    let brightest = picture.values.iter().copied().fold(0.0, f64::max);
    picture.map(|y, x, c| {
        // As much light as before at the brightest place.
        let scale = if brightest > 0.0 { brightest / (brightest + much) } else { 1.0 / (1.0 + much) };
        (picture.at(y, x, c) + much * cloud.at(y, x, 0)) * scale
    })
}

pub(super) fn frost(picture: &Picture, level: usize, draws: &mut Draws) -> Picture {
    let (kept, added) = [(1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)][level];
    let cloud = clouds(picture.shape, 1.4, draws);
    // Crystals: thin bright veins where the cloud crosses its middle.
    let vein = |v: f64| libm::exp(-(v - 0.5) * (v - 0.5) / 0.01);
    picture.map(|y, x, c| kept * picture.at(y, x, c) + added * vein(cloud.at(y, x, 0)))
}

pub(super) fn snow(picture: &Picture, level: usize, draws: &mut Draws) -> Picture {
    let (share, length, kept) =
        [(0.04, 10.0, 0.8), (0.08, 12.0, 0.7), (0.10, 12.0, 0.7), (0.14, 14.0, 0.65), (0.18, 16.0, 0.55)][level];
    let flat = Shape { channels: 1, ..picture.shape };
    let values = (0..flat.height * flat.width).map(|_| f64::from(u8::from(draws.unit() < share))).collect();
    let angle = draws.between(-2.4, -0.8);
    let fall = blur::along(&Picture { shape: flat, values }, picture.scaled(length), angle);
    let strongest = fall.values.iter().copied().fold(0.0, f64::max).max(1e-9);
    picture.map(|y, x, c| {
        let value = picture.at(y, x, c);
        let whiter = kept * value + (1.0 - kept) * value.max(value * 1.5 + 0.5).min(1.0);
        whiter + fall.at(y, x, 0) / strongest
    })
}

/// The brightest channel grows by this much, the others with it (the V of HSV).
pub(super) fn brightness(picture: &Picture, level: usize) -> Picture {
    let more = [0.1, 0.2, 0.3, 0.4, 0.5][level];
    picture.map(|y, x, c| {
        let brightest = (0..picture.shape.channels).map(|c| picture.at(y, x, c)).fold(0.0, f64::max);
        if brightest > 0.0 { picture.at(y, x, c) * (brightest + more).min(1.0) / brightest } else { more }
    })
}
