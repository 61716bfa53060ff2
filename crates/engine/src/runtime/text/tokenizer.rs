//! Text to tokens and tokens to bytes, from a GGUF file's own metadata: byte-level BPE as GPT-2 began it.

use tokenizers::{
    AddedToken, Tokenizer as Bpe,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::{
        PreTokenizerWrapper,
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
    tokenizer::SplitDelimiterBehavior,
};

use super::gguf::Gguf;
use crate::error::EngineError;

/// How llama 3 splits text before it is encoded.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Tokens of a vocabulary, at most: the largest known have 262,144.
const MAX_TOKENS: usize = 1 << 20;
/// `tokenizer.ggml.token_type` of tokens that steer and are no text, such as `<|im_end|>`.
const CONTROL: u32 = 3;
/// The type of literal tokens that a model's makers added.
const USER_DEFINED: u32 = 4;

/// A model's vocabulary.
pub(super) struct Tokenizer {
    bpe: Bpe,
    /// Bytes that each token stands for; none for control tokens.
    bytes: Vec<Box<[u8]>>,
    /// Spellings of control tokens.
    control: Vec<String>,
    /// Tokens that end a text.
    ends: Vec<u32>,
    /// Put before every text, if the model wants it.
    begin: Option<u32>,
}

fn bad(what: &str) -> EngineError {
    EngineError::model(format!("the GGUF file's tokenizer cannot be used: {what}"))
}

impl Tokenizer {
    pub(super) fn load(gguf: &Gguf<'_>) -> Result<Self, EngineError> {
        let kind = gguf.text("tokenizer.ggml.model").unwrap_or("(none)");
        if kind != "gpt2" {
            return Err(bad(&format!("its kind '{kind}' is not run by this version, gpt2 (byte-level BPE) is")));
        }
        let pre = gguf.text("tokenizer.ggml.pre").unwrap_or("gpt-2");
        let tokens = strings(gguf, "tokenizer.ggml.tokens")?;
        if tokens.is_empty() || tokens.len() > MAX_TOKENS {
            return Err(bad(&format!("{} tokens; 1 to {MAX_TOKENS} are allowed", tokens.len())));
        }
        let mut vocabulary = Vocab::default();
        for (id, token) in (0_u32..).zip(&tokens) {
            vocabulary.insert((*token).to_owned(), id);
        }
        let merge = |m: &str| {
            m.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).ok_or_else(|| bad("a merge without a space"))
        };
        let merges = strings(gguf, "tokenizer.ggml.merges")?.into_iter().map(merge).collect::<Result<Vec<_>, _>>()?;
        let model = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .ignore_merges(matches!(pre, "llama-bpe" | "llama3"))
            .build()
            .map_err(|e| bad(&e.to_string()))?;
        let mut bpe = Bpe::new(model);
        bpe.with_pre_tokenizer(Some(pre_tokenizer(pre)?));

        let types = gguf.list("tokenizer.ggml.token_type").unwrap_or_default();
        let kind_of = |id: usize| types.get(id).and_then(|v| v.to_i32().ok()).and_then(|t| u32::try_from(t).ok());
        let (mut bytes, mut control, mut added) = (Vec::with_capacity(tokens.len()), Vec::new(), Vec::new());
        for (id, token) in tokens.iter().enumerate() {
            match kind_of(id) {
                Some(CONTROL) => {
                    control.push((*token).to_owned());
                    added.push(AddedToken::from((*token).to_owned(), true));
                    bytes.push(Box::default());
                }
                Some(USER_DEFINED) => {
                    added.push(AddedToken::from((*token).to_owned(), true));
                    bytes.push(token.as_bytes().into());
                }
                _ => bytes.push(token_bytes(token)),
            }
        }
        bpe.add_special_tokens(added).map_err(|e| bad(&e.to_string()))?;
        let id = |key: &str| gguf.number(key).filter(|id| (*id as usize) < tokens.len());
        let ends =
            ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"].iter().filter_map(|k| id(k)).collect();
        let wants_begin = gguf.flag("tokenizer.ggml.add_bos_token").unwrap_or(false);
        let begin = id("tokenizer.ggml.bos_token_id").filter(|_| wants_begin);
        Ok(Self { bpe, bytes, control, ends, begin })
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Tokens of `text`; spellings of control tokens in it become those tokens.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let encoded = self
            .bpe
            .encode_fast(text, false)
            .map_err(|e| EngineError::input(format!("the prompt cannot be encoded: {e}")))?;
        let ids = encoded.get_ids();
        let begin = self.begin.filter(|b| ids.first() != Some(b));
        Ok(begin.into_iter().chain(ids.iter().copied()).collect())
    }

    /// The bytes a token stands for.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], |b| b)
    }

    /// Whether a text ends with this token.
    pub(super) fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// A control token spelled out in `text`, if there is one: in a conversation it could pass for another speaker.
    pub(super) fn control_in(&self, text: &str) -> Option<&str> {
        self.control.iter().find(|c| !c.is_empty() && text.contains(c.as_str())).map(String::as_str)
    }

    /// The spelling of a token, for templates.
    pub(super) fn spelling(&self, id: u32) -> Option<String> {
        self.bpe.id_to_token(id)
    }
}

fn strings<'a>(gguf: &'a Gguf<'_>, key: &str) -> Result<Vec<&'a str>, EngineError> {
    let list = gguf.list(key).ok_or_else(|| bad(&format!("'{key}' is missing")))?;
    let text = |v: &'a candle_core::quantized::gguf_file::Value| {
        v.to_string().map(String::as_str).map_err(|_| bad(&format!("'{key}' holds no text")))
    };
    list.iter().map(text).collect()
}

/// How text is split before it is encoded; a wrong one gives other tokens in silence, so unknown ones are refused.
fn pre_tokenizer(name: &str) -> Result<PreTokenizerWrapper, EngineError> {
    // No space is put before the text: GPT-2's original did, these models' tokenizers do not.
    let byte_level = |regex: bool| ByteLevel::new(false, false, regex);
    Ok(match name {
        "gpt-2" | "gpt2" => byte_level(true).into(),
        "smollm" => Sequence::new(vec![Digits::new(true).into(), byte_level(true).into()]).into(),
        "llama-bpe" | "llama3" => {
            let split = Split::new(SplitPattern::Regex(LLAMA3.to_owned()), SplitDelimiterBehavior::Isolated, false)
                .map_err(|e| bad(&e.to_string()))?;
            Sequence::new(vec![split.into(), byte_level(false).into()]).into()
        }
        other => {
            return Err(bad(&format!("its pre-tokenizer '{other}' is not known; smollm, gpt-2 and llama-bpe are")));
        }
    })
}

/// Undoes GPT-2's spelling of bytes as printable characters.
fn token_bytes(token: &str) -> Box<[u8]> {
    let byte = |c: char| match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(code).ok(),
        // Bytes without a printable character of their own follow from 256 on: 0..=32, 127..=160, 173.
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    };
    // A token that is not spelled this way stands for itself.
    let bytes: Option<Box<[u8]>> = token.chars().map(byte).collect();
    bytes.unwrap_or_else(|| token.as_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_spelled_as_gpt2_did() {
        assert_eq!(&*token_bytes("Ġhello"), b" hello");
        assert_eq!(&*token_bytes("ĊĠ"), b"\n ");
        assert_eq!(&*token_bytes("Ã¤"), "ä".as_bytes());
        // All 256 bytes are spelled, each once: the alphabet is that of the tokenizers crate.
        let mut seen: Vec<u8> =
            ByteLevel::alphabet().into_iter().flat_map(|c| token_bytes(&c.to_string()).to_vec()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
    }
}
