//! Cutting, sealing and opening model files; manifests and their keys; the fetch planner.
//!
//! Pure: this crate reads what callers hand it and knows nothing of sockets, folders or clocks.
//!
//! | module | owns |
//! |---|---|
//! | [`cut`] | where a file is cut: at tensors (GGUF, safetensors), else by content; hostile headers are refused |
//! | [`seal`] | one chunk: its key, sealing, opening |
//! | [`file`](mod@file) | one file: streamed through cutting and sealing, and put together again |
//! | [`delta`] | a changed piece as its difference to an older one |
//! | [`base`] | the older version: which of its pieces a new piece is compared with |
//! | [`manifest`] | sealing and opening a manifest under a key of its own |
//! | [`grant`] | that key, wrapped to one node (HPKE) |
//! | [`planner`] | which chunk to ask of which peer, as a state machine: events in, actions out |
//! | [`chunk_set`] | the bit field in which peers say what they hold |

pub mod base;
pub mod chunk_set;
pub mod cut;
pub mod delta;
pub mod file;
pub mod grant;
pub mod manifest;
pub mod planner;
pub mod seal;

pub use base::BaseVersion;
pub use chunk_set::{BadChunkSet, ChunkSet};
pub use cut::{CutError, detect_format, named_format};
pub use delta::DeltaError;
pub use file::{OpenFileError, SealError, open_file, open_piece, seal_file, seal_file_against};
pub use grant::{GrantError, Sealed, SealingSecret, open_sealed, seal_to, unwrap_secret, wrap_secret};
pub use manifest::{ManifestKey, ManifestSealError, open_manifest, seal_manifest};
pub use seal::{ContentSecret, OpenError, SealChunkError, Sealer, open_chunk};
