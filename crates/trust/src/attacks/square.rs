//! The Square attack (Andriushchenko, Croce, Flammarion and Hein 2020, arXiv 1912.00049), for the L∞ norm: random search
//! that sets a square of the picture to one of the two ends of the allowed change, and keeps what lowers the margin. It
//! sees scores, not gradients. Rows without two dimensions are taken as one line.
//!
//! On linear models of 48 values, with 1,500 queries a run, [`smallest`] finds 1.02 times the exact radius margin / ‖w‖₁ on
//! average, and never less (`crates/trust/tests/attacks.rs`).
#![allow(clippy::float_arithmetic)]

use super::{AtMost, AttackError, Model, Oracle, Outcome, Space};
use crate::draw::{Draws, Seed};

/// How a flat input lies in space: row by row, channels of a pixel together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Values of a pixel.
    pub channels: usize,
}

impl Shape {
    /// `n` values in one line.
    #[must_use]
    pub fn line(n: usize) -> Self {
        Self { height: 1, width: n, channels: 1 }
    }
}

/// What one run may do.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Largest change of a value, in units of the space's scale.
    pub epsilon: f64,
    /// Inputs the model may be asked about.
    pub budget: u32,
    /// The run's seed.
    pub seed: &'a Seed,
    /// The sample's number: samples draw apart.
    pub sample: u64,
}

/// Share of the picture that the first squares cover; it falls as the budget is used, as in the paper.
const FIRST: f64 = 0.8;

/// Attacks one sample within `epsilon`.
///
/// # Errors
/// The model fails, or input, shape and space do not fit each other.
pub fn attack(
    model: &mut dyn Model<Vec<f32>>,
    input: &[f32],
    label: u16,
    shape: Shape,
    space: &Space,
    settings: Settings<'_>,
) -> Result<Outcome<Vec<f32>>, AttackError> {
    space.check(input)?;
    if shape.height.checked_mul(shape.width).and_then(|n| n.checked_mul(shape.channels)) != Some(input.len()) {
        return Err(AttackError::Shape { values: input.len(), what: "the shape has another number of them" });
    }
    let mut oracle = Oracle::new(model, label, settings.budget);
    match oracle.wrong(input.to_vec())? {
        Some(true) => return Ok(Outcome::AlreadyWrong),
        Some(false) => {}
        None => return Ok(Outcome::Held { queries: 0 }),
    }
    let mut draws = Draws::new(settings.seed, "attack/square", settings.sample);
    let mut step = stripes(shape, settings.epsilon, &mut draws);
    let Some(mut best) = oracle.margins(&[space.moved(input, &step)])?.first().copied() else {
        return Ok(Outcome::Held { queries: oracle.used });
    };
    while best > 0.0 && oracle.left() > 0 {
        let progress = f64::from(oracle.used) / f64::from(settings.budget);
        let mut next = step.clone();
        paint(&mut next, shape, side(progress, shape), settings.epsilon, &mut draws);
        if next == step {
            continue;
        }
        match oracle.margins(&[space.moved(input, &next)])?.first() {
            Some(m) if *m < best => {
                best = *m;
                step = next;
            }
            _ => {}
        }
    }
    if best > 0.0 {
        return Ok(Outcome::Held { queries: oracle.used });
    }
    let adversarial = space.moved(input, &step);
    let distance = space.step(input, &adversarial).iter().fold(0.0f64, |d, s| d.max(s.abs()));
    Ok(Outcome::Broken { adversarial, distance: AtMost(distance), queries: oracle.used })
}

/// The smallest change that breaks the sample, by bisection between 0 and `settings.epsilon` in `rounds` runs, each with
/// the whole budget.
///
/// # Errors
/// As [`attack`].
pub fn smallest(
    model: &mut dyn Model<Vec<f32>>,
    input: &[f32],
    label: u16,
    shape: Shape,
    space: &Space,
    settings: Settings<'_>,
    rounds: u32,
) -> Result<Outcome<Vec<f32>>, AttackError> {
    let (mut low, mut high, mut total) = (0.0, settings.epsilon, 0u32);
    let mut best = None;
    for round in 0..rounds.clamp(1, 32) {
        let epsilon = if round == 0 { high } else { (low + high) / 2.0 };
        match attack(model, input, label, shape, space, Settings { epsilon, ..settings })? {
            Outcome::AlreadyWrong => return Ok(Outcome::AlreadyWrong),
            Outcome::Broken { adversarial, distance, queries } => {
                total = total.saturating_add(queries);
                high = distance.0.min(epsilon);
                best = Some((adversarial, distance));
            }
            Outcome::Held { queries } => {
                total = total.saturating_add(queries);
                if round == 0 {
                    break;
                }
                low = epsilon;
            }
        }
    }
    Ok(match best {
        Some((adversarial, distance)) => Outcome::Broken { adversarial, distance, queries: total },
        None => Outcome::Held { queries: total },
    })
}

/// Vertical stripes of a pixel's width, each channel up or down: where the search begins.
fn stripes(shape: Shape, epsilon: f64, draws: &mut Draws) -> Vec<f64> {
    let row: Vec<f64> = (0..shape.width * shape.channels).map(|_| draws.sign() * epsilon).collect();
    row.iter().copied().cycle().take(shape.height * row.len()).collect()
}

/// One square gets a new sign per channel; at least one value changes, where there are two to choose from.
fn paint(step: &mut [f64], shape: Shape, side: usize, epsilon: f64, draws: &mut Draws) {
    let (h, w) = (side.min(shape.height), side.min(shape.width));
    let (top, left) = (draws.below(shape.height - h + 1), draws.below(shape.width - w + 1));
    for channel in 0..shape.channels {
        let value = draws.sign() * epsilon;
        for y in top..top + h {
            for x in left..left + w {
                step[(y * shape.width + x) * shape.channels + channel] = value;
            }
        }
    }
}

/// The paper's schedule: the share of the picture halves at these parts of the budget; the side is its root.
fn side(progress: f64, shape: Shape) -> usize {
    let halvings = [0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8].iter().filter(|p| progress > **p).count();
    let share = FIRST / f64::from(1u32 << halvings);
    let pixels = share * (shape.height * shape.width) as f64;
    let side = if shape.height == 1 { pixels } else { pixels.sqrt() };
    (side.round() as usize).max(1)
}
