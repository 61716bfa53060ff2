//! One of four signers is paused for ten seconds, or stopped and started again, while the others go on. The chain makes
//! blocks meanwhile, and the one that was away has the others' height again within
//! twenty seconds, unless another limit is given.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{
    Ran, Scenario,
    chain::{four_signers, height},
    model,
    rng::Rng,
};
use crate::Network;

/// How long a signer is away.
const AWAY: Duration = Duration::from_secs(10);
/// How often something is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// See the module.
pub struct Perturb {
    network: Network,
    published: u64,
    /// How soon it must be back.
    within: Duration,
}

impl Perturb {
    /// Four nodes that sign together; whoever was away must be back `within` so long.
    ///
    /// # Errors
    /// They do not start or do not agree.
    pub fn new(within: Duration) -> Result<Self> {
        let mut scenario = Self { network: four_signers()?, published: 0, within };
        scenario.publish(0)?;
        Ok(scenario)
    }

    /// A publication of node `by`, which makes blocks.
    fn publish(&mut self, by: usize) -> Result<()> {
        self.published += 1;
        let file = model::write(self.network.path(), self.published, 1024)?;
        let path = file.to_str().context("a temporary path is text")?;
        let name = format!("lab{by}/m");
        let args = ["publish", path, "--name", &name, "--replicas", "0", "--store-only"];
        self.network.nodes[by].json(&args)?;
        Ok(std::fs::remove_file(&file)?)
    }

    fn heights(&self) -> Result<Vec<u64>> {
        self.network.nodes.iter().map(|n| height(n.home())).collect()
    }
}

impl Scenario for Perturb {
    fn run(&mut self, n: u64, rng: &mut Rng) -> Result<Ran> {
        let who = usize::try_from(rng.below(4))?;
        let other = (who + 1) % 4;
        let before = self.heights()?;
        let pause = n.is_multiple_of(2);
        let start = Instant::now();
        if pause {
            self.network.nodes[who].signal(Signal::STOP)?;
        } else {
            self.network.nodes[who].terminate()?;
        }
        let mut made = 0;
        while start.elapsed() < AWAY {
            self.publish(other)?;
            made += 1;
            thread::sleep(AWAY / 10);
        }
        if pause {
            self.network.nodes[who].signal(Signal::CONT)?;
        } else {
            self.network.nodes[who].start(&[])?;
        }
        let (back, goal) = (Instant::now(), height(self.network.nodes[other].home())?);
        ensure!(goal > before[other], "no block came while node {who} was away");
        while height(self.network.nodes[who].home())? < goal {
            let (late, log) = (back.elapsed(), self.network.nodes[who].log_end());
            ensure!(late < self.within, "node {who} is not back after {late:?}: {log}");
            thread::sleep(LOOK);
        }
        let kind = if pause { "paused" } else { "started anew" };
        eprintln!("perturb: run {n}: node {who}, {kind}, had height {goal} again after {:?}", back.elapsed());
        // And it takes part: what it publishes becomes final.
        self.publish(who)?;
        Ok(Ran { inside: pause, acknowledged: made + 1, checked: made, resumed: true })
    }
}
