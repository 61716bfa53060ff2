//! The shape of answers, and of the pieces of a stream.

use serde_json::{Value, json};
use zero2ai_proto::{ManifestId, calls::StopReason, keys::random_bytes};

use super::{logprobs::Logprobs, now_s};
use crate::fault::Fault;

/// Which of the two routes for text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: u32,
    pub(super) completion: u32,
}

impl Usage {
    pub(super) fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": u64::from(self.prompt) + u64::from(self.completion),
        })
    }
}

/// What every piece of one answer repeats.
#[derive(Clone, Debug)]
pub(super) struct Head {
    kind: Kind,
    id: String,
    model: String,
    created: u64,
    fingerprint: String,
}

/// OpenAI's word for why a text ended.
fn finish(reason: StopReason) -> &'static str {
    match reason {
        StopReason::EndOfText | StopReason::StopString => "stop",
        StopReason::Length | StopReason::Context => "length",
    }
}

impl Head {
    /// A fresh one; the fingerprint names the weights.
    pub(super) fn new(kind: Kind, model: String, manifest: &ManifestId) -> Result<Self, Fault> {
        let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
        let random = u128::from_le_bytes(random_bytes().map_err(Fault::internal)?);
        let weights: String = manifest.to_string().chars().take(16).collect();
        let fingerprint = format!("fp_{weights}");
        Ok(Self { kind, id: format!("{prefix}-{random:032x}"), model, created: now_s(), fingerprint })
    }

    fn envelope(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }

    /// A whole answer.
    pub(super) fn whole(&self, text: &str, logprobs: &Logprobs, reason: StopReason, usage: Usage) -> Value {
        let (finish, logprobs) = (finish(reason), logprobs.json(self.kind, 0));
        let mut answer = match self.kind {
            Kind::Chat => {
                let message = json!({ "role": "assistant", "content": text, "refusal": null });
                let choice = json!({ "index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish });
                self.envelope("chat.completion", json!([choice]))
            }
            Kind::Text => {
                let choice = json!({ "index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish });
                self.envelope("text_completion", json!([choice]))
            }
        };
        answer["usage"] = usage.json();
        answer
    }

    /// The first piece of a stream, which says who speaks; completions have none.
    pub(super) fn opening(&self) -> Option<Value> {
        (self.kind == Kind::Chat).then(|| self.chunk(json!({ "role": "assistant", "content": "" }), Value::Null, None))
    }

    /// A piece of text; `offset` characters of it went before.
    pub(super) fn piece(&self, text: &str, logprobs: &Logprobs, offset: usize) -> Value {
        let logprobs = logprobs.json(self.kind, offset);
        match self.kind {
            Kind::Chat => self.chunk(json!({ "content": text }), logprobs, None),
            Kind::Text => self.text_chunk(text, logprobs, None),
        }
    }

    /// The piece that says why it ended.
    pub(super) fn closing(&self, reason: StopReason) -> Value {
        match self.kind {
            Kind::Chat => self.chunk(json!({}), Value::Null, Some(finish(reason))),
            Kind::Text => self.text_chunk("", Value::Null, Some(finish(reason))),
        }
    }

    /// The piece behind the last, if it was asked for.
    pub(super) fn usage(&self, usage: Usage) -> Value {
        let object = if self.kind == Kind::Chat { "chat.completion.chunk" } else { "text_completion" };
        let mut piece = self.envelope(object, json!([]));
        piece["usage"] = usage.json();
        piece
    }

    fn chunk(&self, delta: Value, logprobs: Value, finish: Option<&str>) -> Value {
        let choice = json!({ "index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish });
        self.envelope("chat.completion.chunk", json!([choice]))
    }

    fn text_chunk(&self, text: &str, logprobs: Value, finish: Option<&str>) -> Value {
        let choice = json!({ "index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish });
        self.envelope("text_completion", json!([choice]))
    }
}
