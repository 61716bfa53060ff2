//! A node is cut off while it publishes. Afterwards every publication that it had acknowledged is on the ledger, whole,
//! sound and answers; what it had not acknowledged is there whole or not at all, and the next publication succeeds.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::{Ran, Scenario, audit::audit, image::Image, model, rng::Rng};
use crate::{Daemon, binary::zero2ai, fixture};

/// Bytes of each model: a dozen chunks.
const MODEL: usize = 6 * 1024 * 1024;
/// Versions kept alive: each is looked at after this many faults.
const ALIVE: usize = 3;
/// How long an acknowledgement that had left the node may take to be printed.
const PRINTING: Duration = Duration::from_millis(300);
/// How long a node may take to load what it serves.
const LOADING: Duration = Duration::from_secs(60);

/// MiB of the image.
const IMAGE: u64 = 1024;

/// What holds the home, and so what the fault is.
enum Disk {
    /// A folder; the fault is SIGKILL.
    Folder(TempDir),
    /// A file system of its own; the fault is a power cut.
    Image(Image),
}

impl Disk {
    fn home(&self) -> PathBuf {
        match self {
            Self::Folder(dir) => dir.path().join("node"),
            Self::Image(image) => image.path().join("node"),
        }
    }

    /// A folder that outlives the fault.
    fn beside(&self) -> &Path {
        match self {
            Self::Folder(dir) => dir.path(),
            Self::Image(image) => image.beside(),
        }
    }
}

/// See the module.
pub struct Publish {
    // Fields drop in this order: the node must be gone before its disk.
    node: Daemon,
    disk: Disk,
    /// Acknowledged versions that are not dropped yet.
    alive: Vec<u64>,
    /// What one publication takes when nothing cuts it off.
    typical: Duration,
}

/// A `zero2ai publish` under way.
struct Publishing(std::process::Child);

impl Publishing {
    fn start(home: &Path, file: &Path) -> Result<Self> {
        let child = Command::new(zero2ai()?)
            .arg("--home")
            .arg(home)
            .arg("publish")
            .arg(file)
            .args(["--name", "acme/m", "--replicas", "0", "--no-wait", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    /// The version it acknowledged, waiting at most `patience`.
    fn end(mut self, patience: Duration) -> Result<Option<u64>> {
        let start = Instant::now();
        while self.0.try_wait()?.is_none() && start.elapsed() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let ended = self.0.wait_with_output()?;
        if !ended.status.success() {
            return Ok(None);
        }
        let said: Value = serde_json::from_slice(&ended.stdout)?;
        Ok(said["version"].as_u64())
    }
}

impl Publish {
    /// A node whose fault is SIGKILL.
    ///
    /// # Errors
    /// It does not start.
    pub fn killed() -> Result<Self> {
        Self::new(Disk::Folder(tempfile::tempdir()?))
    }

    /// A node whose fault is a power cut.
    ///
    /// # Errors
    /// It does not start, or no image can be mounted.
    pub fn cut_off() -> Result<Self> {
        Self::new(Disk::Image(Image::new(IMAGE)?))
    }

    fn new(disk: Disk) -> Result<Self> {
        let node = Daemon::up(&disk.home(), &[])?;
        let mut scenario = Self { node, disk, alive: Vec::new(), typical: Duration::ZERO };
        scenario.publish_undisturbed(u64::MAX)?;
        Ok(scenario)
    }

    fn publish_undisturbed(&mut self, n: u64) -> Result<()> {
        let file = model::write(self.disk.beside(), n, MODEL)?;
        let start = Instant::now();
        let version = Publishing::start(self.node.home(), &file)?.end(LOADING)?;
        self.typical = start.elapsed();
        self.alive
            .push(version.with_context(|| format!("an undisturbed publication failed: {}", self.node.log_end()))?);
        Ok(std::fs::remove_file(file)?)
    }

    /// The fault at a random moment, and what was acknowledged before it. What is acknowledged after a power cut promises
    /// nothing, see [`super::writer::Acknowledged::read_late`].
    fn fault(&mut self, mut publishing: Publishing, rng: &mut Rng) -> Result<Option<u64>> {
        let moment = rng.moment(self.typical.saturating_mul(11) / 10);
        let start = Instant::now();
        let acknowledged = if let Disk::Image(image) = &self.disk {
            let switch = image.switch(rng.below(2) == 0)?;
            thread::sleep(moment.saturating_sub(start.elapsed()));
            let ended = publishing.0.try_wait()?.is_some();
            switch.cut()?;
            self.node.kill();
            // Its process too must be dead before the disk can be unmounted.
            publishing.end(Duration::ZERO)?.filter(|_| ended)
        } else {
            thread::sleep(moment);
            self.node.kill();
            publishing.end(PRINTING)?
        };
        if let Disk::Image(image) = &mut self.disk {
            image.power_on()?;
        }
        audit(&self.node.home().join("store"))?;
        Ok(acknowledged)
    }

    /// Every version held is whole, those acknowledged are among them, the store is sound.
    fn check_store(&self) -> Result<()> {
        let listed = self.node.json(&["store", "ls"])?;
        let versions = listed["versions"].as_array().context("a list")?;
        for v in versions {
            ensure!(v["present"] == v["chunks"] && v["problem"].is_null(), "a held version is not whole: {v}");
        }
        for version in &self.alive {
            let held = versions.iter().any(|v| v["version"] == *version && v["serving"] == true);
            ensure!(held, "the acknowledged version {version} is not held and served any more: {listed}");
        }
        let verified = self.node.json(&["store", "verify"])?;
        let clean = ["damaged", "missing", "lost"].iter().all(|k| verified[k] == 0);
        ensure!(clean, "the store is not sound: {verified}");
        Ok(())
    }

    /// Every acknowledged version answers, and the newest on the ledger too, acknowledged or not.
    fn check_answers(&self) -> Result<()> {
        let rows = fixture("digits/predict.csv");
        let rows = rows.to_str().context("a path is text")?;
        let names = self.alive.iter().map(|v| format!("acme/m@{v}")).chain(["acme/m".to_owned()]);
        for name in names {
            let start = Instant::now();
            loop {
                let ran = self.node.run(&["predict", &name, "--labelled", "--input", rows, "--json"])?;
                if ran.code == 0 {
                    break;
                }
                ensure!(start.elapsed() < LOADING, "{name} does not answer: {} {}", ran.stderr, self.node.log_end());
                thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    /// Lets all but the newest go, so that hundreds of runs fit one machine.
    fn let_go(&mut self) -> Result<()> {
        let listed = self.node.json(&["store", "ls"])?;
        let mut versions: Vec<u64> =
            listed["versions"].as_array().context("a list")?.iter().filter_map(|v| v["version"].as_u64()).collect();
        versions.sort_unstable();
        for old in versions.iter().take(versions.len().saturating_sub(ALIVE)) {
            self.node.json(&["store", "drop", &format!("acme/m@{old}"), "--stop-serving"])?;
            self.alive.retain(|v| v != old);
        }
        self.node.json(&["store", "gc"]).map(drop)
    }
}

impl Scenario for Publish {
    fn run(&mut self, n: u64, rng: &mut Rng) -> Result<Ran> {
        let file = model::write(self.disk.beside(), n, MODEL)?;
        let publishing = Publishing::start(self.node.home(), &file)?;
        let acknowledged = self.fault(publishing, rng)?;
        std::fs::remove_file(file)?;
        self.alive.extend(acknowledged);
        self.node.start(&[]).context("the start after the fault")?;
        self.check_store()?;
        self.check_answers()?;
        let checked = self.alive.len() as u64;
        self.let_go()?;
        let acknowledged = acknowledged.map_or(0, |_| 1);
        Ok(Ran { inside: acknowledged == 0, acknowledged, checked, resumed: false })
    }
}
