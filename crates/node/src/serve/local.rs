//! What only the node's own identity may ask: the command line's way in.

use tokio::sync::mpsc;
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    ByteBuf, ModelName, Signed,
    calls::Empty,
    encode,
    limits::{CHUNK_BYTES, SIGNERS},
    local::{
        AccountsUse, ActivityShow, Audit, ChangeRights, ChangeSigners, Fetch, FetchCall, FetchItem, FetchLive,
        FetchPicture, GrantModel, GrantModelReply, InviteCall, InviteLine, MakeInvite, ModelGrants, ModelPin,
        ModelUnload, ModelsShow, NameHistory, NamedModel, NamesCall, NamesList, NodeStatus, OpenFiles, OutcomeSend,
        OutcomesShow, PeerCall, PeerKnown, PeerReply, PoolReply, PoolShow, Progress, PublishItem, PublishPath,
        PublishReport, Rerun, RerunItem, RevokeItem, RevokeModel, RotatePoolKey, SignersCall, SignersReply, Stop,
        StoreRebuild, ValidateItem, ValidatePath,
    },
    pool::{Bootstrap, Invite, Nonce, Ticket},
    rpc::{ErrorCode, Method, RpcError},
    state::Model,
    tx::{SetRights, SetSigners, TxBody},
};
use zero2ai_rpc::{IncomingCall, ReplySink};

use crate::{
    account::PATIENCE,
    core::Core,
    jobs::{
        Tell, audit,
        fetch::{Brought, Watch},
    },
    serve::{
        errors::{denied, internal, invalid, not_found, unavailable},
        models, pieces, store,
    },
    status,
};

/// Words of progress on their way to the command line; when full, one is dropped.
const PROGRESS: usize = 32;
/// Pictures of a transfer on their way there; when full, one is dropped.
const PICTURES: usize = 4;

pub(super) async fn answer(core: &Core, call: &IncomingCall, mut reply: ReplySink) -> Result<(), RpcError> {
    match call.method {
        NodeStatus::ID => reply.item::<NodeStatus>(&status::status(core)).await,
        ActivityShow::ID => reply.item::<ActivityShow>(&status::activity(core)).await,
        PoolShow::ID => reply.item::<PoolShow>(&pool(core)?).await,
        MakeInvite::ID => reply.item::<MakeInvite>(&invite(core, call.request::<MakeInvite>()?)?).await,
        ChangeSigners::ID => reply.item::<ChangeSigners>(&signers(core, call.request::<ChangeSigners>()?).await?).await,
        ChangeRights::ID => {
            let c = call.request::<ChangeRights>()?;
            let body = SetRights { member: c.member, rights: c.rights };
            core.account.submit(TxBody::SetRights(body), PATIENCE).await?;
            reply.item::<ChangeRights>(&Empty {}).await
        }
        RotatePoolKey::ID => {
            let rotated = core.rotate_pool_key(call.request::<RotatePoolKey>()?).await?;
            reply.item::<RotatePoolKey>(&rotated).await
        }
        PublishPath::ID => {
            let request = call.request::<PublishPath>()?;
            let work = |tell: Tell| async move { core.publish(request, &tell).await };
            let report = with_progress::<PublishPath, _, _>(&mut reply, PublishItem::Step, work).await?;
            reply.item::<PublishPath>(&PublishItem::Done(report)).await
        }
        Fetch::ID => {
            let request = call.request::<Fetch>()?;
            let work = |tell: Tell| async move { fetch(core, request, Watch::steps(&tell)).await };
            let report = with_progress::<Fetch, _, _>(&mut reply, PublishItem::Step, work).await?;
            reply.item::<Fetch>(&PublishItem::Done(report)).await
        }
        FetchLive::ID => {
            let request = call.request::<FetchLive>()?;
            let report = fetch_live(core, request, &mut reply).await?;
            reply.item::<FetchLive>(&FetchItem::Done(report)).await
        }
        ValidatePath::ID => {
            let request = call.request::<ValidatePath>()?;
            let work = |tell: Tell| async move { core.validate(request, &tell).await };
            let (done, report) = with_progress::<ValidatePath, _, _>(&mut reply, ValidateItem::Step, work).await?;
            for piece in report.unwrap_or_default().chunks(CHUNK_BYTES) {
                reply.item::<ValidatePath>(&ValidateItem::Report(ByteBuf::from(piece))).await?;
            }
            reply.item::<ValidatePath>(&ValidateItem::Done(Box::new(done))).await
        }
        Audit::ID => {
            let export = core.audit(&call.request::<Audit>()?.name).await?;
            audit::self_check(&core.pool, &export)?;
            pieces::<Audit>(&mut reply, &encode(&export).map_err(internal)?).await
        }
        Rerun::ID => {
            let request = call.request::<Rerun>()?;
            let work = |tell: Tell| async move { core.rerun(request, &tell).await };
            let report = with_progress::<Rerun, _, _>(&mut reply, RerunItem::Step, work).await?;
            reply.item::<Rerun>(&RerunItem::Done(report)).await
        }
        OutcomeSend::ID => reply.item::<OutcomeSend>(&core.send_outcome(call.request::<OutcomeSend>()?).await?).await,
        OutcomesShow::ID => core.show_outcomes(call.request::<OutcomesShow>()?, &mut reply).await,
        OpenFiles::ID => core.give_files(call.request::<OpenFiles>()?, &mut reply).await,
        Stop::ID => {
            reply.item::<Stop>(&Empty {}).await?;
            core.stop.cancel();
            Ok(())
        }
        PeerKnown::ID => reply.item::<PeerKnown>(&peer(core, call.request::<PeerKnown>()?)).await,
        GrantModel::ID => {
            let height = core.grant_model(call.request::<GrantModel>()?).await?;
            reply.item::<GrantModel>(&GrantModelReply { height }).await
        }
        RevokeModel::ID => {
            let request = call.request::<RevokeModel>()?;
            let work = |tell: Tell| async move { core.revoke_model(request, &tell).await };
            let report = with_progress::<RevokeModel, _, _>(&mut reply, RevokeItem::Step, work).await?;
            reply.item::<RevokeModel>(&RevokeItem::Done(report)).await
        }
        ModelGrants::ID => {
            for grant in core.model_grants(&call.request::<ModelGrants>()?.name) {
                reply.item::<ModelGrants>(&grant).await?;
            }
            Ok(())
        }
        AccountsUse::ID => {
            for used in core.receipts.by_account() {
                reply.item::<AccountsUse>(&used).await?;
            }
            Ok(())
        }
        NamesList::ID => {
            for named in names(core, &call.request::<NamesList>()?)? {
                reply.item::<NamesList>(&named).await?;
            }
            Ok(())
        }
        NameHistory::ID => {
            let name = call.request::<NameHistory>()?.name;
            if core.chain.read(|l| l.model(&name)).is_none() {
                return Err(not_found(format!(
                    "there is no model {name} on the ledger: 'zero2ai names ls' lists them"
                )));
            }
            for event in core.chain.read(|l| l.events(&name)) {
                reply.item::<NameHistory>(&event).await?;
            }
            Ok(())
        }
        ModelsShow::ID | ModelPin::ID | ModelUnload::ID => models::answer(core, call, reply).await,
        // The numbers of the store's methods.
        110..=115 | StoreRebuild::ID => store::answer(core, call, reply).await,
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
    let epoch = core.pool_keys.epoch();
    core.chain.read(|l| {
        let (genesis, pool) = zero2ai_proto::pool::Genesis::read(l.genesis_bytes()).map_err(internal)?;
        let (height, signers, members) = (l.height(), l.signers_state().clone(), l.members().collect());
        Ok(PoolReply { pool, created_ms: genesis.created_ms, epoch, height, signers, members })
    })
}

fn names(core: &Core, call: &NamesCall) -> Result<Vec<NamedModel>, RpcError> {
    if !call.is_valid() {
        return Err(invalid("no name is as long as that"));
    }
    Ok(core.chain.read(|l| {
        let starts = |name: &ModelName| name.to_string().starts_with(&call.prefix);
        let models = l.models().filter(|(name, _)| starts(name));
        let entry = |(name, model): (ModelName, Model)| {
            let version = l.version(&name, model.latest)?;
            let round = core.open_round(l, &name, model.latest);
            Some(NamedModel { version, score: l.score(&name, model.latest), round, name, model })
        };
        models.filter_map(entry).collect()
    }))
}

fn peer(core: &Core, call: PeerCall) -> PeerReply {
    let node = &call.node;
    PeerReply {
        addresses: core.directory.addresses(node).unwrap_or_default(),
        heard_ms_ago: core.directory.heard_at(node).map(|at| now_ms().saturating_sub(at)),
        connected: core.net.path(node).is_some(),
        relayed: core.net.path(node) == Some(zero2ai_net::Path::Relayed),
    }
}

fn invite(core: &Core, call: InviteCall) -> Result<InviteLine, RpcError> {
    use zero2ai_proto::state::Rights;
    if !core.is_admin() {
        return Err(denied("only an administrator's node can invite"));
    }
    if call.uses == 0 || call.ttl_ms == 0 || call.rights == Rights(0) {
        return Err(invalid("an invite needs at least one use, some time, and some right"));
    }
    if core.newer_key().is_some() {
        return Err(unavailable("the pool has a newer key, which this node does not have yet: try again in a moment"));
    }
    let nonce = Nonce::generate().map_err(internal)?;
    let expires_ms = now_ms().saturating_add(call.ttl_ms);
    let ticket = Ticket { nonce, expires_ms, uses: call.uses, rights: call.rights };
    let ticket = Signed::sign(&ticket, &core.pool, &core.key).map_err(internal)?;
    // Who comes from outside a NAT reaches its relays first.
    let relay = |node| Some(Bootstrap { node, addresses: core.directory.addresses(&node)? });
    let own = Bootstrap { node: core.id, addresses: core.addresses.now() };
    let bootstrap = core.net.relays().into_iter().filter_map(relay).chain([own]).collect();
    let invite = Invite { version: 1, pool: core.pool, key: core.pool_keys.current(), ticket, bootstrap };
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

/// [`fetch`], with a picture of the transfer now and then. The caller going away stops it.
async fn fetch_live(core: &Core, call: FetchCall, reply: &mut ReplySink) -> Result<PublishReport, RpcError> {
    let (tell, mut heard) = mpsc::channel(PROGRESS);
    let (draw, mut drawn) = mpsc::channel::<FetchPicture>(PICTURES);
    let work = fetch(core, call, Watch { steps: &tell, pictures: Some(draw) });
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            Some(step) = heard.recv() => reply.item::<FetchLive>(&FetchItem::Step(step)).await?,
            Some(picture) = drawn.recv() => reply.item::<FetchLive>(&FetchItem::Picture(picture)).await?,
        }
    }
}

async fn fetch(core: &Core, call: FetchCall, watch: Watch<'_>) -> Result<PublishReport, RpcError> {
    let (name, version) = (call.name.name.clone(), core.pick_version(&call.name)?);
    let Brought { entry, report, opened } = core.bring(&name, version, None, watch, call.serve).await?;
    if call.serve {
        core.serve_opened(&name, version, opened).await?;
    }
    Ok(PublishReport {
        name,
        version,
        manifest: entry.manifest,
        bytes: entry.bytes,
        chunks: entry.chunks,
        reused: report.reused,
        opened: core.manifest_key(&entry.manifest)?.is_some(),
        holders: vec![core.id],
        height: entry.height,
        files: 0,
        not_served: None,
        deltas: 0,
        saved: 0,
        seal_ms: 0,
    })
}
