//! What the rooms of a running node share: handles, and the node's own identity. No logic lives here.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use zero2ai_chain::ChainHandle;
use zero2ai_chunk::SealingSecret;
use zero2ai_clock::now_ms;
use zero2ai_engine::WorkerConfig;
use zero2ai_names::Names;
use zero2ai_net::NetHandle;
use zero2ai_proto::{NodeId, PoolId, SecretKey, pool::Keyring, proof::SignedHeader, rpc::RpcError};
use zero2ai_store::Store;
use zero2ai_swarm::{Board, Traffic};

use crate::{
    account::Account,
    addresses::Addresses,
    config::OfferSettings,
    content::Contents,
    directory::Directory,
    glue::Roads,
    jobs::{demand::Wishes, fetch::Turns, outcomes::Outcomes, store::Upkeep},
    models::Models,
    receipts::Receipts,
    serve::errors::unavailable,
};

/// See [`Core::first_head`].
const FIRST_BLOCK: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Core {
    pub(crate) home: PathBuf,
    pub(crate) id: NodeId,
    pub(crate) key: SecretKey,
    pub(crate) pool: PoolId,
    pub(crate) pool_keys: Keyring,
    pub(crate) sealing: SealingSecret,
    pub(crate) contents: Contents,
    pub(crate) addresses: Addresses,
    pub(crate) store: Store,
    pub(crate) board: Board,
    pub(crate) traffic: Traffic,
    pub(crate) turns: Turns,
    pub(crate) chain: ChainHandle,
    pub(crate) net: NetHandle,
    pub(crate) names: Names,
    pub(crate) roads: Roads,
    pub(crate) directory: Arc<Directory>,
    pub(crate) account: Account,
    pub(crate) models: Models,
    pub(crate) wishes: Wishes,
    pub(crate) upkeep: Upkeep,
    pub(crate) receipts: Receipts,
    pub(crate) outcomes: Outcomes,
    /// What endpoint records say beside where this node is.
    pub(crate) offer: OfferSettings,
    pub(crate) worker: WorkerConfig,
    pub(crate) stop: CancellationToken,
    /// When this node started.
    pub(crate) began: Instant,
}

impl Core {
    /// The newest final header. Proofs stand under it for the state after the block before.
    pub(crate) fn head(&self) -> Result<(SignedHeader, u64), RpcError> {
        let header = self.chain.head().ok_or_else(|| {
            unavailable("the chain has no block yet, so nothing can be proved: try again in a moment")
        })?;
        let height = header.certificate.height;
        Ok((header, height))
    }

    /// [`Core::head`], once there is one: a node that has just begun, with a snapshot too, can prove nothing until the next block
    /// has reached it, which takes a moment. Waits ten seconds at most.
    pub(crate) async fn first_head(&self) -> Result<(SignedHeader, u64), RpcError> {
        let mut changes = self.chain.watch();
        let come = async { while self.chain.head().is_none() && changes.changed().await.is_ok() {} };
        let _ = timeout(FIRST_BLOCK, come).await;
        self.head()
    }

    /// Members that are probably up, this node left out.
    pub(crate) fn others(&self) -> Vec<NodeId> {
        let mut list = self.directory.present(now_ms());
        list.retain(|n| *n != self.id);
        list
    }
}
