//! Bytes on disk: sealed chunks, manifests, a key-value index, fsynced record logs, key files. All calls block; async
//! callers wrap them in `spawn_blocking`.
//!
//! This crate knows nothing of the network, of keys to what is sealed, or of what a record means. It is the only one that
//! names `sled`, and nothing that cannot be rebuilt is kept there.
//!
//! | module | owns |
//! |---|---|
//! | [`store`] | [`Store`]: one home's chunks and manifests as plain files, their index, the home's lock |
//! | [`writers`] | [`Writers`]: chunks stored side by side |
//! | [`tree`] | [`KeyValue`], the small ordered map that other crates see, and [`Tree`], its form on disk |
//! | [`log`] | [`Log`]: append-only records in segment files, torn tails cut, damage in the middle named |
//! | [`secret_file`] | key files, mode 0600, and plain small files, both written whole or not at all |
//! | `space` | the free space that is left to the chain |
//! | [`error`] | [`StoreError`] |
//!
//! Order of a write, so that a crash at any point leaves the old state or the new one: temporary file → fsync → rename →
//! fsync of the directory → index row. A write that fails is reported and leaves nothing visible. Chunks that a transfer brings
//! go the same way together (`arriving`): one flush stands for all their fsyncs.

mod arriving;
pub mod error;
mod files;
mod index;
mod lock;
pub mod log;
pub mod secret_file;
mod space;
mod spread;
pub mod store;
pub mod tree;
pub mod writers;

pub use error::StoreError;
pub use log::{Log, LogConfig, RecoveryReport, Tail};
pub use secret_file::atomic_write;
pub use store::{OpenReport, Rebuilt, Stats, Store, StoreConfig};
pub use tree::{Change, KeyValue, Tree};
pub use writers::{Writers, WritersStopped, Written};
