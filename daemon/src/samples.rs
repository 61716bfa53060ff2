//! Reads conformance samples: JSON as `testnet/samples/record.py` writes it.

use serde::Deserialize;
use zero2ai_proto::{limits::CONFORMANCE_SAMPLES, manifest::ConformanceSample};

use crate::{
    exit::{Exit, Failure, Outcome},
    input::{JsonTensor, tensor},
};

/// Bytes of the file: digits take more room than the tensors they become.
pub(crate) const SAMPLE_BYTES: u64 = 64 * 1024 * 1024;
/// Largest difference that a sample may allow: beyond it, it would show nothing.
const TOLERANCE: f64 = 1.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// For people.
    #[serde(default, rename = "recorded_with")]
    _recorded_with: Option<String>,
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    tolerance: f64,
    inputs: Vec<JsonTensor>,
    outputs: Vec<JsonTensor>,
}

/// See the module.
pub(crate) fn samples(text: &str) -> Outcome<Vec<ConformanceSample>> {
    let invalid = |message: String| Failure::new(Exit::Invalid, message);
    let file: File = serde_json::from_str(text).map_err(|e| {
        invalid(format!(
            "The samples are not JSON of the form {{\"samples\":[{{\"tolerance\",\"inputs\",\"outputs\"}}]}}, which \
             testnet/samples/record.py writes: {e}."
        ))
    })?;
    if file.samples.is_empty() || file.samples.len() > CONFORMANCE_SAMPLES {
        return Err(invalid(format!("{} samples; 1 to {CONFORMANCE_SAMPLES} are allowed.", file.samples.len())));
    }
    let all = file.samples.into_iter().map(sample).collect::<Outcome<Vec<_>>>()?;
    ConformanceSample::check_all(&all).map_err(|e| invalid(format!("The samples cannot be used: {}.", e.0)))?;
    Ok(all)
}

fn sample(sample: Sample) -> Outcome<ConformanceSample> {
    if !(0.0..=TOLERANCE).contains(&sample.tolerance) {
        let message = format!("A tolerance of {} is not from 0 to {TOLERANCE}.", sample.tolerance);
        return Err(Failure::new(Exit::Invalid, message));
    }
    // At most a million, as was just checked.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let tolerance_ppm = (sample.tolerance * 1e6).round() as u32;
    let tensors = |list: Vec<JsonTensor>| list.into_iter().map(tensor).collect::<Outcome<Vec<_>>>();
    Ok(ConformanceSample { inputs: tensors(sample.inputs)?, outputs: tensors(sample.outputs)?, tolerance_ppm })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TENSOR: &str = r#"{"name":"x","datatype":"FP32","shape":[1,2],"data":[0.25,1]}"#;

    #[test]
    fn what_was_recorded_is_read() {
        let text = format!(
            r#"{{"recorded_with":"x","samples":[{{"tolerance":0.0001,"inputs":[{TENSOR}],"outputs":[{TENSOR}]}}]}}"#
        );
        let read = samples(&text).unwrap();
        assert_eq!((read.len(), read[0].tolerance_ppm), (1, 100));
        assert_eq!(read[0].outputs[0].to_f32().unwrap(), [0.25, 1.0]);
    }

    #[test]
    fn what_shows_nothing_is_refused() {
        for bad in [
            "{}".to_owned(),
            r#"{"samples":[]}"#.to_owned(),
            format!(r#"{{"samples":[{{"tolerance":2,"inputs":[{TENSOR}],"outputs":[{TENSOR}]}}]}}"#),
            format!(r#"{{"samples":[{{"tolerance":-1,"inputs":[{TENSOR}],"outputs":[{TENSOR}]}}]}}"#),
            format!(r#"{{"samples":[{{"tolerance":0.1,"inputs":[{TENSOR}],"outputs":[]}}]}}"#),
            r#"{"samples":[{"tolerance":0.1,"inputs":[{"shape":[3],"data":[1]}],"outputs":[]}]}"#.to_owned(),
        ] {
            assert_eq!(samples(&bad).unwrap_err().exit, Exit::Invalid, "{bad}");
        }
    }
}
