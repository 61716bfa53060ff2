//! Text to tokens, from a `tokenizer.json`: word pieces, as the BERT family has them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use tokenizers::{Tokenizer as Pieces, TruncationParams};

use super::{
    super::source::Source,
    config::Config,
    files::{TOKENIZER, read},
};
use crate::error::EngineError;

/// Bytes of the file: multilingual vocabularies have some ten million.
const FILE_BYTES: u64 = 64 << 20;

/// Characters of a word that is cut into pieces; longer ones are unknown. The time goes with their cube; usual is 100.
const WORD_CHARS: u64 = 1_000;

/// What may change a text before it is cut, and cut it. None takes a pattern of the file's own: such a one could take for ever.
const BEFORE: &[&str] =
    &["BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Strip", "Sequence"];
const CUTS: &[&str] = &["BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits", "Sequence"];
/// What may put marks around it.
const MARKS: &[&str] = &["TemplateProcessing", "BertProcessing"];

fn bad(why: &str) -> EngineError {
    EngineError::model(format!("'{TOKENIZER}' cannot be used: {why}"))
}

/// A model's vocabulary, and the longest text.
pub(super) struct Tokenizer {
    pieces: Pieces,
    context: usize,
    vocabulary: usize,
}

/// One text's tokens.
pub(super) struct Tokens {
    /// What the model reads.
    pub(super) ids: Vec<u32>,
    /// How many there were before any cut.
    pub(super) all: u64,
}

impl Tokenizer {
    pub(super) fn load(source: &Source, config: &Config) -> Result<Self, EngineError> {
        let bytes = read(source, FILE_BYTES)?;
        let parts: Value = serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
        let model = parts.get("model").and_then(|model| model.get("type")).and_then(Value::as_str);
        if model != Some("WordPiece") {
            let model: String = model.unwrap_or("(none)").chars().take(64).collect();
            return Err(bad(&format!("its kind '{model}' is not run with bert by this version, WordPiece is")));
        }
        let longest = parts.get("model").and_then(|model| model.get("max_input_chars_per_word"));
        if longest.is_some_and(|n| n.as_u64().is_none_or(|n| n > WORD_CHARS)) {
            return Err(bad(&format!("it looks for pieces in words of more than {WORD_CHARS} characters")));
        }
        for (part, list, known) in [
            ("normalizer", "normalizers", BEFORE),
            ("pre_tokenizer", "pretokenizers", CUTS),
            ("post_processor", "", MARKS),
        ] {
            check(parts.get(part), list, known)?;
        }
        drop(parts);
        let mut pieces = Pieces::from_bytes(&bytes).map_err(|e| bad(&e.to_string()))?;
        // Nothing is cut unless a caller says so, and rows need no padding here.
        pieces.with_truncation(None).map_err(|e| bad(&e.to_string()))?;
        pieces.with_padding(None);
        let tokenizer = Self { pieces, context: config.context, vocabulary: config.vocabulary };
        // Also what the crate's own arithmetic on truncation needs.
        if tokenizer.ids("")?.len() >= config.context {
            return Err(bad("its marks alone are longer than the longest text"));
        }
        Ok(tokenizer)
    }

    /// The tokens of a text. Spellings of marks in it become those marks, as everywhere with this family.
    pub(super) fn encode(&mut self, text: &str, truncate: bool) -> Result<Tokens, EngineError> {
        let mut ids = self.ids(text)?;
        let all = ids.len();
        if all > self.context {
            if !truncate {
                return Err(EngineError::input(format!(
                    "a text has {all} tokens and the model takes {}; cut it, or allow that it is cut ('truncate')",
                    self.context
                )));
            }
            let most = TruncationParams { max_length: self.context, ..TruncationParams::default() };
            self.pieces.with_truncation(Some(most)).map_err(|e| bad(&e.to_string()))?;
            let cut = self.ids(text);
            self.pieces.with_truncation(None).map_err(|e| bad(&e.to_string()))?;
            ids = cut?;
        }
        if ids.is_empty() || ids.len() > self.context {
            return Err(bad("it makes no tokens of a text, or more than it was told to"));
        }
        if ids.iter().any(|id| *id as usize >= self.vocabulary) {
            return Err(bad("it makes tokens that the model has no row for"));
        }
        Ok(Tokens { ids, all: all as u64 })
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        // Marks that name tokens which the file does not have make the crate panic.
        let encode = AssertUnwindSafe(|| self.pieces.encode_fast(text, true));
        let encoded = catch_unwind(encode).map_err(|_| bad("its parts do not fit each other"))?;
        let encoded = encoded.map_err(|e| EngineError::input(format!("a text cannot be encoded: {e}")))?;
        Ok(encoded.get_ids().to_vec())
    }
}

/// Refuses a part of another kind than the known ones; `list` is where a sequence has its parts.
fn check(part: Option<&Value>, list: &str, known: &[&str]) -> Result<(), EngineError> {
    let Some(part) = part.filter(|part| !part.is_null()) else { return Ok(()) };
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("(none)");
    if !known.contains(&kind) {
        let kind: String = kind.chars().take(64).collect();
        return Err(bad(&format!("its part '{kind}' is not run with bert by this version; {} are", known.join(", "))));
    }
    if kind != "Sequence" {
        return Ok(());
    }
    // JSON's own depth is bounded, and so is this.
    let parts = part.get(list).and_then(Value::as_array).ok_or_else(|| bad("a sequence without parts"))?;
    parts.iter().try_for_each(|part| check(Some(part), list, known))
}
