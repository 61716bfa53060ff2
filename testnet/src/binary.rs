//! Finds the `zero2ai` binary of the profile that the tests run in. `cargo test --workspace` builds it before any test
//! runs; nothing is built from here, since a build of one package alone would compile the tree a second time.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

/// The binary's path.
///
/// # Errors
/// It was not built.
pub fn zero2ai() -> Result<PathBuf> {
    // target/PROFILE/deps/TEST-HASH
    let test = std::env::current_exe().context("where this test is")?;
    let folder = test.ancestors().nth(2).context("a test stands in target/PROFILE/deps")?;
    let binary = folder.join("zero2ai");
    ensure!(binary.exists(), "{} is not there: run `cargo test --workspace`, or build it first", binary.display());
    Ok(binary)
}
