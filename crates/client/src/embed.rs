//! Texts to rows of numbers: a prediction whose tensors are texts, so it has the same receipt and goes on to the next endpoint
//! in the same way.

use std::time::Duration;

use zero2ai_proto::{
    NodeId,
    manifest::Task,
    receipt::Receipt,
    texts::{Embeddings, Texts},
};

use crate::{client::Client, error::ClientError, resolve::Resolution};

/// Tokens that one byte of a text becomes, at most: a character may be written out as several.
const TOKENS_PER_BYTE: u64 = 8;
/// Tokens around a text, at most.
const MARKS: u64 = 64;

/// Texts, embedded, with a receipt that holds.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// One row a text, and each text's tokens.
    pub embeddings: Embeddings,
    /// Both signed halves, checked.
    pub receipt: Receipt,
    /// Who answered.
    pub node: NodeId,
    /// From the first attempt to the checked answer.
    pub took: Duration,
    /// Endpoints that were tried before, in vain.
    pub failed: usize,
}

impl Client {
    /// Embeds texts at the nearest endpoint of `found` that gives an answer which holds, within `patience`.
    ///
    /// # Errors
    /// The model embeds no texts, the texts are beyond their bounds or longer than the model takes (and may not be cut), or as
    /// [`Client::predict`].
    pub async fn embed(
        &self,
        found: &Resolution,
        texts: &Texts<'_>,
        patience: Duration,
    ) -> Result<Embedded, ClientError> {
        let Task::Embed { width, .. } = found.entry.task else {
            return Err(ClientError::NoEmbedder { name: found.name.clone(), version: found.version });
        };
        let answer = self.predict(found, texts.to_tensors()?, patience).await?;
        let untrue = |why: &dyn std::fmt::Display| ClientError::untrue(&answer.node, why);
        let embeddings = Embeddings::from_tensors(&answer.outputs, texts.texts.len()).map_err(|e| untrue(&e))?;
        if embeddings.width as u64 != u64::from(width) {
            return Err(untrue(&"its rows are not as wide as the ledger says of this model"));
        }
        let plausible = |(text, tokens): (&&str, &u64)| *tokens <= text.len() as u64 * TOKENS_PER_BYTE + MARKS;
        if !texts.texts.iter().zip(&embeddings.tokens).all(plausible) {
            return Err(untrue(&"it counts more tokens than the texts can have"));
        }
        let (receipt, node, took, failed) = (answer.receipt, answer.node, answer.took, answer.failed);
        Ok(Embedded { embeddings, receipt, node, took, failed })
    }
}
