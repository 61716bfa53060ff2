//! Golden inputs and outputs: a model that this runtime cannot reproduce is not served from it.

use zero2ai_proto::{
    manifest::ConformanceSample,
    tensor::{DType, Tensor},
};

use super::{Meanwhile, Runtime};
use crate::error::EngineError;

/// Runs every sample; the error names the sample, the output and the distance.
pub(super) fn check(runtime: &mut dyn Runtime, samples: &[ConformanceSample]) -> Result<(), EngineError> {
    let name = runtime.info().runtime.clone();
    for (index, sample) in samples.iter().enumerate() {
        let number = index.saturating_add(1);
        let fail = |why: String| {
            EngineError::model(format!(
                "conformance sample {number} of {} is not reproduced by {name}: {why}; the model is not served here, \
                 publish it with samples from a runtime that agrees or run it elsewhere",
                samples.len(),
            ))
        };
        let outputs = match runtime.predict(&sample.inputs, &mut Meanwhile { until: None, tell: &mut |_| {} }) {
            Ok(outputs) => outputs,
            Err(error) => return Err(fail(error.to_string())),
        };
        for golden in &sample.outputs {
            let found = outputs.iter().find(|o| o.name == golden.name || golden.name.is_empty() && outputs.len() == 1);
            let Some(found) = found else {
                return Err(fail(format!("there is no output '{}'", golden.name)));
            };
            differ(golden, found, sample.tolerance_ppm).map_or(Ok(()), |why| Err(fail(why)))?;
        }
    }
    Ok(())
}

/// How `found` is not `golden`, if it is not.
fn differ(golden: &Tensor, found: &Tensor, tolerance_ppm: u32) -> Option<String> {
    if golden.shape != found.shape || golden.dtype != found.dtype {
        return Some(format!(
            "output '{}' is {:?} {:?} instead of {:?} {:?}",
            found.name, found.dtype, found.shape, golden.dtype, golden.shape
        ));
    }
    let off: Vec<f64> = match golden.dtype {
        DType::F32 => {
            let (Ok(want), Ok(got)) = (golden.to_f32(), found.to_f32()) else {
                return Some(format!("output '{}' does not hold together", found.name));
            };
            want.iter().zip(&got).map(|(w, g)| distance(f64::from(*w), f64::from(*g))).collect()
        }
        DType::F64 => {
            let numbers = |t: &Tensor| t.data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect::<Vec<_>>();
            numbers(golden).into_iter().zip(numbers(found)).map(|(w, g)| distance(w, g)).collect()
        }
        _ => return other(golden, found),
    };
    let tolerance = f64::from(tolerance_ppm) / 1e6;
    let (at, worst) = off.into_iter().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let told = || format!("output '{}' is off by {worst:.6} at element {at}, {tolerance:.6} is allowed", found.name);
    (worst > tolerance).then(told)
}

/// The first of the whole numbers that is another.
fn other(golden: &Tensor, found: &Tensor) -> Option<String> {
    let size = golden.dtype.size();
    let mut pairs = golden.data.chunks(size).zip(found.data.chunks(size)).enumerate();
    let (at, (want, got)) = pairs.find(|(_, (want, got))| want != got)?;
    let number = |bytes: &[u8]| match *bytes {
        [byte] => byte.to_string(),
        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).to_string(),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]).to_string(),
        // Halves: no runtime gives them.
        _ => format!("{bytes:?}"),
    };
    let (want, got) = (number(want), number(got));
    Some(format!("output '{}' is {got} instead of {want} at element {at}", found.name))
}

/// How far apart two numbers are; what is no number is infinitely far from everything.
fn distance(want: f64, got: f64) -> f64 {
    let off = (want - got).abs();
    if off.is_nan() { f64::INFINITY } else { off }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_beyond_the_tolerance_or_a_nan_is_told() {
        let golden = Tensor::f32("y", &[2], &[1.0, 2.0]);
        assert_eq!(differ(&golden, &Tensor::f32("y", &[2], &[1.0, 2.000_9]), 1000), None);
        assert!(differ(&golden, &Tensor::f32("y", &[2], &[1.0, 2.1]), 1000).is_some_and(|w| w.contains("element 1")));
        let worst = differ(&golden, &Tensor::f32("y", &[2], &[1.5, 3.0]), 1000);
        assert!(worst.as_ref().is_some_and(|w| w.contains("1.000000 at element 1")), "{worst:?}");
        assert!(differ(&golden, &Tensor::f32("y", &[2], &[f32::NAN, 2.0]), 1000).is_some());
        let doubles = |values: [f64; 2]| {
            let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            Tensor { name: "y".into(), dtype: DType::F64, shape: vec![2], data: data.into() }
        };
        assert_eq!(differ(&doubles([1.0, 2.0]), &doubles([1.0, 2.000_9]), 1000), None);
        assert!(differ(&doubles([1.0, 2.0]), &doubles([1.1, 2.0]), 1000).is_some());
        let whole = |values: [i64; 2]| {
            let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            Tensor { name: "y".into(), dtype: DType::I64, shape: vec![2], data: data.into() }
        };
        assert_eq!(differ(&whole([7, -2]), &whole([7, -2]), 0), None);
        let other = differ(&whole([7, -2]), &whole([7, 3]), u32::MAX);
        assert!(other.as_ref().is_some_and(|w| w.contains("is 3 instead of -2 at element 1")), "{other:?}");
        assert!(differ(&golden, &Tensor::f32("y", &[1, 2], &[1.0, 2.0]), 1000).is_some());
    }
}
