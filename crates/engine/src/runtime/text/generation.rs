//! One text being generated: tokens to read, tokens given. Knows nothing of memory or of other texts.

use std::{borrow::Cow, collections::VecDeque};

use zero2ai_proto::{
    ByteBuf,
    calls::{GenerateInput, Prompt, Sampling, StopReason, TokenPiece, TokenScore},
    limits::{NEW_TOKENS, PROMPT_BYTES, SCORE_BYTES},
};

use super::{
    emitter::Emitter,
    gguf::Config,
    guess::Guesser,
    likelihood::{Likelihood, minus_micro},
    sampler::{self, Past},
    template::Template,
    tokenizer::Tokenizer,
};
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
    /// All tokens of the prompt and of the answer so far.
    known: Vec<u32>,
    past: Past,
    guesser: Guesser,
}

/// A token that follows from scores.
#[derive(Debug)]
pub(super) struct Choice {
    id: u32,
    /// Its own and the likeliest tokens' logarithms of probability, if they are wanted.
    logs: Vec<(u32, f64)>,
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
        let mut past = Past::of(&pending);
        resume.iter().for_each(|id| past.give(*id));
        pending.extend_from_slice(resume);
        if pending.len() >= config.context {
            over = over.or(Some(StopReason::Context));
        }
        let given = u32::try_from(resume.len()).unwrap_or(u32::MAX);
        // The last token of an answer is never read again.
        let wanted = (prompt_tokens as usize).saturating_add(sampling.max_tokens as usize);
        let room = wanted.min(config.context);
        let (known, guesser) = (pending.clone(), Guesser::default());
        Ok(Self { prompt_tokens, sampling, pending: pending.into(), given, emitter, room, over, known, past, guesser })
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

    /// How many tokens it would have guessed; see [`Guesser::wish`].
    pub(super) fn wish(&mut self, worth: f64) -> usize {
        self.guesser.wish(worth)
    }

    /// Tokens that may follow those known, at most so many, and never more than there is room and leave for; `read` positions
    /// will be held before them.
    pub(super) fn guess(&self, most: usize, read: usize) -> Vec<u32> {
        let wanted = self.sampling.max_tokens.saturating_sub(self.given).saturating_sub(1) as usize;
        let room = self.room.saturating_sub(read);
        self.guesser.guess(&self.known, most.min(wanted).min(room))
    }

    /// Takes note of how many guesses were right.
    pub(super) fn learn(&mut self, guessed: usize, right: usize) {
        self.guesser.learn(guessed, right);
    }

    /// The tokens that follow: from the first row of scores the next one, and as long as that was guessed, from the next row the
    /// one after it. One, then, and one more for each right guess.
    pub(super) fn choose<'a>(
        &self,
        rows: impl Iterator<Item = &'a [f32]>,
        guessed: &[u32],
    ) -> Result<Vec<Choice>, EngineError> {
        let (mut choices, mut guessed) = (Vec::new(), guessed.iter());
        let mut past = Cow::Borrowed(&self.past);
        let mut position = u64::from(self.given);
        for row in rows {
            let id = sampler::choose(row, &self.sampling, &past, position)?;
            choices.push(Choice { id, logs: self.logs(row, id) });
            if guessed.next() != Some(&id) {
                break;
            }
            past.to_mut().give(id);
            position = position.saturating_add(1);
        }
        Ok(choices)
    }

    fn logs(&self, row: &[f32], id: u32) -> Vec<(u32, f64)> {
        let Some(count) = self.sampling.logprobs else { return Vec::new() };
        let likelihood = Likelihood::new(row);
        let others = likelihood.likeliest(count.into());
        std::iter::once(id).chain(others).map(|id| (id, likelihood.log(id))).collect()
    }

    /// Gives a token, to be read next; `read` positions are held. Answers why it was the last, if so.
    pub(super) fn give(
        &mut self,
        choice: Choice,
        read: usize,
        tokenizer: &Tokenizer,
    ) -> (TokenPiece, Option<StopReason>) {
        let Choice { id, logs } = choice;
        self.past.give(id);
        self.known.push(id);
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
        let score = |(id, log): (u32, f64)| {
            let bytes = tokenizer.bytes(id);
            let bytes = ByteBuf::from(bytes.get(..SCORE_BYTES).unwrap_or(bytes));
            TokenScore { id, bytes, minus_log_micro: minus_micro(log) }
        };
        (TokenPiece { id, text, scores: logs.into_iter().map(score).collect() }, end)
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
