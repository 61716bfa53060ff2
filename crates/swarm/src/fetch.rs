//! One transfer: the manifest first, then whatever is missing of its chunks, from every peer at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;
use zero2ai_chunk::{ChunkSet, ManifestSealError, manifest::read_sealed, planner::Order};
use zero2ai_proto::{ManifestId, NodeId, keys::random_bytes, manifest::SealedManifest};
use zero2ai_store::Store;

use crate::{
    board::Board,
    error::FetchError,
    serve,
    source::{Source, SourceError},
    traffic::Traffic,
    transfer::{Start, Transfer},
};

/// Peers used in one transfer; the rest of a longer list is not asked. More add connections, not speed.
pub(crate) const PEERS: usize = 64;

/// How a transfer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchOptions {
    /// Chunks on their way or being written at once: bounds memory to this many MiB.
    pub in_flight: u32,
    /// How long a peer that owes an answer may be silent before others are asked.
    pub stall: Duration,
    /// How long to wait for peers to come back when none can give what is missing.
    pub patience: Duration,
    /// Which chunks come first.
    pub order: Order,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            in_flight: 48,
            stall: Duration::from_secs(10),
            patience: Duration::from_secs(30),
            order: Order::RarestFirst,
        }
    }
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Chunks here, those of before included.
    pub chunks: u32,
    /// Chunks of the model.
    pub total_chunks: u32,
    /// Bytes of ciphertext that this transfer brought.
    pub bytes: u64,
    /// Bytes of ciphertext that it must bring in all.
    pub total_bytes: u64,
    /// Peers in use.
    pub peers: usize,
    /// The chunks that are here.
    pub held: &'a ChunkSet,
    /// Bytes that this transfer brought, by the peer they came from.
    pub by_peer: &'a BTreeMap<NodeId, u64>,
}

/// What a transfer did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchReport {
    /// Bytes of ciphertext that came from peers and were kept.
    pub bytes: u64,
    /// Chunks that came from peers.
    pub chunks: u32,
    /// Chunks that were here before.
    pub reused: u32,
    /// Bytes kept, by the peer they came from.
    pub by_peer: BTreeMap<NodeId, u64>,
    /// Peers that sent wrong bytes, in order.
    pub banned: Vec<NodeId>,
}

/// One transfer, as [`Fetch::run`] starts it.
pub struct Fetch {
    /// Where chunks go.
    pub store: Store,
    /// How peers are asked.
    pub source: Arc<dyn Source>,
    /// What is fetched.
    pub id: ManifestId,
    /// Who may have it; the first 64 are asked.
    pub peers: Vec<NodeId>,
    /// How it behaves.
    pub options: FetchOptions,
    /// This node: with others that fetch the same it then shares out what only an origin has. `None` asks everybody alike.
    pub me: Option<NodeId>,
    /// Where others on this node hear of each chunk.
    pub board: Board,
    /// The node's limits.
    pub traffic: Traffic,
    /// Cancelled to stop it.
    pub stop: CancellationToken,
}

impl Fetch {
    /// Fetches the manifest and every chunk of it that the store lacks, checking each hash before it is kept. Returns once all
    /// is stored durably. Goes on from what an earlier attempt brought. `progress` is called after the manifest and after each
    /// chunk.
    ///
    /// # Errors
    /// [`FetchError`]; what came is kept.
    pub async fn run(self, progress: impl Fn(Progress<'_>) + Send + Sync) -> Result<FetchReport, FetchError> {
        let Self { store, source, id, mut peers, options, me, board, traffic, stop } = self;
        peers.truncate(PEERS);
        let mut report = FetchReport::default();
        let manifest = tokio::select! {
            () = stop.cancelled() => return Err(FetchError::Stopped),
            manifest = obtain_manifest(&store, &*source, id, &mut peers, options.stall, &mut report.banned) => manifest?,
        };
        let (shared, manifest) = (store.clone(), Arc::new(manifest));
        let listed = Arc::clone(&manifest);
        let held = spawn_blocking(move || serve::held(&shared, &listed)).await??;
        report.reused = held.count();
        if !held.is_full() && peers.is_empty() {
            return Err(FetchError::NoPeers(id));
        }
        let seed = random_bytes().map(u64::from_le_bytes).map_err(|e| FetchError::Randomness(e.to_string()))?;
        let start = Start { store, source, id, manifest, peers, options, seed, held, report, me, board, traffic };
        Transfer::new(start).run(&progress, &stop).await
    }
}

/// [`Fetch::run`] without limits, and with nobody else on this node to be told of chunks.
///
/// # Errors
/// [`FetchError`]; what came is kept.
pub async fn fetch(
    store: &Store,
    source: Arc<dyn Source>,
    id: ManifestId,
    peers: Vec<NodeId>,
    options: FetchOptions,
    progress: impl Fn(Progress<'_>) + Send + Sync,
    stop: CancellationToken,
) -> Result<FetchReport, FetchError> {
    let (board, traffic) = Default::default();
    Fetch { store: store.clone(), source, id, peers, options, me: None, board, traffic, stop }.run(progress).await
}

/// The manifest from the store or, one after another, from `peers`; those that send another one are taken out and listed in
/// `banned`.
async fn obtain_manifest(
    store: &Store,
    source: &dyn Source,
    id: ManifestId,
    peers: &mut Vec<NodeId>,
    patience: Duration,
    banned: &mut Vec<NodeId>,
) -> Result<SealedManifest, FetchError> {
    let shared = store.clone();
    if let Some(bytes) = spawn_blocking(move || shared.manifest(&id)).await?? {
        return Ok(read_sealed(&bytes, &id)?);
    }
    if peers.is_empty() {
        return Err(FetchError::NoPeers(id));
    }
    let mut last = String::new();
    for peer in peers.clone() {
        let answer = timeout(patience, source.manifest(peer, id)).await;
        let bytes = match answer.unwrap_or_else(|_| Err(SourceError::new("no answer in time"))) {
            Ok(bytes) => bytes,
            Err(e) => {
                last = e.to_string();
                continue;
            }
        };
        match read_sealed(&bytes, &id) {
            Ok(sealed) => {
                let shared = store.clone();
                spawn_blocking(move || shared.put_manifest(&bytes)).await??;
                return Ok(sealed);
            }
            Err(e @ (ManifestSealError::WrongId(_) | ManifestSealError::Codec(_))) => {
                tracing::warn!(%peer, error = %e, "banned: it sent something else than the manifest");
                last = e.to_string();
                banned.push(peer);
                peers.retain(|p| *p != peer);
            }
            // The right bytes, and they are unusable: no other peer has better ones.
            Err(e) => return Err(e.into()),
        }
    }
    Err(FetchError::NoManifest { id, tried: peers.len() + banned.len(), last })
}
