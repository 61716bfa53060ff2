//! Rebuilding: the index from the chunk files. A running node does it itself, while nobody brings or deletes chunks; without
//! one the command opens the store, which locks the home, so that no node can start meanwhile.

use std::path::Path;

use zero2ai_proto::{
    local::RebuildReport,
    rpc::{ErrorCode, RpcError},
};
use zero2ai_store::{Store, StoreConfig, StoreError};

use crate::{
    core::Core,
    error::NodeError,
    jobs::{Tell, tell},
    serve::errors::store_error,
};

fn rebuild(store: &Store, progress: impl FnMut(u64, u64)) -> Result<RebuildReport, StoreError> {
    let done = store.rebuild(progress)?;
    let zero2ai_store::Rebuilt { chunks, bytes, added, removed, corrected } = done;
    Ok(RebuildReport { chunks, bytes, added, removed, corrected })
}

/// Rebuilds the index of a home that no node runs on. `progress` hears how many of how many folders are done.
///
/// # Errors
/// [`NodeError::HomeInUse`] if a node does run there; [`NodeError::Home`] if there is no store; [`NodeError::Storage`].
pub fn rebuild_store(home: &Path, progress: impl FnMut(u64, u64)) -> Result<RebuildReport, NodeError> {
    let dir = home.join("store");
    if !dir.is_dir() {
        let why = "it holds no store: start a node on it first with 'zero2ai up'".to_owned();
        return Err(NodeError::Home { path: home.to_owned(), why });
    }
    let store = Store::open(&dir, StoreConfig::default()).map_err(|e| match e {
        StoreError::InUse { .. } => NodeError::HomeInUse { path: home.to_owned() },
        other => other.into(),
    })?;
    Ok(rebuild(&store, progress)?)
}

impl Core {
    /// See the module. Says so at once if a publication, fetch or validation is under way.
    pub(crate) async fn rebuild_index(&self, progress: &Tell) -> Result<RebuildReport, RpcError> {
        let busy = "a model is being published, fetched, loaded, validated or verified on this node, which writes the \
                    index itself: try again when that is done";
        let alone = self.upkeep.try_sweep().ok_or_else(|| RpcError::new(ErrorCode::Busy, busy))?;
        let (store, progress) = (self.store.clone(), progress.clone());
        self.blocking(move || {
            // Inside, since the caller may go away while this runs on.
            let _alone = alone;
            rebuild(&store, |done, total| tell(&progress, "folders of chunks read", done, total)).map_err(store_error)
        })
        .await
    }
}
