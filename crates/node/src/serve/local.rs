//! What only the node's own identity may ask: the command line's way in.

use tokio::sync::mpsc;
use zero2ai_proto::{
    ByteBuf, Signed,
    calls::{Empty, Piece},
    encode,
    limits::{CHUNK_BYTES, SIGNERS},
    local::{
        Audit, ChangeRights, ChangeSigners, Fetch, FetchCall, InviteCall, InviteLine, MakeInvite, NodeStatus, PeerCall,
        PeerKnown, PeerReply, PoolReply, PoolShow, Progress, PublishItem, PublishPath, PublishReport, SignersCall,
        SignersReply, Stop, ValidateItem, ValidatePath,
    },
    pool::{Bootstrap, Invite, Nonce, Ticket},
    rpc::{ErrorCode, Method, RpcError},
    tx::{SetRights, SetSigners, TxBody},
};
use zero2ai_rpc::{IncomingCall, ReplySink};

use crate::{
    account::PATIENCE,
    clock::now_ms,
    core::Core,
    jobs::{Tell, audit},
    serve::{
        errors::{denied, internal, invalid},
        store,
    },
    status,
};

/// Words of progress on their way to the command line; when full, one is dropped.
const PROGRESS: usize = 32;

pub(super) async fn answer(core: &Core, call: &IncomingCall, mut reply: ReplySink) -> Result<(), RpcError> {
    match call.method {
        NodeStatus::ID => reply.item::<NodeStatus>(&status::status(core)).await,
        PoolShow::ID => reply.item::<PoolShow>(&pool(core)?).await,
        MakeInvite::ID => reply.item::<MakeInvite>(&invite(core, call.request::<MakeInvite>()?)?).await,
        ChangeSigners::ID => reply.item::<ChangeSigners>(&signers(core, call.request::<ChangeSigners>()?).await?).await,
        ChangeRights::ID => {
            let c = call.request::<ChangeRights>()?;
            let body = SetRights { member: c.member, rights: c.rights };
            core.account.submit(TxBody::SetRights(body), PATIENCE).await?;
            reply.item::<ChangeRights>(&Empty {}).await
        }
        PublishPath::ID => {
            let request = call.request::<PublishPath>()?;
            let work = |tell: Tell| async move { core.publish(request, &tell).await };
            let report = with_progress::<PublishPath, _, _>(&mut reply, PublishItem::Step, work).await?;
            reply.item::<PublishPath>(&PublishItem::Done(report)).await
        }
        Fetch::ID => {
            let request = call.request::<Fetch>()?;
            let work = |tell: Tell| async move { fetch(core, request, &tell).await };
            let report = with_progress::<Fetch, _, _>(&mut reply, PublishItem::Step, work).await?;
            reply.item::<Fetch>(&PublishItem::Done(report)).await
        }
        ValidatePath::ID => {
            let request = call.request::<ValidatePath>()?;
            let work = |tell: Tell| async move { core.validate(request, &tell).await };
            let report = with_progress::<ValidatePath, _, _>(&mut reply, ValidateItem::Step, work).await?;
            reply.item::<ValidatePath>(&ValidateItem::Done(Box::new(report))).await
        }
        Audit::ID => {
            let export = core.audit(&call.request::<Audit>()?.name).await?;
            audit::self_check(&core.pool, &export)?;
            for piece in encode(&export).map_err(internal)?.chunks(CHUNK_BYTES) {
                reply.item::<Audit>(&Piece { data: ByteBuf::from(piece) }).await?;
            }
            Ok(())
        }
        Stop::ID => {
            reply.item::<Stop>(&Empty {}).await?;
            core.stop.cancel();
            Ok(())
        }
        PeerKnown::ID => reply.item::<PeerKnown>(&peer(core, call.request::<PeerKnown>()?)).await,
        // The numbers of the store's methods.
        110..=115 | 118 => store::answer(core, call, reply).await,
        other => Err(RpcError::new(ErrorCode::Unsupported, format!("method {other} is not known to this node"))),
    }
}

/// Runs `work` and passes its progress on, until it is done. The caller going away stops it.
pub(super) async fn with_progress<M, T, F>(
    reply: &mut ReplySink,
    step: fn(Progress) -> M::Reply,
    work: impl FnOnce(Tell) -> F,
) -> Result<T, RpcError>
where
    M: Method,
    F: Future<Output = Result<T, RpcError>>,
{
    let (tell, mut heard) = mpsc::channel(PROGRESS);
    let work = work(tell);
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            Some(progress) = heard.recv() => reply.item::<M>(&step(progress)).await?,
        }
    }
}

fn pool(core: &Core) -> Result<PoolReply, RpcError> {
    let epoch = core.pool_key.epoch;
    core.chain.read(|l| {
        let (genesis, pool) = zero2ai_proto::pool::Genesis::read(l.genesis_bytes()).map_err(internal)?;
        let (height, signers, members) = (l.height(), l.signers_state().clone(), l.members().collect());
        Ok(PoolReply { pool, created_ms: genesis.created_ms, epoch, height, signers, members })
    })
}

fn peer(core: &Core, call: PeerCall) -> PeerReply {
    let node = &call.node;
    PeerReply {
        addresses: core.directory.addresses(node).unwrap_or_default(),
        heard_ms_ago: core.directory.heard_at(node).map(|at| now_ms().saturating_sub(at)),
        connected: core.net.peers().contains(node),
    }
}

fn invite(core: &Core, call: InviteCall) -> Result<InviteLine, RpcError> {
    use zero2ai_proto::state::Rights;
    let rights = core.chain.read(|l| l.member(&core.id)).map_or(Rights(0), |m| m.rights);
    if !rights.has(Rights::ADMIN) {
        return Err(denied("only an administrator's node can invite"));
    }
    if call.uses == 0 || call.ttl_ms == 0 || call.rights == Rights(0) {
        return Err(invalid("an invite needs at least one use, some time, and some right"));
    }
    let nonce = Nonce::generate().map_err(internal)?;
    let expires_ms = now_ms().saturating_add(call.ttl_ms);
    let ticket = Ticket { nonce, expires_ms, uses: call.uses, rights: call.rights };
    let ticket = Signed::sign(&ticket, &core.pool, &core.key).map_err(internal)?;
    let bootstrap = vec![Bootstrap { node: core.id, addresses: core.addresses.clone() }];
    let invite = Invite { version: 1, pool: core.pool, key: core.pool_key.clone(), ticket, bootstrap };
    Ok(InviteLine { line: invite.to_line().map_err(internal)? })
}

async fn signers(core: &Core, call: SignersCall) -> Result<SignersReply, RpcError> {
    if call.signers.is_empty() || call.signers.len() > SIGNERS {
        return Err(invalid(format!("{} signers; 1 to {SIGNERS} are allowed", call.signers.len())));
    }
    let body = SetSigners { signers: call.signers, force: call.force };
    let height = core.account.submit(TxBody::SetSigners(body), PATIENCE).await?;
    Ok(SignersReply { height, effective: height.saturating_add(2) })
}

async fn fetch(core: &Core, call: FetchCall, progress: &Tell) -> Result<PublishReport, RpcError> {
    let (name, version) = (call.name.name.clone(), core.pick_version(&call.name)?);
    let (entry, report) = core.fetch(&name, version, None, progress).await?;
    if call.serve {
        core.serve_model(&name, version).await?;
    }
    Ok(PublishReport {
        name,
        version,
        manifest: entry.manifest,
        bytes: entry.bytes,
        chunks: entry.chunks,
        reused: report.reused,
        holders: vec![core.id],
        height: entry.height,
    })
}
