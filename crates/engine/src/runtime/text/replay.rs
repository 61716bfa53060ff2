//! What a text model's prediction is asked and what it gives: scores after a row of tokens, and how likely those in it were. For
//! conformance samples, and for replaying what another node said.
//!
//! | input | | |
//! |---|---|---|
//! | `tokens` I64 `[n]` | or `text` U8 `[bytes]`, UTF-8 | what is read; a text becomes the tokens that it is as a prompt |
//! | `from` I64 `[1]` | optional | 1 to n: from this position on it is told how likely tokens were, each after those before it |
//! | `among` I64 `[n - from, k]` | optional, with `from` | k tokens, 20 at most, whose likelihoods at each of these positions are told |
//!
//! | output | | |
//! |---|---|---|
//! | `logits` F32 `[vocabulary]` | always | scores after the last token |
//! | `logprobs` F32 `[n - from]` | with `from` | log-probability of each token that was read |
//! | `likeliest`, `among` F32 `[n - from]`, `[n - from, k]` | with `among` | the highest log-probability at each position, and those of the tokens asked for |
//! | `tokens` I64 `[n]` | with `text` | the tokens that it became |

use zero2ai_proto::{
    ByteBuf,
    limits::{PROMPT_BYTES, TOP_SCORES},
    tensor::{DType, Tensor},
};

use super::{likelihood::Likelihood, tokenizer::Tokenizer};
use crate::error::EngineError;

/// What is asked. Tokens are of the vocabulary; there is at least one.
pub(super) struct Replay {
    pub(super) tokens: Vec<u32>,
    /// From where on it is told how likely tokens were.
    pub(super) from: Option<usize>,
    /// Tokens to tell of beside those read, a row of them for each position.
    among: Vec<u32>,
    /// Tokens of a row of `among`; 0 if it was not given.
    width: usize,
    /// Whether a text was given.
    spelled: bool,
}

/// What is told of the positions.
#[derive(Default)]
pub(super) struct Told {
    logs: Vec<f32>,
    likeliest: Vec<f32>,
    among: Vec<f32>,
}

fn wrong(why: &str) -> EngineError {
    EngineError::input(format!(
        "a text model's prediction takes a tensor 'tokens' I64 [n], or 'text' U8 [bytes], and gives the scores after it; with \
         'from' I64 [1], 1 to n, it also gives the log-probabilities of the tokens from that position on, and with \
         'among' I64 [n - from, 1 to {TOP_SCORES}] those of other tokens there; {why}"
    ))
}

impl Replay {
    /// These tokens' scores and nothing more.
    pub(super) const fn of(tokens: Vec<u32>) -> Self {
        Self { tokens, from: None, among: Vec::new(), width: 0, spelled: false }
    }

    /// Reads the inputs, which come in the order of the table above.
    pub(super) fn read(inputs: &[Tensor], tokenizer: &Tokenizer) -> Result<Self, EngineError> {
        for tensor in inputs {
            tensor.check().map_err(|e| EngineError::input(e.to_string()))?;
        }
        let (read, from, among) = match inputs {
            [read] => (read, None, None),
            [read, from] => (read, Some(from), None),
            [read, from, among] => (read, Some(from), Some(among)),
            _ => return Err(wrong(&format!("{} tensors were sent", inputs.len()))),
        };
        // Tokens may come without their name, as ever.
        let spelled = read.name == "text";
        let tokens = if spelled { spelling(read, tokenizer)? } else { ids(read, 1)? };
        let known = |id: &u32| (*id as usize) < tokenizer.len();
        if tokens.is_empty() || !tokens.iter().all(known) {
            return Err(EngineError::input("the tokens must be at least one, and of the model's vocabulary"));
        }
        let from = from.map(|from| position(from, tokens.len())).transpose()?;
        let (among, width) = match (among, from) {
            (Some(among), Some(from)) => {
                let positions = tokens.len().saturating_sub(from);
                (others(among, positions)?, among.shape.last().map_or(0, |k| usize::try_from(*k).unwrap_or(0)))
            }
            _ => (Vec::new(), 0),
        };
        if !among.iter().all(known) {
            return Err(EngineError::input("the tokens of 'among' must be of the model's vocabulary"));
        }
        Ok(Self { tokens, from, among, width, spelled })
    }

    /// Takes the scores after the token at `at`: they tell how likely the next one was.
    pub(super) fn take(&self, at: usize, scores: &[f32], told: &mut Told) {
        let next = at.saturating_add(1);
        let (Some(from), Some(id)) = (self.from.filter(|from| next >= *from), self.tokens.get(next)) else { return };
        let likelihood = Likelihood::new(scores);
        told.logs.push(likelihood.log(*id) as f32);
        if self.width > 0 {
            told.likeliest.push(likelihood.highest() as f32);
            let row = self.among.chunks_exact(self.width).nth(next.saturating_sub(from)).unwrap_or_default();
            told.among.extend(row.iter().map(|id| likelihood.log(*id) as f32));
        }
    }

    /// The outputs, in the order of the table above.
    pub(super) fn answer(&self, last: &[f32], told: &Told) -> Vec<Tensor> {
        let mut outputs = vec![Tensor::f32("logits", &[last.len() as u64], last)];
        let positions = told.logs.len() as u64;
        if self.from.is_some() {
            outputs.push(Tensor::f32("logprobs", &[positions], &told.logs));
        }
        if self.width > 0 {
            outputs.push(Tensor::f32("likeliest", &[positions], &told.likeliest));
            outputs.push(Tensor::f32("among", &[positions, self.width as u64], &told.among));
        }
        if self.spelled {
            let data: Vec<u8> = self.tokens.iter().flat_map(|id| i64::from(*id).to_le_bytes()).collect();
            let (name, shape, data) = ("tokens".to_owned(), vec![self.tokens.len() as u64], ByteBuf::from(data));
            outputs.push(Tensor { name, dtype: DType::I64, shape, data });
        }
        outputs
    }
}

/// The numbers of a tensor of so many dimensions, each an id.
fn ids(tensor: &Tensor, dimensions: usize) -> Result<Vec<u32>, EngineError> {
    if tensor.dtype != DType::I64 || tensor.shape.len() != dimensions {
        return Err(wrong(&format!("'{}' was sent as {:?} {:?}", tensor.name, tensor.dtype, tensor.shape)));
    }
    // What fits no id is of no vocabulary.
    let id = |b: &[u8; 8]| u32::try_from(i64::from_le_bytes(*b)).unwrap_or(u32::MAX);
    Ok(tensor.data.as_chunks::<8>().0.iter().map(id).collect())
}

fn spelling(tensor: &Tensor, tokenizer: &Tokenizer) -> Result<Vec<u32>, EngineError> {
    if tensor.dtype != DType::U8 || tensor.shape.len() != 1 {
        return Err(wrong(&format!("'text' was sent as {:?} {:?}", tensor.dtype, tensor.shape)));
    }
    if tensor.data.len() > PROMPT_BYTES {
        return Err(EngineError::input(format!("the text is longer than {PROMPT_BYTES} bytes")));
    }
    let text = std::str::from_utf8(&tensor.data).map_err(|_| wrong("'text' is not UTF-8"))?;
    tokenizer.encode(text)
}

fn position(from: &Tensor, tokens: usize) -> Result<usize, EngineError> {
    match ids(from, 1)?.as_slice() {
        [id] if from.name == "from" && (1..=tokens).contains(&(*id as usize)) => Ok(*id as usize),
        _ => Err(wrong(&format!("'{}' is not one position in {tokens} tokens", from.name))),
    }
}

fn others(among: &Tensor, positions: usize) -> Result<Vec<u32>, EngineError> {
    let ids = ids(among, 2)?;
    match among.shape.as_slice() {
        [rows, width]
            if among.name == "among" && *rows == positions as u64 && (1..=u64::from(TOP_SCORES)).contains(width) =>
        {
            Ok(ids)
        }
        shape => Err(wrong(&format!("'{}' is {shape:?} where {positions} tokens follow 'from'", among.name))),
    }
}
