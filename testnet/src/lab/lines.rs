//! A wide network: a namespace for each place, and between them the emulator `testnet/delay.py`, which holds packets back for as
//! long as the way from region to region takes. Removed when dropped.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::faults::wires::{Place, ip, words};

/// Names of namespaces begin with this; those that a killed run left behind are removed at the next start.
const PREFIX: &str = "z2way-";

/// How far apart regions are, and how bad the lines.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The region of each place, at most 200.
    pub regions: Vec<usize>,
    /// Milliseconds there and back, from region to region; within one it is the diagonal.
    pub rtt_ms: Vec<Vec<f64>>,
    /// How much longer a packet's way may be, drawn for each, as a part of it.
    pub jitter: f64,
    /// Part of the packets that are lost.
    pub loss: f64,
    /// Fixes what is drawn.
    pub seed: u64,
}

/// See the module.
pub struct Lines {
    places: Vec<Place>,
    emulator: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Lines {
    /// What is missing on this machine for it, in words.
    #[must_use]
    pub fn missing() -> Option<&'static str> {
        if !rustix::process::geteuid().is_root() {
            return Some("network namespaces need root: run it again as root (sudo)");
        }
        if !Path::new("/dev/net/tun").exists() {
            return Some("there is no /dev/net/tun: the kernel lacks TUN devices, or this is a container without them");
        }
        let runs = |program: &str| Command::new(program).arg("-V").output().is_ok();
        (!runs("ip") || !runs("python3")).then_some("it needs the commands ip (iproute2) and python3")
    }

    /// Lays them.
    ///
    /// # Errors
    /// Something is missing, see [`Lines::missing`], or the emulator does not start.
    pub fn lay(plan: &Plan) -> Result<Self> {
        sweep()?;
        let place = |n: usize| -> Result<Place> {
            let last = u8::try_from(n + 1).ok().filter(|n| *n <= 200).context("at most 200 places")?;
            Ok(Place { namespace: format!("{PREFIX}{n}"), address: [10, 79, 0, last].into() })
        };
        let places: Vec<Place> = (0..plan.regions.len()).map(place).collect::<Result<_>>()?;
        for Place { namespace, .. } in &places {
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("delay.py");
        let mut emulator = Command::new("python3")
            .arg(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let orders = emulator.stdin.take().context("a pipe")?;
        let answers = BufReader::new(emulator.stdout.take().context("a pipe")?);
        let mut lines = Self { places, emulator, orders, answers };
        let told = |(place, region): (&Place, &usize)| json!({ "namespace": place.namespace, "address": place.address.to_string(), "region": region });
        let places: Vec<Value> = lines.places.iter().zip(&plan.regions).map(told).collect();
        let plan = json!({ "places": places, "rtt_ms": plan.rtt_ms, "jitter": plan.jitter, "loss": plan.loss, "seed": plan.seed });
        let answer = lines.order(&plan)?;
        ensure!(answer["ready"] == true, "the emulator says {answer}");
        Ok(lines)
    }

    /// Where place `n` is.
    ///
    /// # Errors
    /// There is no such place.
    pub fn place(&self, n: usize) -> Result<Place> {
        self.places.get(n).cloned().with_context(|| format!("there is no place {n}"))
    }

    fn order(&mut self, order: &Value) -> Result<Value> {
        writeln!(self.orders, "{order}").context("the emulator is gone")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the emulator said {line:?}"))
    }

    /// Makes all round trips of place `n` longer by `ms`; 0 ends it.
    ///
    /// # Errors
    /// The emulator is gone.
    pub fn slow(&mut self, n: usize, ms: f64) -> Result<()> {
        self.order(&json!({ "extra": n, "ms": ms })).map(drop)
    }

    /// Takes the cable of place `n` out, or in again.
    ///
    /// # Errors
    /// The emulator is gone.
    pub fn plug(&mut self, n: usize, plugged: bool) -> Result<()> {
        let word = if plugged { "plug" } else { "cut" };
        self.order(&json!({ word: n })).map(drop)
    }
}

impl Lines {
    /// Gives place `n` the address `to` in place of the one it has, as a network does that hands out another lease.
    ///
    /// # Errors
    /// The emulator is gone, or the address is none.
    pub fn renumber(&mut self, n: usize, to: std::net::Ipv4Addr) -> Result<()> {
        let answer = self.order(&json!({ "address": n, "is": to.to_string() }))?;
        ensure!(answer["error"].is_null(), "the emulator says {answer}");
        self.places.get_mut(n).context("there is such a place")?.address = to;
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
        if let Err(error) = sweep() {
            eprintln!("a network namespace could not be removed: {error:#}");
        }
    }
}

fn sweep() -> Result<()> {
    for line in words("netns list")?.lines() {
        if let Some(name) = line.split_whitespace().next().filter(|name| name.starts_with(PREFIX)) {
            ip(&format!("netns del {name}"))?;
        }
    }
    Ok(())
}
