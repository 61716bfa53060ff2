//! The node's own account on the ledger: signs transactions one at a time, so that nonces follow each other.

use std::time::Duration;

use zero2ai_chain::ChainHandle;
use zero2ai_proto::{
    NodeId, PoolId, SecretKey, Signed,
    rpc::{ErrorCode, RpcError},
    tx::{Tx, TxBody},
};

use crate::serve::errors::{internal, submit_error};

/// How long a transaction is waited for before the caller is told that the chain does not move.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Account {
    key: SecretKey,
    pool: PoolId,
    chain: ChainHandle,
    turn: tokio::sync::Mutex<()>,
}

impl Account {
    pub(crate) fn new(key: SecretKey, pool: PoolId, chain: ChainHandle) -> Self {
        Self { key, pool, chain, turn: tokio::sync::Mutex::new(()) }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.key.public()
    }

    /// Signs `body` with the next nonce and waits until it is final. Returns the height.
    pub(crate) async fn submit(&self, body: TxBody, patience: Duration) -> Result<u64, RpcError> {
        // Held until the transaction is final: the ledger's nonce is then the next one again.
        let _turn = self.turn.lock().await;
        let me = self.id();
        let nonce = self.chain.read(|ledger| ledger.member(&me)).map(|m| m.nonce).ok_or_else(|| {
            RpcError::new(ErrorCode::Denied, "this node is not admitted to the pool on the ledger it knows")
        })?;
        let tx = Signed::sign(&Tx { nonce, body }, &self.pool, &self.key).map_err(internal)?;
        self.chain.submit_and_wait(tx, patience).await.map_err(submit_error)
    }
}
