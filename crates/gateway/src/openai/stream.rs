//! Tokens as server-sent events. The stream is pulled by the connection: a caller that leaves drops it, and with it the
//! work at the provider; a slow one slows the provider down.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use zero2ai_client::{TextEnd, TextEvent, TextStream};

use super::{
    answer::{Head, Usage},
    logprobs::Logprobs,
    next,
};
use crate::{fault::Fault, state::Shared, usage::Bill};

/// A text about to be told.
pub(super) struct Telling {
    pub(super) shared: Arc<Shared>,
    pub(super) head: Head,
    pub(super) text: TextStream,
    /// The event that was waited for before the answer began.
    pub(super) first: Option<TextEvent>,
    pub(super) include_usage: bool,
    pub(super) bill: Bill,
    /// Held until the stream is over.
    pub(super) _place: OwnedSemaphorePermit,
}

/// The answer's head and its stream.
pub(super) fn answer(telling: Telling) -> Response {
    let opening = telling.head.opening().map(|piece| event(piece, telling.include_usage)).unwrap_or_default();
    let told = Told { telling, tokens: 0, logprobs: Logprobs::default(), offset: 0, ready: opening };
    let body = Body::from_stream(stream::unfold(Some(told), |told| async {
        let (bytes, rest) = told?.next().await;
        Some((Ok::<_, Infallible>(bytes), rest))
    }));
    ([(CONTENT_TYPE, "text/event-stream; charset=utf-8")], body).into_response()
}

/// A stream under way.
struct Told {
    telling: Telling,
    tokens: u32,
    /// Of tokens whose text is not certain yet.
    logprobs: Logprobs,
    /// Characters told.
    offset: usize,
    /// Events that wait to go out with the next.
    ready: String,
}

impl Told {
    /// The next bytes, and the rest of the stream if there is one.
    async fn next(mut self) -> (Bytes, Option<Self>) {
        loop {
            let event_now = match self.telling.first.take() {
                Some(first) => Ok(first),
                None => next(&mut self.telling.text).await,
            };
            match event_now {
                Ok(TextEvent::Token(piece)) => {
                    self.telling.shared.metrics.token();
                    self.telling.bill.take(1);
                    self.tokens = self.tokens.saturating_add(1);
                    self.logprobs.push(&piece);
                    // Nothing is certain yet inside a character.
                    if piece.text.is_empty() {
                        continue;
                    }
                    let logprobs = std::mem::take(&mut self.logprobs);
                    let told = self.telling.head.piece(&piece.text, &logprobs, self.offset);
                    self.offset = self.offset.saturating_add(piece.text.chars().count());
                    self.ready += &event(told, self.telling.include_usage);
                    return (std::mem::take(&mut self.ready).into(), Some(self));
                }
                Ok(TextEvent::Done(end)) => return (self.end(&end), None),
                Err(fault) => return (self.broken(&fault), None),
            }
        }
    }

    fn end(mut self, end: &TextEnd) -> Bytes {
        self.telling.bill.settle(u64::from(end.prompt_tokens));
        let Telling { head, include_usage, shared, .. } = &self.telling;
        shared.metrics.prompt(end.prompt_tokens);
        if !self.logprobs.is_empty() {
            // The last tokens gave no text: a token that ends texts, or part of a character.
            self.ready += &event(head.piece("", &self.logprobs, self.offset), *include_usage);
        }
        self.ready += &event(head.closing(end.reason), *include_usage);
        if *include_usage {
            let usage = Usage { prompt: end.prompt_tokens, completion: self.tokens };
            self.ready += &event(head.usage(usage), false);
        }
        self.ready += "data: [DONE]\n\n";
        self.ready.into()
    }

    /// An error in the middle: said as an event, and no `[DONE]` follows.
    fn broken(mut self, fault: &Fault) -> Bytes {
        self.ready += &event(fault.openai(), false);
        self.ready.into()
    }
}

/// One event; where usage was asked for, every piece but the last says that it has none.
fn event(mut piece: Value, no_usage_yet: bool) -> String {
    if no_usage_yet {
        piece["usage"] = Value::Null;
    }
    format!("data: {piece}\n\n")
}
