//! What an encoder of the BERT family has beside its products: norms with a mean, biases, and the exact GELU. Each row by
//! itself, in one order of operations.

use crate::{
    KernelError, Path, Pool,
    error::same,
    layers::{GRAIN, rows_at_once, whole_rows},
    math::{LANES, erf, sum_lanes},
    path::on_path,
};

/// `x = (x - mean(x)) / sqrt(mean((x - mean(x))²) + eps) · weights + bias`, for every row of `x`, as long as `weights`.
///
/// # Errors
/// If `bias` is not as long as `weights`, or `x` is not made of whole rows.
pub fn layer_norm(
    pool: &Pool,
    path: Path,
    x: &mut [f32],
    weights: &[f32],
    bias: &[f32],
    eps: f32,
) -> Result<(), KernelError> {
    let width = weights.len();
    same("numbers of a norm's bias", bias.len(), width)?;
    whole_rows(x.len(), width)?;
    let at_once = rows_at_once(x.len(), width);
    pool.for_each_chunk(x, width, at_once, &|_, row| norm_row(path, row, weights, bias, eps))
}

on_path! {
    fn norm_row(x: &mut [f32], weights: &[f32], bias: &[f32], eps: f32) {
        let count = x.len() as f32;
        let (lanes, rest) = x.as_chunks::<LANES>();
        let mut sums = [0.0_f32; LANES];
        for chunk in lanes {
            for lane in 0..LANES {
                sums[lane] += chunk[lane];
            }
        }
        for (lane, v) in rest.iter().enumerate() {
            sums[lane] += v;
        }
        let mean = sum_lanes(sums) / count;
        // A second pass over what the mean leaves: the difference of two large sums would lose what is small.
        let mut squares = [0.0_f32; LANES];
        for chunk in lanes {
            for lane in 0..LANES {
                let off = chunk[lane] - mean;
                squares[lane] = off.mul_add(off, squares[lane]);
            }
        }
        for (lane, v) in rest.iter().enumerate() {
            let off = v - mean;
            squares[lane] = off.mul_add(off, squares[lane]);
        }
        let scale = 1.0 / (sum_lanes(squares) / count + eps).sqrt();
        for ((v, weight), bias) in x.iter_mut().zip(weights).zip(bias) {
            *v = ((*v - mean) * scale).mul_add(*weight, *bias);
        }
    }
}

/// `x += bias`, for every row of `x`, as long as `bias`.
///
/// # Errors
/// If `x` is not made of whole rows.
pub fn add_bias(pool: &Pool, path: Path, x: &mut [f32], bias: &[f32]) -> Result<(), KernelError> {
    whole_rows(x.len(), bias.len())?;
    let at_once = rows_at_once(x.len(), bias.len());
    pool.for_each_chunk(x, bias.len(), at_once, &|_, row| bias_row(path, row, bias))
}

on_path! {
    fn bias_row(x: &mut [f32], bias: &[f32]) {
        for (v, bias) in x.iter_mut().zip(bias) {
            *v += bias;
        }
    }
}

/// `x = gelu(x + bias)` for every row of `x`, where `gelu(v) = v · (1 + erf(v / √2)) / 2`: the exact form, not the one with a
/// hyperbolic tangent.
///
/// # Errors
/// If `x` is not made of whole rows.
pub fn gelu(pool: &Pool, path: Path, x: &mut [f32], bias: &[f32]) -> Result<(), KernelError> {
    whole_rows(x.len(), bias.len())?;
    // Dearer than a sum: fewer rows at once.
    let at_once = rows_at_once(x.len().saturating_mul(4).min(4 * GRAIN), bias.len());
    pool.for_each_chunk(x, bias.len(), at_once, &|_, row| gelu_row(path, row, bias))
}

on_path! {
    fn gelu_row(x: &mut [f32], bias: &[f32]) {
        for (v, bias) in x.iter_mut().zip(bias) {
            let sum = *v + bias;
            *v = 0.5 * sum * (1.0 + erf(sum * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}
