//! `predict`: sends tensors to the nearest endpoint; the signed receipt is checked before anything is shown.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use zero2ai_client::{Prediction, Resolution};
use zero2ai_media::Kind;
use zero2ai_proto::tensor::{DType, Tensor, argmax};

use super::{keep, read_file, resolve::lookup_served};
use crate::{
    cli::PredictArgs,
    exit::{Exit, Failure, Outcome},
    input::{self, INPUT_BYTES, Rows},
    output::{Output, Table, millis},
    session::Session,
};

/// What is often the matter with rows of the wrong width.
const LABELLED: &str = "If the last column of the rows is the true class, add --labelled.";
/// Files of one call; more pictures do not fit one at any usual size.
const FILES: usize = 256;
/// Rows of an answer shown as text; `--json` gives all.
const SHOWN_ROWS: usize = 40;

/// Predicts at the nearest endpoint of `found`, going on to the next if one is gone.
pub(crate) async fn at_nearest(
    session: &Session,
    found: &Resolution,
    inputs: Vec<Tensor>,
    patience: Duration,
) -> Outcome<Prediction> {
    Ok(session.client.predict(found, inputs, patience).await?)
}

/// The most probable class of each row of a `[rows, classes]` tensor, of equal ones the first, with its value; `None` if it is not of that shape.
pub(crate) fn classes(output: &Tensor) -> Option<Vec<(u32, f32)>> {
    let [_, width] = output.shape[..] else { return None };
    let values = output.to_f32().ok()?;
    let best = |row: &[f32]| {
        let class = argmax(row);
        Some((u32::try_from(class).ok()?, *row.get(class)?))
    };
    values.chunks(usize::try_from(width).ok().filter(|w| *w > 0)?).map(best).collect()
}

/// What was given to predict from.
enum Given {
    /// Tensors, and the true class of each row where the file had them.
    Tensors(Vec<Tensor>, Vec<u32>),
    /// Pictures or a sound, which the model's publisher says how to make tensors of.
    Content(Vec<Vec<u8>>),
}

/// Reads a file, or standard input for `-`.
fn read_one(path: &Path) -> Outcome<Vec<u8>> {
    if path == Path::new("-") {
        read_file("read standard input, through", Path::new("/dev/stdin"), INPUT_BYTES)
    } else {
        read_file("read", path, INPUT_BYTES)
    }
}

/// Reads what is to be predicted from. What it is, its content says.
fn read_input(args: &PredictArgs) -> Outcome<Given> {
    let files: Vec<_> = args.input.iter().chain(&args.files).collect();
    if files.len() > FILES {
        return Err(Failure::new(Exit::Invalid, format!("{} files; at most {FILES} at once.", files.len())));
    }
    let mut contents = files.iter().map(|path| read_one(path)).collect::<Outcome<Vec<_>>>()?;
    let is_text = |bytes: &Vec<u8>| matches!(Kind::of(bytes), Kind::Text | Kind::Empty);
    if !contents.iter().any(is_text) {
        if args.labelled {
            return Err(Failure::new(Exit::Invalid, "--labelled is of CSV rows, and this is no text."));
        }
        return Ok(Given::Content(contents));
    }
    let (Some(bytes), true) = (contents.pop(), contents.is_empty()) else {
        return Err(Failure::new(Exit::Invalid, "Rows or tensors are one file: put all rows into one."));
    };
    let text = String::from_utf8(bytes).unwrap_or_default();
    if text.trim_start().starts_with('{') {
        return Ok(Given::Tensors(input::json(&text)?, Vec::new()));
    }
    let rows = input::csv(&text, args.labelled)?;
    Ok(Given::Tensors(vec![Rows::tensor(&rows.features)], rows.labels))
}

/// The command.
pub(crate) async fn predict(home: &Path, args: PredictArgs, out: Output) -> Outcome {
    let given = read_input(&args)?; // before any connection: a mistake in the file is told at once
    let session = Session::open(home).await?;
    let found = lookup_served(&session, &args.name).await?;
    let (inputs, labels) = match given {
        Given::Tensors(inputs, labels) => (inputs, labels),
        Given::Content(contents) => (session.client.prepare(&found, contents, args.timeout).await?, Vec::new()),
    };
    let rows_alone = !args.labelled && matches!(inputs.as_slice(), [rows] if rows.shape.len() == 2);
    let answer = at_nearest(&session, &found, inputs, args.timeout).await;
    let answer = answer.map_err(|failure| match failure.exit {
        Exit::Invalid if rows_alone => failure.after(LABELLED),
        _ => failure,
    })?;
    let said = answer.outputs.first().and_then(classes);
    let correct = said
        .as_ref()
        .filter(|_| !labels.is_empty())
        .map(|said| said.iter().zip(&labels).filter(|(s, l)| s.0 == **l).count());
    let receipt = answer.receipt.id()?;
    let runtime = keep::runtime_of(&session, &found, answer.node).await;
    let kept = keep::save(args.save_call.as_deref(), || vec![answer.kept()], runtime.as_deref());
    let json = json!({
        "name": found.name.to_string(), "version": found.version, "node": answer.node.to_string(), "runtime": runtime,
        "ms": millis(answer.took), "receipt": receipt.to_string(), "correct": correct,
        "outputs": answer.outputs.iter().map(tensor_json).collect::<Vec<_>>(),
    });
    out.result(&json, || {
        let mut text = match said {
            Some(said) => classes_text(&said, &labels),
            None => answer.outputs.iter().map(tensor_text).collect(),
        };
        if let Some(correct) = correct {
            text += &format!("\n{correct} of {} right\n", labels.len());
        }
        let (node, ms) = (answer.node.short(), millis(answer.took));
        let by = keep::by(runtime.as_deref());
        text + &format!(
            "\nanswered by {node}{by} in {ms:.1} ms, receipt {receipt}{}",
            keep::kept_at(args.save_call.as_deref().filter(|_| kept.is_ok()))
        )
    });
    kept
}

fn classes_text(said: &[(u32, f32)], labels: &[u32]) -> String {
    let head: &[&str] =
        if labels.is_empty() { &[">row", ">class", ">score"] } else { &[">row", ">class", ">score", ">true"] };
    let mut table = Table::new(head);
    for (i, (class, score)) in said.iter().enumerate().take(SHOWN_ROWS) {
        let label = labels.get(i).map(|l| format!("{l}{}", if l == class { "" } else { " !" }));
        table.row([(i + 1).to_string(), class.to_string(), format!("{score:.4}")].into_iter().chain(label));
    }
    let mut text = table.render(0);
    if said.len() > SHOWN_ROWS {
        text += &format!("... and {} more rows: --json shows all\n", said.len() - SHOWN_ROWS);
    }
    text
}

fn tensor_text(tensor: &Tensor) -> String {
    let values = tensor.to_f32().unwrap_or_default();
    let shown: Vec<String> = values.iter().take(SHOWN_ROWS).map(|v| format!("{v:.6}")).collect();
    let more = if values.len() > SHOWN_ROWS { " ..." } else { "" };
    format!("{} {:?} {:?}\n{}{more}\n", tensor.name, tensor.dtype, tensor.shape, shown.join(" "))
}

/// A tensor as JSON; types that are not numbers here are given as hexadecimal bytes.
fn tensor_json(tensor: &Tensor) -> Value {
    let data = match tensor.dtype {
        DType::F32 => json!(tensor.to_f32().unwrap_or_default()),
        DType::I64 => {
            let (whole, _) = tensor.data.as_chunks::<8>();
            json!(whole.iter().map(|b| i64::from_le_bytes(*b)).collect::<Vec<_>>())
        }
        DType::U8 | DType::Bool => json!(tensor.data.to_vec()),
        _ => json!(hex::encode(tensor.data.as_slice())),
    };
    json!({ "name": tensor.name, "datatype": format!("{:?}", tensor.dtype), "shape": tensor.shape, "data": data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_score_of_each_row_wins() {
        let output = Tensor::f32("p", &[2, 3], &[0.1, 0.7, 0.2, 0.5, 0.2, 0.3]);
        assert_eq!(classes(&output), Some(vec![(1, 0.7), (0, 0.5)]));
        assert_eq!(classes(&Tensor::f32("p", &[3], &[0.1, 0.7, 0.2])), None);
        assert_eq!(classes(&Tensor::f32("p", &[3, 0], &[])), None);
    }
}
