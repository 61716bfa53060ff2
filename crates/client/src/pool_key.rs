//! The newest pool key: asked for where a node shows that there is one, and checked against the ledger before it is used.

use zero2ai_proto::{
    calls::{Empty, GetPoolKey},
    pool::PoolKey,
    state::{PoolEpoch, key},
};
use zero2ai_rpc::Peer;

use crate::{client::Client, error::ClientError, trust::QUICK};

impl Client {
    /// The pool key as this client knows it: newer than the one it was made with, if the pool has rotated its key since. Who
    /// keeps a membership keeps this.
    #[must_use]
    pub fn pool_key(&self) -> PoolKey {
        self.inner.keys.current()
    }

    /// Looks on the ledger whether the pool has a newer key, and if so fetches and checks it. Clients do this by themselves when
    /// a node they dial has a newer one. True if the key is another one now.
    ///
    /// # Errors
    /// Nothing can be proved, as for [`Client::entry`]; the account is not admitted any more; or the node gave another key than
    /// the ledger's.
    pub async fn renew_key(&self) -> Result<bool, ClientError> {
        let newest: Option<PoolEpoch> = self.entry(key::POOL_EPOCH).await?;
        let Some(newest) = newest.filter(|newest| newest.epoch > self.inner.keys.epoch()) else { return Ok(false) };
        let (key, node) = self.ask::<GetPoolKey>(&Empty {}, QUICK).await?;
        // Between both calls there may have been yet another rotation: the next look finds that.
        if key.epoch != newest.epoch || key.id() != newest.id {
            return Err(ClientError::untrue(&node, "it gave another pool key than the ledger's"));
        }
        Ok(self.inner.keys.renew(key, newest.grace_until_ms))
    }

    /// True if `peer` had a newer key than ours when it was dialled.
    pub(crate) fn is_behind(&self, peer: &Peer) -> bool {
        peer.key_epoch() > self.inner.keys.epoch()
    }

    /// [`Self::renew_key`], unless that is under way: true if the key is another one now. A peer may only say that there is a
    /// newer key; then this costs a question, and the older key goes on.
    pub(crate) async fn catch_up(&self) -> bool {
        let Ok(_turn) = self.inner.renewing.try_lock() else { return false };
        if self.trusted_chain().is_none() {
            return false;
        }
        match self.renew_key().await {
            Ok(renewed) => renewed,
            Err(error) => {
                tracing::debug!(%error, "the pool's newer key was not to be had");
                false
            }
        }
    }
}
