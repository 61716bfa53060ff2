//! Real nodes as processes on loopback that sign together: how soon a transaction is final, how many a second are, what a dead
//! signer costs, and how soon a node that joins late is there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, future::try_join_all, stream::FuturesUnordered};
use serde_json::Value;
use zero2ai_chain::Archive;
use zero2ai_client::{Client, ErrorKind, Membership};
use zero2ai_proto::{
    ManifestId, NodeId, SecretKey, Signed,
    calls::{SubmitCall, SubmitTx},
    encode,
    manifest::{Domain, Format, Task},
    pool::Invite,
    record::Address,
    tx::{ClaimHandle, Publish, SetChannel, Thresholds, Tx, TxBody},
};
use zero2ai_store::{Log, LogConfig, secret_file};

use super::{Figures, LONG, made::Made, ranks};
use crate::process::{Child, run};

/// Accounts that submit at once where the rate is measured, and transactions of each that are not final yet: as many as a member
/// may have in flight, and fewer than the ledger lets wait.
const ACCOUNTS: usize = 16;
const WINDOW: usize = 30;
/// Between two transactions of light load.
const PAUSE: Duration = Duration::from_millis(100);

/// A running node.
struct Node {
    process: Child,
    home: PathBuf,
    id: NodeId,
    addresses: Vec<Address>,
}

/// Nodes of one pool; the first made it.
pub(crate) struct Pool {
    program: PathBuf,
    work: PathBuf,
    nodes: Vec<Node>,
}

impl Pool {
    /// So many nodes, all of which sign.
    pub(crate) fn start(program: &Path, work: &Path, signers: usize) -> Result<Self> {
        let program = fs::canonicalize(program)
            .with_context(|| format!("{}: build it with 'cargo build --release' in the root", program.display()))?;
        let mut pool = Self { program, work: work.to_owned(), nodes: Vec::new() };
        pool.add("n0", &[])?;
        for n in 1..signers {
            let file = pool.invite_file()?;
            pool.add(&format!("n{n}"), &["--join-file", &file])?;
        }
        if signers > 1 {
            let keys: Vec<String> = pool.nodes.iter().map(|n| n.id.to_string()).collect();
            let keys = keys.iter().map(String::as_str);
            pool.command(0, &["pool", "signers", "--force"].into_iter().chain(keys).collect::<Vec<_>>())?;
        }
        Ok(pool)
    }

    /// Starts a node, and gives how long it took until it answered.
    fn add(&mut self, name: &str, words: &[&str]) -> Result<Duration> {
        let home = self.work.join(name);
        fs::create_dir_all(&home)?;
        let mut command = Command::new(&self.program);
        command.arg("--home").arg(&home).args(["--json", "up"]).args(words);
        let since = Instant::now();
        let process = Child::start(name, command, &self.work)?;
        let said: Value = serde_json::from_str(&format!("{{{}", process.expect("{")?.1))?;
        let took = since.elapsed();
        let text = |key: &str| said[key].as_str().context("a node that does not say who it is");
        let addresses = vec![Address::Rpc(text("rpc")?.to_owned())];
        self.nodes.push(Node { process, home, id: text("node")?.parse()?, addresses });
        Ok(took)
    }

    fn command(&self, nth: usize, words: &[&str]) -> Result<Value> {
        let home = &self.nodes[nth].home;
        let said = run(Command::new(&self.program).arg("--home").arg(home).arg("--json").args(words))?;
        Ok(serde_json::from_str(&said)?)
    }

    fn invite(&self, uses: usize) -> Result<String> {
        let said = self.command(0, &["pool", "invite", "--uses", &uses.to_string()])?;
        Ok(said["invite"].as_str().context("no invite")?.to_owned())
    }

    fn invite_file(&self) -> Result<String> {
        let file = self.work.join("invite");
        fs::write(&file, self.invite(1)?)?;
        Ok(file.display().to_string())
    }

    fn height(&self, nth: usize) -> Result<u64> {
        self.command(nth, &["status"])?["height"].as_u64().context("no height")
    }

    /// Accounts of the pool, each with a model, which asks the nodes in turns.
    async fn accounts(&self, count: usize) -> Result<Vec<Account>> {
        let invite: Invite = self.invite(count)?.parse()?;
        let mut accounts = Vec::new();
        for n in 0..count {
            let node = &self.nodes[n % self.nodes.len()];
            accounts.push(Account::join(&invite, n, node).await?);
        }
        Ok(accounts)
    }

    /// One transaction after the other, with a pause between them: how soon each is final.
    pub(crate) async fn finality(&self, count: usize) -> Result<Figures> {
        let mut account = self.accounts(1).await?.pop().context("one account")?;
        let mut times = Vec::new();
        for _ in 0..count {
            tokio::time::sleep(PAUSE).await;
            let since = Instant::now();
            account.set_channel().await?;
            times.push(since.elapsed());
        }
        let [p50, p99] = ranks(times, [0.5, 0.99]);
        Ok(vec![("final after, p50 ms", p50), ("final after, p99 ms", p99)])
    }

    /// As many as the nodes take.
    pub(crate) async fn rate(&self, seconds: f64) -> Result<Figures> {
        let mut accounts = self.accounts(ACCOUNTS).await?;
        let (since, height) = (Instant::now(), self.height(0)?);
        let end = since + Duration::from_secs_f64(seconds);
        let done: Vec<u64> = try_join_all(accounts.iter_mut().map(|account| account.pour(end))).await?;
        let (took, blocks) = (since.elapsed().as_secs_f64(), self.height(0)?.saturating_sub(height).max(1));
        #[allow(clippy::cast_precision_loss)] // counts of a bench
        let (done, blocks) = (done.iter().sum::<u64>() as f64, blocks as f64);
        Ok(vec![("transactions/s", done / took), ("transactions a block", done / blocks), ("blocks/s", blocks / took)])
    }

    /// One signer is stopped; then one transaction after the other. Every block takes part in it.
    pub(crate) async fn one_dead(&mut self, count: usize) -> Result<Figures> {
        let mut account = self.accounts(1).await?.pop().context("one account")?;
        self.nodes.pop().context("a node")?.process.stop()?;
        let first = account.set_channel().await?;
        let (since, mut last, mut times) = (Instant::now(), first, Vec::new());
        for _ in 0..count {
            let one = Instant::now();
            last = account.set_channel().await?;
            times.push(one.elapsed());
        }
        #[allow(clippy::cast_precision_loss)] // counts of a bench
        let each = since.elapsed().as_secs_f64() / last.saturating_sub(first).max(1) as f64;
        let [p50, p99] = ranks(times, [0.5, 0.99]);
        Ok(vec![("s a block", each), ("final after, p50 ms", p50), ("final after, p99 ms", p99)])
    }
}

/// An account with a model, whose channel it sets again and again.
struct Account {
    client: Client,
    key: SecretKey,
    number: usize,
    nonce: u64,
    node: NodeId,
    addresses: Vec<Address>,
}

impl Account {
    /// Few strangers are let in at a time: one that is not tries again.
    async fn join(invite: &Invite, number: usize, node: &Node) -> Result<Self> {
        let membership = Membership::new(invite)?;
        let key = membership.config().key;
        let client = loop {
            match Client::join(membership.clone(), Some(invite)).await {
                Ok((client, _)) => break client,
                Err(e) if matches!(e.kind(), ErrorKind::Busy | ErrorKind::Unreachable) => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let (node, addresses) = (node.id, node.addresses.clone());
        let mut account = Self { client, key, number, nonce: 0, node, addresses };
        // Its admission reaches the other nodes a moment later.
        let start = Instant::now();
        let claim = TxBody::ClaimHandle(ClaimHandle { handle: account.handle() });
        while let Err(error) = account.submit(claim.clone()).await {
            account.nonce = 0;
            if start.elapsed() > LONG {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
        account.submit(account.publication()?).await?;
        Ok(account)
    }

    /// Another one for each account that ever joins.
    fn handle(&self) -> String {
        self.key.public().short()
    }

    fn publication(&self) -> Result<TxBody> {
        Ok(TxBody::Publish(Publish {
            name: format!("{}/m", self.handle()).parse()?,
            version: 1,
            manifest: ManifestId([1; 32]),
            format: Format::Onnx,
            task: Task::Tensors,
            domain: Domain::Pool,
            bytes: 1_000,
            chunks: 1,
            base: None,
            thresholds: Thresholds::default(),
        }))
    }

    fn channel(&self) -> Result<TxBody> {
        let name = format!("{}/m", self.handle()).parse()?;
        Ok(TxBody::SetChannel(SetChannel { name, channel: "stable".into(), version: 1 }))
    }

    async fn send(&self, nonce: u64, body: TxBody) -> Result<u64> {
        let tx = Signed::sign(&Tx { nonce, body }, &self.client.pool(), &self.key)?;
        let call = SubmitCall { tx, wait: true };
        let submitted = self.client.call::<SubmitTx>(self.node, &self.addresses, &call, LONG).await;
        let submitted = submitted.with_context(|| format!("transaction {nonce} of account {}", self.number))?;
        submitted.height.context("not final")
    }

    async fn submit(&mut self, body: TxBody) -> Result<u64> {
        let nonce = self.nonce;
        self.nonce += 1;
        self.send(nonce, body).await
    }

    /// Gives the height at which it became final.
    async fn set_channel(&mut self) -> Result<u64> {
        self.submit(self.channel()?).await
    }

    /// Keeps [`WINDOW`] transactions on their way until the end; gives how many became final.
    async fn pour(&mut self, end: Instant) -> Result<u64> {
        let (mut next, mut done, body) = (self.nonce, 0, self.channel()?);
        let account = &*self;
        let mut flying = FuturesUnordered::new();
        for _ in 0..WINDOW {
            flying.push(account.send(next, body.clone()));
            next += 1;
        }
        while let Some(ended) = flying.next().await {
            ended?;
            done += 1;
            if Instant::now() < end {
                flying.push(account.send(next, body.clone()));
                next += 1;
            }
        }
        drop(flying);
        self.nonce = next;
        Ok(done)
    }
}

/// A node joins a pool of so many blocks: with a snapshot, and again block by block.
pub(crate) fn join_late(program: &Path, work: &Path, blocks: u64) -> Result<Figures> {
    let mut pool = Pool::start(program, work, 1)?;
    let file = work.join("genesis");
    pool.command(0, &["pool", "genesis", "--out", &file.display().to_string()])?;
    let old = pool.nodes.pop().context("the first node")?;
    old.process.stop()?;
    lengthen(&old.home, &fs::read(&file)?, blocks)?;
    let begun = pool.add("n0", &[])?;
    let mut figures = vec![("s to start with all blocks", begun.as_secs_f64())];
    let (usual, whole): (&[&str], &[&str]) = (&[], &["--full-history"]);
    for (nth, name, words, figure) in
        [(1, "snapshot", usual, "s to join with a snapshot"), (2, "whole", whole, "s to join block by block")]
    {
        let file = pool.invite_file()?;
        let since = Instant::now();
        pool.add(name, &[&["--join-file", file.as_str()], words].concat())?;
        while pool.height(nth)? < blocks {
            ensure!(since.elapsed() < LONG, "node {name} is still at height {}", pool.height(nth)?);
            sleep(Duration::from_millis(20));
        }
        figures.push((figure, since.elapsed().as_secs_f64()));
        let base = pool.command(nth, &["ledger", "verify"])?["base"].as_u64().context("no base")?;
        ensure!((base + 2 >= blocks) == (nth == 1), "node {name} begins behind height {base}");
    }
    Ok(figures)
}

/// Puts blocks of one small transaction each behind those of a stopped node, signed with its key.
fn lengthen(home: &Path, genesis: &[u8], blocks: u64) -> Result<()> {
    let seed: [u8; 32] = secret_file::read(&home.join("node.key"), 32)?.as_slice().try_into()?;
    let key = SecretKey::from_bytes(&seed);
    let mut made = Made::with(genesis, key.clone(), vec![key])?;
    let archive = Archive::open(&home.join("chain"))?;
    for height in 1..=archive.height() {
        made.follow(&archive.block(height)?.context("a block below the newest")?)?;
    }
    drop(archive);
    let (mut log, _) = Log::open(&home.join("chain/blocks"), LogConfig::default())?;
    while made.ledger.height() < blocks {
        let tx = made.idle()?;
        log.append(&encode(&made.commit(&[tx])?)?)?;
    }
    log.sync()?;
    // They are a millisecond apart: the newest may lie ahead of the clock, where no signer would go on from it.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    sleep(Duration::from_millis(made.ledger.head_time_ms()).saturating_sub(now));
    Ok(())
}
