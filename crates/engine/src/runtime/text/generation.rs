//! One text being generated: tokens to read, tokens given. Knows nothing of memory or of other texts.

use std::collections::VecDeque;

use zero2ai_proto::{
    calls::{GenerateInput, Prompt, Sampling, StopReason, TokenPiece},
    limits::{NEW_TOKENS, PROMPT_BYTES},
};

use super::{emitter::Emitter, gguf::Config, sampler, template::Template, tokenizer::Tokenizer};
use crate::error::EngineError;

/// A text in the making.
pub(super) struct TextGeneration {
    pub(super) prompt_tokens: u32,
    sampling: Sampling,
    /// Tokens that are known and not yet read, the next one first.
    pending: VecDeque<u32>,
    /// Tokens of the answer so far, those resumed from included.
    given: u32,
    emitter: Emitter,
    /// Positions that this text may come to hold.
    room: usize,
    /// Set when the tokens resumed from end the text already.
    over: Option<StopReason>,
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
        Ok(Self { prompt_tokens, sampling, pending: pending.into(), given, emitter, room, over })
    }

    /// Positions that it may come to hold.
    pub(super) const fn room(&self) -> usize {
        self.room
    }

    /// Why nothing is to be given, if so.
    pub(super) const fn over(&self) -> Option<StopReason> {
        self.over
    }

    /// Tokens to read before the next is given.
    pub(super) fn pending(&mut self) -> &[u32] {
        self.pending.make_contiguous()
    }

    /// Whether none is left to read.
    pub(super) fn read_all(&self) -> bool {
        self.pending.is_empty()
    }

    /// The next tokens to read.
    pub(super) fn take(&mut self, rows: usize) -> Vec<u32> {
        self.pending.drain(..rows.min(self.pending.len())).collect()
    }

    /// The token that follows from these scores.
    pub(super) fn choose(&self, scores: &[f32]) -> Result<u32, EngineError> {
        sampler::choose(scores, &self.sampling, self.given.into())
    }

    /// Gives a token, to be read next; `read` positions are held. Answers why it was the last, if so.
    pub(super) fn give(&mut self, id: u32, read: usize, tokenizer: &Tokenizer) -> (TokenPiece, Option<StopReason>) {
        self.given = self.given.saturating_add(1);
        let (mut text, stopped) = self.emitter.push(tokenizer.bytes(id));
        let end = match () {
            () if tokenizer.is_end(id) => Some(StopReason::EndOfText),
            () if stopped => Some(StopReason::StopString),
            () if self.given >= self.sampling.max_tokens => Some(StopReason::Length),
            // The token could be given, but nothing could follow it.
            () if read >= self.room => Some(StopReason::Context),
            () => None,
        };
        if end.is_some() && !stopped {
            text.push_str(&self.emitter.finish());
        }
        self.pending.push_back(id);
        (TokenPiece { id, text }, end)
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
