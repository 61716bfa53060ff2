//! Where one crate's trait meets another's implementation: the chain gossips over the swarm and fetches blocks by peer
//! RPC, the chunk swarm fetches by peer RPC.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use zero2ai_chain::{BlockSource, ChainHandle, ChainNet, ChainTopic};
use zero2ai_clock::now_ms;
use zero2ai_net::{NetHandle, Topic};
use zero2ai_proto::{
    ByteBuf, Cid, ManifestId, NodeId,
    calls::{
        Bitfield, Blocks, BlocksCall, ChunkCall, GetChunk, GetManifest, Have, HaveNews, ManifestCall, SealedBlock,
        WatchHave,
    },
    encode,
    limits::{BLOCK_BYTES, MANIFEST_BYTES, SIGNERS},
    record::{Address, NodeAnnouncement},
    rpc::{ErrorCode, Method},
};
use zero2ai_rpc::{CallError, ConnectError, Detour, Peer, Peers};
use zero2ai_swarm::{NewsSink, Source, SourceError};

use crate::{
    addresses::Addresses,
    directory::Directory,
    forward::Forwards,
    heads::{News, Told},
};

/// Patience with one peer for one small answer. A dead peer costs this much, once.
const ANSWER: Duration = Duration::from_secs(5);
/// Patience with one peer for a batch of blocks; the chain gives all of them together about eight seconds.
const BLOCKS: Duration = Duration::from_secs(2);
/// Patience with one peer for a batch of blocks or a manifest over a slow line.
const BULK: Duration = Duration::from_secs(20);
/// Patience with one peer for a chunk. The planner gives up earlier on peers that others can stand in for.
const CHUNK: Duration = Duration::from_secs(90);
/// How long one peer's news of what it holds are listened to before it is asked anew.
const WATCH: Duration = Duration::from_secs(300);

/// Reaches members by identity.
#[derive(Clone)]
pub(crate) struct Roads {
    pub(crate) peers: Arc<Peers>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) forwards: Arc<Forwards>,
}

impl Roads {
    /// The open connection; or a new one, directly or through the swarm.
    pub(crate) async fn to(&self, node: &NodeId) -> Result<Peer, ConnectError> {
        if let Some(peer) = self.peers.open(node) {
            return Ok(peer);
        }
        let addresses = self.directory.addresses(node).unwrap_or_default();
        let (likely, forwards, node) = (addresses.iter().any(Address::is_relayed), Arc::clone(&self.forwards), *node);
        let address = async move { forwards.own(node).await };
        self.peers.get_or(node, &addresses, Detour { likely, address: Box::pin(address) }).await
    }

    pub(crate) async fn call<M: Method>(
        &self,
        node: &NodeId,
        request: &M::Request,
        patience: Duration,
    ) -> Result<M::Reply, CallError> {
        self.ask(node, |peer| async move { peer.call::<M>(request, patience).await }).await
    }

    /// Asks over the connection that is there; if that turns out to be dead, once more over a fresh one: a node that was
    /// restarted is back long before QUIC's own timer tells that its old connections are gone. So only what may be asked
    /// twice goes this way.
    pub(crate) async fn ask<T, F: Future<Output = Result<T, CallError>>>(
        &self,
        node: &NodeId,
        question: impl Fn(Peer) -> F,
    ) -> Result<T, CallError> {
        match question(self.to(node).await?).await {
            Err(CallError::Closed { .. }) => {
                self.peers.forget(node);
                question(self.to(node).await?).await
            }
            answer => answer,
        }
    }
}

/// Messages waiting to be gossiped. When full, a message is dropped: consensus says again what was not heard.
const OUTGOING: usize = 1_024;

/// What announcements are made of, and what is known of others'.
#[derive(Clone)]
pub(crate) struct Announcing {
    pub(crate) addresses: Addresses,
    pub(crate) directory: Arc<Directory>,
    pub(crate) told: Arc<Mutex<Told>>,
}

/// The chain's way out: gossip. Its head announcements carry the node's addresses along.
pub(crate) struct GossipNet {
    queue: mpsc::Sender<(Topic, Vec<u8>)>,
    announcing: Announcing,
    chain: ChainHandle,
    net: NetHandle,
}

impl GossipNet {
    /// The way out, and the task that carries messages to the swarm until `stop`.
    pub(crate) fn new(
        net: NetHandle,
        chain: ChainHandle,
        announcing: Announcing,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut waiting) = mpsc::channel::<(Topic, Vec<u8>)>(OUTGOING);
        let out = Self { queue, announcing, chain, net: net.clone() };
        let carrier = net;
        let task = async move {
            loop {
                let message = tokio::select! {
                    () = stop.cancelled() => return,
                    message = waiting.recv() => message,
                };
                let Some((topic, data)) = message else {
                    // The chain's task is over, and its end says why the node stops.
                    return stop.cancelled().await;
                };
                if let Err(error) = carrier.publish(topic, data).await {
                    tracing::debug!(topic = topic.name(), %error, "not gossiped");
                }
            }
        };
        (out, task)
    }
}

impl ChainNet for GossipNet {
    fn broadcast(&self, topic: ChainTopic, data: Vec<u8>) {
        let (topic, data) = match topic {
            ChainTopic::Consensus => (Topic::Consensus, data),
            ChainTopic::Tx => (Topic::Tx, data),
            ChainTopic::Head => {
                let Announcing { addresses, directory, told } = &self.announcing;
                let (addresses, head) = (addresses.now(), ByteBuf::from(data));
                let height = self.chain.read(zero2ai_ledger::Ledger::height);
                let peers = self.net.peers().len();
                let members = directory.count(now_ms()).max(peers);
                let news = News { height, addresses: addresses.clone(), peers, members };
                if !told.lock().unwrap_or_else(PoisonError::into_inner).is_due(news, Instant::now()) {
                    return;
                }
                match encode(&NodeAnnouncement { version: 1, addresses, head }) {
                    Ok(data) => (Topic::Head, data),
                    Err(error) => return tracing::error!(%error, "an announcement could not be encoded"),
                }
            }
        };
        if self.queue.try_send((topic, data)).is_err() {
            tracing::debug!(topic = topic.name(), "a gossip message was dropped: the queue is full");
        }
    }
}

/// The chain's way to blocks it missed: the peer that spoke of them first, then whoever was heard of lately.
pub(crate) struct RpcBlocks(pub(crate) Roads);

impl BlockSource for RpcBlocks {
    fn blocks(&self, hint: Option<NodeId>, from: u64, max: u32) -> BoxFuture<'_, Result<Vec<SealedBlock>, String>> {
        Box::pin(async move {
            let mut last = "nobody to ask for blocks".to_owned();
            let mut without = 0_u32;
            let others = self.0.directory.present(now_ms()).into_iter().filter(|n| Some(*n) != hint).take(4);
            for node in hint.into_iter().chain(others) {
                // Whoever boasts of a height and then dawdles must not keep us from asking the others.
                match tokio::time::timeout(BLOCKS, self.ask(&node, from, max)).await {
                    Ok(Ok(blocks)) if !blocks.is_empty() => return Ok(blocks),
                    Ok(Ok(_)) => without = without.saturating_add(1),
                    Ok(Err(why)) => last = why,
                    Err(_) => last = format!("{} sent no blocks within {} s", node.short(), BLOCKS.as_secs()),
                }
            }
            if without > 0 {
                // Of nodes that began with a snapshot, none has older blocks.
                return Err(format!("{without} peers hold no block from height {from} on; of the others: {last}"));
            }
            Err(last)
        })
    }
}

impl RpcBlocks {
    async fn ask(&self, node: &NodeId, from: u64, max: u32) -> Result<Vec<SealedBlock>, String> {
        let question = |peer: Peer| async move {
            let mut replies = peer.stream::<Blocks>(&BlocksCall { from, max }, BULK).await?;
            let mut blocks = Vec::new();
            while let Some(block) = replies.next().await {
                let block = block?;
                if is_oversized(&block) {
                    return Ok(Err(format!("{} sent a block that is longer than blocks may be", peer.id().short())));
                }
                blocks.push(block);
                if blocks.len() >= max as usize {
                    break;
                }
            }
            Ok(Ok(blocks))
        };
        self.0.ask(node, question).await.map_err(|e| e.to_string())?
    }
}

/// True if nobody who keeps the rules made it: 64 of the largest frames would be 256 MiB, held before the first is checked. The header
/// and the frames around transactions take less than these may.
fn is_oversized(sealed: &SealedBlock) -> bool {
    sealed.block.len() > 2 * BLOCK_BYTES || sealed.certificate.signatures.len() > SIGNERS
}

/// The chunk swarm's way to other stores.
pub(crate) struct RpcSource(pub(crate) Roads);

fn gone(why: impl std::fmt::Display) -> SourceError {
    SourceError::new(why.to_string())
}

impl Source for RpcSource {
    fn have(&self, peer: NodeId, manifest: ManifestId) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            let reply = self.0.call::<Have>(&peer, &ManifestCall { manifest }, ANSWER).await.map_err(gone)?;
            Ok(reply.bits.into_vec())
        })
    }

    fn watch(&self, peer: NodeId, manifest: ManifestId, news: NewsSink) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            let question = |peer: Peer| async move {
                let mut items = peer.stream::<WatchHave>(&ManifestCall { manifest }, WATCH).await?;
                let first = items.next().await.transpose()?;
                Ok((items, first))
            };
            let (mut items, mut item) = match self.0.ask(&peer, question).await {
                Ok(answer) => answer,
                // An older program: what it holds is asked as a whole, again and again.
                Err(CallError::Remote(error)) if error.code == ErrorCode::Unsupported => {
                    let bits = ByteBuf::from(self.have(peer, manifest).await?);
                    news.send(HaveNews::Held(Bitfield { bits })).await;
                    return Ok(());
                }
                Err(error) => return Err(gone(error)),
            };
            while let Some(told) = item {
                if !news.send(told).await {
                    return Ok(());
                }
                item = items.next().await.transpose().map_err(gone)?;
            }
            Ok(())
        })
    }

    fn chunk(&self, peer: NodeId, cid: Cid) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            let question = |peer: Peer| async move { peer.call::<GetChunk>(&ChunkCall { cid }, CHUNK).await };
            match self.0.ask(&peer, question).await {
                Ok(reply) => Ok(reply.data.into_vec()),
                Err(CallError::Remote(error)) if error.code == ErrorCode::Busy => Err(SourceError::Busy),
                Err(error) => Err(gone(error)),
            }
        })
    }

    fn manifest(&self, peer: NodeId, id: ManifestId) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            let question = |peer: Peer| async move {
                let mut pieces = peer.stream::<GetManifest>(&ManifestCall { manifest: id }, BULK).await?;
                let mut bytes = Vec::new();
                while let Some(piece) = pieces.next().await {
                    bytes.extend_from_slice(&piece?.data);
                    if bytes.len() > MANIFEST_BYTES {
                        break;
                    }
                }
                Ok(bytes)
            };
            let bytes = self.0.ask(&peer, question).await.map_err(gone)?;
            if bytes.len() > MANIFEST_BYTES {
                return Err(gone("the manifest is longer than manifests may be"));
            }
            Ok(bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use zero2ai_proto::{BlockId, SecretKey, block::Certificate};

    use super::*;

    #[test]
    fn a_block_that_nobody_can_have_made_is_not_held() {
        let key = SecretKey::from_bytes(&[7; 32]);
        let sealed = |bytes: usize, signatures: usize| {
            let one = (key.public(), key.sign(b""));
            let certificate =
                Certificate { height: 1, round: 0, block: BlockId([0; 32]), signatures: vec![one; signatures] };
            SealedBlock { block: ByteBuf::from(vec![0; bytes]), certificate }
        };
        assert!(!is_oversized(&sealed(BLOCK_BYTES + 1_024, SIGNERS)));
        assert!(is_oversized(&sealed(2 * BLOCK_BYTES + 1, 1)));
        assert!(is_oversized(&sealed(0, SIGNERS + 1)));
    }
}
