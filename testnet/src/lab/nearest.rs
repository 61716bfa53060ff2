//! Callers and providers in three regions: how often the nearest is asked, and how soon another one is once that is slow, busy,
//! dead or cut off.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    caller::{Call, Caller, Calls, now_s},
    figures::{machine, rounded, spread},
    lines::{Lines, Plan as Ways},
    process::children,
};
use crate::{Daemon, fixture};

/// Milliseconds there and back: 10 within a region, 60 to the next, 180 to the far one.
const RTT_MS: [[f64; 3]; 3] = [[10.0, 60.0, 180.0], [60.0, 10.0, 60.0], [180.0, 60.0, 10.0]];
/// Jitter and loss of every line.
const JITTER: f64 = 0.05;
const LOSS: f64 = 0.001;
/// What a line's round trip becomes when it slows down.
const SLOW_MS: f64 = 400.0;
/// The model's name.
const NAME: &str = "lab/digits";
/// Pause between two calls of one caller.
const EVERY: Duration = Duration::from_millis(50);
/// Calls before something happens to the endpoint that is used.
const BEFORE: usize = 40;
/// Calls after it before it counts as over, and the longest wait for them.
const AFTER: usize = 40;
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Providers in each region.
    pub seats: usize,
    /// Calls of each caller while nothing happens.
    pub calls: u64,
    /// Fresh callers of each region, whose first call counts.
    pub fresh: usize,
    /// How often each thing happens to an endpoint.
    pub runs: usize,
    /// Fixes jitter and loss.
    pub seed: u64,
}

/// What happens to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Its line becomes long.
    Slow,
    /// Its worker answers nothing for a while, as one that is busy with something large.
    Busy,
    /// It is killed.
    Killed,
    /// Its cable is taken out.
    CutOff,
}

/// A provider.
struct Seat {
    daemon: Daemon,
    node: String,
    place: usize,
    region: usize,
}

/// The pool: the founder in the middle, providers everywhere, and a place for a caller in each region.
struct Lab {
    seats: Vec<Seat>,
    callers: Vec<usize>,
    invite: PathBuf,
    made: usize,
    _founder: Daemon,
    lines: Lines,
    dir: TempDir,
}

/// Starts it all, measures, and stops it.
///
/// # Errors
/// Something does not start, or a caller gets no answers.
pub fn measure(plan: Plan) -> Result<Value> {
    if let Some(why) = Lines::missing() {
        anyhow::bail!("the lab cannot run here: {why}");
    }
    let mut lab = Lab::start(plan)?;
    let busy = machine();
    let steady = lab.steady(plan.calls)?;
    let fresh = lab.fresh(plan.fresh)?;
    let mut events = serde_json::Map::new();
    for event in [Event::Slow, Event::Busy, Event::Killed, Event::CutOff] {
        let runs = (0..plan.runs).map(|run| lab.event(event, run)).collect::<Result<Vec<_>>>()?;
        events.insert(format!("{event:?}").to_lowercase(), summed(&runs));
    }
    Ok(json!({
        "what": "nearest", "machine": busy, "rtt_ms": RTT_MS, "jitter": JITTER, "loss": LOSS, "seats": plan.seats,
        "seed": plan.seed, "every_ms": EVERY.as_millis(), "steady": steady, "fresh": fresh, "events": events,
    }))
}

impl Lab {
    fn start(plan: Plan) -> Result<Self> {
        // Place 0 is the founder's; then the seats, region by region; then a caller's place in each region.
        let seated = (0..3).flat_map(|region| std::iter::repeat_n(region, plan.seats));
        let regions: Vec<usize> = std::iter::once(1).chain(seated).chain(0..3).collect();
        let first_caller = 1 + 3 * plan.seats;
        let ways = Ways {
            regions: regions.clone(),
            rtt_ms: RTT_MS.iter().map(|row| row.to_vec()).collect(),
            jitter: JITTER,
            loss: LOSS,
            seed: plan.seed,
        };
        let lines = Lines::lay(&ways)?;
        let dir = tempfile::tempdir()?;
        let founder = up(&lines, 0, dir.path(), &[])?;
        let invite = dir.path().join("invite");
        let answer = founder.json(&["pool", "invite", "--rights", "member", "--uses", "1000"])?;
        std::fs::write(&invite, answer["invite"].as_str().context("an invite line")?)?;
        let digits = fixture("digits/digits.onnx");
        let digits = digits.to_str().context("a path is text")?;
        founder.json(&["publish", digits, "--name", NAME, "--replicas", "0"])?;
        let mut seats = Vec::new();
        for (place, region) in regions.iter().enumerate().take(first_caller).skip(1) {
            let daemon = up(&lines, place, dir.path(), &["--join-file", invite.to_str().context("a path is text")?])?;
            daemon.until(&["fetch", NAME, "--serve"])?;
            let node = daemon.key()?;
            eprintln!("nearest: provider {place} serves in region {region}");
            seats.push(Seat { daemon, node, place, region: *region });
        }
        let callers = (first_caller..regions.len()).collect();
        Ok(Self { seats, callers, invite, made: 0, _founder: founder, lines, dir })
    }

    /// A caller of `region`; `account` is kept from call to call.
    fn caller(&self, region: usize, account: &str, calls: u64) -> Result<Caller> {
        let place = self.lines.place(self.callers[region])?;
        let account = self.dir.path().join(account);
        let plan = Calls { account: &account, invite: &self.invite, name: NAME, every: EVERY, calls };
        Caller::start(&place.namespace, &plan)
    }

    /// True if this call was answered within the region. The founder is a provider too, of the region in the middle.
    fn is_near(&self, call: &Call, region: usize) -> bool {
        let Some(node) = &call.node else { return false };
        self.seats.iter().find(|seat| seat.node == *node).map_or(region == 1, |seat| seat.region == region)
    }

    /// One caller a region, at the same time, while nothing happens.
    fn steady(&self, calls: u64) -> Result<Value> {
        let callers =
            (0..3).map(|region| self.caller(region, &format!("steady{region}"), calls)).collect::<Result<Vec<_>>>()?;
        let mut told = Vec::new();
        for (region, caller) in callers.iter().enumerate() {
            let calls = caller.wait(usize::try_from(calls)?, PATIENCE * 5)?;
            let near = calls.iter().filter(|call| self.is_near(call, region)).count();
            let ms: Vec<f64> = calls.iter().map(|call| call.ms).collect();
            let failed = calls.iter().filter(|call| call.node.is_none()).count();
            let nodes: std::collections::BTreeSet<_> = calls.iter().filter_map(|call| call.node.clone()).collect();
            eprintln!("nearest: region {region}: {near} of {} calls at the nearest", calls.len());
            told.push(json!({
                "region": region, "calls": calls.len(), "nearest": near, "percent": percent(near, calls.len()),
                "failed": failed, "nodes": nodes.len(), "ms": spread(&ms), "first_ms": ms.first().copied().map(rounded),
            }));
        }
        Ok(json!(told))
    }

    /// The first calls of callers that know nothing yet.
    fn fresh(&mut self, count: usize) -> Result<Value> {
        let (mut near, mut all, mut ms) = (0, 0, Vec::new());
        let mut nodes = std::collections::BTreeSet::new();
        for n in 0..count {
            for region in 0..3 {
                let caller = self.caller(region, &format!("fresh{n}-{region}"), 1)?;
                let calls = caller.wait(1, PATIENCE)?;
                all += 1;
                near += usize::from(self.is_near(&calls[0], region));
                ms.push(calls[0].ms);
                nodes.extend(calls[0].node.clone());
            }
        }
        eprintln!("nearest: {near} of {all} first calls at the nearest");
        Ok(json!({
            "calls": all, "nearest": near, "percent": percent(near, all), "nodes": nodes.len(), "first_ms": spread(&ms),
        }))
    }

    /// Lets it happen to the endpoint that a caller uses, and tells what the caller saw.
    fn event(&mut self, event: Event, run: usize) -> Result<Value> {
        // Region 1 has the founder, whose death would halt the chain; the two others take turns.
        let region = if run.is_multiple_of(2) { 0 } else { 2 };
        self.made += 1;
        let caller = self.caller(region, &format!("event{}", self.made), 100_000)?;
        let calls = caller.wait(BEFORE, PATIENCE)?;
        let used = calls.last().and_then(|call| call.node.clone()).context("the caller is answered")?;
        let seat = self.seats.iter().position(|seat| seat.node == used).context("a provider answers")?;
        ensure!(self.seats[seat].region == region, "the caller of region {region} uses a far endpoint");
        let worker = self.begin(event, seat)?;
        let at = now_s();
        let elsewhere = |call: &Call| call.at > at && call.node.as_ref().is_some_and(|node| *node != used);
        let start = std::time::Instant::now();
        while !caller.calls().iter().any(elsewhere) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let made = caller.calls().iter().filter(|call| call.at > at).count();
        let calls = caller.wait(calls.len() + made + AFTER, PATIENCE)?;
        let told = seen(&calls, at, &used);
        drop(caller);
        eprintln!("nearest: {event:?} {run}: elsewhere after {} ms", told["elsewhere_ms"]);
        self.end(event, seat, worker)?;
        Ok(told)
    }

    fn begin(&mut self, event: Event, seat: usize) -> Result<Option<u32>> {
        let (place, region) = (self.seats[seat].place, self.seats[seat].region);
        match event {
            Event::Slow => self.lines.slow(place, SLOW_MS - RTT_MS[region][region])?,
            Event::CutOff => self.lines.plug(place, false)?,
            Event::Killed => self.seats[seat].daemon.kill(),
            Event::Busy => {
                let worker = children(self.seats[seat].daemon.pid()?).first().copied().context("a worker")?;
                signal(worker, Signal::STOP)?;
                return Ok(Some(worker));
            }
        }
        Ok(None)
    }

    /// Undoes it, and waits until the provider serves again.
    fn end(&mut self, event: Event, seat: usize, worker: Option<u32>) -> Result<()> {
        let Seat { daemon, place, .. } = &mut self.seats[seat];
        match event {
            Event::Slow => self.lines.slow(*place, 0.0)?,
            Event::CutOff => self.lines.plug(*place, true)?,
            Event::Killed => daemon.start(&[])?,
            Event::Busy => signal(worker.context("a worker")?, Signal::CONT)?,
        }
        let start = std::time::Instant::now();
        let serving =
            |status: &Value| status["models"].as_array().is_some_and(|m| m.iter().any(|m| m["serving"] == true));
        while !daemon.json(&["status"]).is_ok_and(|status| serving(&status)) {
            ensure!(start.elapsed() < PATIENCE, "a provider does not serve again: {}", daemon.log_end());
            std::thread::sleep(Duration::from_millis(200));
        }
        // It is found again by those who lost it, and its endpoint record is renewed.
        std::thread::sleep(Duration::from_secs(6));
        Ok(())
    }
}

/// What a caller saw of something that happened at `at` to the node it used.
fn seen(calls: &[Call], at: f64, used: &str) -> Value {
    let after: Vec<&Call> = calls.iter().filter(|call| call.at > at).collect();
    let elsewhere = after.iter().find(|call| call.node.as_ref().is_some_and(|node| node != used));
    let first = elsewhere.map(|call| call.at);
    let there = |call: &&&Call| call.node.as_deref() == Some(used);
    let back = after.iter().filter(|call| first.is_some_and(|first| call.at > first)).filter(there).count();
    let failed: Vec<&Value> = after.iter().filter(|call| call.node.is_none()).map(|call| &call.said).collect();
    json!({
        "elsewhere_ms": first.map(|first| rounded((first - at) * 1e3)), "failed": failed.len(), "errors": failed,
        "still_there": after.iter().filter(there).count() - back, "went_back": back,
        "slowest_ms": rounded(after.iter().map(|call| call.ms).fold(0.0, f64::max)), "calls": after.len(),
    })
}

fn summed(runs: &[Value]) -> Value {
    let of = |key: &str| runs.iter().filter_map(|run| run[key].as_f64()).collect::<Vec<_>>();
    let sum = |key: &str| runs.iter().filter_map(|run| run[key].as_u64()).sum::<u64>();
    json!({
        "runs": runs.len(), "elsewhere_ms": spread(&of("elsewhere_ms")), "slowest_ms": spread(&of("slowest_ms")),
        "failed_calls": sum("failed"), "calls": sum("calls"), "went_back": sum("went_back"), "each": runs,
    })
}

#[allow(clippy::cast_precision_loss)] // thousands at most
fn percent(part: usize, all: usize) -> f64 {
    rounded(100.0 * part as f64 / all.max(1) as f64)
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a process id is positive")?;
    Ok(kill_process(pid, signal)?)
}

/// A daemon at a place, which listens there.
fn up(lines: &Lines, place: usize, dir: &Path, words: &[&str]) -> Result<Daemon> {
    let at = lines.place(place)?;
    let home = dir.join(format!("n{place}"));
    std::fs::create_dir_all(&home)?;
    let listen = format!("listen_rpc = \"{0}:0\"\nlisten_swarm = \"{0}:0\"\n", at.address);
    std::fs::write(home.join("config.toml"), listen)?;
    Daemon::up_in(Some(&at.namespace), &home, words)
}

/// A few lines for people.
#[must_use]
pub fn text(report: &Value) -> String {
    let shown = super::figures::shown;
    let mut lines = Vec::new();
    for region in report["steady"].as_array().into_iter().flatten() {
        lines.push(format!(
            "region {}: {} % of {} calls at the nearest; {}",
            region["region"],
            region["percent"],
            region["calls"],
            shown(&region["ms"], "ms")
        ));
    }
    let fresh = &report["fresh"];
    lines.push(format!(
        "first calls: {} % of {} at the nearest; {}",
        fresh["percent"],
        fresh["calls"],
        shown(&fresh["first_ms"], "ms")
    ));
    for (event, told) in report["events"].as_object().into_iter().flatten() {
        let (after, failed) = (shown(&told["elsewhere_ms"], "ms"), &told["failed_calls"]);
        lines.push(format!("{event}: answered elsewhere after {after}; {failed} calls failed"));
    }
    lines.join("\n")
}
