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

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use zero2ai_client::{TextEvent, TextStream};
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    calls::{GenerateInput, Prompt},
    limits::REQUEST_HORIZON_MS,
    manifest::Task,
};

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
    usage::{Bill, Need},
};

/// Patience for a whole text: the longest that a request may be signed for.
const TEXT: Duration = Duration::from_millis(REQUEST_HORIZON_MS);
/// Bytes of a prompt for each of its tokens, where that must be guessed: as English has them.
const BYTES_PER_TOKEN: usize = 4;

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
    now_ms() / 1_000
}

async fn complete(shared: Arc<Shared>, request: Request, kind: Kind) -> Result<Response, Fault> {
    let (head, body) = request.into_parts();
    let (place, body) = shared.enter(body).await?;
    let body = body::read(&head.headers, body, Accept::Json).await?;
    let Wish { name, model, mut input, stream, include_usage } = request::parse(&body, kind)?;
    let found = shared.resolve(&name).await?;
    if !matches!(found.entry.task, Task::Generate { .. }) {
        let message = match found.entry.task {
            Task::Embed { .. } => format!("{model} embeds texts: send them to /v1/embeddings"),
            _ => format!("{model} takes tensors: send them to /v2/models/{model}/infer"),
        };
        return Err(Fault::invalid(message).of("model"));
    }
    let answer = Head::new(kind, model, &found.manifest)?;
    let mut bill = shared.bill(&head, need(&input)).await?;
    // Where the budget ends the text does, as at any other limit.
    input.sampling.max_tokens = u32::try_from(bill.held()).unwrap_or(input.sampling.max_tokens);
    let started = async {
        let mut text = shared.client.generate(&found, input, TEXT).await?;
        // A refusal comes as the first event: it is answered with its own status, before anything is streamed.
        let first = next(&mut text).await?;
        Ok::<_, Fault>((text, first))
    };
    let (text, first) = match started.await {
        Ok(started) => started,
        Err(fault) => {
            bill.cancel();
            shared.forget(&name);
            return Err(fault);
        }
    };
    if stream {
        let first = Some(first);
        return Ok(stream::answer(Telling { shared, head: answer, text, first, include_usage, bill, _place: place }));
    }
    whole(&shared, &answer, text, first, &mut bill).await
}

/// What a text may take: how many tokens its prompt has is known at its end only, and estimated until then.
fn need(input: &GenerateInput) -> Need {
    let bytes = match &input.prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
    };
    let at_once = (bytes / BYTES_PER_TOKEN).max(1) as u64;
    Need { at_once, least: 1, most: u64::from(input.sampling.max_tokens) }
}

/// The next event; a stream that ends without its end is an error.
async fn next(text: &mut TextStream) -> Result<TextEvent, Fault> {
    match text.next().await {
        Some(event) => Ok(event?),
        None => Err(Fault::internal("a text ended without its provider's signature")),
    }
}

/// Waits for the whole text. The caller leaving drops this, and with it the work.
async fn whole(
    shared: &Shared,
    head: &Head,
    mut text: TextStream,
    first: TextEvent,
    bill: &mut Bill,
) -> Result<Response, Fault> {
    let (mut said, mut tokens, mut event) = (String::new(), 0u32, first);
    let mut logprobs = Logprobs::default();
    let end = loop {
        match event {
            TextEvent::Token(piece) => {
                shared.metrics.token();
                bill.take(1);
                tokens = tokens.saturating_add(1);
                said += &piece.text;
                logprobs.push(&piece);
            }
            TextEvent::Done(end) => break end,
        }
        event = next(&mut text).await?;
    };
    shared.metrics.prompt(end.prompt_tokens);
    bill.settle(u64::from(end.prompt_tokens));
    let usage = Usage { prompt: end.prompt_tokens, completion: tokens };
    let receipt = end.receipts.last().map(|r| r.id().map_err(Fault::internal)).transpose()?;
    let receipt = receipt.map(|id| id.to_string()).unwrap_or_default();
    let marks = [("zero2ai-node", end.node.to_string()), ("zero2ai-receipt", receipt)];
    Ok((marks, json_answer(&head.whole(&said, &logprobs, end.reason, usage))).into_response())
}
