//! What a transfer asks of peers. The crate that has a transport implements it.

use std::error::Error;

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use zero2ai_proto::{
    ByteBuf, Cid, ManifestId, NodeId,
    calls::{Bitfield, HaveNews},
};

/// Why a peer gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It has no slot free, and said so at once: it is asked again soon, and nothing is held against it.
    #[error("the peer has no upload slot free at the moment")]
    Busy,
    /// It has nothing, cannot be reached, or broke the protocol.
    #[error("{0}")]
    Other(#[from] Box<dyn Error + Send + Sync>),
}

impl SourceError {
    /// An error told in words.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self::Other(why.into().into())
    }
}

/// Where news of what one peer holds go.
#[derive(Clone, Debug)]
pub struct NewsSink {
    peer: NodeId,
    to: mpsc::Sender<(NodeId, HaveNews)>,
}

impl NewsSink {
    pub(crate) fn new(peer: NodeId, to: mpsc::Sender<(NodeId, HaveNews)>) -> Self {
        Self { peer, to }
    }

    /// Passes an item on; waits while the transfer is busy. False once the transfer is over: nobody listens any more.
    pub async fn send(&self, news: HaveNews) -> bool {
        self.to.send((self.peer, news)).await.is_ok()
    }
}

/// A way to ask peers. Dropping a future must stop its work. Implementations bound what they read to the limits of `proto`;
/// nothing they return is trusted.
pub trait Source: Send + Sync + 'static {
    /// The encoded sealed manifest, of at most [`zero2ai_proto::limits::MANIFEST_BYTES`].
    fn manifest(&self, peer: NodeId, id: ManifestId) -> BoxFuture<'_, Result<Vec<u8>, SourceError>>;

    /// Which chunks of the manifest the peer holds: one bit each, first chunk in the highest bit of the first byte.
    fn have(&self, peer: NodeId, id: ManifestId) -> BoxFuture<'_, Result<Vec<u8>, SourceError>>;

    /// Tells `news` what the peer holds, the bit field first, and then what comes, as long as the peer tells more; ends when it
    /// does, or after some minutes. The transfer asks again then. By default one bit field, as of [`Source::have`].
    fn watch(&self, peer: NodeId, id: ManifestId, news: NewsSink) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            let bits = ByteBuf::from(self.have(peer, id).await?);
            news.send(HaveNews::Held(Bitfield { bits })).await;
            Ok(())
        })
    }

    /// One chunk's ciphertext, of at most [`zero2ai_proto::limits::CHUNK_BYTES`] and its tag.
    fn chunk(&self, peer: NodeId, cid: Cid) -> BoxFuture<'_, Result<Vec<u8>, SourceError>>;
}
