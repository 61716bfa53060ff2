//! Peers in this process, honest and otherwise, each with a store of its own; and a small model.
#![allow(dead_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tempfile::{TempDir, tempdir};
use tokio_util::sync::CancellationToken;
use zero2ai_chunk::{ContentSecret, Sealer, manifest::read_sealed, planner::Order, seal_manifest};
use zero2ai_proto::{
    ByteBuf, Cid, Digest, ManifestId, NodeId, PublicKey,
    calls::{Bitfield, HaveNews},
    manifest::{Domain, FileEntry, Format, Manifest, Part, SealedManifest, Task},
};
use zero2ai_store::{Store, StoreConfig};
use zero2ai_swarm::{
    Board, FetchError, FetchOptions, FetchReport, HaveStream, NewsSink, Source, SourceError, fetch, have, serve_chunk,
};

pub(crate) const OPTIONS: FetchOptions = FetchOptions {
    in_flight: 16,
    stall: Duration::from_millis(300),
    patience: Duration::from_millis(1_500),
    order: Order::RarestFirst,
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Honest,
    /// Claims everything and sends other bytes of the right length.
    Liar,
    /// Claims everything and never sends a chunk.
    Silent,
    /// Says it holds a number of chunks that the manifest does not have.
    Nonsense,
    /// Sends another manifest, and chunks that are too long.
    Swollen,
    /// Claims everything and takes a quarter of a second for each chunk, just short of counting as silent.
    Dribbler,
    /// Holds everything, and has no slot free the first time that it is asked for a chunk.
    Busy,
    /// Tells of chunks for ever.
    Chatterer,
    /// Tells of a chunk that there is not.
    Boaster,
}

/// Peers in this process; each has a store of its own.
#[derive(Default)]
pub(crate) struct Peers {
    pub(crate) peers: BTreeMap<NodeId, (Kind, Store)>,
    /// The transfers of a peer that is fetching itself.
    pub(crate) boards: BTreeMap<NodeId, Board>,
    /// Chunks that this peer keeps back for now.
    pub(crate) withheld: Mutex<BTreeMap<Cid, NodeId>>,
    /// Chunks that the busy one refused once.
    refused: Mutex<BTreeSet<Cid>>,
    pub(crate) asked: Mutex<BTreeMap<NodeId, u32>>,
    /// Honest peers answer only once this one was asked for a chunk, so that a test does not depend on who is faster.
    pub(crate) after: Option<NodeId>,
    pub(crate) in_flight: AtomicU32,
    pub(crate) most_in_flight: AtomicU32,
}

struct Counted<'a>(&'a AtomicU32);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Peers {
    fn at(&self, peer: NodeId) -> Result<(Kind, Store), SourceError> {
        self.peers.get(&peer).map(|(kind, store)| (*kind, store.clone())).ok_or_else(|| SourceError::new("unreachable"))
    }
}

impl Source for Peers {
    fn manifest(&self, peer: NodeId, id: ManifestId) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            let (kind, store) = self.at(peer)?;
            let mut bytes = store.manifest(&id).unwrap().ok_or_else(|| SourceError::new("not here"))?;
            if kind == Kind::Swollen {
                bytes.push(0);
            }
            Ok(bytes)
        })
    }

    fn have(&self, peer: NodeId, id: ManifestId) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            let (kind, store) = self.at(peer)?;
            let mut bits = have(&store, &id).unwrap().ok_or_else(|| SourceError::new("not here"))?;
            if kind == Kind::Nonsense {
                bits.push(0xff);
            }
            Ok(bits)
        })
    }

    fn watch(&self, peer: NodeId, id: ManifestId, news: NewsSink) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            let (kind, store) = self.at(peer)?;
            if let Some(board) = self.boards.get(&peer) {
                let told = HaveStream::open(&store, board, id).await.unwrap();
                let mut told = told.ok_or_else(|| SourceError::new("not here"))?;
                while let Some(item) = told.next().await {
                    news.send(item).await;
                }
                return Ok(());
            }
            news.send(HaveNews::Held(Bitfield { bits: ByteBuf::from(self.have(peer, id).await?) })).await;
            while kind == Kind::Chatterer && news.send(HaveNews::Gained(vec![0, 1])).await {}
            if kind == Kind::Boaster {
                news.send(HaveNews::Gained(vec![1_000_000])).await;
            }
            Ok(())
        })
    }

    fn chunk(&self, peer: NodeId, cid: Cid) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            let (kind, store) = self.at(peer)?;
            *self.asked.lock().unwrap().entry(peer).or_insert(0) += 1;
            let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_in_flight.fetch_max(now, Ordering::SeqCst);
            let _counted = Counted(&self.in_flight);
            tokio::time::sleep(Duration::from_millis(1)).await;
            while kind == Kind::Honest && self.after.is_some_and(|p| !self.asked.lock().unwrap().contains_key(&p)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            while self.withheld.lock().unwrap().get(&cid) == Some(&peer) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if kind == Kind::Busy && self.refused.lock().unwrap().insert(cid) {
                return Err(SourceError::Busy);
            }
            if kind == Kind::Dribbler {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            let mut bytes = serve_chunk(&store, &cid).unwrap().ok_or_else(|| SourceError::new("not here"))?;
            match kind {
                Kind::Liar => bytes[0] ^= 1,
                Kind::Swollen => bytes.push(0),
                Kind::Silent => std::future::pending().await,
                _ => {}
            }
            Ok(bytes)
        })
    }
}

/// A model of `count` small chunks.
pub(crate) struct Model {
    pub(crate) id: ManifestId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) chunks: Vec<(Cid, Vec<u8>)>,
    pub(crate) sealed: SealedManifest,
}

pub(crate) fn model(count: u32) -> Model {
    let sealer = Sealer::new(Domain::Private, ContentSecret::from_bytes([1; 32]));
    let sealed: Vec<_> = (0..count).map(|n| sealer.seal_chunk(&n.to_le_bytes().repeat(500)).unwrap()).collect();
    let chunks: Vec<_> = sealed.iter().map(|(chunk, _)| chunk.clone()).collect();
    let size = chunks.iter().map(|c| u64::from(c.len)).sum();
    let parts = vec![Part { name: "#data".into(), chunks }];
    let manifest = Manifest {
        name: "a/b".parse().unwrap(),
        version: 1,
        format: Format::Opaque,
        task: Task::Tensors,
        domain: Domain::Private,
        secret: *sealer.secret(),
        files: vec![FileEntry { path: "m".into(), size, hash: Digest([0; 32]), parts }],
        conformance: Vec::new(),
        preparation: None,
    };
    let (bytes, id, _) = seal_manifest(&manifest).unwrap();
    let chunks = sealed.into_iter().map(|(chunk, bytes)| (chunk.cid, bytes)).collect();
    Model { id, sealed: read_sealed(&bytes, &id).unwrap(), bytes, chunks }
}

pub(crate) fn node(n: u8) -> NodeId {
    PublicKey([n; 32])
}

pub(crate) struct Net {
    pub(crate) peers: Peers,
    pub(crate) folders: Vec<TempDir>,
}

impl Net {
    pub(crate) fn new() -> Self {
        Self { peers: Peers::default(), folders: Vec::new() }
    }

    pub(crate) fn store(&mut self) -> Store {
        let dir = tempdir().unwrap();
        let store =
            Store::open(dir.path(), StoreConfig { cache_bytes: 1 << 20, quota_bytes: None, ..StoreConfig::default() })
                .unwrap();
        self.folders.push(dir);
        store
    }

    /// Adds peer `n`, which holds the chunks for which `holds` is true.
    pub(crate) fn add(&mut self, n: u8, kind: Kind, model: &Model, holds: impl Fn(usize) -> bool) -> NodeId {
        let store = self.store();
        store.put_manifest(&model.bytes).unwrap();
        for (nth, (cid, bytes)) in model.chunks.iter().enumerate().filter(|(nth, _)| holds(*nth)) {
            assert!(store.put_chunk(cid, bytes).unwrap(), "chunk {nth}");
        }
        self.peers.peers.insert(node(n), (kind, store));
        node(n)
    }
}

pub(crate) async fn run(
    peers: &Arc<Peers>,
    store: &Store,
    id: ManifestId,
    from: Vec<NodeId>,
) -> Result<FetchReport, FetchError> {
    let source: Arc<dyn Source> = Arc::clone(peers) as _;
    let limit = Duration::from_secs(15);
    let transfer = fetch(store, source, id, from, OPTIONS, |_| {}, CancellationToken::new());
    tokio::time::timeout(limit, transfer).await.expect("the transfer hangs")
}
