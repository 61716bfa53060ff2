//! One text being generated: its prompt in parts, then a token a step.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use zero2ai_proto::{
    calls::{GenerateInput, Prompt, Sampling, StopReason, TokenPiece},
    limits::{NEW_TOKENS, PROMPT_BYTES},
};

use super::{
    super::Step, cache::Cache, emitter::Emitter, gguf::Config, model::Model, sampler, template::Template,
    tokenizer::Tokenizer,
};
use crate::error::EngineError;

/// Tokens of a prompt read in one step: enough for fast products, few enough that other texts and a cancel do not wait
/// longer than some tenths of a second.
pub(super) const PART: usize = 128;

/// A text in the making.
pub(super) struct TextGeneration {
    pub(super) prompt_tokens: u32,
    sampling: Sampling,
    /// Tokens that are known and not yet in the cache, the next one first.
    pending: Vec<u32>,
    /// Tokens of the answer so far, those resumed from included.
    given: u32,
    emitter: Emitter,
    /// Positions that this text may come to hold.
    room: usize,
    /// Set when the tokens resumed from end the text already.
    over: Option<StopReason>,
    cache: Option<Held>,
}

/// A cache, counted while it lives.
struct Held {
    cache: Cache,
    bytes: u64,
    used: Arc<AtomicU64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A prompt must leave room for one token of answer.
pub(super) fn check_length(tokens: usize, config: &Config) -> Result<(), EngineError> {
    if tokens >= config.context {
        return Err(EngineError::input(format!(
            "the prompt has {tokens} tokens and this model's context holds {}, its answer included; shorten the prompt",
            config.context
        )));
    }
    Ok(())
}

impl TextGeneration {
    /// Checks the input and encodes the prompt.
    pub(super) fn start(
        input: &GenerateInput,
        config: &Config,
        tokenizer: &Tokenizer,
        template: Option<&Template>,
    ) -> Result<Self, EngineError> {
        let sampling = input.sampling.clone();
        sampler::check(&sampling)?;
        if sampling.max_tokens == 0 || sampling.max_tokens > NEW_TOKENS {
            let message = format!("{} new tokens were asked for; 1 to {NEW_TOKENS} are given", sampling.max_tokens);
            return Err(EngineError::input(message));
        }
        let mut emitter = Emitter::new(&sampling.stop)?;
        let mut pending = encode(&input.prompt, tokenizer, template)?;
        check_length(pending.len(), config)?;
        let prompt_tokens = u32::try_from(pending.len()).unwrap_or(u32::MAX);
        let resume = &input.resume;
        if resume.len() > sampling.max_tokens as usize || resume.iter().any(|id| *id as usize >= tokenizer.len()) {
            return Err(EngineError::input(
                "the tokens to resume from are more than the answer may have, or not of this model",
            ));
        }
        // Taken as said: they shape what is held back, and what they made certain was given already.
        let mut over = None;
        for (index, id) in resume.iter().enumerate() {
            let (_, stopped) = emitter.push(tokenizer.bytes(*id));
            let last = index.saturating_add(1) == sampling.max_tokens as usize;
            over = match () {
                () if tokenizer.is_end(*id) => Some(StopReason::EndOfText),
                () if stopped => Some(StopReason::StopString),
                () if last => Some(StopReason::Length),
                () => None,
            };
            if over.is_some() {
                break;
            }
        }
        pending.extend_from_slice(resume);
        if pending.len() >= config.context {
            over = over.or(Some(StopReason::Context));
        }
        let given = u32::try_from(resume.len()).unwrap_or(u32::MAX);
        // The last token of an answer is never read again.
        let wanted = (prompt_tokens as usize).saturating_add(sampling.max_tokens as usize);
        let room = wanted.min(config.context);
        Ok(Self { prompt_tokens, sampling, pending, given, emitter, room, over, cache: None })
    }

    pub(super) fn cache_bytes(&self, config: &Config) -> u64 {
        Cache::bytes(config, self.room)
    }

    /// Takes the memory, counted in `used` until the text ends.
    pub(super) fn with_cache(mut self, config: &Config, used: &Arc<AtomicU64>) -> Result<Self, EngineError> {
        let (cache, bytes) = (Cache::new(config, self.room)?, self.cache_bytes(config));
        used.fetch_add(bytes, Ordering::Relaxed);
        self.cache = Some(Held { cache, bytes, used: Arc::clone(used) });
        Ok(self)
    }

    /// Reads a part of what is pending; the last part gives a token.
    pub(super) fn step(&mut self, model: &Model, tokenizer: &Tokenizer) -> Result<Step, EngineError> {
        if let Some(reason) = self.over {
            return Ok(Step::End(reason));
        }
        let held = self.cache.as_mut().ok_or_else(|| EngineError::worker("a text without memory"))?;
        let part: Vec<u32> = self.pending.drain(..PART.min(self.pending.len())).collect();
        if part.is_empty() || part.len() > held.cache.left() {
            return Err(EngineError::worker("a text outgrew its memory"));
        }
        let logits = model.forward(&part, &mut held.cache)?;
        if !self.pending.is_empty() {
            return Ok(Step::Prefilled);
        }
        let id = sampler::choose(&logits, &self.sampling, self.given.into())?;
        self.given = self.given.saturating_add(1);
        let (mut text, stopped) = self.emitter.push(tokenizer.bytes(id));
        let end = match () {
            () if tokenizer.is_end(id) => Some(StopReason::EndOfText),
            () if stopped => Some(StopReason::StopString),
            () if self.given >= self.sampling.max_tokens => Some(StopReason::Length),
            // The token could be given, but nothing could follow it.
            () if held.cache.left() == 0 => Some(StopReason::Context),
            () => None,
        };
        if end.is_some() && !stopped {
            text.push_str(&self.emitter.finish());
        }
        self.pending.push(id);
        Ok(Step::Token { piece: TokenPiece { id, text }, end })
    }
}

fn encode(prompt: &Prompt, tokenizer: &Tokenizer, template: Option<&Template>) -> Result<Vec<u32>, EngineError> {
    let tokens = match prompt {
        Prompt::Text(text) if text.len() > PROMPT_BYTES => {
            return Err(EngineError::input(format!("the prompt is longer than {PROMPT_BYTES} bytes")));
        }
        Prompt::Text(text) => tokenizer.encode(text)?,
        Prompt::Chat(messages) => {
            if let Some(control) = messages.iter().find_map(|m| tokenizer.control_in(&m.content)) {
                return Err(EngineError::input(format!(
                    "a message holds '{control}', which this model reads as a change of speaker; take it out, or send a plain prompt"
                )));
            }
            let template =
                template.ok_or_else(|| EngineError::input("this model has no chat template; send a plain prompt"))?;
            tokenizer.encode(&template.render(messages)?)?
        }
    };
    if tokens.is_empty() { Err(EngineError::input("the prompt is empty")) } else { Ok(tokens) }
}
