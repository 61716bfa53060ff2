//! Which files of a model's folder an embedder is made of, and small ones of them read as JSON, bounded.

use std::{io::Read as _, os::fd::OwnedFd};

use serde::de::DeserializeOwned;

use super::super::source::Source;
use crate::error::EngineError;

/// Sizes and kind of the network.
pub(super) const CONFIG: &str = "config.json";
/// The weights.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// The vocabulary, and how text is cut.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// What follows the network, as sentence-transformers writes it.
pub(super) const MODULES: &str = "modules.json";
/// How tokens become one row.
pub(super) const POOLING: &str = "1_Pooling/config.json";
/// The longest text.
pub(super) const LENGTH: &str = "sentence_bert_config.json";

/// What is put before texts.
pub(super) const PROMPTS: &str = "config_sentence_transformers.json";

/// Bytes of a file of settings: real ones have a few hundred.
const SETTINGS_BYTES: u64 = 1 << 20;

/// True if an embedder's worker reads this file of its folder. Others (cards, weights in other formats) are left alone.
#[must_use]
pub fn is_embedder_file(path: &str) -> bool {
    [CONFIG, WEIGHTS, TOKENIZER, MODULES, POOLING, LENGTH, PROMPTS].contains(&path)
}

/// The files that came.
pub(super) struct Folder(Vec<Source>);

impl Folder {
    pub(super) fn new(files: Vec<(String, OwnedFd)>) -> Result<Self, EngineError> {
        let known = files.into_iter().filter(|(name, _)| is_embedder_file(name));
        Ok(Self(known.map(|(name, fd)| Source::new(&name, fd)).collect::<Result<_, _>>()?))
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, source| sum.saturating_add(source.size()))
    }

    pub(super) fn find(&self, name: &str) -> Option<&Source> {
        self.0.iter().find(|source| source.name() == name)
    }

    pub(super) fn get(&self, name: &str) -> Result<&Source, EngineError> {
        self.find(name).ok_or_else(|| {
            EngineError::model(format!(
                "the model has no '{name}': an embedder is a folder with {CONFIG}, {WEIGHTS} and {TOKENIZER} in it; publish \
                 that folder"
            ))
        })
    }

    /// A file of settings, if it is there.
    pub(super) fn settings<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, EngineError> {
        let Some(source) = self.find(name) else { return Ok(None) };
        let bytes = read(source, SETTINGS_BYTES)?;
        let settings = serde_json::from_slice(&bytes);
        settings
            .map(Some)
            .map_err(|e| EngineError::model(format!("'{name}' cannot be used: {e}; publish the model again")))
    }
}

/// A whole file of at most `most` bytes.
pub(super) fn read(source: &Source, most: u64) -> Result<Vec<u8>, EngineError> {
    let (name, size) = (source.name(), source.size());
    if size > most {
        return Err(EngineError::model(format!("'{name}' has {size} bytes; at most {most} are read")));
    }
    let mut bytes = Vec::new();
    source
        .reader()
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|e| EngineError::worker(format!("'{name}' cannot be read: {e}")))?;
    Ok(bytes)
}
