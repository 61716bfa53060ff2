//! `/v1`: OpenAI's routes: models, chat completions and completions, streamed or whole, and embeddings. What the network cannot do
//! is refused by name rather than passed over, so that nobody gets another answer than was asked for.
//!
//! | module | owns |
//! |---|---|
//! | [`models`] | listing models |
//! | [`embeddings`] | texts to rows of numbers |
//! | [`fields`] | taking a request's fields, and refusing those that are left |
//! | [`request`] | chat and completion requests, turned into the network's own |
//! | [`answer`] | the shape of answers and of the pieces of a stream |
//! | [`logprobs`] | tokens' probabilities in OpenAI's two shapes |
//! | [`stream`] | tokens as server-sent events |

pub(crate) mod embeddings;
pub(crate) mod models;

mod answer;
mod fields;
mod logprobs;
mod request;
mod stream;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{Request, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use zero2ai_client::{TextEvent, TextStream};
use zero2ai_proto::{limits::REQUEST_HORIZON_MS, manifest::Task};

use self::{
    answer::{Head, Kind, Usage},
    logprobs::Logprobs,
    request::Wish,
    stream::Telling,
};
use crate::{
    body::{self, Accept},
    fault::Fault,
    state::Shared,
};

/// Patience for a whole text: the longest that a request may be signed for.
const TEXT: Duration = Duration::from_millis(REQUEST_HORIZON_MS);

pub(crate) async fn chat(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Fault> {
    complete(shared, request, Kind::Chat).await
}

pub(crate) async fn completions(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Fault> {
    complete(shared, request, Kind::Text).await
}

fn json_answer(body: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// Seconds since 1970 UTC.
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

async fn complete(shared: Arc<Shared>, request: Request, kind: Kind) -> Result<Response, Fault> {
    let (head, body) = request.into_parts();
    let (place, body) = shared.enter(body).await?;
    let body = body::read(&head.headers, body, Accept::Json).await?;
    let Wish { name, model, input, stream, include_usage } = request::parse(&body, kind)?;
    let found = shared.resolve(&name).await?;
    if !matches!(found.entry.task, Task::Generate { .. }) {
        let message = match found.entry.task {
            Task::Embed { .. } => format!("{model} embeds texts: send them to /v1/embeddings"),
            _ => format!("{model} takes tensors: send them to /v2/models/{model}/infer"),
        };
        return Err(Fault::invalid(message).of("model"));
    }
    let head = Head::new(kind, model, &found.manifest)?;
    let started = async {
        let mut text = shared.client.generate(&found, input, TEXT).await?;
        // A refusal comes as the first event: it is answered with its own status, before anything is streamed.
        let first = next(&mut text).await?;
        Ok::<_, Fault>((text, first))
    };
    let (text, first) = started.await.inspect_err(|_| shared.forget(&name))?;
    if stream {
        return Ok(stream::answer(Telling { shared, head, text, first: Some(first), include_usage, _place: place }));
    }
    whole(&shared, &head, text, first).await
}

/// The next event; a stream that ends without its end is an error.
async fn next(text: &mut TextStream) -> Result<TextEvent, Fault> {
    match text.next().await {
        Some(event) => Ok(event?),
        None => Err(Fault::internal("a text ended without its provider's signature")),
    }
}

/// Waits for the whole text. The caller leaving drops this, and with it the work.
async fn whole(shared: &Shared, head: &Head, mut text: TextStream, first: TextEvent) -> Result<Response, Fault> {
    let (mut said, mut tokens, mut event) = (String::new(), 0u32, first);
    let mut logprobs = Logprobs::default();
    let end = loop {
        match event {
            TextEvent::Token(piece) => {
                shared.metrics.token();
                tokens = tokens.saturating_add(1);
                said += &piece.text;
                logprobs.push(&piece);
            }
            TextEvent::Done(end) => break end,
        }
        event = next(&mut text).await?;
    };
    shared.metrics.prompt(end.prompt_tokens);
    let usage = Usage { prompt: end.prompt_tokens, completion: tokens };
    let receipt = end.receipts.last().map(|r| r.id().map_err(Fault::internal)).transpose()?;
    let receipt = receipt.map(|id| id.to_string()).unwrap_or_default();
    let marks = [("zero2ai-node", end.node.to_string()), ("zero2ai-receipt", receipt)];
    Ok((marks, json_answer(&head.whole(&said, &logprobs, end.reason, usage))).into_response())
}
