//! Embeddings of texts, by encoders of the BERT family from a folder with safetensors: our own forward pass on our own
//! kernels, weights rounded to Q8_0, texts of all waiting calls in one pass without padding.
//!
//! A row depends on its own text and the weights alone: not on the texts beside it, the number of threads or the instruction
//! set.
//!
//! | module | owns |
//! |---|---|
//! | `files` | which files of the folder are read |
//! | `config`, `safetensors`, `tokenizer` | what they hold, checked |
//! | `model` | the forward pass and pooling |

mod config;
mod files;
#[cfg(test)]
mod hostile;
mod model;
mod safetensors;
mod tokenizer;

use std::{os::fd::OwnedFd, time::Instant};

use zero2ai_kernels::Path;
use zero2ai_proto::{
    manifest::Task,
    tensor::{DType, Tensor, TensorSpec},
    texts::{EMBEDDINGS, Embeddings, LENGTHS, TEXT, TOKENS, Texts},
    worker::{GenerateJob, ModelInfo},
};

use self::{
    config::{Config, Pooling},
    files::{Folder, TOKENIZER, WEIGHTS},
    model::Model,
    safetensors::Safetensors,
    tokenizer::{Tokenizer, Tokens},
};
use super::{Ask, Event, Meanwhile, Runtime, Together};
use crate::error::EngineError;

pub use files::is_embedder_file;

/// Version of the runtime as it is told to others: answers may differ between versions.
const VERSION: &str = "1";
/// Tokens of one pass, a longer text's own excepted: enough to keep every thread busy. More, and the rows in work outgrow the
/// caches and deadlines are looked at too rarely.
const PASS: usize = 1_024;

/// A loaded embedder.
pub(super) struct Embed {
    info: ModelInfo,
    model: Model,
    tokenizer: Tokenizer,
}

/// A text of one of the calls that run together.
struct Text {
    call: usize,
    place: usize,
    tokens: Tokens,
}

/// What one call came to so far.
struct Call {
    rows: Vec<Option<Vec<f32>>>,
    tokens: Vec<u64>,
    missing: usize,
    until: Option<Instant>,
    answered: bool,
}

impl Embed {
    pub(super) fn load(files: Vec<(String, OwnedFd)>, memory: Option<u64>) -> Result<Self, EngineError> {
        let folder = Folder::new(files)?;
        let config = Config::load(&folder)?;
        let (bytes, pass) = (folder.bytes(), Model::pass_bytes(&config, PASS.max(config.context)));
        if memory.is_some_and(|m| m < bytes.saturating_mul(2).saturating_add(pass)) {
            return Err(EngineError::worker(format!(
                "the model has {} MB, loading it takes about twice that and its longest text {} MB more, but the worker may \
                 use only {} MB; raise its limit",
                bytes / 1_000_000,
                pass / 1_000_000,
                memory.unwrap_or(0) / 1_000_000
            )));
        }
        let tokenizer = Tokenizer::load(folder.get(TOKENIZER)?, &config)?;
        // As many threads as the worker was given.
        let threads = candle_core::utils::get_num_threads().max(1);
        let model = Model::load(&Safetensors::open(folder.get(WEIGHTS)?)?, config, threads, Path::best())?;
        let mut embed = Self { info: info(&model), model, tokenizer };
        embed.warm_up()?;
        Ok(embed)
    }

    /// Shows that the model gives numbers.
    fn warm_up(&mut self) -> Result<(), EngineError> {
        let tokens = self.tokenizer.encode("a", true)?;
        let rows = self.model.embed(&[&tokens.ids])?;
        if rows.iter().flatten().all(|v| v.is_finite()) {
            return Ok(());
        }
        Err(EngineError::model("the model's embeddings are not finite; its weights are damaged"))
    }

    /// The tokens of all texts of a call.
    fn read(&mut self, call: usize, inputs: &[Tensor]) -> Result<Vec<Text>, EngineError> {
        let Texts { texts, truncate } = Texts::from_tensors(inputs).map_err(|e| EngineError::input(e.to_string()))?;
        let mut read = Vec::with_capacity(texts.len());
        for (place, text) in texts.into_iter().enumerate() {
            read.push(Text { call, place, tokens: self.tokenizer.encode(text, truncate)? });
        }
        Ok(read)
    }

    fn answer(&self, call: &mut Call) -> Vec<Tensor> {
        call.answered = true;
        let values = call.rows.drain(..).flatten().flatten().collect();
        Embeddings { width: self.model.config().width, values, tokens: std::mem::take(&mut call.tokens) }.to_tensors()
    }
}

impl Together for Embed {
    fn predict_all(&mut self, asks: &[Ask<'_>], answer: &mut dyn FnMut(usize, Result<Vec<Tensor>, EngineError>)) {
        let (mut calls, mut waiting) = (Vec::with_capacity(asks.len()), Vec::new());
        for (index, ask) in asks.iter().enumerate() {
            // Cutting long texts into tokens takes its time too.
            let late = ask.until.is_some_and(|until| until <= Instant::now());
            let read = if late { Err(EngineError::late()) } else { self.read(index, ask.inputs) };
            let (texts, answered) = match read {
                Ok(texts) => (texts, false),
                Err(error) => {
                    answer(index, Err(error));
                    (Vec::new(), true)
                }
            };
            let tokens = texts.iter().map(|text| text.tokens.all).collect();
            let (missing, until) = (texts.len(), ask.until);
            calls.push(Call { rows: vec![None; missing], tokens, missing, until, answered });
            waiting.extend(texts);
        }
        // Calls take turns: a small one does not wait for all of a large one.
        waiting.sort_by_key(|text| (text.place, text.call));
        let mut waiting = waiting.into_iter().peekable();
        loop {
            let now = Instant::now();
            for (index, call) in calls.iter_mut().enumerate() {
                if !call.answered && call.until.is_some_and(|until| until <= now) {
                    call.answered = true;
                    answer(index, Err(EngineError::late()));
                }
            }
            let (mut pass, mut tokens) = (Vec::new(), 0_usize);
            while let Some(text) = waiting.peek() {
                let more = tokens.saturating_add(text.tokens.ids.len());
                if !pass.is_empty() && more > PASS {
                    break;
                }
                // What has its answer already is left out.
                if let Some(text) = waiting.next().filter(|text| calls.get(text.call).is_some_and(|c| !c.answered)) {
                    tokens = more;
                    pass.push(text);
                }
            }
            if pass.is_empty() {
                return;
            }
            let ids: Vec<&[u32]> = pass.iter().map(|text| text.tokens.ids.as_slice()).collect();
            let rows = match self.model.embed(&ids) {
                Ok(rows) => rows,
                Err(error) => {
                    // Not the fault of one call: all that are left hear of it.
                    for (index, _) in calls.iter().enumerate().filter(|(_, call)| !call.answered) {
                        answer(index, Err(EngineError::worker(error.to_string())));
                    }
                    return;
                }
            };
            for (text, row) in pass.iter().zip(rows) {
                let Some(call) = calls.get_mut(text.call) else { continue };
                if let Some(place) = call.rows.get_mut(text.place) {
                    *place = Some(row);
                }
                call.missing = call.missing.saturating_sub(1);
                if call.missing == 0 {
                    let finite = call.rows.iter().flatten().flatten().all(|v| v.is_finite());
                    let given = self.answer(call);
                    let damaged = || EngineError::model("an embedding is not finite: the model's weights are damaged");
                    answer(text.call, if finite { Ok(given) } else { Err(damaged()) });
                }
            }
        }
    }
}

impl Runtime for Embed {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn predict(&mut self, inputs: &[Tensor], meanwhile: &mut Meanwhile<'_>) -> Result<Vec<Tensor>, EngineError> {
        let mut answer = Err(EngineError::worker("the texts were not embedded"));
        self.predict_all(&[Ask { inputs, until: meanwhile.until }], &mut |_, given| answer = given);
        answer
    }

    fn together(&mut self) -> Option<&mut dyn Together> {
        Some(self)
    }

    fn enter(&mut self, _: &GenerateJob, _: Instant) -> Result<(), EngineError> {
        Err(EngineError::input("this model embeds texts and does not write any; use embed"))
    }

    fn leave(&mut self, _: u64) {}

    fn has_work(&self) -> bool {
        false
    }

    fn step(&mut self) -> Vec<Event> {
        Vec::new()
    }
}

/// What the model takes and gives, and how: the pooling is part of its form, the weights' rounding of what runs it.
fn info(model: &Model) -> ModelInfo {
    let config = model.config();
    let pooling = match config.pooling {
        Pooling::Mean => "mean",
        Pooling::First => "first-token",
    };
    let told = if config.told { "" } else { ", assumed" };
    let normalised = if config.normalise { ", normalised" } else { "" };
    let fits = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let spec = |name: &str, dtype, shape| TensorSpec { name: name.to_owned(), dtype, shape };
    ModelInfo {
        task: Task::Embed { width: fits(config.width), context: fits(config.context) },
        architecture: format!("bert ({pooling} pooling{normalised}{told})"),
        runtime: format!("kernels/{} embed {VERSION}, q8_0", model.path().name()),
        inputs: vec![spec(LENGTHS, DType::I64, vec![None]), spec(TEXT, DType::U8, vec![None])],
        outputs: vec![
            spec(EMBEDDINGS, DType::F32, vec![None, Some(config.width as u64)]),
            spec(TOKENS, DType::I64, vec![None]),
        ],
        parameters: model.parameters(),
    }
}
