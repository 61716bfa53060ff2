//! Gets a version onto this node: its sealed manifest and chunks from any peers, then its key from one that may grant it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedMutexGuard, watch};
use zero2ai_chunk::planner::Order;
use zero2ai_proto::{
    ManifestId, ModelName, NodeId,
    rpc::{ErrorCode, RpcError},
    state::{Rights, Version},
};
use zero2ai_swarm::{Fetch, FetchError, FetchOptions, FetchReport, Progress};

use crate::{
    core::Core,
    glue::RpcSource,
    jobs::{
        Tell,
        open::Opened,
        picture::{Painter, Pictures},
        tell,
    },
    models::Held,
    serve::errors::{not_found, unavailable},
};

/// How long a version that a peer speaks of may take to show up in our copy of the ledger.
const LEDGER_LAG: Duration = Duration::from_secs(10);
/// Peers asked for chunks at most.
const PEERS: usize = 64;

/// Who hears how a fetch goes.
pub(crate) struct Watch<'a> {
    pub(crate) steps: &'a Tell,
    pub(crate) pictures: Option<Pictures>,
}

impl<'a> Watch<'a> {
    /// Words only.
    pub(crate) fn steps(steps: &'a Tell) -> Self {
        Self { steps, pictures: None }
    }
}

/// What a fetch brought.
pub(crate) struct Brought {
    pub(crate) entry: Version,
    pub(crate) report: FetchReport,
    /// Its files, if they were to be opened and could be.
    pub(crate) opened: Option<Opened>,
}

/// One transfer of a manifest at a time: two would fetch every chunk twice. As many entries as transfers are open.
#[derive(Default)]
pub(crate) struct Turns(Mutex<BTreeMap<ManifestId, Turn>>);

struct Turn {
    /// What is brought. Two names may stand for one manifest: the first of them.
    of: (ModelName, u32),
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl Turns {
    /// Waits until nobody else fetches `id`, which is the manifest of that version.
    async fn take(&self, id: ManifestId, name: &ModelName, version: u32) -> OwnedMutexGuard<()> {
        let lock = {
            let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever holds or waits for a turn holds a copy of it.
            open.retain(|_, turn| Arc::strong_count(&turn.lock) > 1);
            let fresh = || Turn { of: (name.clone(), version), lock: Arc::default() };
            Arc::clone(&open.entry(id).or_insert_with(fresh).lock)
        };
        lock.lock_owned().await
    }

    /// Which version is brought under that manifest; `None` if none is.
    pub(crate) fn version_of(&self, id: &ManifestId) -> Option<(ModelName, u32)> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(id).map(|turn| turn.of.clone())
    }
}

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
        let brought = self.bring(name, version, hint, Watch::steps(progress), false).await?;
        Ok((brought.entry, brought.report))
    }

    /// The same. With `to_load`, chunks come in order and are opened as they come, so that the model can be loaded right after.
    pub(crate) async fn bring(
        &self,
        name: &ModelName,
        version: u32,
        hint: Option<NodeId>,
        watch: Watch<'_>,
        to_load: bool,
    ) -> Result<Brought, RpcError> {
        let entry = self.version(name, version).await?;
        if entry.withdrawn {
            return Err(not_found(format!("{name}@{version} was withdrawn by its owner")));
        }
        self.room_to_fetch(&entry).await?;
        let _using = self.upkeep.using().await;
        // Who comes second finds everything here.
        let _turn = self.turns.take(entry.manifest, name, version).await;
        let to_load = to_load && self.models.get(name, version).is_none();
        let peers = self.likely_holders(&entry, hint);
        let (begun, begins) = watch::channel(false);
        let fetching = self.transfer(&entry, &peers, watch, to_load, begun);
        let opening = async {
            let opened = match to_load {
                true => self.open_arriving(name, version, &entry, &peers, begins).await.map(Some),
                false => Ok(None),
            };
            // What cannot be opened is fetched all the same; what cannot be fetched need not be opened any further.
            Ok::<_, FetchError>(opened)
        };
        let (report, opened) = tokio::try_join!(fetching, opening)
            .map_err(|e| unavailable(format!("{name}@{version} could not be fetched: {e}")))?;
        match self.obtain_key(entry.manifest, &peers).await {
            // Ciphertext alone is worth holding: others fetch it from here.
            Err(error) if error.code == ErrorCode::Denied => tracing::info!(%name, version, %error, "held sealed"),
            obtained => obtained?,
        }
        let held = Held { name: name.clone(), version, manifest: entry.manifest, serve: false, copies: None };
        self.models.hold(held)?;
        let opened = opened.unwrap_or_else(|error| {
            // Loading tries once more from the store, and says why if it fails again.
            tracing::info!(%name, version, %error, "not opened while it came");
            None
        });
        Ok(Brought { entry, report, opened })
    }

    /// Who may have a version: `hint` and the publisher first, then those who may hold models at all, the newest heard of
    /// before the others.
    fn likely_holders(&self, entry: &Version, hint: Option<NodeId>) -> Vec<NodeId> {
        let mut peers: Vec<NodeId> = hint.into_iter().filter(|n| *n != self.id).collect();
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
        peers
    }

    /// Moves what is missing here. `begun` hears once the manifest is here.
    async fn transfer(
        &self,
        entry: &Version,
        peers: &[NodeId],
        watch: Watch<'_>,
        in_order: bool,
        begun: watch::Sender<bool>,
    ) -> Result<FetchReport, FetchError> {
        let mut options = FetchOptions::default();
        if in_order {
            options.order = Order::InOrder { window: options.in_flight };
        }
        let job = Fetch {
            store: self.store.clone(),
            source: Arc::new(RpcSource(self.roads.clone())),
            id: entry.manifest,
            peers: peers.to_vec(),
            options,
            me: Some(self.id),
            board: self.board.clone(),
            traffic: self.traffic.clone(),
            stop: self.stop.child_token(),
        };
        let (steps, painter) = (watch.steps.clone(), watch.pictures.map(Painter::new));
        let progress = move |p: Progress<'_>| {
            begun.send_replace(true);
            match &painter {
                Some(painter) => painter.draw(p),
                None => tell(&steps, "bytes fetched", p.bytes, p.total_bytes),
            }
        };
        job.run(progress).await
    }

    /// Opens a version while its chunks come, from when `begins` says that its manifest is here.
    async fn open_arriving(
        &self,
        name: &ModelName,
        version: u32,
        entry: &Version,
        peers: &[NodeId],
        mut begins: watch::Receiver<bool>,
    ) -> Result<Opened, RpcError> {
        if begins.wait_for(|begun| *begun).await.is_err() {
            return Err(unavailable("the transfer ended before it began"));
        }
        // Before the key: no chunk may come unheard.
        let arriving = self.board.listen(&entry.manifest);
        self.obtain_key(entry.manifest, peers).await?;
        self.open_version(name, version, entry, arriving).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_transfer_knows_its_name_while_it_is_open_and_others_wait_for_it() {
        let (turns, id, other) = (Turns::default(), ManifestId([1; 32]), ManifestId([2; 32]));
        let (one, two): (ModelName, ModelName) = ("lab/one".parse().unwrap(), "lab/two".parse().unwrap());
        let turn = turns.take(id, &one, 3).await;
        assert_eq!((turns.version_of(&id), turns.version_of(&other)), (Some((one.clone(), 3)), None));
        let mut second = std::pin::pin!(turns.take(id, &two, 1));
        assert!(futures::poll!(&mut second).is_pending(), "one at a time");
        assert_eq!(turns.version_of(&id), Some((one, 3)));
        drop(turn);
        drop(second.await);
        drop(turns.take(other, &two, 1).await);
        assert_eq!(turns.version_of(&id), None, "what is over is forgotten with the next one");
    }
}
