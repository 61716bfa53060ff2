//! A node is killed while it fetches, or while another fetches from it. Afterwards the fetch goes on from what was there
//! and completes, and nothing in either store is damaged.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Ran, Scenario, audit::audit, model, rng::Rng};
use crate::{Network, binary::zero2ai};

/// Bytes of the model: some dozens of chunks.
const MODEL: usize = 24 * 1024 * 1024;
/// How long a node that came back may take until others find it again.
const FINDING: Duration = Duration::from_secs(60);

/// See the module. Node 0 publishes, node 1 fetches.
pub struct Fetch {
    network: Network,
    /// What one fetch takes when nothing cuts it off.
    typical: Duration,
}

impl Fetch {
    /// Two nodes and a published model.
    ///
    /// # Errors
    /// They do not start.
    pub fn new() -> Result<Self> {
        let network = Network::start(2)?;
        let file = model::write(network.path(), 0, MODEL)?;
        let file = file.to_str().context("a path is text")?;
        network.nodes[0].json(&["publish", file, "--name", "acme/m", "--replicas", "0"])?;
        let mut scenario = Self { network, typical: Duration::ZERO };
        scenario.fetch_all()?;
        scenario.forget()?;
        scenario.typical = scenario.fetch_all()?.0;
        scenario.forget()?;
        Ok(scenario)
    }

    /// Fetches until it is whole; how long the last try took, and how many chunks it found here.
    fn fetch_all(&self) -> Result<(Duration, u64)> {
        let begun = Instant::now();
        loop {
            let start = Instant::now();
            let ran = self.network.nodes[1].run(&["fetch", "acme/m", "--json"])?;
            if ran.code == 0 {
                return Ok((start.elapsed(), ran.json()?["reused"].as_u64().unwrap_or(0)));
            }
            ensure!(begun.elapsed() < FINDING, "the fetch does not complete: {}", ran.stderr);
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn forget(&self) -> Result<()> {
        let node = &self.network.nodes[1];
        node.json(&["store", "drop", "acme/m@1"])?;
        node.json(&["store", "gc"])?;
        let left = node.json(&["store", "stats"])?;
        ensure!(left["chunks"] == 0 && left["manifests"] == 0, "a collection left something: {left}");
        Ok(())
    }
}

impl Scenario for Fetch {
    fn run(&mut self, _n: u64, rng: &mut Rng) -> Result<Ran> {
        // Three times of four the one who fetches.
        let victim = usize::from(rng.below(4) > 0);
        let mut fetching = Command::new(zero2ai()?)
            .arg("--home")
            .arg(self.network.nodes[1].home())
            .args(["fetch", "acme/m", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        thread::sleep(rng.moment(self.typical.saturating_mul(11) / 10));
        self.network.nodes[victim].kill();
        thread::sleep(Duration::from_millis(50));
        let acknowledged = fetching.try_wait()?.is_some_and(|status| status.success());
        let _ = fetching.kill();
        fetching.wait()?;
        let lay = audit(&self.network.nodes[victim].home().join("store"))?;
        self.network.nodes[victim].start(&[]).context("the start after the fault")?;

        let (_, reused) = self.fetch_all()?;
        let nodes = &self.network.nodes;
        let held = nodes[1].json(&["store", "ls"])?;
        let v = &held["versions"][0];
        ensure!(v["present"] == v["chunks"] && v["problem"].is_null(), "fetched and not whole: {held}");
        if victim == 1 {
            ensure!(reused == lay.chunks, "{} chunks lay there, the fetch found {reused} of them", lay.chunks);
        }
        for node in nodes {
            let verified = node.json(&["store", "verify"])?;
            let clean = ["damaged", "missing", "lost"].iter().all(|k| verified[k] == 0);
            ensure!(clean, "a store is not sound: {verified}");
        }
        let resumed = victim == 1 && reused > 0 && !acknowledged;
        self.forget()?;
        Ok(Ran { inside: !acknowledged, acknowledged: u64::from(acknowledged), checked: 1, resumed })
    }
}
