//! One caller: predicts the digits again and again through the client library, as README.md shows it, and writes a line of JSON
//! about each call. It runs as a process of its own, since a process is in one network namespace.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use zero2ai_client::Client;
use zero2ai_proto::tensor::Tensor;

/// Patience of one call.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a caller does.
#[derive(Clone, Debug)]
pub struct Calls<'a> {
    /// The account's file; made with the invite at the first time.
    pub account: &'a Path,
    /// A file with an invite.
    pub invite: &'a Path,
    /// The model.
    pub name: &'a str,
    /// Pause between two calls.
    pub every: Duration,
    /// How many calls.
    pub calls: u64,
}

/// Calls, and says so on standard output.
///
/// # Errors
/// It cannot join, or the name is none. Calls that fail are told, not errors.
pub fn call(plan: &Calls<'_>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let invite = std::fs::read_to_string(plan.invite)?.trim().parse().context("the invite")?;
        let client = Client::open(plan.account, Some(&invite)).await?;
        let name = plan.name.parse().context("the name")?;
        let input = vec![Tensor::f32("", &[1, 64], &[0.0; 64])];
        for _ in 0..plan.calls {
            let start = Instant::now();
            let asked = async {
                let found = client.find(&name).await?;
                client.predict(&found, input.clone(), PATIENCE).await
            };
            let answer = asked.await;
            let ms = start.elapsed().as_secs_f64() * 1e3;
            let line = match answer {
                Ok(answer) => {
                    json!({ "at": now_s(), "ms": ms, "node": answer.node.to_string(), "failed": answer.failed })
                }
                Err(error) => json!({ "at": now_s(), "ms": ms, "error": error.to_string() }),
            };
            let mut out = std::io::stdout().lock();
            writeln!(out, "{line}")?;
            out.flush()?;
            tokio::time::sleep(plan.every).await;
        }
        Ok(())
    })
}

/// Seconds since 1970 UTC.
#[must_use]
pub fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// One call that was made.
#[derive(Clone, Debug)]
pub struct Call {
    /// When it ended, seconds since 1970 UTC.
    pub at: f64,
    /// How long it took, name and failed endpoints included.
    pub ms: f64,
    /// Who answered; `None` if nobody did.
    pub node: Option<String>,
    /// What its caller said of it.
    pub said: Value,
}

/// A caller in a namespace. Killed when dropped.
pub struct Caller {
    child: Child,
    reader: Option<JoinHandle<()>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Caller {
    /// Starts the program `lab`, which this is, as a caller.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(namespace: &str, plan: &Calls<'_>) -> Result<Self> {
        let (every, calls) = (plan.every.as_millis().to_string(), plan.calls.to_string());
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .arg(std::env::current_exe()?)
            .args(["call", "--every", &every, "--calls", &calls, "--name", plan.name])
            .arg("--account")
            .arg(plan.account)
            .arg("--invite")
            .arg(plan.invite)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a caller")?;
        let out = child.stdout.take().context("a pipe")?;
        let calls = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&calls);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Some(call) = read(&line) {
                    list.lock().unwrap_or_else(PoisonError::into_inner).push(call);
                }
            }
        });
        Ok(Self { child, reader: Some(reader), calls })
    }

    /// All calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there are `count` calls.
    ///
    /// # Errors
    /// There are not within `patience`.
    pub fn wait(&self, count: usize, patience: Duration) -> Result<Vec<Call>> {
        let start = Instant::now();
        loop {
            let calls = self.calls();
            if calls.len() >= count {
                return Ok(calls);
            }
            ensure!(start.elapsed() < patience, "a caller made {} calls of {count} within {patience:?}", calls.len());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn read(line: &str) -> Option<Call> {
    let said: Value = serde_json::from_str(line).ok()?;
    let node = said["node"].as_str().map(str::to_owned);
    Some(Call { at: said["at"].as_f64()?, ms: said["ms"].as_f64()?, node, said })
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
