//! Answers calls of peer RPC: who may call what, and which room answers.
//!
//! | module | owns |
//! |---|---|
//! | [`ledger`] | admission, headers, blocks, proofs, transactions |
//! | [`names`] | resolving |
//! | [`chunks`] | manifests, chunks, key grants, replication |
//! | [`inference`] | predictions and generation, with receipts |
//! | [`local`] | what only the node's own identity may ask: the command line |
//! | [`models`] | of these, what concerns models in memory |
//! | [`store`] | of these, what concerns the node's own store |
//! | [`errors`] | how the parts' errors become answers |

pub(crate) mod errors;

mod chunks;
pub(crate) mod generate;
mod inference;
mod ledger;
mod local;
mod models;
mod names;
mod snapshot;
mod spent;
mod store;

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    ByteBuf, NodeId,
    calls::{
        AuditProofs, Blocks, Describe, Forward, Forwarded, Generate, GetChunk, GetManifest, GetPoolKey, GetSnapshot,
        Grant, Have, Head, Piece, Ping, Pong, Predict, Prepare, Prove, Receipts, Redeem, Replicate, Resolve,
        ShowSample, SubmitTx, TellOutcome, TrustSteps, WatchHave,
    },
    limits::{CHUNK_BYTES, CLOCK_SKEW_MS, REQUEST_HORIZON_MS},
    rpc::{ErrorCode, Load, Method, RpcError},
    state::Rights,
};
use zero2ai_rpc::{Handler, IncomingCall, ReplySink};

use crate::{core::Core, jobs::shown::Showing, serve::errors::denied};
use snapshot::Snapshots;
use spent::Spent;

/// First number of the methods that only the node's own identity may call.
const LOCAL: u16 = 100;

/// What a member may ask who proved a pool key past its grace: the newer one, and what proves it.
const RENEWS: [u16; 5] = [GetPoolKey::ID, Head::ID, Prove::ID, TrustSteps::ID, Ping::ID];

/// See the module.
pub(crate) struct Service {
    pub(crate) core: Arc<Core>,
    spent: Spent,
    /// One audit is gathered for others at a time: whoever comes meanwhile hears that it is busy.
    audits: Semaphore,
    showing: Showing,
    snapshots: Snapshots,
}

impl Service {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let spent = Spent::default();
        // Nothing answered longer ago has a deadline left.
        let since = now_ms().saturating_sub(2 * (REQUEST_HORIZON_MS + CLOCK_SKEW_MS));
        spent.remember(core.receipts.since(since).iter().map(|r| &r.request), now_ms());
        let (audits, showing, snapshots) = (Semaphore::new(1), Showing::default(), Snapshots::default());
        Self { core, spent, audits, showing, snapshots }
    }
}

impl Handler for Service {
    fn admitted(&self, node: &NodeId) -> bool {
        self.core.chain.read(|l| l.member(node)).is_some_and(|m| m.rights != Rights(0))
    }

    fn load(&self, method: u16) -> Option<Load> {
        let (queue, queue_us) = [Predict::ID, Generate::ID].contains(&method).then(|| self.core.models.load())?;
        Some(Load { queue, queue_us })
    }

    fn call<'a>(&'a self, call: IncomingCall, reply: ReplySink) -> BoxFuture<'a, Result<(), RpcError>> {
        Box::pin(self.answer(call, reply))
    }
}

impl Service {
    /// Checks the caller's rights, then hands the call to its room.
    async fn answer(&self, call: IncomingCall, mut reply: ReplySink) -> Result<(), RpcError> {
        let core = &self.core;
        if call.stale_key && !RENEWS.contains(&call.method) {
            return Err(denied(
                "the pool key that was proved is of an earlier epoch and its grace is over: ask for the newest one \
                 (GetPoolKey), and connect with that",
            ));
        }
        if call.method == Redeem::ID {
            return reply.item::<Redeem>(&ledger::redeem(core, &call).await?).await;
        }
        if call.method >= LOCAL {
            if call.peer != core.id {
                return Err(denied("only the node's own key may ask this: use the command line on its machine"));
            }
            return local::answer(core, &call, reply).await;
        }
        let rights = self.rights(&call)?;
        match call.method {
            Ping::ID => reply.item::<Ping>(&self.pong()).await,
            Resolve::ID => reply.item::<Resolve>(&names::resolve(core, call.request::<Resolve>()?).await?).await,
            Head::ID => reply.item::<Head>(&core.first_head().await?.0).await,
            Blocks::ID => ledger::blocks(core, call.request::<Blocks>()?, &mut reply).await,
            Prove::ID => reply.item::<Prove>(&ledger::prove(core, &call.request::<Prove>()?).await?).await,
            TrustSteps::ID => ledger::trust_steps(core, &mut reply).await,
            SubmitTx::ID => reply.item::<SubmitTx>(&ledger::submit(core, &call).await?).await,
            GetManifest::ID => chunks::manifest(core, call.request::<GetManifest>()?, &mut reply).await,
            Have::ID => reply.item::<Have>(&chunks::have(core, call.request::<Have>()?).await?).await,
            WatchHave::ID => chunks::watch_have(core, &call, &mut reply).await,
            GetChunk::ID => chunks::chunk(core, call.request::<GetChunk>()?, &mut reply).await,
            Grant::ID => reply.item::<Grant>(&chunks::grant(core, &call.peer, call.request::<Grant>()?)?).await,
            Replicate::ID => {
                let request = call.request::<Replicate>()?;
                // The caller's ledger may be a block ahead of ours: the version is waited for before rights are judged.
                core.version(&request.name, request.version).await?;
                let by_owner = core.chain.read(|l| l.model(&request.name)).is_some_and(|m| m.owner == call.peer);
                if by_owner {
                    need(rights, Rights::PUBLISHER, "publisher")?;
                } else {
                    chunks::may_repair(core, rights, &request)?;
                }
                reply.item::<Replicate>(&chunks::replicate(core, by_owner, request).await?).await
            }
            Predict::ID => {
                let request = call.request::<Predict>()?;
                reply.item::<Predict>(&inference::predict(core, &self.spent, request).await?).await
            }
            Describe::ID => {
                reply.item::<Describe>(&inference::describe(core, &call.request::<Describe>()?).await?).await
            }
            Prepare::ID => reply.item::<Prepare>(&inference::prepare(core, &call.request::<Prepare>()?).await?).await,
            Generate::ID => generate::generate(core, &self.spent, &call, &mut reply).await,
            AuditProofs::ID => {
                ledger::audit_proofs(core, &self.audits, call.request::<AuditProofs>()?, &mut reply).await
            }
            GetSnapshot::ID => self.snapshots.give(core, &mut reply).await,
            Forward::ID => {
                let node = call.request::<Forward>()?.node;
                let port = core.roads.forwards.open(call.peer, call.from.ip().to_canonical(), node).await?;
                reply.item::<Forward>(&Forwarded { port }).await
            }
            // Also while the chain is halted: it may be halted because signers lack the key.
            GetPoolKey::ID => reply.item::<GetPoolKey>(&core.pool_keys.current()).await,
            Receipts::ID => {
                let receipts = core.own_receipts(&call.peer, &call.request::<Receipts>()?).await?;
                reply.item::<Receipts>(&receipts).await
            }
            TellOutcome::ID => {
                let taken = core.take_sealed_outcome(&call.peer, call.request::<TellOutcome>()?).await?;
                reply.item::<TellOutcome>(&taken).await
            }
            ShowSample::ID => {
                let _one = self.showing.begin(call.peer)?;
                let shown = core.show_sample(&call.peer, call.request::<ShowSample>()?.leaf).await?;
                pieces::<ShowSample>(&mut reply, &shown).await
            }
            other => Err(RpcError::new(
                ErrorCode::Unsupported,
                format!("method {other} is not known to this node (version {})", env!("CARGO_PKG_VERSION")),
            )),
        }
    }

    /// The caller's rights on the ledger; an identity that is not admitted hears how to become so.
    fn rights(&self, call: &IncomingCall) -> Result<Rights, RpcError> {
        let rights = self.core.chain.read(|l| l.member(&call.peer)).map_or(Rights(0), |m| m.rights);
        if rights == Rights(0) {
            return Err(denied(
                "this identity is not admitted to the pool: redeem an invite's ticket first (zero2ai up --join INVITE)",
            ));
        }
        Ok(rights)
    }

    fn pong(&self) -> Pong {
        let (queue, queue_us) = self.core.models.load();
        let height = self.core.chain.read(zero2ai_ledger::Ledger::height);
        Pong { time_ms: now_ms(), height, queue, queue_us, version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

fn need(have: Rights, want: Rights, word: &str) -> Result<(), RpcError> {
    if have.has(want) { Ok(()) } else { Err(denied(format!("this needs the right '{word}': ask an administrator"))) }
}

/// Sends a long answer in pieces, one an item.
async fn pieces<M: Method<Reply = Piece>>(reply: &mut ReplySink, bytes: &[u8]) -> Result<(), RpcError> {
    for piece in bytes.chunks(CHUNK_BYTES) {
        reply.item::<M>(&Piece { data: ByteBuf::from(piece) }).await?;
    }
    Ok(())
}
