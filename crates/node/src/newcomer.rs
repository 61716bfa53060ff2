//! A node without a ledger of its own asks the nodes it knows for a snapshot of theirs, before it opens its chain. What goes
//! wrong with them only costs time: the blocks are fetched instead.

use std::{path::Path, time::Duration};

use zero2ai_chain::snapshot;
use zero2ai_proto::{
    block::Header,
    calls::{Empty, GetSnapshot, Head},
    decode,
    limits::{SIGNED_BYTES, SNAPSHOT_BYTES},
    record::Address,
};
use zero2ai_rpc::{CallError, Peer};

use crate::{error::NodeError, home::Home, join::dialler};

/// Patience with a node's head.
const HEAD: Duration = Duration::from_secs(5);
/// How long a snapshot may take to come.
const SNAPSHOT: Duration = Duration::from_secs(600);
/// Bytes of it after which the log says how far it is.
const TELL: usize = 16 * 1024 * 1024;

/// Lets the chain of a home that has none begin with a snapshot, if a node that it knows has `least` blocks or more.
pub(crate) async fn begin(path: &Path, home: &Home, least: u64) -> Result<(), NodeError> {
    let chain = path.join("chain");
    if least == 0 || home.bootstrap.is_empty() || !snapshot::is_empty(&chain)? {
        return Ok(());
    }
    let endpoint = dialler(&home.key, home.pool, &home.pool_keys.current())?;
    for node in &home.bootstrap {
        for address in node.addresses.iter().filter_map(Address::rpc_socket) {
            let Ok(peer) = endpoint.connect(address, Some(node.node)).await else { continue };
            match fetch(&peer, &chain, home, least).await {
                Ok(()) => {
                    endpoint.close();
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(node = %node.node.short(), %error, "no snapshot of the ledger from this node")
                }
            }
        }
    }
    endpoint.close();
    tracing::info!("no snapshot of the ledger was to be had: its blocks are fetched instead");
    Ok(())
}

async fn fetch(peer: &Peer, chain: &Path, home: &Home, least: u64) -> Result<(), NodeError> {
    let failed = |source: CallError| NodeError::Rpc(format!("it did not come: {source}"));
    // Its word alone: if it is wrong, a snapshot is asked for in vain, or blocks are fetched.
    let head = peer.call::<Head>(&Empty {}, HEAD).await.map_err(failed)?;
    if decode::<Header>(&head.header, SIGNED_BYTES)?.height < least {
        return Ok(());
    }
    let mut pieces = peer.stream::<GetSnapshot>(&Empty {}, SNAPSHOT).await.map_err(failed)?;
    let (mut bytes, mut told) = (Vec::new(), 0);
    while let Some(piece) = pieces.next().await.transpose().map_err(failed)? {
        if bytes.len().saturating_add(piece.data.len()) > SNAPSHOT_BYTES {
            return Err(NodeError::Rpc(format!("it has more than {} MiB", SNAPSHOT_BYTES >> 20)));
        }
        bytes.extend_from_slice(&piece.data);
        if bytes.len() - told >= TELL {
            told = bytes.len();
            tracing::info!(mib = told >> 20, "the ledger's state is coming");
        }
    }
    let (chain, genesis, size) = (chain.to_owned(), home.genesis.clone(), bytes.len());
    let begun = tokio::task::spawn_blocking(move || snapshot::begin_with(&chain, &genesis, &bytes));
    let (height, entries) = begun.await.map_err(|e| NodeError::Internal(e.to_string()))??;
    tracing::info!(height, entries, bytes = size, "the ledger begins with a snapshot, proved from the genesis");
    Ok(())
}
