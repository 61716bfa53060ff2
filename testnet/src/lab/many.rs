//! Many daemons of one pool on one machine: how long joining takes, what an idle one costs, how long resolving takes.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    figures::{machine, rounded, spread},
    process::{memory, processor_s},
};
use crate::{Daemon, faults::wires::ip, fixture};

/// Their network namespace: nothing else sends there, so its loopback counts their bytes and no others.
const NAMESPACE: &str = "z2lab-many";
/// A node that has not joined after so long never will.
const JOINED: Duration = Duration::from_secs(60);
/// The model's name.
const NAME: &str = "lab/digits";

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Daemons.
    pub nodes: usize,
    /// For how long they are left alone before they are measured.
    pub settle: Duration,
    /// For how long they are measured.
    pub idle: Duration,
}

/// The pool.
struct Pool {
    nodes: Vec<Daemon>,
    namespace: Option<Namespace>,
    dir: TempDir,
}

/// Removed when dropped.
struct Namespace;

impl Namespace {
    /// `None` without the rights for it: then nobody's bytes can be told apart.
    fn new() -> Option<Self> {
        let _ = ip(&format!("netns del {NAMESPACE}"));
        let made = ip(&format!("netns add {NAMESPACE}")).and_then(|()| ip(&format!("-n {NAMESPACE} link set lo up")));
        match made {
            Ok(()) => Some(Self),
            Err(why) => {
                eprintln!("many: no namespace of their own, so bytes are not counted: {why:#}");
                None
            }
        }
    }

    /// Bytes that were sent on its loopback so far.
    fn sent(&self) -> Result<f64> {
        let read = ["netns", "exec", NAMESPACE, "cat", "/sys/class/net/lo/statistics/tx_bytes"];
        let ran = Command::new("ip").args(read).output()?;
        String::from_utf8_lossy(&ran.stdout).trim().parse().context("a count of bytes")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {NAMESPACE}"));
    }
}

/// Starts them, measures, and stops them.
///
/// # Errors
/// One does not start, join or answer.
pub fn measure(plan: Plan) -> Result<Value> {
    let (mut pool, join) = Pool::start(plan.nodes)?;
    eprintln!("many: {} daemons are up; {:?} of rest", plan.nodes, plan.settle);
    std::thread::sleep(plan.settle);
    let busy = machine();
    let idle = pool.idle(plan.idle)?;
    let resolve = pool.resolve()?;
    Ok(json!({
        "what": "many", "machine": busy, "nodes": plan.nodes, "settle_s": plan.settle.as_secs(), "join_ms": join,
        "idle": idle, "resolve": resolve,
    }))
}

impl Pool {
    /// One after the other, each measured from its start until it knows a peer and the head.
    fn start(count: usize) -> Result<(Self, Value)> {
        let (namespace, dir) = (Namespace::new(), tempfile::tempdir()?);
        let within = namespace.as_ref().map(|_| NAMESPACE);
        let first = Daemon::up_in(within, &dir.path().join("n0"), &[])?;
        let uses = count.to_string();
        let invite = first.json(&["pool", "invite", "--rights", "member", "--uses", &uses])?;
        let file = dir.path().join("invite");
        std::fs::write(&file, invite["invite"].as_str().context("an invite line")?)?;
        let file = file.to_str().context("a temporary path is text")?.to_owned();
        let mut pool = Self { nodes: vec![first], namespace, dir };
        let mut took = Vec::new();
        for n in 1..count {
            let ms = pool.join(n, &file)?;
            took.push(ms);
            if n % 16 == 0 {
                eprintln!("many: {n} have joined, the last in {ms:.0} ms");
            }
        }
        Ok((pool, spread(&took)))
    }

    fn join(&mut self, n: usize, invite: &str) -> Result<f64> {
        let goal = height(&self.nodes[0])?;
        let within = self.namespace.as_ref().map(|_| NAMESPACE);
        let start = Instant::now();
        let node = Daemon::up_in(within, &self.dir.path().join(format!("n{n}")), &["--join-file", invite])?;
        loop {
            let status = node.json(&["status"])?;
            let peers = status["peers"].as_array().is_some_and(|peers| !peers.is_empty());
            if peers && status["height"].as_u64() >= Some(goal) {
                self.nodes.push(node);
                return Ok(start.elapsed().as_secs_f64() * 1e3);
            }
            ensure!(start.elapsed() < JOINED, "node {n} did not join: {status}\n{}", node.log_end());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What each costs while nothing is asked of it.
    fn idle(&self, span: Duration) -> Result<Value> {
        let pids: Vec<u32> = self.nodes.iter().map(Daemon::pid).collect::<Result<_>>()?;
        let sent = || self.namespace.as_ref().map(Namespace::sent).transpose();
        let processor = || pids.iter().map(|pid| processor_s(*pid)).collect::<Result<Vec<f64>>>();
        let (start, before, bytes) = (Instant::now(), processor()?, sent()?);
        std::thread::sleep(span);
        let (seconds, after, bytes_after) = (start.elapsed().as_secs_f64(), processor()?, sent()?);
        let memory = pids.iter().map(|pid| memory(*pid)).collect::<Result<Vec<_>>>()?;
        let of = |read: fn(&super::process::Memory) -> f64| spread(&memory.iter().map(read).collect::<Vec<_>>());
        let percent: Vec<f64> = before.iter().zip(&after).map(|(b, a)| (a - b) / seconds * 100.0).collect();
        #[allow(clippy::cast_precision_loss)] // a few dozens
        let nodes = pids.len() as f64;
        let hourly = bytes.zip(bytes_after).map(|(b, a)| rounded((a - b) / nodes / seconds * 3600.0 / 1e6));
        Ok(json!({
            "seconds": rounded(seconds), "rss_mib": of(|m| m.rss_mib), "pss_mib": of(|m| m.pss_mib),
            "anonymous_mib": of(|m| m.anonymous_mib), "threads": memory.iter().map(|m| m.threads).max(),
            "processor_percent": spread(&percent), "sent_mb_per_node_and_hour": hourly,
        }))
    }

    /// A name that every node asks for the first time, and the second time.
    fn resolve(&mut self) -> Result<Value> {
        let digits = fixture("digits/digits.onnx");
        let digits = digits.to_str().context("a path is text")?;
        self.nodes[0].json(&["publish", digits, "--name", NAME, "--replicas", "0"])?;
        for node in self.nodes.iter().skip(1).take(3) {
            node.until(&["fetch", NAME, "--serve"])?;
        }
        let goal = height(&self.nodes[0])?;
        for node in &self.nodes {
            reaches(node, goal)?;
        }
        let (mut cold, mut warm, mut fresh, mut sources) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for node in self.nodes.iter().skip(4) {
            let first = node.until(&["resolve", NAME])?;
            sources.push(first["source"].as_str().unwrap_or_default().to_owned());
            cold.extend(first["ms"].as_f64());
            for _ in 0..3 {
                warm.extend(node.json(&["resolve", NAME])?["ms"].as_f64());
            }
            fresh.extend(node.json(&["resolve", NAME, "--fresh"])?["ms"].as_f64());
        }
        sources.sort();
        sources.dedup();
        Ok(json!({
            "first_ms": spread(&cold), "first_from": sources, "again_ms": spread(&warm), "fresh_ms": spread(&fresh),
        }))
    }
}

fn height(node: &Daemon) -> Result<u64> {
    node.json(&["status"])?["height"].as_u64().context("a height")
}

fn reaches(node: &Daemon, goal: u64) -> Result<()> {
    let start = Instant::now();
    while height(node)? < goal {
        ensure!(start.elapsed() < JOINED, "a node is behind: {}", node.log_end());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A few lines for people.
#[must_use]
pub fn text(report: &Value) -> String {
    let shown = super::figures::shown;
    let (idle, resolve) = (&report["idle"], &report["resolve"]);
    format!(
        "{} daemons\njoin            {}\nRSS             {}\nPSS             {}\nthreads         {}\nprocessor       {}\n\
         sent            {} MB per node and hour\nresolve, first  {}\nresolve, again  {}\nresolve, fresh  {}",
        report["nodes"],
        shown(&report["join_ms"], "ms"),
        shown(&idle["rss_mib"], "MiB"),
        shown(&idle["pss_mib"], "MiB"),
        idle["threads"],
        shown(&idle["processor_percent"], "%"),
        idle["sent_mb_per_node_and_hour"],
        shown(&resolve["first_ms"], "ms"),
        shown(&resolve["again_ms"], "ms"),
        shown(&resolve["fresh_ms"], "ms"),
    )
}
