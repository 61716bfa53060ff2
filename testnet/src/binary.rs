//! Finds the `zero2ai` binary of the profile that the tests run in, and builds it if it is not there or not new.

use std::{path::PathBuf, process::Command, sync::OnceLock};

use anyhow::{Context as _, Result, bail, ensure};

/// The binary's path. The first call asks cargo to build it, which is nothing when it is up to date.
///
/// # Errors
/// It cannot be built.
pub fn zero2ai() -> Result<PathBuf> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(|| find().map_err(|e| format!("{e:#}"))) {
        Ok(path) => Ok(path.clone()),
        Err(why) => bail!("{why}"),
    }
}

fn find() -> Result<PathBuf> {
    // target/PROFILE/deps/TEST-HASH
    let test = std::env::current_exe().context("where this test is")?;
    let folder = test.ancestors().nth(2).context("a test stands in target/PROFILE/deps")?.to_owned();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "zero2ai-daemon", "--bin", "zero2ai"]);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).output().context("cargo build")?;
    ensure!(built.status.success(), "cargo build: {}", String::from_utf8_lossy(&built.stderr));
    Ok(folder.join("zero2ai"))
}
