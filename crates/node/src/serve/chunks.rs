//! Ciphertext for whoever is admitted; keys for whoever the ledger lets run models.

use zero2ai_chunk::wrap_secret;
use zero2ai_proto::{
    ByteBuf, ManifestId, NodeId,
    calls::{
        Bitfield, ChunkCall, GetChunk, GetManifest, GrantCall, ManifestCall, Piece, ReplicateCall, Replicated,
        WatchHave,
    },
    limits::COPIES,
    manifest::{Domain, GrantInfo, Subject, WrappedKey},
    rpc::{ErrorCode, RpcError},
    state::Rights,
};
use zero2ai_rpc::{IncomingCall, ReplySink};
use zero2ai_swarm::HaveStream;
use zeroize::Zeroizing;

use crate::{
    core::Core,
    jobs::fetch::Watch,
    serve::errors::{denied, internal, invalid, not_found, store_error, unavailable},
};

/// Bytes of a manifest that are read and sent at a time: a slow caller makes this node hold a queue of them, not all.
const MANIFEST_PIECE: usize = 256 * 1024;

/// A sealed manifest, piece by piece from the disk; whoever asked checks its hash.
pub(super) async fn manifest(core: &Core, call: ManifestCall, reply: &mut ReplySink) -> Result<(), RpcError> {
    let id = call.manifest;
    let store = core.store.clone();
    let note = move || {
        // Asked for: somebody fetches it. A disk that cannot note that can still give it.
        if let Err(error) = store.mark_used(&id) {
            tracing::debug!(%error, "a use was not noted");
        }
        Ok(())
    };
    core.blocking(note).await?;
    let mut offset = 0;
    loop {
        let store = core.store.clone();
        let read = move || store.manifest_piece(&id, offset, MANIFEST_PIECE).map_err(store_error);
        let piece = core.blocking(read).await?;
        let piece = piece.ok_or_else(|| not_found("that manifest is not on this node"))?;
        let len = piece.len();
        if len > 0 {
            reply.item::<GetManifest>(&Piece { data: ByteBuf::from(piece) }).await?;
        }
        if len < MANIFEST_PIECE {
            return Ok(());
        }
        offset += len as u64;
    }
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

/// Wraps a secret to the caller's registered sealing key, if the ledger lets the caller have it. Fails closed while the
/// chain is halted: a revocation may be waiting in it.
pub(super) fn grant(core: &Core, caller: &NodeId, call: GrantCall) -> Result<WrappedKey, RpcError> {
    if core.chain.watch().borrow().halted {
        return Err(unavailable("the chain is halted, and no key is granted on old rights: try again when it moves"));
    }
    let member = core.chain.read(|l| l.member(caller)).ok_or_else(|| denied("not admitted"))?;
    let secret = match call.subject {
        Subject::Manifest(manifest) => {
            may_open(core, caller, &manifest)?;
            let key = core.manifest_key(&manifest)?;
            let key = key.ok_or_else(|| not_found("this node has no key of that manifest"))?;
            Zeroizing::new(*key.as_bytes())
        }
        Subject::PoolContent if !member.rights.has(Rights::PUBLISHER) => {
            return Err(denied(
                "the pool's content secret is for its publishers: ask an administrator for 'publisher'",
            ));
        }
        Subject::PoolContent => {
            let secret = core.contents.pool();
            let secret = secret.ok_or_else(|| not_found("this node has never published in the pool's domain"))?;
            Zeroizing::new(*secret.as_bytes())
        }
    };
    let info = GrantInfo { pool: core.pool, subject: call.subject, grantee: *caller, epoch: core.pool_keys.epoch() };
    wrap_secret(&secret, &member.sealing_key, info).map_err(internal)
}

/// Asks the ledger. It names manifests by their versions, and which those are is known for what is held here.
fn may_open(core: &Core, caller: &NodeId, manifest: &ManifestId) -> Result<(), RpcError> {
    let held = core.held().into_iter().find(|h| h.manifest == *manifest);
    let held = held.ok_or_else(|| not_found("this node holds no version of that manifest"))?;
    let (name, version) = (&held.name, held.version);
    core.chain.read(|ledger| {
        let entry = ledger.version(name, version).filter(|v| v.manifest == *manifest);
        let entry = entry.ok_or_else(|| not_found("the ledger knows no version of that manifest"))?;
        if ledger.may_open(name, version, caller) {
            return Ok(());
        }
        let why = match entry.domain {
            _ if entry.withdrawn => "it was withdrawn".to_owned(),
            Domain::Private => format!("it is private: its publisher may 'zero2ai grant {name} {caller}'"),
            _ => "keys are for providers and validators only: ask an administrator".to_owned(),
        };
        Err(denied(format!("no key of {name}@{version} for {}: {why}", caller.short())))
    })
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

pub(super) async fn replicate(core: &Core, by_owner: bool, call: ReplicateCall) -> Result<Replicated, RpcError> {
    // One copy is no wish anybody could have who asks for another.
    if call.copies == 1 || call.copies > COPIES {
        return Err(invalid(format!("{} copies: 2 to {COPIES} can be wished for, or 0 for no wish", call.copies)));
    }
    let rights = core.chain.read(|l| l.member(&core.id)).map_or(Rights(0), |m| m.rights);
    if !rights.has(Rights::PROVIDER) {
        return Err(RpcError::new(ErrorCode::Denied, "this node is no provider of the pool"));
    }
    let (progress, _unheard) = tokio::sync::mpsc::channel(1);
    let brought = core.bring(&call.name, call.version, Some(call.from), Watch::steps(&progress), call.serve).await?;
    if call.copies > 0 {
        core.models.wish(&call.name, call.version, call.copies, by_owner)?;
    }
    if call.serve {
        core.serve_opened(&call.name, call.version, brought.opened).await?;
    }
    Ok(Replicated { bytes: brought.report.bytes, chunks: brought.report.chunks })
}
