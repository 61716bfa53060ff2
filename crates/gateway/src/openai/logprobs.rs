//! Tokens' probabilities in the two shapes that OpenAI has for them.

use serde_json::{Map, Value, json};
use zero2ai_proto::calls::{TokenPiece, TokenScore};

use super::answer::Kind;

/// Of a whole answer, or of one piece of a stream.
#[derive(Debug, Default)]
pub(super) struct Logprobs {
    /// Each token's own score, and the likeliest ones'.
    tokens: Vec<(TokenScore, Vec<TokenScore>)>,
}

/// A natural logarithm.
fn log(score: &TokenScore) -> f64 {
    // Zero without a sign: JSON would show it.
    if score.minus_log_micro == 0 { 0.0 } else { -f64::from(score.minus_log_micro) / 1e6 }
}

/// A part of a character has no text of its own; its bytes say what it is.
fn text(score: &TokenScore) -> String {
    String::from_utf8_lossy(&score.bytes).into_owned()
}

fn entry(score: &TokenScore) -> Value {
    json!({ "token": text(score), "logprob": log(score), "bytes": *score.bytes })
}

impl Logprobs {
    /// Takes in a token. One without scores is left out: none were asked for.
    pub(super) fn push(&mut self, piece: &TokenPiece) {
        if let Some((own, likeliest)) = piece.scores.split_first() {
            self.tokens.push((own.clone(), likeliest.to_vec()));
        }
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// `null` without tokens. `offset` is the number of characters before the first of them.
    pub(super) fn json(&self, kind: Kind, offset: usize) -> Value {
        if self.tokens.is_empty() {
            return Value::Null;
        }
        match kind {
            Kind::Chat => {
                let token = |(own, likeliest): &(TokenScore, Vec<TokenScore>)| {
                    let mut token = entry(own);
                    token["top_logprobs"] = likeliest.iter().map(entry).collect();
                    token
                };
                json!({ "content": self.tokens.iter().map(token).collect::<Value>(), "refusal": null })
            }
            Kind::Text => self.parallel(offset),
        }
    }

    /// A completion's: lists side by side.
    fn parallel(&self, mut offset: usize) -> Value {
        let mut offsets = Vec::with_capacity(self.tokens.len());
        for (own, _) in &self.tokens {
            offsets.push(offset);
            offset = offset.saturating_add(text(own).chars().count());
        }
        let likeliest = |scores: &Vec<TokenScore>| -> Map<String, Value> {
            scores.iter().map(|score| (text(score), json!(log(score)))).collect()
        };
        json!({
            "tokens": self.tokens.iter().map(|(own, _)| text(own)).collect::<Vec<_>>(),
            "token_logprobs": self.tokens.iter().map(|(own, _)| log(own)).collect::<Vec<_>>(),
            "top_logprobs": self.tokens.iter().map(|(_, others)| likeliest(others)).collect::<Vec<_>>(),
            "text_offset": offsets,
        })
    }
}

#[cfg(test)]
mod tests {
    use zero2ai_proto::ByteBuf;

    use super::*;

    #[test]
    fn both_shapes_say_the_same() {
        let score = |id, bytes: &[u8], minus_log_micro| TokenScore { id, bytes: ByteBuf::from(bytes), minus_log_micro };
        let mut logprobs = Logprobs::default();
        logprobs.push(&TokenPiece { id: 1, text: "x".to_owned(), scores: vec![] });
        assert_eq!(logprobs.json(Kind::Chat, 0), Value::Null);
        let half = [score(7, b"\xc3", 0), score(7, b"\xc3", 0)];
        logprobs.push(&TokenPiece { id: 7, text: String::new(), scores: half.to_vec() });
        let other = [score(8, b"a", 1_500_000), score(9, b"b", 250_000)];
        logprobs.push(&TokenPiece { id: 8, text: "a".to_owned(), scores: other.to_vec() });
        let chat = logprobs.json(Kind::Chat, 0);
        assert_eq!(chat["content"][0]["bytes"], json!([0xc3]));
        assert_eq!(chat["content"][0]["logprob"].to_string(), "0.0");
        assert_eq!(chat["content"][1]["logprob"], json!(-1.5));
        assert_eq!(chat["content"][1]["top_logprobs"], json!([{ "token": "b", "logprob": -0.25, "bytes": [98] }]));
        let text = logprobs.json(Kind::Text, 3);
        assert_eq!(text["token_logprobs"], json!([0.0, -1.5]));
        assert_eq!((&text["text_offset"], &text["top_logprobs"][1]), (&json!([3, 4]), &json!({ "b": -0.25 })));
    }
}
