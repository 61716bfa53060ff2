//! Reads what users feed models: CSV rows of numbers, or tensors as JSON. Checked here, so that a mistake is told with
//! its line before anything crosses the network.

use serde::Deserialize;
use zero2ai_proto::{
    ByteBuf,
    limits::{FRAME_BYTES, TENSORS},
    tensor::{DType, Tensor},
};
use zero2ai_validator::dataset::table::csv_records;

use crate::exit::{Exit, Failure, Outcome};

/// Bytes of input read: text takes more room than the 4 MiB frame it becomes; beyond it, send it in parts.
pub(crate) const INPUT_BYTES: u64 = 8 * FRAME_BYTES as u64;

/// A table of numbers, with the class of each row if the file had them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rows {
    /// The features, row by row, all of one length.
    pub(crate) features: Vec<Vec<f32>>,
    /// The true class of each row; empty if the file is not labelled.
    pub(crate) labels: Vec<u32>,
}

impl Rows {
    /// These rows as one tensor `[rows, features]`.
    pub(crate) fn tensor(rows: &[Vec<f32>]) -> Tensor {
        let width = rows.first().map_or(0, Vec::len);
        Tensor::f32("", &[rows.len() as u64, width as u64], &rows.concat())
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(Exit::Invalid, message)
}

/// Reads CSV: numbers separated by commas, a row a sample; a first line that is not numbers is a heading. With `labelled`
/// the last column is the class.
pub(crate) fn csv(text: &str, labelled: bool) -> Outcome<Rows> {
    let mut rows = Rows { features: Vec::new(), labels: Vec::new() };
    let fail = |line: u64, why: String| invalid(format!("Line {line}: {why}. Every row needs as many numbers."));
    csv_records(text.as_bytes(), usize::MAX, fail, |line, _, cells| {
        let (features, label) = match cells.split_last() {
            Some((label, features)) if labelled => (features, Some(*label)),
            _ => (cells, None),
        };
        rows.features.push(features.iter().map(|cell| number(line, cell)).collect::<Outcome<Vec<f32>>>()?);
        if let Some(label) = label {
            let class = label.parse().map_err(|_| {
                invalid(format!("Line {line}: the last column must be the class, a whole number from 0; leave out --labelled if there is none."))
            })?;
            rows.labels.push(class);
        }
        Ok(())
    })?;
    if rows.features.first().is_none_or(Vec::is_empty) {
        return Err(invalid(
            "The input has no row of numbers. Give CSV with one sample a row, or JSON tensors.".into(),
        ));
    }
    Ok(rows)
}

fn number(line: u64, cell: &str) -> Outcome<f32> {
    cell.parse::<f32>().ok().filter(|v| v.is_finite()).ok_or_else(|| {
        let shown: String = cell.chars().take(40).collect();
        invalid(format!("Line {line}: '{shown}' is not a number. Write plain decimals separated by commas."))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonInputs {
    inputs: Vec<JsonTensor>,
}

/// A tensor as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JsonTensor {
    #[serde(default)]
    name: String,
    #[serde(default)]
    shape: Vec<u64>,
    #[serde(default)]
    datatype: Option<String>,
    #[serde(default)]
    data: Vec<f64>,
    /// Instead of the rest: the bytes of a text.
    #[serde(default)]
    text: Option<String>,
}

/// Reads `{"inputs":[{"name","shape","data"}]}`; `datatype` is FP32 (unless said), FP64, INT64, INT32, UINT8 or BOOL. `text` alone
/// is the bytes of a text, UINT8.
pub(crate) fn json(text: &str) -> Outcome<Vec<Tensor>> {
    let parsed: JsonInputs = serde_json::from_str(text).map_err(|e| {
        invalid(format!("The input is not JSON of the form {{\"inputs\":[{{\"name\",\"shape\",\"data\"}}]}}: {e}."))
    })?;
    if parsed.inputs.is_empty() || parsed.inputs.len() > TENSORS {
        return Err(invalid(format!("{} inputs; 1 to {TENSORS} are allowed.", parsed.inputs.len())));
    }
    parsed.inputs.into_iter().map(tensor).collect()
}

/// One tensor, checked.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // every value is checked to be whole and in range first
pub(crate) fn tensor(input: JsonTensor) -> Outcome<Tensor> {
    if let Some(text) = input.text {
        if !input.shape.is_empty() || !input.data.is_empty() || input.datatype.is_some() {
            let message = "has a text, which stands alone: no shape, datatype or data beside it";
            return Err(invalid(format!("Input '{}' {message}.", input.name)));
        }
        let (shape, data) = (vec![text.len() as u64], ByteBuf::from(text.into_bytes()));
        return checked(Tensor { name: input.name, dtype: DType::U8, shape, data });
    }
    let dtype = match input.datatype.as_deref() {
        None | Some("FP32") => DType::F32,
        Some("FP64") => DType::F64,
        Some("INT64") => DType::I64,
        Some("INT32") => DType::I32,
        Some("UINT8") => DType::U8,
        Some("BOOL") => DType::Bool,
        Some(other) => {
            let shown: String = other.chars().take(20).collect();
            return Err(invalid(format!("Datatype '{shown}' is not known: FP32, FP64, INT64, INT32, UINT8 or BOOL.")));
        }
    };
    let range = match dtype {
        DType::I64 => -9.007_199_254_740_992e15..=9.007_199_254_740_992e15, // what a double carries exactly
        DType::I32 => f64::from(i32::MIN)..=f64::from(i32::MAX),
        DType::U8 => 0.0..=255.0,
        DType::Bool => 0.0..=1.0,
        _ => f64::MIN..=f64::MAX,
    };
    let whole = !matches!(dtype, DType::F32 | DType::F64);
    if let Some(bad) = input.data.iter().find(|v| !range.contains(v) || (whole && v.fract() != 0.0)) {
        return Err(invalid(format!("Input '{}': {bad} does not fit {dtype:?}.", input.name)));
    }
    let data: Vec<u8> = match dtype {
        DType::F64 => input.data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::I64 => input.data.iter().flat_map(|v| (*v as i64).to_le_bytes()).collect(),
        DType::I32 => input.data.iter().flat_map(|v| (*v as i32).to_le_bytes()).collect(),
        DType::U8 | DType::Bool => input.data.iter().map(|v| *v as u8).collect(),
        DType::F32 | DType::F16 => input.data.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
    };
    checked(Tensor { name: input.name, dtype, shape: input.shape, data: ByteBuf::from(data) })
}

fn checked(tensor: Tensor) -> Outcome<Tensor> {
    tensor.check().map_err(|e| invalid(format!("The {e}. 'data' must be flat and row-major.")))?;
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn csv_is_read_with_and_without_labels() {
        let text = "a,b,class\n1, 2.5,7\n\n3,4,0\n";
        let rows = csv(text, true).unwrap();
        assert_eq!(rows.features, [[1.0, 2.5], [3.0, 4.0]]);
        assert_eq!(rows.labels, [7, 0]);
        assert_eq!(Rows::tensor(&rows.features).shape, [2, 2]);
        assert_eq!(csv(text, false).unwrap().features[0].len(), 3);
    }

    #[test]
    fn bad_csv_names_its_line() {
        for (text, word) in
            [("1,2\n3", "Line 2"), ("1,2\n3,x", "'x'"), ("", "no row"), ("1,nan", "'nan'"), ("1,2\n1,inf", "'inf'")]
        {
            let message = csv(text, false).unwrap_err().message;
            assert!(message.contains(word), "{text:?}: {message}");
        }
        assert!(csv("1,2.5", true).is_err());
        let (heading, quoted) = ("\"a, b\",c\r\n\"1\",2\r\n", csv("\"1\",\" 2.5\"\n", false).unwrap());
        assert_eq!(csv(heading, false).unwrap().features, [[1.0, 2.0]], "as spreadsheets write it");
        assert_eq!(quoted.features, [[1.0, 2.5]]);
    }

    #[test]
    fn json_is_checked() {
        let good = json(r#"{"inputs":[{"name":"x","shape":[1,2],"data":[0.5,1]}]}"#).unwrap();
        assert_eq!(good[0].to_f32().unwrap(), [0.5, 1.0]);
        let ints = json(r#"{"inputs":[{"shape":[2],"datatype":"INT64","data":[-1,2]}]}"#).unwrap();
        assert_eq!(ints[0].data.len(), 16);
        let text = json(r#"{"inputs":[{"name":"text","text":"dé"}]}"#).unwrap();
        assert_eq!(
            (text[0].dtype, text[0].shape.as_slice(), text[0].data.as_ref()),
            (DType::U8, &[3][..], "dé".as_bytes())
        );
        for bad in [
            "{}",
            r#"{"inputs":[]}"#,
            r#"{"inputs":[{"name":"x"}]}"#,
            r#"{"inputs":[{"text":"a","data":[1]}]}"#,
            r#"{"inputs":[{"shape":[3],"data":[1]}]}"#,
            r#"{"inputs":[{"shape":[1],"datatype":"UINT8","data":[256]}]}"#,
            r#"{"inputs":[{"shape":[1],"datatype":"FP8","data":[1]}]}"#,
            r#"{"inputs":[{"shape":[1],"data":[1],"extra":1}]}"#,
        ] {
            assert_eq!(json(bad).unwrap_err().exit, Exit::Invalid, "{bad}");
        }
    }
}
