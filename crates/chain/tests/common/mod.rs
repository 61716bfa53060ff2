//! Chains of one process over an in-memory bus, with real files in temporary folders. The bus keeps every vote and
//! proposal it saw, and whoever contradicts himself fails the test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zero2ai_chain::{BlockSource, Chain, ChainConfig, ChainError, ChainHandle, ChainNet, ChainTopic, Pace, Timeouts};
use zero2ai_proto::{
    BlockId, NodeId, PoolId, SealingKey, SecretKey, Signed,
    block::VoteKind,
    calls::SealedBlock,
    consensus::{ConsensusGossip, ConsensusMessage},
    encode,
    pool::{Genesis, Nonce, Ticket},
    state::{Rights, Signer, SignerSet},
    tx::{ClaimHandle, Redeem, SetSigners, Tx, TxBody},
};

/// What was signed: by whom, at which height and round, which step (0 proposal, 1 prevote, 2 precommit).
pub type Step = (NodeId, u64, u32, u8);

/// Everything that was ever published.
#[derive(Default)]
pub struct Bus {
    nodes: Mutex<HashMap<NodeId, ChainHandle>>,
    cut_off: Mutex<BTreeSet<NodeId>>,
    pub signed: Mutex<BTreeMap<Step, BTreeSet<Option<BlockId>>>>,
    lies: Mutex<bool>,
}

impl Bus {
    /// Cuts nodes off from gossip and block sync, both ways; everyone else is connected.
    pub fn cut_off(&self, nodes: &[NodeId]) {
        *self.cut_off.lock().unwrap() = nodes.iter().copied().collect();
    }

    /// Makes block sync answer with altered blocks.
    pub fn lie(&self, lie: bool) {
        *self.lies.lock().unwrap() = lie;
    }

    pub fn leave(&self, node: &NodeId) {
        self.nodes.lock().unwrap().remove(node);
    }

    fn is_cut_off(&self, node: &NodeId) -> bool {
        self.cut_off.lock().unwrap().contains(node)
    }

    /// What one signer signed at a step.
    pub fn signed(&self, step: &Step) -> BTreeSet<Option<BlockId>> {
        self.signed.lock().unwrap().get(step).cloned().unwrap_or_default()
    }

    /// Fails if anybody signed two things at one step.
    pub fn assert_nobody_contradicts_himself(&self) {
        for (step, what) in self.signed.lock().unwrap().iter() {
            assert_eq!(what.len(), 1, "{step:?} signed {what:?}");
        }
    }

    fn record(&self, data: &[u8]) {
        let (step, what) = match ConsensusGossip::read(data).unwrap().message {
            ConsensusMessage::Vote(v) => {
                let step = if v.vote.kind == VoteKind::Prevote { 1 } else { 2 };
                ((v.voter, v.vote.height, v.vote.round, step), v.vote.block)
            }
            ConsensusMessage::Proposal(p) => {
                ((p.proposer, p.proposal.height, p.proposal.round, 0), Some(p.proposal.block))
            }
            _ => return,
        };
        self.signed.lock().unwrap().entry(step).or_default().insert(what);
    }
}

/// One node's plug in the bus.
struct Port {
    bus: Arc<Bus>,
    me: NodeId,
}

impl ChainNet for Port {
    fn broadcast(&self, topic: ChainTopic, data: Vec<u8>) {
        if topic == ChainTopic::Consensus {
            self.bus.record(&data);
        }
        if self.bus.is_cut_off(&self.me) {
            return;
        }
        for (id, handle) in self.bus.nodes.lock().unwrap().iter() {
            if *id != self.me && !self.bus.is_cut_off(id) {
                assert!(handle.check_gossip(topic, &data), "a node published something malformed");
                handle.deliver(topic, self.me, data.clone());
            }
        }
    }
}

impl BlockSource for Port {
    fn blocks(&self, hint: Option<NodeId>, from: u64, max: u32) -> BoxFuture<'_, Result<Vec<SealedBlock>, String>> {
        let peer = hint.filter(|h| !self.bus.is_cut_off(h) && !self.bus.is_cut_off(&self.me));
        let peer = peer.and_then(|h| self.bus.nodes.lock().unwrap().get(&h).cloned());
        let lies = *self.bus.lies.lock().unwrap();
        Box::pin(async move {
            let peer = peer.ok_or_else(|| "nobody there".to_owned())?;
            let mut blocks = peer.blocks(from, max).await.map_err(|e| e.to_string())?;
            if lies {
                for sealed in &mut blocks {
                    let middle = sealed.block.len() / 2;
                    sealed.block[middle] ^= 1;
                }
            }
            Ok(blocks)
        })
    }
}

/// A pool's maker, the keys of its nodes, and the bus.
pub struct Net {
    pub bus: Arc<Bus>,
    pub keys: Vec<SecretKey>,
    pub genesis: Vec<u8>,
    pub pace: Pace,
    pub timeouts: Timeouts,
    dirs: Vec<TempDir>,
}

/// A node that runs.
pub struct Node {
    pub id: NodeId,
    pub handle: ChainHandle,
    pub task: JoinHandle<Result<(), ChainError>>,
    pub stop: CancellationToken,
}

impl Net {
    /// `nodes` keys ascending by public key, of which the first `signers` sign block 1. Node 0 is the administrator.
    pub fn new(nodes: u8, signers: usize) -> Self {
        let mut keys: Vec<_> = (1..=nodes).map(|i| SecretKey::from_bytes(&[i; 32])).collect();
        keys.sort_by_key(SecretKey::public);
        let set = keys.iter().take(signers).map(|k| Signer { key: k.public(), power: 1 }).collect();
        let genesis = Genesis {
            version: 1,
            created_ms: 1_700_000_000_000,
            nonce: Nonce([7; 16]),
            admin: keys[0].public(),
            admin_sealing: SealingKey([1; 32]),
            signers: SignerSet::new(set).unwrap(),
            rules_version: 1,
        };
        let ms = Duration::from_millis;
        Self {
            bus: Arc::default(),
            dirs: keys.iter().map(|_| TempDir::new().unwrap()).collect(),
            keys,
            genesis: encode(&genesis).unwrap(),
            pace: Pace {
                heartbeat: Duration::from_secs(30),
                halt_after: ms(800),
                announce: ms(200),
                sync_grace: ms(100),
                sync_retry: ms(100),
            },
            timeouts: Timeouts {
                propose: ms(400),
                vote: ms(150),
                delta: ms(100),
                rebroadcast: ms(300),
                max: ms(3_000),
            },
        }
    }

    pub fn pool(&self) -> PoolId {
        PoolId::of(&self.genesis)
    }

    pub fn id(&self, node: usize) -> NodeId {
        self.keys[node].public()
    }

    pub fn dir(&self, node: usize) -> PathBuf {
        self.dirs[node].path().join("chain")
    }

    pub fn config(&self, node: usize) -> ChainConfig {
        ChainConfig {
            pace: self.pace,
            timeouts: self.timeouts,
            ..ChainConfig::new(self.dir(node), self.keys[node].clone(), self.genesis.clone())
        }
    }

    pub async fn start(&self, node: usize) -> Node {
        let opened = Chain::open(self.config(node)).await.unwrap();
        let id = self.id(node);
        let port = Arc::new(Port { bus: self.bus.clone(), me: id });
        self.bus.nodes.lock().unwrap().insert(id, opened.handle.clone());
        let stop = CancellationToken::new();
        let running = opened.run(port.clone(), port, stop.clone());
        Node { id, handle: running.handle, task: running.task, stop }
    }

    pub async fn start_all(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for i in 0..self.keys.len() {
            nodes.push(self.start(i).await);
        }
        nodes
    }

    pub async fn stop(&self, node: Node) {
        self.bus.leave(&node.id);
        node.stop.cancel();
        drop(node.handle);
        node.task.await.unwrap().unwrap();
    }

    /// A transaction of node `by` with nonce `nonce`.
    pub fn tx(&self, by: usize, nonce: u64, body: TxBody) -> Signed<Tx> {
        Signed::sign(&Tx { nonce, body }, &self.pool(), &self.keys[by]).unwrap()
    }

    /// The administrator claims a handle: something to record. At most 16 of them.
    pub fn claim(&self, nonce: u64) -> Signed<Tx> {
        self.tx(0, nonce, TxBody::ClaimHandle(ClaimHandle { handle: format!("handle-{nonce}") }))
    }

    /// Node `by` asks for admission with every right of a member.
    pub fn redeem(&self, by: usize) -> Signed<Tx> {
        let ticket = Ticket {
            nonce: Nonce([u8::try_from(by).unwrap(); 16]),
            expires_ms: u64::MAX / 2,
            uses: 1,
            rights: Rights::MEMBER,
        };
        let ticket = Signed::sign(&ticket, &self.pool(), &self.keys[0]).unwrap();
        self.tx(by, 0, TxBody::Redeem(Redeem { ticket, sealing_key: SealingKey([2; 32]) }))
    }

    pub fn set_signers(&self, nonce: u64, nodes: &[usize]) -> Signed<Tx> {
        let signers = nodes.iter().map(|n| Signer { key: self.id(*n), power: 1 }).collect();
        self.tx(0, nonce, TxBody::SetSigners(SetSigners { signers, force: false }))
    }
}

/// Waits until `done`, at most ten seconds.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not within ten seconds");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn height(node: &Node) -> u64 {
    node.handle.read(|l| l.height())
}

/// Waits until all nodes have `height`, and checks that they agree on it.
pub async fn all_reach(nodes: &[&Node], wanted: u64) {
    until(&format!("height {wanted}"), || nodes.iter().all(|n| height(n) >= wanted)).await;
    let headers: BTreeSet<_> = nodes.iter().map(|n| n.handle.signed_header(wanted).unwrap().header.to_vec()).collect();
    assert_eq!(headers.len(), 1, "the nodes have different blocks at height {wanted}");
}

/// The only file in a log's folder.
pub fn segment(dir: &Path) -> PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "log"));
    assert_eq!(files.len(), 1);
    files.remove(0)
}
