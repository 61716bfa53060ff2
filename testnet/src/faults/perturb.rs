//! One of four signers is paused for ten seconds, stopped or killed and started again, or cut off from the others, which go
//! on. The chain makes blocks meanwhile, and the one that was away has the others' height again within twenty seconds, unless
//! another limit is given.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{
    Ran, Scenario,
    chain::{height, sign_together},
    model,
    rng::Rng,
    wires::Wires,
};
use crate::Network;

/// How long a signer is away.
const AWAY: Duration = Duration::from_secs(10);
/// How often something is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// What is done to a signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is stopped in the middle of what it does, and goes on.
    Paused,
    /// It is told to stop, and started again.
    Restarted,
    /// It is killed, and started again.
    Killed,
    /// Its wire is pulled out, and plugged in again.
    CutOff,
}

/// Without wires the last one cannot be.
const FAULTS: [Fault; 4] = [Fault::Paused, Fault::Restarted, Fault::Killed, Fault::CutOff];

/// See the module.
pub struct Perturb {
    network: Network,
    /// What the network hangs on, if its wires can be pulled out; removed after it.
    wires: Option<Wires>,
    published: u64,
    /// How soon it must be back.
    within: Duration,
}

impl Perturb {
    /// Four nodes that sign together, on `wires` or on loopback; whoever was away must be back `within` so long.
    ///
    /// # Errors
    /// They do not start or do not agree.
    pub fn new(within: Duration, wires: bool) -> Result<Self> {
        let wires = wires.then(|| Wires::new(4)).transpose()?;
        let network = wires.as_ref().map_or_else(|| Network::start(4), |wires| Network::start_on(wires, 4))?;
        let mut scenario = Self { network: sign_together(network)?, wires, published: 0, within };
        // The first time each asks another publisher for the secret that chunks are sealed under, who must not be away then.
        (0..4).try_for_each(|node| scenario.publish(node))?;
        Ok(scenario)
    }

    fn begin(&mut self, fault: Fault, who: usize) -> Result<()> {
        match fault {
            Fault::Paused => self.network.nodes[who].signal(Signal::STOP),
            Fault::Restarted => self.network.nodes[who].terminate().map(drop),
            Fault::Killed => {
                self.network.nodes[who].kill();
                Ok(())
            }
            Fault::CutOff => self.plug(who, false),
        }
    }

    fn end(&mut self, fault: Fault, who: usize) -> Result<()> {
        match fault {
            Fault::Paused => self.network.nodes[who].signal(Signal::CONT),
            Fault::Restarted | Fault::Killed => self.network.nodes[who].start(&[]),
            Fault::CutOff => self.plug(who, true),
        }
    }

    fn plug(&self, who: usize, plugged: bool) -> Result<()> {
        self.wires.as_ref().context("wires to pull out")?.plug(who, plugged)
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
        let faults = if self.wires.is_some() { FAULTS.as_slice() } else { &FAULTS[..3] };
        let fault = faults[usize::try_from(n)? % faults.len()];
        let start = Instant::now();
        self.begin(fault, who)?;
        let mut made = 0;
        while start.elapsed() < AWAY {
            self.publish(other)?;
            made += 1;
            thread::sleep(AWAY / 10);
        }
        self.end(fault, who)?;
        let (back, goal) = (Instant::now(), height(self.network.nodes[other].home())?);
        ensure!(goal > before[other], "no block came while node {who} was away");
        while height(self.network.nodes[who].home())? < goal {
            let (late, log) = (back.elapsed(), self.network.nodes[who].log_end());
            ensure!(late < self.within, "node {who} is not back after {late:?}: {log}");
            thread::sleep(LOOK);
        }
        eprintln!("perturb: run {n}: node {who}, {fault:?}, had height {goal} again after {:?}", back.elapsed());
        // And it takes part: what it publishes becomes final.
        self.publish(who)?;
        Ok(Ran { inside: fault != Fault::Restarted, acknowledged: made + 1, checked: made, resumed: true })
    }
}
