//! The local method that gives a held version's plaintext to the node's own user.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{ids::Digest, methods, name::ModelName};

methods! {
    /// Opens a held version: the list of its files, then their bytes.
    OpenFiles = 122: OpenCall => OpenItem;
}

/// Request of [`OpenFiles`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCall {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: u32,
}

/// One item of the answer to [`OpenFiles`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenItem {
    /// First: every file, in the order of its bytes below. At most [`crate::limits::MANIFEST_FILES`].
    List(Vec<OpenedFile>),
    /// Then: the next bytes, at most [`crate::limits::CHUNK_BYTES`]. Files follow each other without a mark: sizes say where
    /// one ends.
    Bytes(ByteBuf),
}

/// One file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedFile {
    /// Relative path, as its publisher named it; to be checked before it is used.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3 of the whole file.
    pub hash: Digest,
}
