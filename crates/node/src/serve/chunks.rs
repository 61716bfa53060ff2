//! Ciphertext for whoever is admitted; keys for whoever the ledger lets run models.

use zero2ai_chunk::wrap_key;
use zero2ai_proto::{
    ByteBuf, NodeId,
    calls::{Bitfield, ChunkCall, GetChunk, GetManifest, ManifestCall, Piece, ReplicateCall, Replicated, WatchHave},
    limits::CHUNK_BYTES,
    manifest::{GrantInfo, WrappedKey},
    rpc::{ErrorCode, RpcError},
    state::Rights,
};
use zero2ai_rpc::{IncomingCall, ReplySink};
use zero2ai_swarm::HaveStream;

use crate::{
    core::Core,
    jobs::fetch::Watch,
    serve::errors::{denied, internal, not_found, store_error, unavailable},
};

async fn sealed(core: &Core, call: ManifestCall) -> Result<Vec<u8>, RpcError> {
    let store = core.store.clone();
    let bytes = core.blocking(move || store.manifest(&call.manifest).map_err(store_error)).await?;
    bytes.ok_or_else(|| not_found("that manifest is not on this node"))
}

pub(super) async fn manifest(core: &Core, call: ManifestCall, reply: &mut ReplySink) -> Result<(), RpcError> {
    for piece in sealed(core, call).await?.chunks(CHUNK_BYTES) {
        reply.item::<GetManifest>(&Piece { data: ByteBuf::from(piece) }).await?;
    }
    Ok(())
}

pub(super) async fn have(core: &Core, call: ManifestCall) -> Result<Bitfield, RpcError> {
    let store = core.store.clone();
    let bits = core.blocking(move || zero2ai_swarm::have(&store, &call.manifest).map_err(internal)).await?;
    let bits = bits.ok_or_else(|| not_found("that manifest is not on this node"))?;
    Ok(Bitfield { bits: ByteBuf::from(bits) })
}

/// Tells what is here and then what comes, until the transfer that brings it ends, or the caller goes.
pub(super) async fn watch_have(core: &Core, call: &IncomingCall, reply: &mut ReplySink) -> Result<(), RpcError> {
    let manifest = call.request::<WatchHave>()?.manifest;
    let told = HaveStream::open(&core.store, &core.board, manifest).await.map_err(internal)?;
    let mut told = told.ok_or_else(|| not_found("that manifest is not on this node"))?;
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

/// One chunk, in an upload slot; `Busy` at once if none is free, so that the caller asks elsewhere.
pub(super) async fn chunk(core: &Core, call: ChunkCall, reply: &mut ReplySink) -> Result<(), RpcError> {
    let slot = core.traffic.upload_slot();
    let slot = slot.ok_or_else(|| {
        RpcError::new(
            ErrorCode::Busy,
            "this node sends as many chunks as it may: ask another node, or again in a moment",
        )
    })?;
    let store = core.store.clone();
    let bytes = core.blocking(move || zero2ai_swarm::serve_chunk(&store, &call.cid).map_err(store_error)).await?;
    let data = bytes.ok_or_else(|| not_found("that chunk is not on this node"))?;
    slot.pace(data.len() as u64).await;
    reply.item::<GetChunk>(&Piece { data: ByteBuf::from(data) }).await
}

/// Wraps a manifest's key to the caller's registered sealing key, if the ledger lets the caller run models. Fails closed
/// while the chain is halted: a revocation may be waiting in it.
pub(super) fn grant(core: &Core, caller: &NodeId, call: ManifestCall) -> Result<WrappedKey, RpcError> {
    if core.chain.watch().borrow().halted {
        return Err(unavailable("the chain is halted, and no key is granted on old rights: try again when it moves"));
    }
    let member = core.chain.read(|l| l.member(caller)).ok_or_else(|| denied("not admitted"))?;
    if !member.rights.has(Rights::PROVIDER) && !member.rights.has(Rights::VALIDATOR) {
        return Err(denied("a model's key is granted to providers and validators only: ask an administrator"));
    }
    let key = core.manifest_key(&call.manifest)?;
    let key = key.ok_or_else(|| not_found("this node has no key of that manifest"))?;
    let info = GrantInfo { pool: core.pool, manifest: call.manifest, grantee: *caller, epoch: core.pool_key.epoch };
    wrap_key(&key, &member.sealing_key, info).map_err(internal)
}

/// Providers keep up the number of copies when others leave; what is served is for the owner to say, and what this node's
/// user dropped stays dropped: its key is here, and it is not held.
pub(super) fn may_repair(core: &Core, caller: Rights, call: &ReplicateCall) -> Result<(), RpcError> {
    if call.serve || !caller.has(Rights::PROVIDER) {
        return Err(denied("only a model's owner may ask others to serve it, and only a provider to hold it"));
    }
    let entry = core.chain.read(|l| l.version(&call.name, call.version));
    let manifest = entry.ok_or_else(|| not_found("the ledger knows no such version"))?.manifest;
    let held = core.held().iter().any(|h| h.manifest == manifest);
    if !held && core.manifest_key(&manifest)?.is_some() {
        return Err(denied("this version was dropped here: only its owner, or this node's user, brings it back"));
    }
    Ok(())
}

pub(super) async fn replicate(core: &Core, call: ReplicateCall) -> Result<Replicated, RpcError> {
    let rights = core.chain.read(|l| l.member(&core.id)).map_or(Rights(0), |m| m.rights);
    if !rights.has(Rights::PROVIDER) {
        return Err(RpcError::new(ErrorCode::Denied, "this node is no provider of the pool"));
    }
    let (progress, _unheard) = tokio::sync::mpsc::channel(1);
    let brought = core.bring(&call.name, call.version, Some(call.from), Watch::steps(&progress), call.serve).await?;
    if call.serve {
        core.serve_opened(&call.name, call.version, brought.opened).await?;
    }
    Ok(Replicated { bytes: brought.report.bytes, chunks: brought.report.chunks })
}
