//! Whole networks out of real processes: the `zero2ai` binary, driven by the commands a user types, in temporary homes.
//! It knows the command line alone, none of the crates behind it; but [`faults::writer`] and [`faults::audit`] know the store,
//! [`faults::chain`] and the program `simulate` the chain, and [`lab::caller`] the client library.
//!
//! | module | owns |
//! |---|---|
//! | [`binary`] | finding the binary |
//! | [`daemon`] | one node as a child process, killed with its handle |
//! | [`network`] | a pool of several nodes |
//! | [`nat`] | a pool whose members are behind NATs, with one relay |
//! | [`faults`] | loops that cut nodes off at random moments, and the checks after it |
//! | [`lab`] | what the network costs and how soon it reacts, measured |

pub mod binary;
pub mod daemon;
pub mod faults;
pub mod lab;
pub mod nat;
pub mod network;

pub use daemon::{Beside, Daemon, Ran};
pub use network::Network;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// A file of `testnet/fixtures`.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Tries until `holds` does.
///
/// # Panics
/// It does not within `patience`.
pub fn until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < patience, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
