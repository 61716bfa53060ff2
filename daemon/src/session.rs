//! A command's line to the node of `--home`: peer RPC under the node's own identity, which alone may call the local
//! methods. The same client then resolves and predicts, as any application would.

use std::{path::Path, time::Duration};

use zero2ai_client::{Client, ClientConfig, Replies};
use zero2ai_node::{Config, home::Home};
use zero2ai_proto::{NodeId, PoolId, record::Address, rpc::Method};

use crate::exit::{Exit, Failure, Outcome};

/// Patience for what a node answers from memory.
pub(crate) const QUICK: Duration = Duration::from_secs(10);
/// Patience for what must become final: several rounds of blocks, even with a signer down.
pub(crate) const FINAL: Duration = Duration::from_secs(45);

/// An open line to the node of one home.
pub(crate) struct Session {
    /// The client, with the node as its first peer.
    pub(crate) client: Client,
    /// The node.
    pub(crate) node: NodeId,
    /// Its pool.
    pub(crate) pool: PoolId,
    genesis: Vec<u8>,
    address: Vec<Address>,
}

impl Session {
    /// Connects to the running node of this home.
    pub(crate) async fn open(path: &Path) -> Outcome<Self> {
        let home = Home::open(path)?;
        let at = Home::running(path).ok_or_else(|| nobody(path, "it says nowhere that one is running"))?;
        if !is_alive(at.pid) {
            return Err(nobody(path, &format!("its process {} ended without a word", at.pid)));
        }
        let node = home.key.public();
        let address = vec![Address::Rpc(at.rpc.to_string())];
        let config = ClientConfig {
            key: home.key,
            pool: home.pool,
            pool_key: home.pool_keys.current(),
            bootstrap: vec![(node, address.clone())],
            genesis: Some(home.genesis.clone()),
        };
        let client = tokio::time::timeout(QUICK, Client::connect(config))
            .await
            .map_err(|_| nobody(path, &format!("nothing answers at {}", at.rpc)))?
            .map_err(|e| nobody(path, &e.to_string()))?;
        let calls = Config::read(&path.join("config.toml"))?.calls;
        client.wish(calls.wishes().map_err(|why| Failure::new(Exit::Usage, format!("config.toml: {why}.")))?);
        Ok(Self { client, node, pool: home.pool, genesis: home.genesis, address })
    }

    /// The pool's encoded genesis.
    pub(crate) fn genesis(&self) -> &[u8] {
        &self.genesis
    }

    /// Calls a method of the node that answers with a stream of items.
    pub(crate) async fn stream<M: Method>(&self, request: &M::Request, patience: Duration) -> Outcome<Items<M>> {
        Ok(Items(self.client.stream::<M>(self.node, &self.address, request, patience).await?))
    }

    /// Calls a method of the node that has one answer.
    pub(crate) async fn call<M: Method>(&self, request: &M::Request, patience: Duration) -> Outcome<M::Reply> {
        Ok(self.client.call::<M>(self.node, &self.address, request, patience).await?)
    }
}

/// True unless it is certain that there is no such process: a killed node leaves its address behind.
fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

fn nobody(path: &Path, why: &str) -> Failure {
    Failure::new(
        Exit::Unreachable,
        format!(
            "No node answers for {}: {why}. Start it with 'zero2ai up --home {}', or name another folder with --home.",
            path.display(),
            path.display()
        ),
    )
}

/// The items of one answer; dropped, the node stops the work.
pub(crate) struct Items<M: Method>(Replies<M>);

impl<M: Method> Items<M> {
    /// The next item, or `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<Outcome<M::Reply>> {
        Some(self.0.next().await?.map_err(Failure::from))
    }
}
