//! The ledger's state for nodes that are new. Copying it keeps the ledger busy, so one copy serves all who come for a while.

use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore};
use zero2ai_proto::{
    calls::GetSnapshot,
    encode,
    limits::SNAPSHOT_BYTES,
    rpc::{ErrorCode, RpcError},
};
use zero2ai_rpc::ReplySink;

use super::{errors::internal, pieces};
use crate::core::Core;

/// Newcomers that are given a copy at once; more hear that it is busy.
const PLACES: usize = 4;
/// Blocks after which a copy is made anew: who begins with an older one fetches as many blocks.
const AGE: u64 = 256;

/// See the module.
pub(super) struct Snapshots {
    places: Semaphore,
    /// The newest copy, encoded, and its height.
    copy: Mutex<Option<(u64, Arc<Vec<u8>>)>>,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { places: Semaphore::new(PLACES), copy: Mutex::default() }
    }
}

impl Snapshots {
    pub(super) async fn give(&self, core: &Core, reply: &mut ReplySink) -> Result<(), RpcError> {
        let busy = |_| RpcError::new(ErrorCode::Busy, "others are being given snapshots here: try again in a while");
        let _place = self.places.try_acquire().map_err(busy)?;
        pieces::<GetSnapshot>(reply, &self.copy(core).await?).await
    }

    async fn copy(&self, core: &Core) -> Result<Arc<Vec<u8>>, RpcError> {
        let head = core.chain.read(|l| l.height());
        let mut copy = self.copy.lock().await;
        if let Some((height, bytes)) = copy.as_ref()
            && head.saturating_sub(*height) <= AGE
        {
            return Ok(Arc::clone(bytes));
        }
        let none = || RpcError::new(ErrorCode::NotFound, "this ledger is too young for a snapshot: fetch its blocks");
        let snapshot = core.chain.snapshot().await.map_err(internal)?.ok_or_else(none)?;
        let height = snapshot.header.certificate.height;
        let encoded = tokio::task::spawn_blocking(move || encode(&snapshot)).await.map_err(internal)?;
        let bytes = Arc::new(encoded.map_err(internal)?);
        if bytes.len() > SNAPSHOT_BYTES {
            return Err(internal("this ledger's state is too large for a snapshot: fetch its blocks"));
        }
        *copy = Some((height, Arc::clone(&bytes)));
        Ok(bytes)
    }
}
