//! An inference request: JSON, and behind it the raw bytes of tensors that say how many of them are theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::http::HeaderValue;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use zero2ai_proto::{ByteBuf, limits::TENSORS, tensor::Tensor};

use super::element::{self, Elements};
use crate::fault::Fault;

/// Header that says how many bytes of a body are JSON; the rest are tensors.
pub(super) const JSON_LENGTH: &str = "inference-header-content-length";
/// Characters of a request's own id: it is sent back.
const ID_CHARS: usize = 256;
/// Longest patience a caller may ask for.
const PATIENCE: Duration = Duration::from_secs(600);
/// Parameters of extensions that the gateway does not have: silence would give a wrong answer.
const UNSUPPORTED: [&str; 6] = [
    "classification",
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "shared_memory_region",
    "shared_memory_byte_size",
];

/// A request, read.
#[derive(Debug)]
pub(super) struct Infer {
    /// The caller's own id.
    pub(super) id: Option<String>,
    /// The inputs, checked to hold together.
    pub(super) inputs: Vec<Tensor>,
    /// Which outputs are wanted, and how.
    pub(super) wanted: Wanted,
    /// How long the caller will wait, if it says.
    pub(super) patience: Option<Duration>,
}

/// Which outputs are wanted, and in which form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Names and whether as raw bytes; none means all.
    pub(super) outputs: Vec<(String, bool)>,
    /// Where nothing is said of an output: as raw bytes?
    pub(super) binary: bool,
}

type Parameters = BTreeMap<String, Value>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<u64>,
    #[serde(default)]
    parameters: Parameters,
    data: Option<Elements>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// Reads a body; `json_length` is the header of that name.
pub(super) fn parse(body: &Bytes, json_length: Option<&HeaderValue>) -> Result<Infer, Fault> {
    let (json, mut raw) = match json_length {
        None => (body.as_ref(), &[][..]),
        Some(value) => {
            let length = value.to_str().ok().and_then(|v| v.parse().ok());
            let split = length.and_then(|n| body.split_at_checked(n));
            split.ok_or_else(|| Fault::invalid(format!("{JSON_LENGTH} is no number, or larger than the body")))?
        }
    };
    let request: Body = serde_json::from_slice(json)
        .map_err(|e| Fault::invalid(format!("the inference request cannot be read: {e}")))?;
    if request.inputs.is_empty() || request.inputs.len() > TENSORS || request.outputs.len() > TENSORS {
        let (inputs, outputs) = (request.inputs.len(), request.outputs.len());
        return Err(Fault::invalid(format!("{inputs} inputs and {outputs} outputs; 1 and 0 to {TENSORS} are allowed")));
    }
    if request.id.as_ref().is_some_and(|id| id.len() > ID_CHARS) {
        return Err(Fault::invalid(format!("the id is longer than {ID_CHARS} bytes")));
    }
    let inputs = request.inputs.into_iter().map(|input| tensor(input, &mut raw)).collect::<Result<_, _>>()?;
    if !raw.is_empty() {
        return Err(Fault::invalid(format!("{} bytes lie behind the last tensor", raw.len())));
    }
    refuse_unsupported(&request.parameters)?;
    let binary = flag(&request.parameters, "binary_data_output")?.unwrap_or(false);
    let output = |output: Output| {
        refuse_unsupported(&output.parameters)?;
        Ok((output.name, flag(&output.parameters, "binary_data")?.unwrap_or(binary)))
    };
    let outputs = request.outputs.into_iter().map(output).collect::<Result<Vec<_>, Fault>>()?;
    let distinct: BTreeSet<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
    if distinct.len() < outputs.len() {
        return Err(Fault::invalid("an output is asked for twice"));
    }
    let patience = request.parameters.get("timeout").map(|v| v.as_u64().filter(|us| *us > 0)).map(|us| {
        us.map(|us| Duration::from_micros(us).min(PATIENCE))
            .ok_or_else(|| Fault::invalid("timeout is no number of microseconds"))
    });
    Ok(Infer { id: request.id, inputs, wanted: Wanted { outputs, binary }, patience: patience.transpose()? })
}

/// One input; takes its bytes from the front of `raw` if it says that it has some.
fn tensor(input: Input, raw: &mut &[u8]) -> Result<Tensor, Fault> {
    let label: String = input.name.chars().take(64).collect();
    let fail = |why: String| Fault::invalid(format!("input '{label}': {why}"));
    refuse_unsupported(&input.parameters)?;
    let dtype = element::dtype(&input.datatype).map_err(fail)?;
    let data = match (input.parameters.get("binary_data_size"), input.data) {
        (None, None) => return Err(fail("it has neither data nor binary_data_size".into())),
        (Some(_), Some(_)) => return Err(fail("it has both data and binary_data_size".into())),
        (None, Some(elements)) => elements.to_bytes(dtype).map_err(fail)?,
        (Some(size), None) => {
            let size = size.as_u64().and_then(|n| usize::try_from(n).ok());
            let split = size.and_then(|n| raw.split_at_checked(n));
            let (data, rest) =
                split.ok_or_else(|| fail("fewer bytes follow the JSON than binary_data_size says".into()))?;
            *raw = rest;
            data.to_vec()
        }
    };
    let tensor = Tensor { name: input.name, dtype, shape: input.shape, data: ByteBuf::from(data) };
    tensor.check().map_err(|e| Fault::invalid(e.to_string()))?;
    Ok(tensor)
}

fn refuse_unsupported(parameters: &Parameters) -> Result<(), Fault> {
    match UNSUPPORTED.iter().find(|name| parameters.contains_key(**name)) {
        Some(name) => {
            Err(Fault::invalid(format!("the parameter '{name}' belongs to an extension that is not supported")))
        }
        None => Ok(()),
    }
}

fn flag(parameters: &Parameters, name: &str) -> Result<Option<bool>, Fault> {
    parameters
        .get(name)
        .map(|v| v.as_bool().ok_or_else(|| Fault::invalid(format!("{name} is neither true nor false"))))
        .transpose()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(json: &Value, raw: &[u8], with_length: bool) -> Result<Infer, Fault> {
        let text = json.to_string();
        let length = HeaderValue::from(text.len());
        let body = [text.as_bytes(), raw].concat();
        parse(&body.into(), with_length.then_some(&length))
    }

    #[test]
    fn binary_tensors_are_cut_in_order() {
        let input = |name: &str, n: u64| json!({ "name": name, "datatype": "UINT8", "shape": [n], "parameters": { "binary_data_size": n } });
        let inline = json!({ "name": "b", "datatype": "UINT8", "shape": [1], "data": [9] });
        let request = json!({
            "id": "7", "inputs": [input("a", 2), inline, input("c", 3)],
            "parameters": { "binary_data_output": true, "timeout": 5_000_000 },
            "outputs": [{ "name": "y" }, { "name": "z", "parameters": { "binary_data": false } }],
        });
        let got = read(&request, &[1, 2, 3, 4, 5], true).unwrap();
        let data: Vec<&[u8]> = got.inputs.iter().map(|t| t.data.as_slice()).collect();
        assert_eq!(data, [&[1, 2][..], &[9], &[3, 4, 5]]);
        assert_eq!(got.wanted.outputs, [("y".to_owned(), true), ("z".to_owned(), false)]);
        assert_eq!((got.id.as_deref(), got.patience), (Some("7"), Some(Duration::from_secs(5))));
        assert!(read(&request, &[1, 2, 3, 4], true).is_err(), "too few bytes");
        assert!(read(&request, &[1, 2, 3, 4, 5, 6], true).is_err(), "too many bytes");
    }

    #[test]
    fn contradictions_and_extensions_we_lack_are_refused() {
        let base = json!({ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2] });
        assert!(read(&json!({ "inputs": [base] }), &[], false).is_ok());
        let changed = |key: &str, value: Value| {
            let mut input = base.clone();
            input[key] = value;
            read(&json!({ "inputs": [input] }), &[], false)
        };
        for (key, value) in [
            ("shape", json!([3])),
            ("shape", json!([-1])),
            ("shape", json!([u64::MAX, u64::MAX])),
            ("datatype", json!("BYTES")),
            ("data", Value::Null),
            ("data", json!("text")),
            ("parameters", json!({ "binary_data_size": 8 })),
            ("parameters", json!({ "shared_memory_region": "r" })),
            ("dataa", json!([])),
        ] {
            assert!(changed(key, value.clone()).is_err(), "{key} {value}");
        }
        assert!(read(&json!({ "inputs": [] }), &[], false).is_err());
        assert!(read(&json!({ "inputs": [base], "parameters": { "sequence_id": 1 } }), &[], false).is_err());
        let ranked = json!({ "name": "y", "parameters": { "classification": 2 } });
        assert!(read(&json!({ "inputs": [base], "outputs": [ranked] }), &[], false).is_err());
        let twice = json!({ "inputs": [base], "outputs": [{ "name": "y" }, { "name": "y" }] });
        assert!(read(&twice, &[], false).is_err());
        assert!(parse(&Bytes::from_static(b"{}"), Some(&HeaderValue::from_static("99"))).is_err());
        assert!(parse(&Bytes::from_static(b"{}"), Some(&HeaderValue::from_static("-1"))).is_err());
    }

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200), length in 0usize..300) {
            let _ = parse(&body.into(), Some(&HeaderValue::from(length)));
        }
    }
}
