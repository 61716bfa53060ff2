//! Errors of numeric predictions: MAE, RMSE and R², as scikit-learn defines them.
#![allow(clippy::float_arithmetic)]

use super::{MetricError, finite, paired, sum};

/// Mean of |truth − answer|, in the target's unit.
///
/// # Errors
/// No samples, lists of different lengths, values that are not finite.
pub fn mean_absolute_error(truth: &[f64], answers: &[f64]) -> Result<f64, MetricError> {
    let n = checked(truth, answers)?;
    Ok(sum(truth.iter().zip(answers).map(|(t, a)| (t - a).abs())) / n)
}

/// Root of the mean of (truth − answer)², in the target's unit.
///
/// # Errors
/// As [`mean_absolute_error`].
pub fn root_mean_squared_error(truth: &[f64], answers: &[f64]) -> Result<f64, MetricError> {
    let n = checked(truth, answers)?;
    Ok((squares(truth, answers) / n).sqrt())
}

/// 1 − Σ(truth − answer)² / Σ(truth − mean)²: 1 is perfect, 0 is as good as always saying the mean, below is worse.
///
/// # Errors
/// As [`mean_absolute_error`]; and where all truths are equal it is not defined.
pub fn r_squared(truth: &[f64], answers: &[f64]) -> Result<f64, MetricError> {
    let n = checked(truth, answers)?;
    let mean = sum(truth.iter().copied()) / n;
    let spread = sum(truth.iter().map(|t| (t - mean) * (t - mean)));
    if spread > 0.0 {
        Ok(1.0 - squares(truth, answers) / spread)
    } else {
        Err(MetricError::Undefined("R² needs truths that differ"))
    }
}

fn squares(truth: &[f64], answers: &[f64]) -> f64 {
    sum(truth.iter().zip(answers).map(|(t, a)| (t - a) * (t - a)))
}

fn checked(truth: &[f64], answers: &[f64]) -> Result<f64, MetricError> {
    let n = paired(truth, answers)?;
    finite(truth)?;
    finite(answers)?;
    Ok(n as f64)
}
