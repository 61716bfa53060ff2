//! Zero2AI: the product's store, planner and peer RPC. The calls are the node's own (`crates/node/src/serve/chunks.rs`,
//! `crates/node/src/glue.rs`); left out is the ledger, which only says who may ask.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use zero2ai_chunk::{BaseVersion, ContentSecret, Sealer, detect_format, open_piece, seal_file_against, seal_manifest};
use zero2ai_proto::{
    ByteBuf, Cid, ManifestId, ModelName, NodeId, PoolId, SecretKey,
    calls::{Bitfield, ChunkCall, GetChunk, GetManifest, Have, ManifestCall, Piece, WatchHave},
    decode, encode,
    limits::CHUNK_BYTES,
    manifest::{ChunkRef, Domain, Manifest, Task},
    pool::PoolKey,
    record::Address,
    rpc::{ErrorCode, Method, RpcError},
};
use zero2ai_rpc::{CallError, Endpoint, EndpointConfig, Handler, IncomingCall, Peer, Peers, ReplySink};
use zero2ai_store::{Store, StoreConfig, Writers};
use zero2ai_swarm::{Board, Fetch, FetchOptions, HaveStream, NewsSink, Source, SourceError, Traffic};

use super::{Lab, Others, Place, read_json, say, until_stopped, wait_for_go, write_json};

/// The node's own patience with one answer and with one chunk.
const ANSWER: Duration = Duration::from_secs(5);
const BULK: Duration = Duration::from_secs(20);
const WATCH: Duration = Duration::from_secs(300);

/// What a process of ours is to do.
#[derive(Serialize, Deserialize)]
pub(crate) struct Role {
    home: PathBuf,
    listen: SocketAddr,
    number: u8,
    pool_key: String,
    manifest: String,
    /// Whom to ask; with nobody to ask it serves alone.
    others: Others,
    stay: bool,
}

/// What `prepare` leaves for the processes.
#[derive(Serialize, Deserialize)]
struct Sealed {
    manifest: String,
    pool_key: String,
}

fn seed_home(lab: &Lab) -> PathBuf {
    lab.seeds.join("ours")
}

/// Seals the file into the seed's store.
pub(super) fn prepare(lab: &Lab) -> Result<()> {
    let home = seed_home(lab);
    let manifest = publish(&home, &lab.file)?.to_string();
    let pool_key = hex::encode(encode(&PoolKey::generate()?)?);
    write_json(&home.join("bench.json"), &Sealed { manifest, pool_key })
}

/// Cuts, seals and stores `file` durably in `home`, with its manifest: what the node's publish does before the ledger.
pub(crate) fn publish(home: &Path, file: &Path) -> Result<ManifestId> {
    let store = Store::open(home, StoreConfig::default())?;
    let manifest = seal_into_store(&store, &ContentSecret::generate()?, file, None)?;
    let (bytes, _, _) = seal_manifest(&manifest)?;
    Ok(store.put_manifest(&bytes)?)
}

/// Cuts and seals `file` into `store`, changed tensors as differences to those of `base` where that is shorter.
pub(crate) fn seal_into_store(
    store: &Store,
    secret: &ContentSecret,
    file: &Path,
    base: Option<&Manifest>,
) -> Result<Manifest> {
    let sealer = Sealer::new(Domain::Private, secret.clone());
    let mut reader = File::open(file).with_context(|| format!("open {}", file.display()))?;
    let format = detect_format(&mut reader)?;
    let (mut seen, writers) = (BTreeSet::new(), Writers::start(store)?);
    let mut keep = |cid: Cid, data: &[u8]| if seen.insert(cid) { writers.put(cid, data.to_vec()) } else { Ok(()) };
    let open = |base: &Manifest, chunk: &ChunkRef| {
        let mut read = |cid: &Cid| store.chunk(cid).map_err(|e| e.to_string())?.ok_or("it is missing".to_owned());
        open_piece(base, chunk, &mut read).map_err(|e| e.to_string().into())
    };
    let mut base = match base {
        Some(base) => Some(BaseVersion::new(base, &sealer, move |chunk| open(base, chunk)).context("another secret")?),
        None => None,
    };
    let entry = seal_file_against(&sealer, &mut reader, "model", format, base.as_mut(), &mut keep, &mut |_, _| ());
    // Its error says why sealing was stopped.
    writers.finish().1?;
    Ok(Manifest {
        name: "bench/model".parse::<ModelName>().map_err(|e| anyhow::anyhow!("{e}"))?,
        version: 1,
        format,
        task: Task::Tensors,
        domain: sealer.domain(),
        secret: *sealer.secret(),
        files: vec![entry?],
        conformance: Vec::new(),
        preparation: None,
    })
}

pub(super) fn seed(lab: &Lab, at: &Place) -> Result<Command> {
    role(lab, at, seed_home(lab), Others::new(), true)
}

pub(super) fn leech(lab: &Lab, at: &Place, others: Others, stay: bool) -> Result<Command> {
    role(lab, at, at.home.clone(), others, stay)
}

fn role(lab: &Lab, at: &Place, home: PathBuf, others: Others, stay: bool) -> Result<Command> {
    let Sealed { manifest, pool_key } = read_json(&seed_home(lab).join("bench.json"))?;
    let role = Role { home, listen: at.socket(), number: at.number, pool_key, manifest, others, stay };
    super::Role::Ours(role).command(&at.namespace)
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number + 1; 32])
}

pub(super) async fn play(role: Role) -> Result<()> {
    let pool_key: PoolKey = decode(&hex::decode(&role.pool_key)?, 1024)?;
    let manifest: ManifestId = role.manifest.parse().map_err(|e| anyhow::anyhow!("{e}"))?;
    let store = Store::open(&role.home, StoreConfig::default())?;
    let endpoint = Endpoint::bind(EndpointConfig {
        bind: role.listen,
        key: key(role.number),
        pool: PoolId([7; 32]),
        pool_keys: pool_key.into(),
    })?;
    let stop = CancellationToken::new();
    let shared = Service { store: store.clone(), board: Board::default(), traffic: Traffic::default() };
    let serving = tokio::spawn({
        let (endpoint, stop, service) = (endpoint.clone(), stop.clone(), shared.clone());
        async move { endpoint.serve(Arc::new(service), stop).await }
    });
    wait_for_go().await?;
    if !role.others.is_empty() {
        let addresses: BTreeMap<NodeId, Vec<Address>> =
            role.others.iter().map(|(n, a)| (key(*n).public(), vec![Address::Rpc(a.to_string())])).collect();
        let peers = role.others.iter().map(|(n, _)| key(*n).public()).collect();
        let source = Arc::new(RpcSource { peers: Peers::new(endpoint), addresses });
        let begun = Instant::now();
        let Service { board, traffic, .. } = shared;
        let (me, options, stop) = (Some(key(role.number).public()), FetchOptions::default(), stop.child_token());
        let job = Fetch { store, source, id: manifest, peers, options, me, board, traffic, stop };
        let report = job.run(|_| ()).await?;
        let seconds = begun.elapsed().as_secs_f64();
        anyhow::ensure!(report.bytes > 0, "nothing was fetched: the folder was not empty");
        say("done", &seconds)?;
    }
    if role.stay {
        until_stopped().await?;
    }
    stop.cancel();
    Ok(serving.await??)
}

/// What peers may ask of a store.
#[derive(Clone)]
struct Service {
    store: Store,
    board: Board,
    traffic: Traffic,
}

impl Handler for Service {
    fn admitted(&self, _: &NodeId) -> bool {
        true
    }

    fn call<'a>(&'a self, call: IncomingCall, reply: ReplySink) -> BoxFuture<'a, Result<(), RpcError>> {
        Box::pin(self.answer(call, reply))
    }
}

impl Service {
    async fn answer(&self, call: IncomingCall, mut reply: ReplySink) -> Result<(), RpcError> {
        let store = self.store.clone();
        match call.method {
            GetManifest::ID => {
                let id = call.request::<GetManifest>()?.manifest;
                let bytes = blocking(move || store.manifest(&id)).await?;
                for piece in bytes.chunks(CHUNK_BYTES) {
                    reply.item::<GetManifest>(&Piece { data: ByteBuf::from(piece) }).await?;
                }
                Ok(())
            }
            Have::ID => {
                let id = call.request::<Have>()?.manifest;
                let bits = blocking(move || zero2ai_swarm::have(&store, &id)).await?;
                reply.item::<Have>(&Bitfield { bits: ByteBuf::from(bits) }).await
            }
            WatchHave::ID => {
                let internal = |e: zero2ai_swarm::FetchError| RpcError::new(ErrorCode::Internal, e.to_string());
                let id = call.request::<WatchHave>()?.manifest;
                let told = HaveStream::open(&store, &self.board, id).await.map_err(internal)?;
                let mut told = told.ok_or_else(|| RpcError::new(ErrorCode::NotFound, "not here"))?;
                loop {
                    let item = tokio::select! {
                        () = call.cancelled.cancelled() => return Ok(()),
                        item = told.next() => item,
                    };
                    match item {
                        Some(item) => reply.item::<WatchHave>(&item).await?,
                        None => return Ok(()),
                    }
                }
            }
            GetChunk::ID => {
                let slot = self.traffic.upload_slot();
                let slot = slot.ok_or_else(|| RpcError::new(ErrorCode::Busy, "no slot is free"))?;
                let cid = call.request::<GetChunk>()?.cid;
                let data = blocking(move || zero2ai_swarm::serve_chunk(&store, &cid)).await?;
                slot.pace(data.len() as u64).await;
                reply.item::<GetChunk>(&Piece { data: ByteBuf::from(data) }).await
            }
            _ => Err(RpcError::new(ErrorCode::Unsupported, "not in this bench")),
        }
    }
}

async fn blocking<E: ToString + Send + 'static>(
    work: impl FnOnce() -> Result<Option<Vec<u8>>, E> + Send + 'static,
) -> Result<Vec<u8>, RpcError> {
    let internal = |why: String| RpcError::new(ErrorCode::Internal, why);
    let found = spawn_blocking(work).await.map_err(|e| internal(e.to_string()))?;
    found.map_err(|e| internal(e.to_string()))?.ok_or_else(|| RpcError::new(ErrorCode::NotFound, "not here"))
}

/// The way to other stores.
struct RpcSource {
    peers: Peers,
    addresses: BTreeMap<NodeId, Vec<Address>>,
}

impl RpcSource {
    async fn to(&self, node: &NodeId) -> Result<Peer, SourceError> {
        let addresses = self.addresses.get(node).map_or(&[][..], Vec::as_slice);
        self.peers.get(*node, addresses).await.map_err(gone)
    }

    async fn call<M: Method>(
        &self,
        node: &NodeId,
        call: &M::Request,
        patience: Duration,
    ) -> Result<M::Reply, SourceError> {
        self.to(node).await?.call::<M>(call, patience).await.map_err(gone)
    }
}

fn gone(why: impl std::fmt::Display) -> SourceError {
    SourceError::new(why.to_string())
}

impl Source for RpcSource {
    fn manifest(&self, peer: NodeId, id: ManifestId) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            let peer = self.to(&peer).await?;
            let mut pieces = peer.stream::<GetManifest>(&ManifestCall { manifest: id }, BULK).await.map_err(gone)?;
            let mut bytes = Vec::new();
            while let Some(piece) = pieces.next().await {
                bytes.extend_from_slice(&piece.map_err(gone)?.data);
            }
            Ok(bytes)
        })
    }

    fn have(&self, peer: NodeId, id: ManifestId) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(
            async move { Ok(self.call::<Have>(&peer, &ManifestCall { manifest: id }, ANSWER).await?.bits.into_vec()) },
        )
    }

    fn chunk(&self, peer: NodeId, cid: Cid) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            match self.to(&peer).await?.call::<GetChunk>(&ChunkCall { cid }, BULK).await {
                Ok(piece) => Ok(piece.data.into_vec()),
                Err(CallError::Remote(error)) if error.code == ErrorCode::Busy => Err(SourceError::Busy),
                Err(error) => Err(gone(error)),
            }
        })
    }

    fn watch(&self, peer: NodeId, id: ManifestId, news: NewsSink) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            let peer = self.to(&peer).await?;
            let mut items = peer.stream::<WatchHave>(&ManifestCall { manifest: id }, WATCH).await.map_err(gone)?;
            while let Some(item) = items.next().await {
                if !news.send(item.map_err(gone)?).await {
                    break;
                }
            }
            Ok(())
        })
    }
}
