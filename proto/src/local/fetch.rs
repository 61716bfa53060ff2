//! The local method that shows a transfer while it runs.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{FetchCall, Progress, PublishReport};
use crate::{keys::NodeId, methods};

methods! {
    /// Fetches a version as `Fetch` does; progress, pictures of the transfer, then the result.
    FetchLive = 120: FetchCall => FetchItem;
}

/// One item of the answer to [`FetchLive`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchItem {
    /// What is being done.
    Step(Progress),
    /// How the transfer stands, several times a second while it runs.
    Picture(FetchPicture),
    /// The result.
    Done(PublishReport),
}

/// How a transfer stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchPicture {
    /// Chunks here.
    pub chunks: u32,
    /// Chunks of the model.
    pub total_chunks: u32,
    /// Bytes of ciphertext that this transfer brought.
    pub bytes: u64,
    /// Bytes of ciphertext that it must bring in all.
    pub total_bytes: u64,
    /// The model from its first chunk to its last in at most [`crate::limits::PICTURE_CELLS`] equal parts: how much of each is
    /// here, 0 nothing, 255 all.
    pub cells: ByteBuf,
    /// Peers in use, those that gave most first, at most 64.
    pub peers: Vec<FetchPeer>,
}

/// What one peer does for a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchPeer {
    /// The peer.
    pub node: NodeId,
    /// Bytes that came from it and were kept.
    pub bytes: u64,
    /// Bytes a second over about the last two seconds.
    pub rate: u64,
}
