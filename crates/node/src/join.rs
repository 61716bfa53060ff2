//! Joining a pool by an invite: prove the key, redeem the ticket, check that the genesis is the invite's pool, and only
//! then write the home.

use std::{path::Path, time::Duration};

use zero2ai_clock::now_ms;
use zero2ai_proto::{
    PoolId, SecretKey, Signed,
    calls::{Redeem as RedeemMethod, RedeemCall, Redeemed},
    limits::ADDRESSES,
    pool::{Bootstrap, Invite, InviteError, PoolKey},
    tx::{Redeem, Tx, TxBody},
};
use zero2ai_rpc::{CallError, Endpoint};

use crate::{
    error::NodeError,
    home::{Home, Identity, renew_key, write_bootstrap, write_pool},
};

/// How long a bootstrap node may take: it answers when the admission is final.
const ADMISSION: Duration = Duration::from_secs(40);

/// Joins `invite`'s pool with the identity of `path`, which is made if need be. A home that is in that pool already is
/// left as it is.
pub(crate) async fn join(path: &Path, invite: &Invite) -> Result<(), NodeError> {
    if Home::exists(path) {
        let home = Home::open(path)?;
        if home.pool != invite.pool {
            return Err(NodeError::OtherPool { have: home.pool, invited: invite.pool });
        }
        // A node that was away for longer than its key was good comes back so.
        if invite.key.epoch > home.pool_keys.epoch() {
            renew_key(path, &home.pool_keys, invite.key.clone(), now_ms())?;
            write_bootstrap(path, &home.genesis, &merged(home.bootstrap, &invite.bootstrap))?;
        }
        return Ok(());
    }
    let identity = Identity::open_or_create(path)?;
    let redeem = Redeem {
        ticket: invite.ticket.clone(),
        sealing_key: identity.sealing.public().map_err(|e| NodeError::Internal(e.to_string()))?,
    };
    let tx = Signed::sign(&Tx { nonce: 0, body: TxBody::Redeem(redeem) }, &invite.pool, &identity.key)?;
    let endpoint = dialler(&identity.key, invite.pool, &invite.key)?;
    let redeemed = redeem_anywhere(&endpoint, invite, tx).await;
    endpoint.close();
    let redeemed = redeemed?;
    if PoolId::of(&redeemed.genesis) != invite.pool {
        return Err(NodeError::Rpc(
            "the node that let us in sent the genesis of another pool than the invite's".into(),
        ));
    }
    write_pool(path, &redeemed.genesis, &invite.key, &invite.bootstrap)
}

/// Nodes to knock at: an invite's replace what was known of the same ones.
fn merged(known: Vec<Bootstrap>, told: &[Bootstrap]) -> Vec<Bootstrap> {
    let others = known.into_iter().filter(|b| told.iter().all(|new| new.node != b.node));
    told.iter().cloned().chain(others).take(ADDRESSES).collect()
}

/// An endpoint that only dials, for what is asked before the node has its own.
pub(crate) fn dialler(key: &SecretKey, pool: PoolId, pool_key: &PoolKey) -> Result<Endpoint, NodeError> {
    Endpoint::bind_to_dial(key, pool, &pool_key.clone().into()).map_err(|e| NodeError::Rpc(e.to_string()))
}

async fn redeem_anywhere(endpoint: &Endpoint, invite: &Invite, tx: Signed<Tx>) -> Result<Redeemed, NodeError> {
    let mut last = NodeError::Invite(InviteError::Content("it has no peer RPC address".to_owned()));
    for node in &invite.bootstrap {
        for address in node.addresses.iter().filter_map(zero2ai_proto::record::Address::rpc_socket) {
            let answer = match endpoint.connect(address, Some(node.node)).await {
                Ok(peer) => peer.call::<RedeemMethod>(&RedeemCall { tx: tx.clone() }, ADMISSION).await,
                Err(error) => Err(CallError::Connect(error)),
            };
            match answer {
                Ok(redeemed) => return Ok(redeemed),
                Err(error) => last = NodeError::Join { address, source: Box::new(error) },
            }
        }
    }
    Err(last)
}
