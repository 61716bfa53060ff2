//! Text from GGUF files of the llama family: our own forward pass over per-sequence caches, on our
//! own kernels (candle's products for the formats that these do not take).

#[cfg(test)]
mod bits;
mod cache;
mod emitter;
mod generation;
mod gguf;
mod linear;
mod model;
mod sampler;
mod template;
mod tokenizer;

use std::any::Any;

use zero2ai_proto::{
    calls::GenerateInput,
    manifest::Task,
    tensor::{DType, Tensor, TensorSpec},
    worker::ModelInfo,
};

use self::{
    cache::Cache, generation::TextGeneration, gguf::Gguf, linear::Machine, model::Model, template::Template,
    tokenizer::Tokenizer,
};
use super::{Generation, Runtime, Step, source::Source};
use crate::error::EngineError;

/// Version of the runtime as it is told to others: answers may differ between versions. The instruction set is told too,
/// but answers do not depend on it.
const VERSION: &str = "1";
/// Told beside it where some products are candle's, whose answers do depend on the instruction set.
const CANDLE: &str = ", candle 0.11";
/// Part of the process's memory that caches of running texts may take: the rest is for weights, packed weights and the
/// rows in work. Too large and a long text kills the worker; too small and texts wait for each other.
const CACHE_SHARE: u64 = 3;
/// Bytes for caches where no limit was set.
const CACHE_BYTES: u64 = 1 << 30;

/// A loaded language model.
pub(super) struct Text {
    info: ModelInfo,
    model: Model,
    tokenizer: Tokenizer,
    template: Option<Template>,
    cache_bytes: u64,
    /// Bytes of caches of texts that run.
    used: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Text {
    pub(super) fn load(source: &Source, memory: Option<u64>) -> Result<Self, EngineError> {
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
        let text = Self { info, model, tokenizer, template, cache_bytes, used: std::sync::Arc::default() };
        text.warm_up()?;
        Ok(text)
    }

    /// Shows that the model gives numbers. candle packs its weights at their first use: now, so that no caller waits for it.
    fn warm_up(&self) -> Result<(), EngineError> {
        let mut cache = Cache::new(&self.model.config, 1)?;
        let logits = self.model.forward(&[0], &mut cache)?;
        if logits.len() != self.tokenizer.len() || logits.iter().any(|l| !l.is_finite()) {
            return Err(EngineError::model("the model's scores are not finite; its weights are damaged"));
        }
        Ok(())
    }
}

impl Runtime for Text {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Scores after a row of tokens: for conformance samples, and for replaying what another node said.
    fn predict(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let wrong = || {
            EngineError::input(
                "a text model's prediction takes one tensor, 'tokens' I64 [n], and gives the scores after it",
            )
        };
        let [tokens] = inputs else { return Err(wrong()) };
        tokens.check().map_err(|e| EngineError::input(e.to_string()))?;
        if tokens.dtype != DType::I64 || tokens.shape.len() != 1 {
            return Err(wrong());
        }
        let id = |b: &[u8; 8]| u32::try_from(i64::from_le_bytes(*b)).ok();
        let ids: Option<Vec<u32>> = tokens.data.as_chunks::<8>().0.iter().map(id).collect();
        let ids = ids.filter(|ids| !ids.is_empty() && ids.iter().all(|id| (*id as usize) < self.tokenizer.len()));
        let ids =
            ids.ok_or_else(|| EngineError::input("the tokens must be at least one, and of the model's vocabulary"))?;
        generation::check_length(ids.len(), &self.model.config)?;
        if Cache::bytes(&self.model.config, ids.len()) > self.cache_bytes {
            return Err(EngineError::input("these tokens need more memory than a text may take here; send fewer"));
        }
        let mut cache = Cache::new(&self.model.config, ids.len())?;
        let mut logits = Vec::new();
        for part in ids.chunks(generation::PART) {
            logits = self.model.forward(part, &mut cache)?;
        }
        Ok(vec![Tensor::f32("logits", &[logits.len() as u64], &logits)])
    }

    fn start(&mut self, input: &GenerateInput, busy: bool) -> Result<Option<Box<dyn Generation>>, EngineError> {
        let started = TextGeneration::start(input, &self.model.config, &self.tokenizer, self.template.as_ref())?;
        let bytes = started.cache_bytes(&self.model.config);
        if bytes > self.cache_bytes {
            return Err(EngineError::input(format!(
                "this text may need {} MB and {} MB are set aside for texts here; ask for fewer tokens or send a shorter prompt",
                bytes / 1_000_000,
                self.cache_bytes / 1_000_000
            )));
        }
        let used = self.used.load(std::sync::atomic::Ordering::Relaxed);
        if busy && used.saturating_add(bytes) > self.cache_bytes {
            return Ok(None);
        }
        Ok(Some(Box::new(started.with_cache(&self.model.config, &self.used)?)))
    }

    fn step(&mut self, generation: &mut dyn Generation) -> Result<Step, EngineError> {
        let generation = generation.as_any().downcast_mut::<TextGeneration>();
        let generation = generation.ok_or_else(|| EngineError::worker("a generation of another runtime"))?;
        generation.step(&self.model, &self.tokenizer)
    }
}

impl Generation for TextGeneration {
    fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
