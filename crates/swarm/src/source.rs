//! What a transfer asks of peers. The crate that has a transport implements it.

use std::error::Error;

use futures::future::BoxFuture;
use zero2ai_proto::{Cid, ManifestId, NodeId};

/// Why a peer gave no answer: it has nothing, cannot be reached, or broke the protocol.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(#[from] pub Box<dyn Error + Send + Sync>);

impl SourceError {
    /// An error told in words.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into().into())
    }
}

/// A way to ask peers. Dropping a future must stop its work. Implementations bound what they read to the limits of `proto`;
/// nothing they return is trusted.
pub trait Source: Send + Sync + 'static {
    /// The encoded sealed manifest, of at most [`zero2ai_proto::limits::MANIFEST_BYTES`].
    fn manifest(&self, peer: NodeId, id: ManifestId) -> BoxFuture<'_, Result<Vec<u8>, SourceError>>;

    /// Which chunks of the manifest the peer holds: one bit each, first chunk in the highest bit of the first byte.
    fn have(&self, peer: NodeId, id: ManifestId) -> BoxFuture<'_, Result<Vec<u8>, SourceError>>;

    /// One chunk's ciphertext, of at most [`zero2ai_proto::limits::CHUNK_BYTES`] and its tag.
    fn chunk(&self, peer: NodeId, cid: Cid) -> BoxFuture<'_, Result<Vec<u8>, SourceError>>;
}
