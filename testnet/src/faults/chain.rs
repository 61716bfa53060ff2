//! Four signers, some of which are killed while they make a publication final. Afterwards every publication that was
//! acknowledged, in this run or before, is in the chain of all four; no two write-ahead logs tell of a signer that said two
//! things at one step, no ledger convicts anybody; and the next publication becomes final everywhere.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use zero2ai_chain::{Archive, archive::Guards};
use zero2ai_proto::{
    BlockId, NodeId,
    block::Block,
    evidence::{Statement, Step},
    tx::TxBody,
};

use super::{Ran, Scenario, model, rng::Rng};
use crate::{Daemon, Network, binary::zero2ai};

/// Signers.
const SIGNERS: usize = 4;
/// Bytes that make each model another one.
const MODEL: usize = 4 * 1024;
/// How long a publication, or a height, may take to reach everybody: the rounds that dead proposers cost, and a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long an acknowledgement that had left the node may take to be printed.
const PRINTING: Duration = Duration::from_millis(500);
/// How often something is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// Height, round and step at which a signer said something.
type Place = (NodeId, (u64, u32, Step));

/// See the module.
pub struct Signers {
    network: Network,
    /// Acknowledged publications: name and version.
    acknowledged: Vec<(String, u32)>,
    /// What each write-ahead log that was ever looked at tells.
    said: BTreeMap<Place, Option<BlockId>>,
    /// Per node: blocks that were read, and publications in them.
    read: Vec<(u64, Vec<(String, u32)>)>,
    /// What one publication takes when nothing cuts it off.
    typical: Duration,
    published: u64,
}

/// A `zero2ai publish` under way.
struct Publishing {
    child: Child,
    name: String,
    file: PathBuf,
}

impl Publishing {
    /// The version that was acknowledged, waiting at most `patience`.
    fn end(mut self, patience: Duration) -> Result<Option<(String, u32)>> {
        let start = Instant::now();
        while self.child.try_wait()?.is_none() && start.elapsed() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let ended = self.child.wait_with_output()?;
        std::fs::remove_file(&self.file)?;
        if !ended.status.success() {
            return Ok(None);
        }
        let said: Value = serde_json::from_slice(&ended.stdout)?;
        let version = said["version"].as_u64().context("a version")?;
        Ok(Some((self.name, u32::try_from(version)?)))
    }
}

impl Signers {
    /// Four nodes that sign together.
    ///
    /// # Errors
    /// They do not start or do not agree.
    pub fn new() -> Result<Self> {
        let network = sign_together(Network::start(SIGNERS)?)?;
        let read = vec![(0, Vec::new()); SIGNERS];
        let typical = Duration::ZERO;
        let mut scenario =
            Self { network, acknowledged: Vec::new(), said: BTreeMap::new(), read, typical, published: 0 };
        scenario.publish_undisturbed(0)?;
        let start = Instant::now();
        scenario.publish_undisturbed(1)?;
        scenario.typical = start.elapsed();
        Ok(scenario)
    }

    /// Begins a publication of node `by`.
    fn publish(&mut self, by: usize) -> Result<Publishing> {
        self.published += 1;
        let file = model::write(self.network.path(), self.published, MODEL)?;
        let name = format!("lab{by}/m");
        let child = Command::new(zero2ai()?)
            .arg("--home")
            .arg(self.network.nodes[by].home())
            .arg("publish")
            .arg(&file)
            .args(["--name", &name, "--replicas", "0", "--store-only", "--no-wait", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Publishing { child, name, file })
    }

    /// A publication that nothing cuts off must be acknowledged. One try may meet a chain that is still finding together.
    fn publish_undisturbed(&mut self, by: usize) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(done) = self.publish(by)?.end(PATIENCE)? {
                self.acknowledged.push(done);
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        bail!("an undisturbed publication is not acknowledged: {}", self.network.nodes[by].log_end())
    }

    /// Reads what the logs of `nodes`, which are down, tell: nobody may have said two things at one step.
    fn read_logs(&mut self, nodes: &[usize]) -> Result<()> {
        for node in nodes {
            let guards = Guards::look(&self.network.nodes[*node].home().join("chain"))?;
            for (signer, statement) in guards.said {
                self.tell(signer, &statement)?;
            }
        }
        Ok(())
    }

    fn tell(&mut self, signer: NodeId, statement: &Statement) -> Result<()> {
        let known = *self.said.entry((signer, statement.place())).or_insert_with(|| statement.block());
        ensure!(known == statement.block(), "{signer} said two things at {:?}", statement.place());
        Ok(())
    }

    /// Reads a node's new blocks; true once all that was acknowledged is in them.
    fn has_all(&mut self, node: usize) -> Result<bool> {
        let chain = self.network.nodes[node].home().join("chain");
        let archive = Archive::open(&chain)?;
        let (height, published) = &mut self.read[node];
        for next in height.saturating_add(1)..=archive.height() {
            let sealed = archive.block(next)?.context("a block below the newest")?;
            for tx in &Block::read(&sealed.block)?.txs {
                match tx.read_unverified()?.body {
                    TxBody::Publish(p) => published.push((p.name.to_string(), p.version)),
                    TxBody::Evidence(e) => bail!("the ledger convicts {} at {:?}", e.signer, e.place()),
                    _ => {}
                }
            }
            *height = next;
        }
        Ok(self.acknowledged.iter().all(|a| published.contains(a)))
    }

    /// Waits until all nodes have all that was acknowledged.
    fn check_all(&mut self) -> Result<()> {
        for node in 0..SIGNERS {
            let start = Instant::now();
            while !self.has_all(node)? {
                ensure!(
                    start.elapsed() < PATIENCE,
                    "node {node} lacks an acknowledged publication: {}",
                    self.network.nodes[node].log_end()
                );
                thread::sleep(LOOK);
            }
        }
        Ok(())
    }
}

impl Scenario for Signers {
    fn run(&mut self, n: u64, rng: &mut Rng) -> Result<Ran> {
        let by = usize::try_from(rng.below(SIGNERS as u64))?;
        // One signer dies and the others go on; or two and the chain halts; or all at once.
        let count = [1, 1, 1, 2, SIGNERS][usize::try_from(rng.below(5))?];
        let first = usize::try_from(rng.below(SIGNERS as u64))?;
        let killed: Vec<usize> = (0..count).map(|i| (first + i) % SIGNERS).collect();
        let publishing = self.publish(by)?;
        thread::sleep(rng.moment(self.typical.saturating_mul(11) / 10));
        for node in &killed {
            self.network.nodes[*node].kill();
        }
        self.read_logs(&killed)?;
        // Whoever asked a killed node hears nothing more; who asked another one waits until the chain goes on.
        let patience = if killed.contains(&by) { PRINTING } else { PATIENCE };
        let starting = killed.iter().try_for_each(|node| self.network.nodes[*node].start(&[]));
        starting.context("the start after the kill")?;
        let acknowledged = publishing.end(patience)?;
        let inside = acknowledged.is_none();
        self.acknowledged.extend(acknowledged);
        self.publish_undisturbed(usize::try_from(n % SIGNERS as u64)?)?;
        self.check_all()?;
        Ok(Ran {
            inside,
            acknowledged: 1 + u64::from(!inside),
            checked: self.acknowledged.len() as u64,
            resumed: inside && !killed.contains(&by),
        })
    }
}

/// Lets all nodes of a network sign from the next heights on.
///
/// # Errors
/// They do not come to sign together.
pub fn sign_together(network: Network) -> Result<Network> {
    let keys = network.nodes.iter().map(Daemon::key).collect::<Result<Vec<String>>>()?;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    network.nodes[0].json(&[&["pool", "signers"], keys.as_slice()].concat())?;
    Ok(network)
}

/// The newest height on the disk of `home`.
///
/// # Errors
/// Its blocks do not hold.
pub fn height(home: &Path) -> Result<u64> {
    Ok(Archive::open(&home.join("chain"))?.height())
}
