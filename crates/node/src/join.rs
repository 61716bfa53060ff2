//! Joining a pool by an invite: prove the key, redeem the ticket, check that the genesis is the invite's pool, and only
//! then write the home. A long ledger is begun with a snapshot of its state.

use std::{net::SocketAddr, path::Path, time::Duration};

use zero2ai_proto::{
    PoolId, Signed,
    calls::{Empty, GetSnapshot, Redeem as RedeemMethod, RedeemCall, Redeemed},
    limits::SNAPSHOT_BYTES,
    pool::{Invite, InviteError},
    tx::{Redeem, Tx, TxBody},
};
use zero2ai_rpc::{CallError, Endpoint, EndpointConfig, Peer};

use crate::{
    error::NodeError,
    home::{Home, Identity, write_pool},
};

/// How long a bootstrap node may take: it answers when the admission is final.
const ADMISSION: Duration = Duration::from_secs(40);

/// How long a snapshot of the ledger may take to come.
const SNAPSHOT: Duration = Duration::from_secs(600);
/// Bytes of it after which the log says how far it is.
const TELL: usize = 16 * 1024 * 1024;

/// Joins `invite`'s pool with the identity of `path`, which is made if need be. A home that is in that pool already is
/// left as it is. A ledger of at least `snapshot_blocks` is begun with a snapshot, if that is not 0.
pub(crate) async fn join(path: &Path, invite: &Invite, snapshot_blocks: u64) -> Result<(), NodeError> {
    if Home::exists(path) {
        let have = Home::open(path)?.pool;
        return if have == invite.pool { Ok(()) } else { Err(NodeError::OtherPool { have, invited: invite.pool }) };
    }
    let identity = Identity::open_or_create(path)?;
    let redeem = Redeem {
        ticket: invite.ticket.clone(),
        sealing_key: identity.sealing.public().map_err(|e| NodeError::Internal(e.to_string()))?,
    };
    let tx = Signed::sign(&Tx { nonce: 0, body: TxBody::Redeem(redeem) }, &invite.pool, &identity.key)?;
    let endpoint = Endpoint::bind(EndpointConfig {
        bind: SocketAddr::from(([0, 0, 0, 0], 0)),
        key: identity.key.clone(),
        pool: invite.pool,
        pool_key: invite.key.clone(),
    })
    .map_err(|e| NodeError::Rpc(e.to_string()))?;
    let joined = enter(path, &endpoint, invite, tx, snapshot_blocks).await;
    endpoint.close();
    joined
}

async fn enter(
    path: &Path,
    endpoint: &Endpoint,
    invite: &Invite,
    tx: Signed<Tx>,
    snapshot_blocks: u64,
) -> Result<(), NodeError> {
    let (peer, redeemed) = redeem_anywhere(endpoint, invite, tx).await?;
    if PoolId::of(&redeemed.genesis) != invite.pool {
        return Err(NodeError::Rpc(
            "the node that let us in sent the genesis of another pool than the invite's".into(),
        ));
    }
    write_pool(path, &redeemed.genesis, &invite.key, &invite.bootstrap)?;
    if (1..=redeemed.height).contains(&snapshot_blocks)
        && let Err(error) = begin_with_snapshot(path, &peer, redeemed.genesis.into_vec()).await
    {
        tracing::warn!(%error, "the ledger's state cannot be had as a snapshot: every block is fetched instead");
    }
    Ok(())
}

/// Fetches the ledger's state from `peer`, checks it and stores it, so that the chain begins there.
async fn begin_with_snapshot(path: &Path, peer: &Peer, genesis: Vec<u8>) -> Result<(), NodeError> {
    let failed = |source: CallError| NodeError::Rpc(format!("the snapshot did not come: {source}"));
    let mut pieces = peer.stream::<GetSnapshot>(&Empty {}, SNAPSHOT).await.map_err(failed)?;
    let (mut bytes, mut told) = (Vec::new(), 0);
    while let Some(piece) = pieces.next().await.transpose().map_err(failed)? {
        if bytes.len().saturating_add(piece.data.len()) > SNAPSHOT_BYTES {
            return Err(NodeError::Rpc(format!("the snapshot has more than {} MiB", SNAPSHOT_BYTES >> 20)));
        }
        bytes.extend_from_slice(&piece.data);
        if bytes.len() - told >= TELL {
            told = bytes.len();
            tracing::info!(mib = told >> 20, "the ledger's state is coming");
        }
    }
    let (chain, size) = (path.join("chain"), bytes.len());
    let begun = tokio::task::spawn_blocking(move || zero2ai_chain::snapshot::begin_with(&chain, &genesis, &bytes));
    let (height, entries) = begun.await.map_err(|e| NodeError::Internal(e.to_string()))??;
    tracing::info!(height, entries, bytes = size, "the ledger begins with a snapshot, proved from the genesis");
    Ok(())
}

async fn redeem_anywhere(endpoint: &Endpoint, invite: &Invite, tx: Signed<Tx>) -> Result<(Peer, Redeemed), NodeError> {
    let mut last = NodeError::Invite(InviteError::Content("it has no peer RPC address".to_owned()));
    for node in &invite.bootstrap {
        for address in node.addresses.iter().filter_map(zero2ai_proto::record::Address::rpc_socket) {
            let answer = match endpoint.connect(address, Some(node.node)).await {
                Ok(peer) => {
                    let redeemed = peer.call::<RedeemMethod>(&RedeemCall { tx: tx.clone() }, ADMISSION).await;
                    redeemed.map(|redeemed| (peer, redeemed))
                }
                Err(error) => Err(CallError::Connect(error)),
            };
            match answer {
                Ok(entered) => return Ok(entered),
                Err(error) => last = NodeError::Join { address, source: Box::new(error) },
            }
        }
    }
    Err(last)
}
