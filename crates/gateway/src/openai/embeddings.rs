//! `/v1/embeddings`: texts in, one row of numbers each out, as OpenAI has it. Tokens in place of text are refused: every model
//! has a vocabulary of its own, and a client's guess at it would give wrong rows in silence.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use data_encoding::BASE64;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use zero2ai_proto::{
    ModelRef,
    limits::{EMBED_TEXTS, FRAME_BYTES},
    manifest::Task,
    texts::{Embeddings, Texts},
};

use super::{BYTES_PER_TOKEN, fields::Fields, json_answer};
use crate::{
    body::{self, Accept},
    fault::Fault,
    state::Shared,
    usage::Need,
};

/// Patience for one call, over all endpoints.
const EMBED: Duration = Duration::from_secs(120);

/// A request, read.
#[derive(Debug)]
struct Wish {
    name: ModelRef,
    /// The name as the caller wrote it.
    model: String,
    texts: Vec<String>,
    base64: bool,
    /// Whether a text that is too long may be cut: not OpenAI's, named as other servers of its routes have it.
    truncate: bool,
}

/// `input`: one text or several. Numbers are read too, so that what they are can be told.
#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
    Other(#[allow(dead_code, reason = "only that it is no text is told")] IgnoredAny),
}

pub(crate) async fn embeddings(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Fault> {
    let (head, body) = request.into_parts();
    let (_place, body) = shared.enter(body).await?;
    let body = body::read(&head.headers, body, Accept::Json).await?;
    let Wish { name, model, texts, base64, truncate } = parse(&body)?;
    let found = shared.resolve(&name).await?;
    let Task::Embed { width, .. } = found.entry.task else {
        return Err(Fault::invalid(format!("{model} does not embed texts: choose a model that does")).of("model"));
    };
    // Half a frame, so that what is around the numbers has room.
    let fits = FRAME_BYTES / 2 / (width as usize).saturating_mul(4).max(1);
    if texts.len() > fits {
        let message =
            format!("'input' has {} texts; {fits} rows of this model fit one answer: send fewer", texts.len());
        return Err(Fault::invalid(message).of("input"));
    }
    let mut bill = shared.bill(&head, Need::exact(estimate(&texts))).await?;
    let texts = Texts { truncate, ..Texts::new(&texts) };
    let embedded = match shared.client.embed(&found, &texts, EMBED).await {
        Ok(embedded) => embedded,
        Err(error) => {
            bill.cancel();
            shared.forget(&name);
            return Err(error.into());
        }
    };
    let tokens = embedded.embeddings.total_tokens();
    bill.settle(tokens);
    shared.metrics.prompt(u32::try_from(tokens).unwrap_or(u32::MAX));
    let answer = json!({
        "object": "list",
        "data": rows(&embedded.embeddings, base64),
        "model": model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    });
    let receipt = embedded.receipt.id().map_err(Fault::internal)?;
    let marks = [("zero2ai-node", embedded.node.to_string()), ("zero2ai-receipt", receipt.to_string())];
    Ok((marks, json_answer(&answer)).into_response())
}

/// Tokens of the texts, until they are known.
fn estimate(texts: &[String]) -> u64 {
    texts.iter().map(|text| (text.len() / BYTES_PER_TOKEN).max(1) as u64).sum()
}

/// One object a row; the numbers as a list, or as their little-endian bytes in base64.
fn rows(embeddings: &Embeddings, base64: bool) -> Vec<Value> {
    let numbers = |row: &[f32]| {
        if base64 {
            let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
            Value::String(BASE64.encode(&bytes))
        } else {
            json!(row)
        }
    };
    let row =
        |(index, row): (usize, &[f32])| json!({ "object": "embedding", "index": index, "embedding": numbers(row) });
    embeddings.rows().enumerate().map(row).collect()
}

fn parse(body: &[u8]) -> Result<Wish, Fault> {
    let mut fields = Fields::parse(body)?;
    let missing = |name: &str| Fault::invalid(format!("you must provide '{name}'")).of(name);
    let model: String = fields.take("model")?.ok_or_else(|| missing("model"))?;
    let name: ModelRef =
        model.parse().map_err(|e: zero2ai_proto::name::NameError| Fault::no_model(e.to_string()).of("model"))?;
    let texts = match fields.take::<Input>("input")?.ok_or_else(|| missing("input"))? {
        Input::One(text) => vec![text],
        Input::Many(texts) => texts,
        Input::Other(_) => {
            let message = "'input' must be a text or a list of texts: tokens are not taken, since every model has a vocabulary \
                           of its own (LangChain sends text with check_embedding_ctx_length=False)";
            return Err(Fault::invalid(message).of("input"));
        }
    };
    if texts.is_empty() || texts.len() > EMBED_TEXTS {
        let message = format!("'input' has {} texts; 1 to {EMBED_TEXTS} are embedded at once", texts.len());
        return Err(Fault::invalid(message).of("input"));
    }
    if texts.iter().any(String::is_empty) {
        return Err(Fault::invalid("'input' has an empty text: leave it out").of("input"));
    }
    let base64 = match fields.take::<String>("encoding_format")?.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Fault::invalid("'encoding_format' is float or base64").of("encoding_format")),
    };
    if fields.take::<Value>("dimensions")?.is_some() {
        let message = "'dimensions' is not supported: a row has as many numbers as the model gives, and is never cut; leave it out";
        return Err(Fault::invalid(message).of("dimensions"));
    }
    let truncate = fields.take("truncate")?.unwrap_or(false);
    fields.ignore(&["user"]);
    fields.finish()?;
    Ok(Wish { name, model, texts, base64, truncate })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_read_and_what_is_not_done_is_refused_by_name() {
        let one = parse(br#"{"model":"a/b","input":"x","user":"me"}"#).unwrap();
        assert_eq!((one.texts, one.base64, one.truncate), (vec!["x".to_owned()], false, false));
        let many = parse(br#"{"model":"a/b@2","input":["x","y"],"encoding_format":"base64","truncate":true}"#).unwrap();
        assert_eq!((many.texts.len(), many.base64, many.truncate), (2, true, true));
        for (body, param, word) in [
            (r#"{"input":"x"}"#, "model", "provide"),
            (r#"{"model":"nonsense","input":"x"}"#, "model", "nonsense"),
            (r#"{"model":"a/b"}"#, "input", "provide"),
            (r#"{"model":"a/b","input":[]}"#, "input", "0 texts"),
            (r#"{"model":"a/b","input":["x",""]}"#, "input", "empty"),
            (r#"{"model":"a/b","input":[1,2]}"#, "input", "tokens"),
            (r#"{"model":"a/b","input":[[1,2],[3]]}"#, "input", "tokens"),
            (r#"{"model":"a/b","input":"x","dimensions":64}"#, "dimensions", "never cut"),
            (r#"{"model":"a/b","input":"x","encoding_format":"int8"}"#, "encoding_format", "base64"),
            (r#"{"model":"a/b","input":"x","truncate":"END"}"#, "truncate", "truncate"),
            (r#"{"model":"a/b","input":"x","n":2}"#, "n", "unrecognized"),
        ] {
            let fault = parse(body.as_bytes()).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(param), "{body}");
            assert!(fault.message.contains(word), "{body}: {}", fault.message);
        }
    }

    #[test]
    fn rows_have_openais_two_forms() {
        let embeddings = Embeddings { width: 2, values: vec![1.0, -0.5, 0.25, 3.0], tokens: vec![3, 3] };
        let plain = rows(&embeddings, false);
        assert_eq!((&plain[1]["index"], &plain[1]["embedding"]), (&json!(1), &json!([0.25, 3.0])));
        assert_eq!(rows(&embeddings, true)[0]["embedding"], "AACAPwAAAL8=");
    }
}
