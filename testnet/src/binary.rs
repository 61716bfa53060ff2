//! Finds the `zero2ai` binary of the profile that the tests run in. `cargo test --workspace` builds it before any test
//! runs; nothing is built from here, since a build of one package alone would compile the tree a second time.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

/// Names another binary than the one beside the tests.
const OTHER: &str = "ZERO2AI_BINARY";

/// The binary's path: what the environment variable `ZERO2AI_BINARY` names, or the one that was built beside this program.
///
/// # Errors
/// It was not built.
pub fn zero2ai() -> Result<PathBuf> {
    if let Some(other) = std::env::var_os(OTHER) {
        return Ok(other.into());
    }
    // A test is target/PROFILE/deps/TEST-HASH, a program target/PROFILE/PROGRAM.
    let program = std::env::current_exe().context("where this program is")?;
    let found = program.ancestors().skip(1).take(2).map(|folder| folder.join("zero2ai")).find(|b| b.is_file());
    ensure!(found.is_some(), "no zero2ai beside {}: run `cargo build --workspace` first", program.display());
    found.context("just looked")
}
