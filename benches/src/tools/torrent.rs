//! BitTorrent: libtorrent through its Python binding, over TCP, peers told to each other. `benches/run-all` makes the
//! environment that it runs in.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::{Lab, Others, Place};
use crate::process::{command, run};

/// Names the Python that has libtorrent; else the environment that `benches/run-all` makes.
const PYTHON: &str = "BENCH_PYTHON";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/torrent.py");

fn python() -> PathBuf {
    let own = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/venv/bin/python"));
    env::var_os(PYTHON).filter(|path| !path.is_empty()).map_or_else(own, PathBuf::from)
}

pub(super) fn missing() -> Option<String> {
    let there = Command::new(python()).args(["-c", "import libtorrent"]).output().is_ok_and(|o| o.status.success());
    (!there).then(|| format!("install libtorrent into a Python environment and name its python in {PYTHON}"))
}

fn torrent_file(lab: &Lab) -> PathBuf {
    lab.seeds.join("bench.torrent")
}

pub(super) fn prepare(lab: &Lab) -> Result<()> {
    run(Command::new(python()).arg(SCRIPT).arg("make").arg(&lab.file).arg(torrent_file(lab))).map(drop)
}

pub(super) fn seed(lab: &Lab, at: &Place) -> Result<Command> {
    let folder = lab.file.parent().context("no folder")?;
    let mut python = command(&at.namespace, python());
    python.arg(SCRIPT).arg("seed").arg(torrent_file(lab)).arg(folder).arg(at.socket().to_string());
    Ok(python)
}

pub(super) fn leech(lab: &Lab, at: &Place, others: &Others, stay: bool) -> Result<Command> {
    fs::create_dir_all(&at.home)?;
    let mut python = command(&at.namespace, python());
    python.arg(SCRIPT).arg(if stay { "stay" } else { "leech" }).arg(torrent_file(lab)).arg(&at.home);
    python.arg(at.socket().to_string()).args(others.iter().map(|(_, address)| address.to_string()));
    Ok(python)
}
