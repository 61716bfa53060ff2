//! Why a transfer ended early. Chunks that arrived before stay in the store, so that the next attempt goes on from them.

use zero2ai_chunk::ManifestSealError;
use zero2ai_proto::ManifestId;
use zero2ai_store::StoreError;

/// Why a transfer did not complete.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No peer was given.
    #[error("nobody is known to hold manifest {0}. Check the name, or wait until a node that holds it is up")]
    NoPeers(ManifestId),
    /// No peer gave the manifest.
    #[error("none of {tried} peers gave manifest {id}; the last said: {last}. Try again when one of them is up")]
    NoManifest {
        /// The manifest.
        id: ManifestId,
        /// Peers asked.
        tried: usize,
        /// What the last one said.
        last: String,
    },
    /// The peers in reach do not have everything.
    #[error(
        "{missing} of {total} chunks could not be had: the peers in reach do not hold them, or stopped answering. What came \
         is kept; try again when more peers are up"
    )]
    NoSource {
        /// Chunks missing.
        missing: u32,
        /// Chunks of the model.
        total: u32,
    },
    /// The manifest stored here cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestSealError),
    /// This node's disk failed, or is full.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller stopped it.
    #[error("the transfer was stopped. What came is kept; start it again to go on")]
    Stopped,
    /// A task of this transfer died.
    #[error("a disk task of the transfer died: {0}. What came is kept; try again")]
    Task(#[from] tokio::task::JoinError),
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness: {0}. Try again later")]
    Randomness(String),
}
