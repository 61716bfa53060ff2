//! Whole networks out of real processes: the `zero2ai` binary, driven by the commands a user types, in temporary homes.
//! It knows the command line alone, none of the crates behind it.
//!
//! | module | owns |
//! |---|---|
//! | [`binary`] | finding (and if need be building) the binary |
//! | [`daemon`] | one node as a child process, killed with its handle |
//! | [`network`] | a pool of several nodes |

pub mod binary;
pub mod daemon;
pub mod network;

pub use daemon::{Daemon, Ran};
pub use network::Network;

use std::path::PathBuf;

/// A file of `testnet/fixtures`.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}
