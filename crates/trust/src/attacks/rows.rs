//! Small changes of a row of features, seeded: copies to train on, not an attack, since no model is asked.
#![allow(clippy::float_arithmetic)]

use super::Space;
use crate::draw::{Draws, Seed};

/// A copy of a row, each feature moved by up to `distance` of its scale either way, within what the space allows. A value that may not
/// change, lies outside of the space or has no place in it stays as it is.
#[must_use]
pub fn nearby(row: &[f32], space: &Space, distance: f32, seed: &Seed, sample: u64) -> Vec<f32> {
    let mut draws = Draws::new(seed, "attack/rows", sample);
    let bounds = space.low.iter().zip(&space.high).zip(&space.scale);
    let mut copy = row.to_vec();
    for (value, ((low, high), scale)) in copy.iter_mut().zip(bounds) {
        // One draw a feature, whether it is used or not: a column that is fixed moves no other.
        #[allow(clippy::cast_possible_truncation)]
        let step = draws.between(-1.0, 1.0) as f32 * distance * scale;
        if *scale > 0.0 && (*low..=*high).contains(value) {
            *value = (*value + step).clamp(*low, *high);
        }
    }
    copy
}
