//! Admission, headers, blocks, proofs and transactions.

use tokio::sync::Semaphore;
use zero2ai_proto::{
    ByteBuf, Signed,
    calls::{
        AuditProofs, AuditProofsCall, Blocks, BlocksCall, ProveCall, Proved, Redeem, Redeemed, SubmitCall, SubmitTx,
        Submitted, TrustSteps,
    },
    encode,
    limits::{BLOCKS, RECEIPTS},
    rpc::{ErrorCode, RpcError},
    tx::{Tx, TxBody},
};
use zero2ai_rpc::{IncomingCall, ReplySink};

use crate::{
    account::PATIENCE,
    core::Core,
    jobs::audit,
    serve::{
        errors::{denied, internal, invalid, submit_error},
        pieces,
    },
};

/// Admits the caller: the only call open to strangers who hold the pool key.
pub(super) async fn redeem(core: &Core, call: &IncomingCall) -> Result<Redeemed, RpcError> {
    let tx = call.request::<Redeem>()?.tx;
    let body = tx.verify(&core.pool).map_err(invalid)?;
    if tx.signer() != call.peer || !matches!(body.body, TxBody::Redeem(_)) {
        return Err(denied("a ticket is redeemed by the identity that is to be admitted, over its own connection"));
    }
    let admitted = core.chain.read(|l| l.member(&call.peer)).filter(|m| m.rights.0 != 0);
    let height = match admitted {
        Some(member) => member.admitted,
        None => core.chain.submit_and_wait(tx, PATIENCE).await.map_err(submit_error)?,
    };
    let genesis = core.chain.read(|l| l.genesis_bytes().to_vec());
    Ok(Redeemed { genesis: ByteBuf::from(genesis), height })
}

/// One block after the other from the disk: a caller who reads slowly makes this node hold a few of them, not all.
pub(super) async fn blocks(core: &Core, call: BlocksCall, reply: &mut ReplySink) -> Result<(), RpcError> {
    let (from, count) = (call.from.max(1), u64::from(call.max).min(BLOCKS as u64));
    for height in from..from.saturating_add(count) {
        let Some(block) = core.chain.blocks(height, 1).await.map_err(internal)?.pop() else { break };
        reply.item::<Blocks>(&block).await?;
    }
    Ok(())
}

pub(super) async fn prove(core: &Core, call: &ProveCall) -> Result<Proved, RpcError> {
    if call.keys.len() > RECEIPTS {
        return Err(invalid(format!("{} keys; at most {RECEIPTS} at once", call.keys.len())));
    }
    let (header, height) = core.first_head().await?;
    let proofs = call.keys.iter().map(|k| audit::prove(core, height, k)).collect::<Result<_, _>>()?;
    Ok(Proved { header, proofs })
}

/// What the ledger proves of a model. A long history takes many proofs: `turn` has a place for one caller at a time.
pub(super) async fn audit_proofs(
    core: &Core,
    turn: &Semaphore,
    call: AuditProofsCall,
    reply: &mut ReplySink,
) -> Result<(), RpcError> {
    core.first_head().await?;
    let busy = |_| RpcError::new(ErrorCode::Busy, "another audit is being gathered here: try again in a moment");
    let gathered = {
        let _turn = turn.try_acquire().map_err(busy)?;
        encode(&core.proven_audit(&call.name)?).map_err(internal)?
    };
    pieces::<AuditProofs>(reply, &gathered).await
}

pub(super) async fn trust_steps(core: &Core, reply: &mut ReplySink) -> Result<(), RpcError> {
    for step in core.chain.trust_steps() {
        reply.item::<TrustSteps>(&step).await?;
    }
    Ok(())
}

pub(super) async fn submit(core: &Core, call: &IncomingCall) -> Result<Submitted, RpcError> {
    let SubmitCall { tx, wait } = call.request::<SubmitTx>()?;
    submit_tx(core, tx, wait, call.timeout.unwrap_or(PATIENCE).min(PATIENCE)).await
}

async fn submit_tx(
    core: &Core,
    tx: Signed<Tx>,
    wait: bool,
    patience: std::time::Duration,
) -> Result<Submitted, RpcError> {
    let id = tx.tx_id().map_err(internal)?;
    let height = if wait {
        Some(core.chain.submit_and_wait(tx, patience).await.map_err(submit_error)?)
    } else {
        core.chain.submit(tx).await.map_err(submit_error)?;
        None
    };
    Ok(Submitted { id, height })
}
