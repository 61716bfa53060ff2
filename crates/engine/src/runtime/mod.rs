//! What runs a model, behind one trait: formats differ here and nowhere else. Runs in the worker process only.

mod conformance;
mod onnx;
mod source;
mod text;

use std::os::fd::OwnedFd;

use zero2ai_proto::{
    calls::{GenerateInput, StopReason, TokenPiece},
    manifest::{ConformanceSample, Format},
    tensor::Tensor,
    worker::ModelInfo,
};

use self::source::Source;
use crate::error::EngineError;

/// A loaded model. Errors name their fault: the caller's input or the model's files.
pub(crate) trait Runtime: Send {
    /// What the model takes and gives.
    fn info(&self) -> &ModelInfo;

    /// One prediction. Inputs are checked here.
    fn predict(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError>;

    /// Takes up a generation. `None`: there is no memory for it while others run (`busy`); ask again when one ended.
    fn start(&mut self, input: &GenerateInput, busy: bool) -> Result<Option<Box<dyn Generation>>, EngineError>;

    /// Takes a generation of this runtime one step further: a part of its prompt, or one token.
    fn step(&mut self, generation: &mut dyn Generation) -> Result<Step, EngineError>;
}

/// A text being generated; only the runtime that started it can look inside.
pub(crate) trait Generation: Send {
    /// Tokens of the prompt, without those resumed from.
    fn prompt_tokens(&self) -> u32;

    /// For the runtime to find its own type.
    fn as_any(&mut self) -> &mut dyn std::any::Any;
}

/// What one step of a generation gave.
#[derive(Debug)]
pub(crate) enum Step {
    /// A part of the prompt was read.
    Prefilled,
    /// A token, perhaps the last.
    Token {
        /// The token.
        piece: TokenPiece,
        /// Why it was the last.
        end: Option<StopReason>,
    },
    /// The end, without another token.
    End(StopReason),
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
}

/// Loads a model and holds it to its conformance samples.
pub(crate) fn load(request: LoadRequest) -> Result<Box<dyn Runtime>, EngineError> {
    let LoadRequest { format, files, conformance, memory } = request;
    let mut runtime: Box<dyn Runtime> = match format {
        Format::Onnx => Box::new(onnx::Onnx::load(&only(files, "onnx")?)?),
        Format::Gguf => Box::new(text::Text::load(&only(files, "gguf")?, memory)?),
        Format::Safetensors | Format::Opaque => {
            let message = format!("{format:?} models are stored and served as bytes but not run by this version");
            return Err(EngineError::model(message));
        }
    };
    conformance::check(runtime.as_mut(), &conformance)?;
    Ok(runtime)
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
