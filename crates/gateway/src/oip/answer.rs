//! The answer to an inference request: JSON, and behind it the raw bytes of the tensors that were wanted so.

use serde::Serialize;
use zero2ai_client::Resolution;
use zero2ai_proto::tensor::Tensor;

use super::{
    element::{Flat, datatype, fits_json},
    request::Wanted,
};
use crate::fault::Fault;

/// A body, and how it is to be read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    /// Bytes of JSON, if raw bytes follow it.
    pub(super) json_length: Option<usize>,
}

impl Answer {
    pub(super) fn kind(&self) -> &'static str {
        if self.json_length.is_some() { "application/octet-stream" } else { "application/json" }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Flat<'a>>,
}

#[derive(Serialize)]
struct Size {
    binary_data_size: usize,
}

/// The wanted outputs, in the order in which they were asked for.
pub(super) fn encode(
    found: &Resolution,
    id: Option<&str>,
    outputs: &[Tensor],
    wanted: &Wanted,
) -> Result<Answer, Fault> {
    body(found.name.as_str(), found.version, id, &pick(outputs, wanted)?)
}

fn pick<'a>(outputs: &'a [Tensor], wanted: &Wanted) -> Result<Vec<(&'a Tensor, bool)>, Fault> {
    if wanted.outputs.is_empty() {
        return Ok(outputs.iter().map(|t| (t, wanted.binary)).collect());
    }
    let one = |(name, binary): &(String, bool)| {
        let tensor = outputs.iter().find(|t| t.name == *name);
        tensor.map(|t| (t, *binary)).ok_or_else(|| {
            let name: String = name.chars().take(64).collect();
            let has: Vec<&str> = outputs.iter().map(|t| t.name.as_str()).collect();
            Fault::invalid(format!("the model has no output '{name}'; it has: {}", has.join(", ")))
        })
    };
    wanted.outputs.iter().map(one).collect()
}

fn body(name: &str, version: u32, id: Option<&str>, outputs: &[(&Tensor, bool)]) -> Result<Answer, Fault> {
    let output = |(tensor, binary): &(&'_ Tensor, bool)| {
        if !binary && !fits_json(tensor) {
            let why = "holds FP16, NaN or infinite values, which JSON cannot: ask for it with binary_data";
            return Err(Fault::invalid(format!("the output '{}' {why}", tensor.name)));
        }
        Ok(())
    };
    outputs.iter().try_for_each(output)?;
    let described = outputs.iter().map(|(tensor, binary)| Output {
        name: &tensor.name,
        datatype: datatype(tensor.dtype),
        shape: &tensor.shape,
        parameters: binary.then_some(Size { binary_data_size: tensor.data.len() }),
        data: (!binary).then_some(Flat(tensor)),
    });
    let json = Body { model_name: name, model_version: version.to_string(), id, outputs: described.collect() };
    let mut body = serde_json::to_vec(&json).map_err(Fault::internal)?;
    let raw = outputs.iter().filter(|(_, binary)| *binary);
    let json_length = raw.clone().next().map(|_| body.len());
    raw.for_each(|(tensor, _)| body.extend_from_slice(&tensor.data));
    Ok(Answer { body, json_length })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn outputs() -> Vec<Tensor> {
        vec![Tensor::f32("y", &[2], &[1.0, 0.1]), Tensor::f32("z", &[1], &[f32::NAN])]
    }

    fn answer(wanted: &Wanted) -> Result<Answer, Fault> {
        let outputs = outputs();
        body("a/b", 3, Some("7"), &pick(&outputs, wanted)?)
    }

    #[test]
    fn json_and_bytes_side_by_side() {
        let wanted = Wanted { outputs: vec![("z".into(), true), ("y".into(), false)], binary: false };
        let answer = answer(&wanted).unwrap();
        let length = answer.json_length.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&answer.body[..length]).unwrap();
        assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 4);
        assert_eq!(json["outputs"][1]["data"].to_string(), "[1.0,0.1]");
        assert_eq!((json["model_version"].as_str(), json["id"].as_str()), (Some("3"), Some("7")));
        assert!(f32::from_le_bytes(answer.body[length..].try_into().unwrap()).is_nan());
    }

    #[test]
    fn what_json_cannot_hold_and_what_is_not_there_is_refused() {
        assert!(answer(&Wanted::default()).unwrap_err().message.contains("'z'"));
        assert!(answer(&Wanted { outputs: Vec::new(), binary: true }).unwrap().json_length.is_some());
        let other = Wanted { outputs: vec![("w".into(), false)], binary: false };
        assert!(answer(&other).unwrap_err().message.contains("it has: y, z"));
    }
}
