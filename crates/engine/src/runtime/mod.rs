//! What runs a model, behind one trait: formats differ here and nowhere else. Runs in the worker process only.

mod conformance;
mod embed;
mod onnx;
mod source;
mod text;

use std::{os::fd::OwnedFd, time::Instant};

use zero2ai_proto::{
    calls::{StopReason, TokenPiece},
    manifest::{ConformanceSample, Format},
    tensor::Tensor,
    worker::{GenerateJob, ModelInfo},
};

use self::source::Source;
use crate::{error::EngineError, file::ModelFile};

pub use embed::is_embedder_file;

/// A loaded model. Errors name their fault: the caller's input or the model's files.
pub(crate) trait Runtime: Send {
    /// What the model takes and gives.
    fn info(&self) -> &ModelInfo;

    /// One prediction. Inputs are checked here.
    fn predict(&mut self, inputs: &[Tensor], meanwhile: &mut Meanwhile<'_>) -> Result<Vec<Tensor>, EngineError>;

    /// For a runtime that does predictions of several callers in one go.
    fn together(&mut self) -> Option<&mut dyn Together> {
        None
    }

    /// Takes up a generation: what it gives comes out of [`Self::step`], until a time when it is given up. An error is the end
    /// of that job alone.
    fn enter(&mut self, job: &GenerateJob, until: Instant) -> Result<(), EngineError>;

    /// Gives a generation up; nothing comes of it any more.
    fn leave(&mut self, job: u64);

    /// Whether [`Self::step`] has something to do.
    fn has_work(&self) -> bool;

    /// Takes all generations that run one step further: parts of prompts, one token each of the others.
    fn step(&mut self) -> Vec<Event>;
}

/// Predictions of several callers at once. None of them changes another's answer, to the last bit.
pub(crate) trait Together {
    /// Answers each ask once, by its place among them, as soon as it is done.
    fn predict_all(&mut self, asks: &[Ask<'_>], answer: &mut dyn FnMut(usize, Result<Vec<Tensor>, EngineError>));
}

/// One of several predictions.
pub(crate) struct Ask<'a> {
    /// Checked by the runtime.
    pub(crate) inputs: &'a [Tensor],
    /// When it is to be given up.
    pub(crate) until: Option<Instant>,
}

/// What a long prediction minds while it runs.
pub(crate) struct Meanwhile<'a> {
    /// When it is to be given up.
    pub(crate) until: Option<Instant>,
    /// Takes what generations gave between its parts.
    pub(crate) tell: &'a mut dyn FnMut(Vec<Event>),
}

impl Meanwhile<'_> {
    /// An error once the time is over.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        if self.until.is_some_and(|until| until <= Instant::now()) { Err(EngineError::late()) } else { Ok(()) }
    }
}

/// What a step gave to one job.
#[derive(Debug)]
pub(crate) enum Event {
    /// A token or the end, or both.
    Given(Given),
    /// The end by an error.
    Failed {
        /// The job.
        job: u64,
        /// Why.
        error: EngineError,
    },
}

/// See [`Event::Given`].
#[derive(Debug)]
pub(crate) struct Given {
    /// The job.
    pub(crate) job: u64,
    /// The token, if there is one.
    pub(crate) piece: Option<TokenPiece>,
    /// Why nothing follows, and the prompt's number of tokens.
    pub(crate) end: Option<(StopReason, u32)>,
}

/// What to load.
pub(crate) struct LoadRequest {
    /// Format of the files.
    pub(crate) format: Format,
    /// Names and sealed memory files.
    pub(crate) files: Vec<(String, OwnedFd)>,
    /// Run after loading.
    pub(crate) conformance: Vec<ConformanceSample>,
    /// Memory limit of this process, bytes.
    pub(crate) memory: Option<u64>,
    /// Whether texts' next tokens are guessed.
    pub(crate) look_up: bool,
}

/// Loads a model and holds it to its conformance samples.
pub(crate) fn load(request: LoadRequest) -> Result<Box<dyn Runtime>, EngineError> {
    let LoadRequest { format, files, conformance, memory, look_up } = request;
    let mut runtime: Box<dyn Runtime> = match format {
        Format::Onnx => Box::new(onnx::Onnx::load(&only(files, "onnx")?, &conformance)?),
        Format::Gguf => Box::new(text::Text::load(&only(files, "gguf")?, memory, look_up)?),
        Format::Safetensors => Box::new(embed::Embed::load(files, memory)?),
        Format::Opaque => {
            let message = "files of no known format are stored and served as bytes but not run by this version";
            return Err(EngineError::model(message));
        }
    };
    conformance::check(runtime.as_mut(), &conformance)?;
    Ok(runtime)
}

/// Loads a model in this very process, without a sandbox around it, and asks it once: for fuzzing the code that workers run.
/// Nothing of the product calls it.
///
/// # Errors
/// As [`Worker::load`](crate::Worker::load) and [`Worker::predict`](crate::Worker::predict) have them from their worker.
pub fn load_here(format: Format, files: &[ModelFile], inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
    let file = |file: &ModelFile| {
        let fd = file.fd().try_clone_to_owned().map_err(|e| EngineError::worker(e.to_string()))?;
        Ok((file.name().to_owned(), fd))
    };
    let files = files.iter().map(file).collect::<Result<_, EngineError>>()?;
    let mut runtime = load(LoadRequest { format, files, conformance: Vec::new(), memory: None, look_up: false })?;
    runtime.predict(inputs, &mut Meanwhile { until: None, tell: &mut |_| {} })
}

/// The one file with this extension; other files (a licence, a card) are left alone.
fn only(files: Vec<(String, OwnedFd)>, extension: &str) -> Result<Source, EngineError> {
    let mut of_kind: Vec<_> = files
        .into_iter()
        .filter(|(name, _)| name.rsplit_once('.').is_some_and(|(_, e)| e.eq_ignore_ascii_case(extension)))
        .collect();
    match (of_kind.pop(), of_kind.is_empty()) {
        (Some((name, fd)), true) => Source::new(&name, fd),
        (None, _) => Err(EngineError::model(format!("the model has no .{extension} file; publish it with one"))),
        (Some(_), false) => {
            Err(EngineError::model(format!("the model has several .{extension} files; publish it with one")))
        }
    }
}
