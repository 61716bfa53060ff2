//! The pool in its world, and what is tried in it: joining, publishing and predicting across two NATs, by way of a relay and,
//! where the NATs allow it, through a punched hole; and what is left when the relay dies.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::world::{Kind, RELAY, World};
use crate::{Daemon, faults::model, fixture};

/// Patience with anything that should happen soon.
const SOON: Duration = Duration::from_secs(40);
/// The model that is called.
const MODEL: &str = "acme/digits";

/// What a run does.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What kind of NAT both gateways are.
    pub nats: Kind,
    /// Predictions over one open connection.
    pub predictions: usize,
    /// Size of a model that is fetched to measure throughput, MiB; 0 leaves it out.
    pub bulk_mib: usize,
    /// Kill the relay, and start it again.
    pub kill_relay: bool,
}

/// See the module. Nodes go before the world they live in.
pub struct Lab {
    relay: Daemon,
    a: Daemon,
    b: Daemon,
    dir: TempDir,
    options: Options,
    saw: Map<String, Value>,
    _world: World,
}

impl Lab {
    /// Starts the relay, and lets `a` and `b` join by its invites.
    ///
    /// # Errors
    /// The world cannot be made, or a node does not come in.
    pub fn new(options: Options) -> Result<Self> {
        let (world, dir) = (World::new(options.nats)?, tempfile::tempdir()?);
        let mut saw = Map::new();
        let relay = start(&dir, "relay", RELAY, ":7000", None)?;
        let join = |name: &str, saw: &mut Map<String, Value>| -> Result<Daemon> {
            let began = Instant::now();
            let invite = relay.json(&["pool", "invite", "--rights", "member", "--uses", "1"])?;
            let node = start(&dir, name, World::inside(name), ":7000", invite["invite"].as_str())?;
            saw.insert(format!("join_{name}_s"), seconds(began));
            Ok(node)
        };
        let a = join("a", &mut saw)?;
        let b = join("b", &mut saw)?;
        Ok(Self { relay, a, b, dir, options, saw, _world: world })
    }

    /// Everything, and what was seen.
    ///
    /// # Errors
    /// What does not hold.
    pub fn run(mut self) -> Result<Value> {
        self.relayed()?;
        self.publish()?;
        self.use_it()?;
        self.settle_path()?;
        self.measure()?;
        if self.options.kill_relay {
            self.kill_relay()?;
        }
        Ok(Value::Object(self.saw))
    }

    /// The relay finds that it can be reached; the others, that they cannot, and who relays for them.
    fn relayed(&mut self) -> Result<()> {
        let began = Instant::now();
        let relay = self.relay.key()?;
        until("the relay knows that it can be reached", || {
            let status = status(&self.relay)?;
            Ok(status["reach"] == "open" && status["relaying"] == true)
        })?;
        for node in [&self.a, &self.b] {
            until("a node behind a NAT has a relay", || {
                let status = status(node)?;
                Ok(status["reach"] == "behind" && status["relays"] == json!([relay]))
            })?;
            let addresses = status(node)?["addresses"].to_string();
            ensure!(addresses.contains("p2p-circuit"), "it announces the relay's circuit: {addresses}");
        }
        self.saw.insert("relayed_s".into(), seconds(began));
        Ok(())
    }

    /// `a` publishes, and nobody else holds a copy.
    fn publish(&mut self) -> Result<()> {
        let digits = fixture("digits/digits.onnx");
        self.a.until(&["publish", text(&digits)?, "--name", MODEL, "--replicas", "0"])?;
        Ok(())
    }

    /// `b` finds it, calls it and grades it: chunks, keys and predictions all come from behind the other NAT.
    fn use_it(&mut self) -> Result<()> {
        let began = Instant::now();
        self.b.until(&["resolve", MODEL])?;
        self.saw.insert("resolve_s".into(), seconds(began));
        let began = Instant::now();
        let rows = fixture("digits/heldout-1.csv");
        let predicted = self.b.until(&["predict", MODEL, "--labelled", "--input", text(&rows)?])?;
        ensure!(predicted["correct"].as_u64() > Some(0), "{predicted}");
        self.saw.insert("first_predict_s".into(), seconds(began));
        let began = Instant::now();
        self.b.until(&["validate", MODEL, "--data", text(&rows)?])?;
        self.saw.insert("validate_s".into(), seconds(began));
        Ok(())
    }

    /// Behind cones a hole is punched; behind symmetric NATs the relay stays.
    fn settle_path(&mut self) -> Result<()> {
        let (began, other) = (Instant::now(), self.a.key()?);
        let direct = |lab: &Self| -> Result<bool> {
            let status = status(&lab.b)?;
            let has = |list: &Value| list.as_array().is_some_and(|l| l.contains(&json!(other)));
            Ok(has(&status["peers"]) && !has(&status["relayed_peers"]))
        };
        match self.options.nats {
            Kind::Cone => {
                until("a hole is punched", || direct(self))?;
                self.saw.insert("punched_s".into(), seconds(began));
            }
            Kind::Symmetric => {
                std::thread::sleep(Duration::from_secs(5));
                ensure!(!direct(self)?, "a symmetric NAT was punched through: is it one?");
            }
        }
        let doctor = self.b.until(&["doctor", &other])?;
        let says = doctor["checks"].to_string();
        let wanted = match self.options.nats {
            Kind::Cone => "connected in the swarm, directly",
            Kind::Symmetric => "connected in the swarm, through a relay",
        };
        ensure!(says.contains(wanted) && says.contains("behind a NAT, by way of relay"), "{says}");
        self.saw.insert("path".into(), json!(if says.contains("directly") { "punched" } else { "relayed" }));
        Ok(())
    }

    /// Predictions over an open connection, and a bulk fetch.
    fn measure(&mut self) -> Result<()> {
        if self.options.predictions > 0 {
            let mut took = self.probe()?;
            took.sort_by(f64::total_cmp);
            let at = |share: usize| json!(took.get(took.len() * share / 100).map(|ms| (ms * 100.0).round() / 100.0));
            self.saw.insert("warm_predict_ms".into(), json!({ "n": took.len(), "p50": at(50), "p99": at(99) }));
        }
        if self.options.bulk_mib > 0 {
            let file = model::write(self.dir.path(), 1, self.options.bulk_mib << 20)?;
            self.a.until(&["publish", text(&file)?, "--name", "acme/bulk", "--replicas", "0"])?;
            self.b.until(&["resolve", "acme/bulk"])?;
            let began = Instant::now();
            self.b.json(&["fetch", "acme/bulk"])?;
            let rate = self.options.bulk_mib as f64 / began.elapsed().as_secs_f64();
            self.saw.insert("fetch_mib_s".into(), json!((rate * 100.0).round() / 100.0));
        }
        Ok(())
    }

    fn probe(&self) -> Result<Vec<f64>> {
        let log = std::fs::read_to_string(self.dir.path().join("b.log"))?;
        let said: Value =
            log.lines().find_map(|l| serde_json::from_str(l).ok()).context("the node says where it is")?;
        let url = said["http"]["url"].as_str().context("a gateway")?.trim_start_matches("http://").to_owned();
        let token = std::fs::read_to_string(said["http"]["token_file"].as_str().context("a token")?)?;
        let ran = Command::new("ip")
            .args(["netns", "exec", &World::namespace("b")])
            .arg(std::env::current_exe()?.with_file_name("nat"))
            .args(["probe", &url, token.trim(), MODEL, &self.options.predictions.to_string()])
            .output()?;
        ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        Ok(serde_json::from_slice(&ran.stdout)?)
    }

    /// The relay dies without a word. What is punched goes on; what is relayed does not, and is back once the relay is.
    fn kill_relay(&mut self) -> Result<()> {
        let rows = fixture("digits/heldout-1.csv");
        let rows = text(&rows)?;
        self.relay.kill();
        std::thread::sleep(Duration::from_secs(10));
        let alone = self.b.run(&["--json", "predict", MODEL, "--labelled", "--input", rows])?;
        let punched = self.options.nats == Kind::Cone;
        ensure!((alone.code == 0) == punched, "without the relay: {alone:?}");
        self.saw.insert("predicts_without_relay".into(), json!(punched));
        let began = Instant::now();
        self.relay.start(&[])?;
        self.b.until(&["predict", MODEL, "--labelled", "--input", rows])?;
        self.saw.insert("predict_after_relay_s".into(), seconds(began));
        let relay = self.relay.key()?;
        until("both have their relay again", || {
            let both = [status(&self.a)?, status(&self.b)?];
            Ok(both.iter().all(|s| s["relays"] == json!([relay])))
        })?;
        self.saw.insert("relayed_again_s".into(), seconds(began));
        Ok(())
    }
}

/// Starts a node in the namespace of its name.
fn start(dir: &TempDir, name: &str, ip: &str, port: &str, invite: Option<&str>) -> Result<Daemon> {
    let home = dir.path().join(name);
    std::fs::create_dir_all(&home)?;
    let settings = format!("listen_rpc = \"{ip}:7001\"\nlisten_swarm = \"{ip}{port}\"\n");
    std::fs::write(home.join("config.toml"), settings)?;
    let (file, mut words) = (dir.path().join("invite"), vec!["--http", "127.0.0.1:0", "--json"]);
    if let Some(invite) = invite {
        std::fs::write(&file, invite)?;
        words.extend(["--join-file", text(&file)?]);
    }
    Daemon::up_in(Some(&World::namespace(name)), &home, &words)
}

fn status(node: &Daemon) -> Result<Value> {
    node.json(&["status"])
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}

fn seconds(since: Instant) -> Value {
    json!((since.elapsed().as_secs_f64() * 100.0).round() / 100.0)
}

fn until(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !holds()? {
        ensure!(began.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
