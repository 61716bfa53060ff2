//! Text from GGUF files of the llama family: our own forward pass over per-sequence caches, on our
//! own kernels (candle's products for the formats that these do not take).
//!
//! | module | owns |
//! |---|---|
//! | `gguf`, `kquants`, `tokenizer`, `template` | what a file holds |
//! | `linear`, `model` | products and the forward pass |
//! | `cache`, `prefix` | pages of keys and values, and which of them later texts can start from |
//! | `schedule`, `pace`, `batch` | who runs, how much a step reads, the step |
//! | `generation`, `sampler`, `emitter` | one text: its tokens, their choice, what is certain of their text |
//! | `guess` | which tokens may come next, so that several come out of one pass |
//! | `likelihood`, `replay` | how likely tokens are; a prediction: what it takes and gives |

mod batch;
#[cfg(test)]
mod bits;
mod cache;
mod emitter;
mod generation;
mod gguf;
mod guess;
mod kquants;
mod likelihood;
mod linear;
mod model;
mod pace;
mod prefix;
mod replay;
mod sampler;
mod schedule;
mod template;
#[cfg(test)]
mod together;
mod tokenizer;

use std::time::Instant;

use zero2ai_proto::{
    manifest::Task,
    tensor::{DType, Tensor, TensorSpec},
    worker::{GenerateJob, ModelInfo},
};

use self::{
    batch::Batch,
    cache::{Cache, PAGE, Page, Pages},
    generation::TextGeneration,
    gguf::Gguf,
    linear::Machine,
    model::{Model, Part},
    replay::{Replay, Told},
    template::Template,
    tokenizer::Tokenizer,
};
use super::{Event, Meanwhile, Runtime, source::Source};
use crate::error::EngineError;

/// Version of the runtime as it is told to others: answers may differ between versions. The instruction set is told too,
/// but answers do not depend on it.
const VERSION: &str = "2";
/// Told beside it where some products are candle's, whose answers do depend on the instruction set.
const CANDLE: &str = ", candle 0.11";
/// Part of the process's memory that caches of running texts may take: the rest is for weights, packed weights and the
/// rows in work. Too large and a long text kills the worker; too small and texts wait for each other.
const CACHE_SHARE: u64 = 3;
/// Bytes for caches where no limit was set.
const CACHE_BYTES: u64 = 1 << 30;
/// Tokens of a prediction read in one pass.
const PART: usize = 128;
/// Of them, if the scores of all are wanted: a row of scores is as long as the vocabulary.
const SCORED_PART: usize = 32;

/// A loaded language model.
pub(super) struct Text {
    info: ModelInfo,
    model: Model,
    tokenizer: Tokenizer,
    template: Option<Template>,
    /// Pages of keys and values that texts may hold together.
    pages: usize,
    batch: Batch,
}

impl Text {
    pub(super) fn load(source: &Source, memory: Option<u64>, look_up: bool) -> Result<Self, EngineError> {
        if memory.is_some_and(|m| m < source.size().saturating_mul(2)) {
            return Err(EngineError::worker(format!(
                "the model has {} MB and running it takes about three times that, but the worker may use only {} MB; raise its limit",
                source.size() / 1_000_000,
                memory.unwrap_or(0) / 1_000_000
            )));
        }
        let gguf = Gguf::open(source)?;
        let config = gguf.config()?;
        let tokenizer = Tokenizer::load(&gguf)?;
        let spelling = |key: &str| gguf.number(key).and_then(|id| tokenizer.spelling(id)).unwrap_or_default();
        let (begin, end) = (spelling("tokenizer.ggml.bos_token_id"), spelling("tokenizer.ggml.eos_token_id"));
        let template = gguf.text("tokenizer.chat_template").map(|t| Template::new(t, begin, end)).transpose()?;
        let model = Model::load(&gguf, tokenizer.len(), Machine::new()?)?;
        let context = u32::try_from(config.context).unwrap_or(u32::MAX);
        let vocabulary = tokenizer.len() as u64;
        let spec = |name: &str, dtype, shape| TensorSpec { name: name.to_owned(), dtype, shape };
        let (path, all) = model.computed_by();
        let runtime = format!("kernels/{path} {VERSION}{}", if all { "" } else { CANDLE });
        let info = ModelInfo {
            task: Task::Generate { context },
            architecture: "llama".to_owned(),
            runtime,
            inputs: vec![spec("tokens", DType::I64, vec![None])],
            outputs: vec![spec("logits", DType::F32, vec![Some(vocabulary)])],
            parameters: gguf.parameters(),
        };
        let cache_bytes = memory.map_or(CACHE_BYTES, |m| m / CACHE_SHARE);
        let pages = usize::try_from(cache_bytes / Page::bytes(&config)).unwrap_or(usize::MAX);
        let mut text = Self { info, model, tokenizer, template, pages, batch: Batch::new(pages, look_up) };
        text.warm_up()?;
        Ok(text)
    }

    /// Shows that the model gives numbers. candle packs its weights at their first use: now, so that no caller waits for it.
    fn warm_up(&mut self) -> Result<(), EngineError> {
        let mut nobody = Meanwhile { until: None, tell: &mut |_| {} };
        let (logits, _) = self.replay(&Replay::of(vec![0]), &mut nobody)?;
        if logits.len() != self.tokenizer.len() || logits.iter().any(|l| !l.is_finite()) {
            return Err(EngineError::model("the model's scores are not finite; its weights are damaged"));
        }
        Ok(())
    }

    /// Scores after the tokens, in memory of their own, and what is to be told of them. Texts that run go on between its parts.
    fn replay(&mut self, asked: &Replay, meanwhile: &mut Meanwhile<'_>) -> Result<(Vec<f32>, Told), EngineError> {
        let (mut cache, mut last, mut told) = (Cache::default(), Vec::new(), Told::default());
        let (tokens, vocabulary) = (&asked.tokens, self.model.vocabulary().max(1));
        while cache.len() < tokens.len() {
            meanwhile.check()?;
            if self.batch.has_work() {
                let events = self.batch.step(&self.model, &self.tokenizer);
                (meanwhile.tell)(events);
            }
            let start = cache.len();
            // Where bits depend on how rows are cut, they are always cut alike.
            let most = match asked.from {
                Some(_) => SCORED_PART,
                None if self.model.keeps_bits() => self.batch.rows_at_once().min(PART),
                None => PART,
            };
            let end = start.saturating_add(most).min(tokens.len());
            let part = tokens.get(start..end).unwrap_or_default();
            cache.grow(part.len(), &self.model.config, &Pages::default())?;
            let scored = if asked.from.is_some() { part.len() } else { 1 };
            let scores = self.model.forward(&mut [Part { tokens: part, cache: &mut cache, scored }])?;
            if asked.from.is_some() {
                for (row, at) in scores.chunks_exact(vocabulary).zip(start..) {
                    asked.take(at, row, &mut told);
                }
            }
            last = scores;
        }
        let before_last = last.len().saturating_sub(vocabulary);
        Ok((last.split_off(before_last), told))
    }

    /// An error if the text, with all it may come to hold, cannot fit even alone.
    fn check_room(&self, positions: usize) -> Result<(), EngineError> {
        if positions.div_ceil(PAGE) <= self.pages {
            return Ok(());
        }
        let bytes = |pages: usize| (pages as u64).saturating_mul(Page::bytes(&self.model.config)) / 1_000_000;
        Err(EngineError::input(format!(
            "this text may need {} MB and {} MB are set aside for texts here; ask for fewer tokens or send a shorter prompt",
            bytes(positions.div_ceil(PAGE)),
            bytes(self.pages)
        )))
    }
}

impl Runtime for Text {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Scores after a row of tokens; see [`replay`].
    fn predict(&mut self, inputs: &[Tensor], meanwhile: &mut Meanwhile<'_>) -> Result<Vec<Tensor>, EngineError> {
        let asked = Replay::read(inputs, &self.tokenizer)?;
        generation::check_length(asked.tokens.len(), &self.model.config)?;
        self.check_room(asked.tokens.len())?;
        let (last, told) = self.replay(&asked, meanwhile)?;
        Ok(asked.answer(&last, &told))
    }

    fn enter(&mut self, job: &GenerateJob, until: Instant) -> Result<(), EngineError> {
        let text = TextGeneration::start(&job.input, &self.model.config, &self.tokenizer, self.template.as_ref())?;
        self.check_room(text.room())?;
        self.batch.enter(job, text, until)
    }

    fn leave(&mut self, job: u64) {
        self.batch.leave(job);
    }

    fn has_work(&self) -> bool {
        self.batch.has_work()
    }

    fn step(&mut self) -> Vec<Event> {
        self.batch.step(&self.model, &self.tokenizer)
    }
}
