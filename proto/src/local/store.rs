//! Local methods about the node's own store: what lies there, whether it is sound, what may go.

use serde::{Deserialize, Serialize};

use super::Progress;
use crate::{calls::Empty, ids::ManifestId, methods, name::ModelName};

methods! {
    /// The versions held, one item each.
    StoreList = 110: Empty => StoredVersion;
    /// How much is stored, and how much of it no held version needs.
    StoreStats = 111: Empty => StoreStatsReply;
    /// Re-hashes everything stored and brings what is damaged from peers again; progress, then the result.
    StoreVerify = 112: Empty => VerifyItem;
    /// Deletes what no held version needs; progress, then the result.
    StoreGc = 113: GcCall => GcItem;
    /// Pins a held version, so that it is never dropped, or takes the pin away.
    StorePin = 114: PinCall => Empty;
    /// Forgets a held version, so that a collection frees it.
    StoreDrop = 115: DropCall => Empty;
    /// Makes the index say what the chunk files say; progress, then the result.
    StoreRebuild = 121: Empty => RebuildItem;
}

/// One item of the answer to [`StoreList`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredVersion {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: u32,
    /// Its sealed manifest.
    pub manifest: ManifestId,
    /// Chunks of it that are here.
    pub present: u32,
    /// Chunks of it in all; 0 if its manifest cannot be read.
    pub chunks: u32,
    /// Bytes of all its ciphertext, whether here or not.
    pub sealed_bytes: u64,
    /// True if it is loaded and announced, or about to be.
    pub serving: bool,
    /// True if it is never to be dropped.
    pub pinned: bool,
    /// Why its manifest cannot be read, if that is so.
    pub problem: Option<String>,
}

/// Answer to [`StoreStats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatsReply {
    /// Chunk files.
    pub chunks: u64,
    /// Bytes of ciphertext in them.
    pub bytes: u64,
    /// Bytes of chunks and manifests allowed; none is whatever the disk holds.
    pub quota: Option<u64>,
    /// Sealed manifests.
    pub manifests: u64,
    /// Versions held.
    pub versions: u64,
    /// Versions pinned.
    pub pinned: u64,
    /// Chunks that no held version needs; those of a transfer that is still running are among them.
    pub unneeded_chunks: u64,
    /// Bytes in these.
    pub unneeded_bytes: u64,
    /// Held versions whose manifest cannot be read, so that it is not known what they need.
    pub unreadable: u64,
    /// Bytes that the quota counts: chunks and manifests.
    pub used: u64,
    /// Bytes of the disk that are kept free for the chain.
    pub reserve: u64,
    /// Versions that may go when the quota is full and room is needed: copies of other members' models, neither pinned nor
    /// served.
    pub evictable: u64,
    /// What the last scrub found, if there was one.
    pub scrub: Option<ScrubReport>,
}

/// What a scrub found: all that is stored, read and hashed on a schedule, and healed from peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// When it ended, milliseconds since 1970.
    pub ended_ms: u64,
    /// Chunks and manifests that were read and hashed.
    pub checked: u64,
    /// Of these and of what held versions need, those that were damaged or missing.
    pub damaged: u64,
    /// Of those, the ones that were fetched from peers again.
    pub healed: u64,
    /// Of those, the ones that held versions need and no peer gave.
    pub lost: u64,
}

/// One item of the answer to [`StoreRebuild`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RebuildItem {
    /// What is being done.
    Step(Progress),
    /// The result.
    Done(RebuildReport),
}

/// Result of [`StoreRebuild`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildReport {
    /// Chunks in the index now.
    pub chunks: u64,
    /// Bytes of their ciphertext.
    pub bytes: u64,
    /// Chunk files that the index did not know.
    pub added: u64,
    /// Rows whose file was not there: they are gone.
    pub removed: u64,
    /// Rows that told another length than their file has.
    pub corrected: u64,
}

/// One item of the answer to [`StoreVerify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VerifyItem {
    /// What is being done.
    Step(Progress),
    /// The result.
    Done(VerifyReport),
}

/// Result of [`StoreVerify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Chunks and manifests that were read and hashed.
    pub checked: u64,
    /// Bytes of chunks that were read.
    pub bytes: u64,
    /// Chunks and manifests that no longer had their hash, or could not be read: they were deleted.
    pub damaged: u64,
    /// Chunks and manifests of held versions that were not there at all.
    pub missing: u64,
    /// Damaged or missing ones that were fetched from peers again.
    pub healed: u64,
    /// Damaged ones that no held version needs: deleted and not fetched.
    pub unneeded: u64,
    /// Damaged or missing ones that held versions need and no peer gave.
    pub lost: u64,
    /// Held versions that are not whole, the first [`crate::limits::BROKEN_VERSIONS`] of them.
    pub broken: Vec<BrokenVersion>,
}

/// A held version that is not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenVersion {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: u32,
    /// Chunks of it that are not here; 0 if its manifest is not either.
    pub missing: u32,
    /// Why it could not be healed.
    pub why: String,
}

/// Request of [`StoreGc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcCall {
    /// Say what would be deleted, and delete nothing.
    pub dry_run: bool,
}

/// One item of the answer to [`StoreGc`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GcItem {
    /// What is being done.
    Step(Progress),
    /// The result.
    Done(GcReport),
}

/// Result of [`StoreGc`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Chunks deleted; with a dry run, those that would be.
    pub chunks: u64,
    /// Bytes of ciphertext in these.
    pub bytes: u64,
    /// Manifests deleted likewise.
    pub manifests: u64,
    /// Chunks that stay.
    pub kept_chunks: u64,
    /// Bytes of ciphertext in these.
    pub kept_bytes: u64,
}

/// Request of [`StorePin`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinCall {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: u32,
    /// True pins it, false takes the pin away.
    pub pinned: bool,
}

/// Request of [`StoreDrop`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCall {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: u32,
    /// Stop serving it first; without this a version that is served is not dropped.
    pub stop_serving: bool,
}
