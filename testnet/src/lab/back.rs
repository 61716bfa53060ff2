//! A node that was suspended, and one whose address changed: how soon others reach it again, and it has their height, without help.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    figures::{machine, rounded, shown, spread},
    lines::{Lines, Plan as Ways},
};
use crate::{Daemon, fixture};

/// The model that the node serves which goes away.
const NAME: &str = "lab/digits";
/// A node that is not back after so long is not back.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each is done.
    pub runs: u8,
    /// For how long the node is suspended.
    pub away: Duration,
}

/// The founder, a node that goes away, and one that looks for it.
struct Lab {
    founder: Daemon,
    goes: Daemon,
    looks: Daemon,
    /// Who goes.
    node: String,
    lines: Lines,
    _dir: TempDir,
    published: u32,
}

/// Starts three nodes, measures, and stops them.
///
/// # Errors
/// One does not start, or the one that was away never comes back.
pub fn measure(plan: Plan) -> Result<Value> {
    if let Some(why) = Lines::missing() {
        anyhow::bail!("the lab cannot run here: {why}");
    }
    let mut lab = Lab::start()?;
    let busy = machine();
    let moved = (0..plan.runs).map(|run| lab.moved(run)).collect::<Result<Vec<_>>>()?;
    let suspended = (0..plan.runs).map(|_| lab.suspended(plan.away)).collect::<Result<Vec<_>>>()?;
    let of = |runs: &[Value], key: &str| spread(&runs.iter().filter_map(|r| r[key].as_f64()).collect::<Vec<_>>());
    let both = |runs: &[Value]| json!({ "reached_ms": of(runs, "reached_ms"), "height_ms": of(runs, "height_ms"), "each": runs });
    Ok(json!({
        "what": "back", "machine": busy, "away_s": plan.away.as_secs(), "suspended": both(&suspended), "moved": both(&moved),
    }))
}

impl Lab {
    fn start() -> Result<Self> {
        let rtt_ms = vec![vec![10.0]];
        let lines = Lines::lay(&Ways { regions: vec![0; 3], rtt_ms, jitter: 0.05, loss: 0.0, seed: 1 })?;
        let dir = tempfile::tempdir()?;
        let up = |place: usize, words: &[&str]| -> Result<Daemon> {
            let (at, home) = (lines.place(place)?, dir.path().join(format!("n{place}")));
            std::fs::create_dir_all(&home)?;
            // Whoever is to be reached at any address it may get listens at all.
            std::fs::write(home.join("config.toml"), "listen_rpc = \"0.0.0.0:0\"\nlisten_swarm = \"0.0.0.0:0\"\n")?;
            Daemon::up_in(Some(&at.namespace), &home, words)
        };
        let founder = up(0, &[])?;
        let answer = founder.json(&["pool", "invite", "--rights", "member", "--uses", "2"])?;
        let invite = dir.path().join("invite");
        std::fs::write(&invite, answer["invite"].as_str().context("an invite line")?)?;
        let join = ["--join-file", invite.to_str().context("a path is text")?];
        let (goes, looks) = (up(1, &join)?, up(2, &join)?);
        let digits = fixture("digits/digits.onnx");
        goes.json(&["publish", digits.to_str().context("a path is text")?, "--name", NAME, "--replicas", "0"])?;
        let node = goes.key()?;
        let lab = Self { founder, goes, looks, node, lines, _dir: dir, published: 0 };
        lab.reached(None)?;
        Ok(lab)
    }

    /// How long until the node that looks finds and reaches the one that went, at `address` if one is named.
    fn reached(&self, address: Option<Ipv4Addr>) -> Result<f64> {
        let start = Instant::now();
        loop {
            let said = self.looks.run(&["--json", "resolve", NAME, "--fresh"])?;
            let found = said.json().unwrap_or_default();
            let endpoints = found["endpoints"].as_array().cloned().unwrap_or_default();
            let there = endpoints.iter().find(|e| e["node"] == self.node.as_str() && !e["rtt_ms"].is_null());
            let told =
                there.is_some_and(|e| address.is_none_or(|at| e["addresses"].to_string().contains(&format!("{at}:"))));
            if told {
                return Ok(start.elapsed().as_secs_f64() * 1e3);
            }
            ensure!(start.elapsed() < PATIENCE, "it is not reached again: {found}\n{}", self.goes.log_end());
            std::thread::sleep(LOOK);
        }
    }

    /// How long until the node that went has the founder's height.
    fn level(&self) -> Result<f64> {
        let goal = self.founder.json(&["status"])?["height"].as_u64();
        let start = Instant::now();
        while self.goes.json(&["status"])?["height"].as_u64() < goal {
            ensure!(start.elapsed() < PATIENCE, "it has not the height {goal:?}: {}", self.goes.log_end());
            std::thread::sleep(LOOK);
        }
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    /// Moves the height.
    fn publish(&mut self) -> Result<()> {
        self.published += 1;
        let digits = fixture("digits/digits.onnx");
        let name = format!("other/m{}", self.published);
        let file = digits.to_str().context("a path is text")?;
        self.founder.json(&["publish", file, "--name", &name, "--replicas", "0", "--store-only"])?;
        Ok(())
    }

    fn suspended(&mut self, away: Duration) -> Result<Value> {
        self.goes.signal(Signal::STOP)?;
        std::thread::sleep(away / 2);
        self.publish()?;
        std::thread::sleep(away / 2);
        self.goes.signal(Signal::CONT)?;
        let start = Instant::now();
        self.level()?;
        let height = start.elapsed().as_secs_f64() * 1e3;
        self.reached(None)?;
        let reached = start.elapsed().as_secs_f64() * 1e3;
        eprintln!("back: suspended: the height again after {height:.0} ms, reached after {reached:.0} ms");
        Ok(json!({ "height_ms": rounded(height), "reached_ms": rounded(reached) }))
    }

    fn moved(&mut self, run: u8) -> Result<Value> {
        let to = Ipv4Addr::new(10, 79, 1, run + 1);
        self.lines.renumber(1, to)?;
        let start = Instant::now();
        self.reached(Some(to))?;
        let reached = start.elapsed().as_secs_f64() * 1e3;
        self.publish()?;
        let height = self.level()?;
        eprintln!("back: {to}: reached after {reached:.0} ms, a new block {height:.0} ms after it was final");
        Ok(json!({ "height_ms": rounded(height), "reached_ms": rounded(reached) }))
    }
}

/// A few lines for people.
#[must_use]
pub fn text(report: &Value) -> String {
    let (suspended, moved) = (&report["suspended"], &report["moved"]);
    format!(
        "suspended for {} s: has the height again after {}; reached again after {}\n\
         address changed: reached at the new one after {}; has a new block {} after it was final",
        report["away_s"],
        shown(&suspended["height_ms"], "ms"),
        shown(&suspended["reached_ms"], "ms"),
        shown(&moved["reached_ms"], "ms"),
        shown(&moved["height_ms"], "ms"),
    )
}
