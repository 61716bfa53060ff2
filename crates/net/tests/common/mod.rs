//! Nodes for the tests: real swarms over QUIC on loopback, and a judge whose opinions a test sets.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio_util::sync::CancellationToken;
use zero2ai_net::{Judge, NetConfig, NetEvent, NetHandle, RecordFacts, Running, Topic, Verdict, start};
use zero2ai_proto::{
    NodeId, PoolId, SecretKey,
    pool::{Keyring, PoolKey},
};

/// Everything in these tests that is waited for comes within this, or fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Admits everyone but the banned; a record is `seq u64 be ‖ payload`, invalid if the payload says so.
#[derive(Default)]
pub(crate) struct Opinion {
    pub(crate) banned: Mutex<BTreeSet<NodeId>>,
    pub(crate) no_providers: bool,
    /// Refuses every record, as a node with other knowledge may.
    pub(crate) no_records: bool,
    /// Every record that was ever judged here.
    pub(crate) judged: Mutex<BTreeSet<Vec<u8>>>,
}

impl Opinion {
    pub(crate) fn ban(&self, node: NodeId) {
        self.banned.lock().unwrap().insert(node);
    }
}

impl Judge for Opinion {
    fn admitted(&self, node: &NodeId) -> bool {
        !self.banned.lock().unwrap().contains(node)
    }
    fn record(&self, _: &[u8; 32], value: &[u8]) -> Result<RecordFacts, String> {
        self.judged.lock().unwrap().insert(value.to_vec());
        let (seq, payload) = value.split_first_chunk::<8>().ok_or("too short")?;
        if payload == b"invalid" || self.no_records {
            return Err("as the test wants".into());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        Ok(RecordFacts { seq: u64::from_be_bytes(*seq), expires_ms: u64::try_from(now).unwrap() + 3_600_000 })
    }
    fn provider(&self, _: &[u8; 32], _: &NodeId) -> bool {
        !self.no_providers
    }
    fn gossip(&self, _: Topic, _: &NodeId, data: &[u8]) -> Verdict {
        match data {
            b"reject" => Verdict::Reject,
            b"ignore" => Verdict::Ignore,
            _ => Verdict::Accept,
        }
    }
}

pub(crate) fn record(seq: u64, payload: &[u8]) -> Vec<u8> {
    [&seq.to_be_bytes()[..], payload].concat()
}

/// What the nodes of one test share.
#[derive(Clone)]
pub(crate) struct Pool {
    pub(crate) id: PoolId,
    pub(crate) keys: Keyring,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let keys = PoolKey::generate().unwrap().into();
        Self { id: PoolId::of(SecretKey::generate().unwrap().public().as_bytes()), keys }
    }

    pub(crate) fn config(&self, key: &SecretKey, bootstrap: &[&Node]) -> NetConfig {
        NetConfig {
            key: key.clone(),
            pool: self.id,
            pool_keys: self.keys.clone(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            bootstrap: bootstrap.iter().map(|node| (node.id, node.address())).collect(),
            mdns: false,
        }
    }

    pub(crate) async fn node(&self, bootstrap: &[&Node]) -> Node {
        self.node_with(Opinion::default(), bootstrap).await
    }

    pub(crate) async fn node_with(&self, opinion: Opinion, bootstrap: &[&Node]) -> Node {
        let key = SecretKey::generate().unwrap();
        Node::start(self.config(&key, bootstrap), Arc::new(opinion)).await
    }

    /// `n` nodes that know the first one alone, and have all found each other.
    pub(crate) async fn mesh(&self, n: usize) -> Vec<Node> {
        let mut nodes = vec![self.node(&[]).await];
        while nodes.len() < n {
            let node = self.node(&[&nodes[0]]).await;
            nodes.push(node);
        }
        for node in &nodes {
            until("everyone is connected to everyone", async || node.handle.peers().len() == n - 1).await;
        }
        nodes
    }
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) handle: NetHandle,
    pub(crate) running: Running,
    pub(crate) judge: Arc<Opinion>,
    pub(crate) stop: CancellationToken,
}

impl Node {
    pub(crate) async fn start(config: NetConfig, judge: Arc<Opinion>) -> Self {
        let (id, stop) = (config.key.public(), CancellationToken::new());
        let running = start(config, judge.clone(), stop.clone()).await.expect("a node starts");
        Self { id, handle: running.handle.clone(), running, judge, stop }
    }

    pub(crate) fn address(&self) -> String {
        self.handle.listen_addresses().first().expect("it listens").clone()
    }

    /// The next event that `wanted` takes, within patience.
    pub(crate) async fn event<T>(&mut self, wanted: impl Fn(NetEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.running.events.recv().await.expect("the swarm runs");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the event comes")
    }

    /// The next gossip message.
    pub(crate) async fn gossip(&mut self) -> (Topic, NodeId, Vec<u8>) {
        self.event(|event| match event {
            NetEvent::Gossip { topic, author, data, .. } => Some((topic, author, data)),
            _ => None,
        })
        .await
    }
}

/// Polls until `true_` says so; fails the test when patience ends.
pub(crate) async fn until(what: &str, mut true_: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !true_().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "not within {PATIENCE:?}: {what}");
}
