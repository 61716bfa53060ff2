//! Cutting, sealing and storing a file as the node's publish does it, beside a plain copy of the same bytes to the same disk
//! with one fsync at its end, in turns; and the most memory that the sealing process ever held, on a file too large for it.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    files::{self, MIB, Scratch},
    process::Child,
    report,
    results::Results,
    tools,
};

/// How long the disk may calm down between two runs.
const PAUSE: Duration = Duration::from_millis(300);
/// Tensors of the model file: each is cut on its own.
const TENSORS: u64 = 64;

/// Settings of `publish`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Bytes of the file whose rate is measured
    #[arg(long, default_value = "4GiB", value_parser = files::size)]
    size: u64,
    /// Rounds; each seals and copies once
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Bytes of the file that memory is measured on, once; 0 leaves it out
    #[arg(long, default_value = "10GiB", value_parser = files::size)]
    memory_size: u64,
    /// Folder for all files; a memory file system here shows the processor's bound instead of the disk's
    #[arg(long, default_value = "target/bench")]
    work: PathBuf,
    /// Write the raw figures here
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What a process of this bench is to do.
#[derive(Serialize, Deserialize)]
pub(crate) enum Role {
    Seal { file: PathBuf, home: PathBuf },
    Copy { file: PathBuf, to: PathBuf },
}

#[derive(Serialize, Deserialize)]
struct Done {
    seconds: f64,
    peak_mib: f64,
}

/// See the module.
pub(crate) fn run(options: &Options) -> Result<()> {
    fs::create_dir_all(&options.work)?;
    let work = Scratch::new(fs::canonicalize(&options.work)?.join("publish"))?;
    let mut results = Results::new(
        "publish",
        &[("bytes", options.size.to_string()), ("bytes for memory", options.memory_size.to_string())],
    );
    let (file, out) = (work.join("model.safetensors"), work.join("out"));
    if options.rounds > 0 {
        files::model_file(&file, options.size, TENSORS, false)?;
    }
    for round in 1..=options.rounds {
        let copy = Role::Copy { file: file.clone(), to: out.join("copy") };
        results.add("plain copy, one fsync", round, &once(copy, &work, &out, options.size)?);
        let seal = Role::Seal { file: file.clone(), home: out.clone() };
        results.add("publish: cut, seal, store", round, &once(seal, &work, &out, options.size)?);
    }
    if options.memory_size > 0 {
        if file.exists() {
            fs::remove_file(&file)?;
        }
        files::model_file(&file, options.memory_size, TENSORS, true)?;
        let seal = Role::Seal { file, home: out.clone() };
        results.add("publish of the large file", 1, &once(seal, &work, &out, options.memory_size)?);
    }
    println!("\n{}", report::publish(&results));
    results.save(options.json.as_deref())
}

fn once(role: Role, work: &Scratch, out: &Path, size: u64) -> Result<Vec<(&'static str, f64)>> {
    files::empty(out)?;
    rustix::fs::sync();
    thread::sleep(PAUSE);
    let mut child = Child::start("publish", tools::Role::Publish(role).command(&None)?, work.path())?;
    child.ready()?;
    child.go()?;
    let done: Done = serde_json::from_str(&child.expect("done")?.1)?;
    let cpu = child.wait()?;
    files::empty(out)?;
    let gib = size as f64 / f64::from(1u32 << 30);
    Ok(vec![
        ("seconds", done.seconds),
        ("MB/s", size as f64 / 1e6 / done.seconds),
        ("CPU s/GiB", cpu / gib),
        ("peak memory MiB", done.peak_mib),
    ])
}

pub(crate) fn play(role: Role) -> Result<()> {
    let begun = Instant::now();
    match role {
        Role::Seal { file, home } => tools::publish(&home, &file).map(drop)?,
        Role::Copy { file, to } => copy(&file, &to)?,
    }
    tools::say("done", &Done { seconds: begun.elapsed().as_secs_f64(), peak_mib: peak_mib()? })
}

fn copy(file: &Path, to: &Path) -> Result<()> {
    let (mut from, mut to, mut piece) = (File::open(file)?, File::create(to)?, vec![0; MIB]);
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(to.sync_all()?),
            n => to.write_all(&piece[..n])?,
        }
    }
}

/// The most memory that this process ever held.
fn peak_mib() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
