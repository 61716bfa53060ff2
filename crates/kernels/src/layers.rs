//! What lies between the products of a transformer: norms, rotary positions, gates, residuals. Each row by itself.

use crate::{
    KernelError, Path, Pool,
    error::same,
    math::{LANES, exp, sum_lanes},
    path::on_path,
};

/// Numbers that one thread takes at once: some microseconds of work, so that handing it out does not show.
pub(crate) const GRAIN: usize = 8_192;

/// How many rows of `width` a thread takes at once; all of them where that is less than two threads' worth.
pub(crate) fn rows_at_once(numbers: usize, width: usize) -> usize {
    if numbers < 2 * GRAIN { usize::MAX } else { (GRAIN / width.max(1)).max(1) }
}

/// `out = x / sqrt(mean(x²) + eps) · weights`, for every row of `x`, as long as `weights`.
///
/// # Errors
/// If `out` is not as long as `x`, or `x` is not made of whole rows.
pub fn rms_norm(
    pool: &Pool,
    path: Path,
    x: &[f32],
    weights: &[f32],
    eps: f32,
    out: &mut [f32],
) -> Result<(), KernelError> {
    let width = weights.len();
    same("outputs of a norm", out.len(), x.len())?;
    whole_rows(x.len(), width)?;
    pool.for_each_chunk(out, width, rows_at_once(x.len(), width), &|row, out| {
        norm_row(path, x.get(row * width..).unwrap_or_default(), weights, eps, out);
    })
}

on_path! {
    fn norm_row(x: &[f32], weights: &[f32], eps: f32, out: &mut [f32]) {
        let x = &x[..out.len().min(x.len())];
        let (lanes, rest) = x.as_chunks::<LANES>();
        let mut squares = [0.0_f32; LANES];
        for chunk in lanes {
            for lane in 0..LANES {
                squares[lane] = chunk[lane].mul_add(chunk[lane], squares[lane]);
            }
        }
        for (lane, v) in rest.iter().enumerate() {
            squares[lane] = v.mul_add(*v, squares[lane]);
        }
        let scale = 1.0 / (sum_lanes(squares) / x.len() as f32 + eps).sqrt();
        for ((out, v), weight) in out.iter_mut().zip(x).zip(weights) {
            *out = v * scale * weight;
        }
    }
}

/// Turns each pair of neighbours of every head by its angle. `x` has rows of `width` numbers, each made of heads of twice as
/// many numbers as a row has `angles`; an angle is its sine and its cosine.
///
/// # Errors
/// If the sizes do not fit each other.
pub fn rotate(pool: &Pool, path: Path, x: &mut [f32], width: usize, angles: &[[f32; 2]]) -> Result<(), KernelError> {
    whole_rows(x.len(), width)?;
    let rows = x.len() / width;
    if rows == 0 {
        return Ok(());
    }
    let pairs = angles.len() / rows;
    same("angles of rows", angles.len(), rows * pairs)?;
    whole_rows(width, pairs.saturating_mul(2))?;
    let at_once = rows_at_once(x.len(), width);
    pool.for_each_chunk(x, width, at_once, &|row, x| {
        rotate_row(path, x, angles.get(row * pairs..).unwrap_or_default(), pairs);
    })
}

on_path! {
    fn rotate_row(x: &mut [f32], angles: &[[f32; 2]], pairs: usize) {
        let angles = &angles[..pairs];
        for head in x.chunks_exact_mut(2 * pairs) {
            for (pair, [sin, cos]) in head.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                let [a, b] = *pair;
                *pair = [a * cos - b * sin, a * sin + b * cos];
            }
        }
    }
}

/// `gate = silu(gate) · up`, where `silu(x) = x / (1 + e^-x)`.
///
/// # Errors
/// If the two are not of one length.
pub fn gate_silu(pool: &Pool, path: Path, gate: &mut [f32], up: &[f32]) -> Result<(), KernelError> {
    same("numbers of a gate", gate.len(), up.len())?;
    let at_once = rows_at_once(gate.len(), GRAIN);
    pool.for_each_chunk(gate, GRAIN, at_once, &|index, gate| {
        gate_part(path, gate, up.get(index * GRAIN..).unwrap_or_default());
    })
}

on_path! {
    fn gate_part(gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = *gate / (1.0 + exp(-*gate)) * up;
        }
    }
}

/// `x += y`.
///
/// # Errors
/// If the two are not of one length.
pub fn add(pool: &Pool, path: Path, x: &mut [f32], y: &[f32]) -> Result<(), KernelError> {
    same("numbers to add", y.len(), x.len())?;
    let at_once = rows_at_once(x.len(), GRAIN);
    pool.for_each_chunk(x, GRAIN, at_once, &|index, x| {
        add_part(path, x, y.get(index * GRAIN..).unwrap_or_default());
    })
}

on_path! {
    fn add_part(x: &mut [f32], y: &[f32]) {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    }
}

/// An error unless `len` is made of whole rows.
pub(crate) fn whole_rows(len: usize, width: usize) -> Result<(), KernelError> {
    if width > 0 && len.is_multiple_of(width) {
        Ok(())
    } else {
        Err(KernelError::shape("numbers in a row", width, format!("a divisor of {len}")))
    }
}
