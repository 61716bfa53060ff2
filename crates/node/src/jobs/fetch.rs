//! Gets a version onto this node: its sealed manifest and chunks from any peers, then its key from one that may grant it.

use std::{sync::Arc, time::Duration};

use zero2ai_proto::{
    ModelName, NodeId,
    rpc::{ErrorCode, RpcError},
    state::{Rights, Version},
};
use zero2ai_swarm::{FetchOptions, FetchReport};

use crate::{
    core::Core,
    glue::RpcSource,
    jobs::{Tell, tell},
    models::Held,
    serve::errors::{not_found, unavailable},
};

/// How long a version that a peer speaks of may take to show up in our copy of the ledger.
const LEDGER_LAG: Duration = Duration::from_secs(10);
/// Peers asked for chunks at most.
const PEERS: usize = 64;

impl Core {
    /// The ledger's entry of a version; waits a little, since a peer may be a block ahead of us.
    pub(crate) async fn version(&self, name: &ModelName, version: u32) -> Result<Version, RpcError> {
        let mut news = self.chain.watch();
        let found = tokio::time::timeout(LEDGER_LAG, async {
            loop {
                if let Some(entry) = self.chain.read(|l| l.version(name, version)) {
                    return Some(entry);
                }
                if news.changed().await.is_err() {
                    return None;
                }
            }
        });
        found.await.ok().flatten().ok_or_else(|| not_found(format!("the ledger knows no {name}@{version}")))
    }

    /// Fetches every chunk of a version, and its key if the ledger lets this node open it. Whole already: returns at once.
    pub(crate) async fn fetch(
        &self,
        name: &ModelName,
        version: u32,
        hint: Option<NodeId>,
        progress: &Tell,
    ) -> Result<(Version, FetchReport), RpcError> {
        let entry = self.version(name, version).await?;
        if entry.withdrawn {
            return Err(not_found(format!("{name}@{version} was withdrawn by its owner")));
        }
        self.room_to_fetch(&entry).await?;
        let _using = self.upkeep.using().await;
        let mut peers: Vec<NodeId> = hint.into_iter().filter(|n| *n != self.id).collect();
        // The publisher first, then those who may hold models at all, the newest heard of before the others.
        let mut others = self.others();
        if others.is_empty() {
            others = self.directory.known();
            others.retain(|n| *n != self.id);
        }
        let may_hold = |n: &NodeId| {
            self.chain
                .read(|l| l.member(n))
                .is_some_and(|m| m.rights.has(Rights::PROVIDER) || m.rights.has(Rights::VALIDATOR))
        };
        let publisher = others.iter().copied().filter(|n| *n == entry.publisher);
        for node in publisher.chain(others.iter().copied().filter(may_hold)) {
            if peers.len() < PEERS && !peers.contains(&node) {
                peers.push(node);
            }
        }
        let to = progress.clone();
        let watch = move |p: zero2ai_swarm::Progress| tell(&to, "bytes fetched", p.bytes, p.total_bytes);
        let source = Arc::new(RpcSource(self.roads.clone()));
        let options = FetchOptions::default();
        let report = zero2ai_swarm::fetch(
            &self.store,
            source,
            entry.manifest,
            peers.clone(),
            options,
            watch,
            self.stop.child_token(),
        )
        .await
        .map_err(|e| unavailable(format!("{name}@{version} could not be fetched: {e}")))?;
        match self.obtain_key(entry.manifest, &peers).await {
            // Ciphertext alone is worth holding: others fetch it from here.
            Err(error) if error.code == ErrorCode::Denied => tracing::info!(%name, version, %error, "held sealed"),
            obtained => obtained?,
        }
        let held = Held { name: name.clone(), version, manifest: entry.manifest, serve: false };
        self.models.hold(held)?;
        Ok((entry, report))
    }
}
