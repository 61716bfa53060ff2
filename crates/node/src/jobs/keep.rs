//! The keeper: loads what is to be served, announces it, publishes name records, anchors receipts. It compares what
//! should be with what is, so a restart, a dead worker or a halted chain needs no case of its own.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    CodecError, ManifestId, ModelName, Signed,
    record::EndpointRecord,
    rpc::{ErrorCode, RpcError},
    tx::TxBody,
};

use crate::{
    core::Core,
    jobs::{fetch::Watch, open::Opened, room::no_room},
    memory::plan::{Evict, NoRoom},
    models::{Absent, Entered, Held, Loading, Place, Serving, VersionKey},
    serve::errors::invalid,
};

/// How often announcements are renewed.
const RENEW: Duration = Duration::from_secs(20);
/// How long an announcement holds: three renewals may be missed.
const ENDPOINT_TTL_MS: u64 = 80_000;
/// How often the keeper looks for models that are not loaded.
const LOOK: Duration = Duration::from_secs(2);
/// How long an anchor is waited for. A halted chain keeps it in the mempool; the next look starts from the ledger.
const ANCHOR_PATIENCE: Duration = Duration::from_secs(20);

/// Why a load came to nothing.
pub(crate) enum LoadError {
    /// There is no room in memory.
    NoRoom(NoRoom),
    /// Anything else.
    Other(RpcError),
}

impl From<RpcError> for LoadError {
    fn from(error: RpcError) -> Self {
        Self::Other(error)
    }
}

impl LoadError {
    /// True if it may well be loaded once calls in hand have ended.
    pub(crate) const fn passes(&self) -> bool {
        match self {
            Self::NoRoom(why) => matches!(why, NoRoom::Taken { .. }),
            Self::Other(error) => matches!(error.code, ErrorCode::Busy),
        }
    }

    /// What callers hear.
    pub(crate) fn into_rpc(self, (name, version): &VersionKey) -> RpcError {
        match self {
            Self::NoRoom(why) => no_room(&format!("{name}@{version}"), why),
            Self::Other(error) => error,
        }
    }
}

impl Core {
    /// Loads a held version if it is not loaded, and announces it. `opened` are its files, if they were opened while they came.
    /// A chunk that turned out to be damaged is fetched again. Gives a place in it, or none if its queue is full.
    pub(crate) async fn serve_opened(
        &self,
        name: &ModelName,
        version: u32,
        opened: Option<Opened>,
    ) -> Result<Option<Place>, RpcError> {
        match self.try_serve(name, version, opened).await {
            Err(error) if error.code == ErrorCode::NotFound => {
                tracing::warn!(%name, version, %error, "what is missing is fetched again");
                let (unheard, _) = tokio::sync::mpsc::channel(1);
                let brought = self.bring(name, version, None, Watch::steps(&unheard), true).await?;
                self.try_serve(name, version, brought.opened).await
            }
            other => other,
        }
    }

    async fn try_serve(
        &self,
        name: &ModelName,
        version: u32,
        opened: Option<Opened>,
    ) -> Result<Option<Place>, RpcError> {
        let _using = self.upkeep.using().await;
        let loading = self.models.loading().await;
        let loaded = self.load_and_announce(&loading, name, version, opened, Evict::Idle).await;
        loaded.map_err(|error| error.into_rpc(&(name.clone(), version)))
    }

    /// The same, for who holds both locks. `evict` says whether idle models go for it.
    pub(crate) async fn load_and_announce(
        &self,
        loading: &Loading<'_>,
        name: &ModelName,
        version: u32,
        opened: Option<Opened>,
        evict: Evict,
    ) -> Result<Option<Place>, LoadError> {
        let (key, table) = ((name.clone(), version), &self.models.table);
        match table.enter(&key) {
            Entered::Place(place) => return Ok(Some(place)),
            Entered::Full => return Ok(None),
            Entered::Absent(_) => {}
        }
        loading.tell(&key);
        let entry = self.version(name, version).await?;
        if entry.withdrawn {
            let why = format!("{name}@{version} was withdrawn by its owner and is not served any more");
            return Err(invalid(why).into());
        }
        let announced = self.models.is_served(&key);
        let bytes = self.load_bytes(&entry, opened.as_ref())?;
        let room = self.room_for(table.known_bytes(&key), table.is_too_big(&key), entry.format, bytes, evict).await;
        let loaded = self.load(name, version, &entry, opened, room.map_err(LoadError::NoRoom)?).await?;
        let held = Held { name: name.clone(), version, manifest: entry.manifest, serve: true, copies: None };
        if self.models.to_serve(&key).is_none_or(|row| row.manifest != held.manifest) {
            self.models.hold(held.clone())?;
        }
        let serving = Arc::new(Serving::new(held, loaded));
        let place = table.insert(&serving);
        // One that was evicted has been announced all the time.
        if !announced {
            self.announce(&serving.held).await;
        }
        Ok(place)
    }

    /// A fresh endpoint record of this node, signed.
    pub(crate) fn own_endpoint(
        &self,
        name: &ModelName,
        version: u32,
        manifest: ManifestId,
    ) -> Result<Signed<EndpointRecord>, CodecError> {
        let now = now_ms();
        let record = EndpointRecord {
            name: name.clone(),
            version,
            manifest,
            addresses: self.addresses.now(),
            seq: now,
            expires_ms: now.saturating_add(ENDPOINT_TTL_MS),
            region: self.offer.region.clone(),
            price: self.offer.price.filter(|price| *price > 0),
        };
        Signed::sign(&record, &self.pool, &self.key)
    }

    /// Puts the endpoint record and the name record into the DHT. A failure is only logged: the keeper tries again.
    pub(crate) async fn announce(&self, held: &Held) {
        match self.own_endpoint(&held.name, held.version, held.manifest) {
            Ok(signed) => {
                if let Err(error) = self.names.announce(&held.name, signed).await {
                    tracing::warn!(name = %held.name, %error, "the endpoint could not be announced");
                }
            }
            Err(error) => tracing::error!(%error, "an endpoint record could not be signed"),
        }
        self.publish_name(&held.name).await;
    }

    /// Puts the ledger's word on a name into the DHT: anyone may, since it proves itself.
    pub(crate) async fn publish_name(&self, name: &ModelName) {
        let Ok((header, _)) = self.head() else { return };
        match self.chain.read(|ledger| ledger.name_record(name, header)) {
            Ok(record) => {
                if let Err(error) = self.names.publish_name(name, record).await {
                    tracing::warn!(%name, %error, "the name record could not be published");
                }
            }
            Err(error) => tracing::debug!(%name, %error, "no name record yet"),
        }
    }

    /// True unless the ledger says that this node may not, or not any more, serve a version. What our copy of the ledger
    /// does not know yet is left alone.
    fn may_serve(&self, held: &Held) -> bool {
        let (name, version) = (&held.name, held.version);
        self.chain.read(|ledger| {
            ledger.version(name, version).is_none_or(|v| !v.withdrawn && ledger.may_open(name, version, &self.id))
        })
    }

    /// Stops serving what the ledger no longer lets this node serve: withdrawn versions, revoked grants.
    async fn stop_forbidden(&self) {
        for held in self.held().into_iter().filter(|h| h.serve && !self.may_serve(h)) {
            let (name, version) = (&held.name, held.version);
            if let Err(error) = self.models.stop_serving(name, version) {
                tracing::warn!(%name, version, %error, "it may not be served any more, and this could not be written down");
                continue;
            }
            tracing::info!(%name, version, "not served any more: it was withdrawn, or this node may not open it");
            self.unload(name, version).await;
        }
    }

    /// Lets a version's worker go, when the calls in hand are done, and takes its announcement back.
    pub(crate) async fn unload(&self, name: &ModelName, version: u32) {
        let key = (name.clone(), version);
        drop(self.models.table.forget(&key));
        if let Err(error) = self.models.pin_in_memory(&key, false) {
            tracing::warn!(%name, version, %error, "its pin in memory stays written down, and means nothing");
        }
        self.withdraw_unserved(name).await;
    }

    /// Takes a name's announcement back unless another version of it is served.
    pub(crate) async fn withdraw_unserved(&self, name: &ModelName) {
        if self.models.served().iter().any(|held| held.name == *name) {
            return;
        }
        // Its endpoint record runs out by itself within the minute.
        if let Err(error) = self.names.withdraw(name).await {
            tracing::warn!(%name, %error, "still announced for a while");
        }
    }

    /// One look at what should be loaded.
    async fn load_missing(&self) {
        self.stop_forbidden().await;
        for held in self.models.missing() {
            self.load_held(&held).await;
        }
        for serving in self.models.table.all() {
            if serving.is_dead() && self.models.table.remove_dead(&serving) {
                tracing::warn!(name = %serving.held.name, "its worker died; it is started again");
            }
        }
        self.measure_again().await;
    }

    /// Loads one held version, if there is room: nothing is evicted but for what is pinned, since nobody may ever ask for it.
    /// What was missing of it when it was to be loaded last is fetched first.
    async fn load_held(&self, held: &Held) {
        let key = held.key();
        if matches!(self.models.table.absent(&key), Some(Absent::Failed(failed)) if failed.missing) {
            let (unheard, _) = tokio::sync::mpsc::channel(1);
            if let Err(error) = self.fetch(&held.name, held.version, None, &unheard).await {
                self.load_failed(&key, error.into()).await;
                return;
            }
        }
        let evict = if self.models.table.is_pinned(&key) { Evict::Idle } else { Evict::Nothing };
        let loaded = {
            let _using = self.upkeep.using().await;
            let loading = self.models.loading().await;
            // It may have been dropped while we waited: loading would hold it again.
            if !self.models.missing().contains(held) {
                return;
            }
            // A publication cut off before its transaction was final leaves a version that the ledger may never know.
            if self.chain.read(|l| l.version(&held.name, held.version)).is_none() {
                tracing::debug!(name = %held.name, version = held.version, "the ledger does not know it (yet)");
                return;
            }
            self.load_and_announce(&loading, &held.name, held.version, None, evict).await
        };
        let Err(error) = loaded else { return };
        if matches!(error, LoadError::NoRoom(NoRoom::Taken { .. })) {
            tracing::info!(name = %held.name, version = held.version, "no room in memory for it now: the first call loads it");
            self.models.table.leave_out(&key);
            return self.announce(held).await;
        }
        self.load_failed(&key, error).await;
    }

    /// Anchors the receipt log if it grew.
    async fn anchor(&self) -> Result<(), RpcError> {
        let last = self.chain.read(|l| l.anchor(&self.id)).map(|a| (a.seq, a.size));
        let Some(anchor) = self.receipts.next_anchor(last)? else { return Ok(()) };
        let size = anchor.size;
        self.account.submit(TxBody::Anchor(anchor), ANCHOR_PATIENCE).await?;
        tracing::debug!(size, "receipts anchored");
        Ok(())
    }
}

/// Loads what is to be served and renews announcements, until `stop`.
pub(crate) async fn keep_serving(core: Arc<Core>, stop: CancellationToken) {
    let mut look = ticker(LOOK);
    let mut renew = ticker(RENEW);
    let mut told = core.addresses.now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => {
                core.load_missing().await;
                if core.addresses.now() == told {
                    continue;
                }
                tracing::info!("this node's addresses changed: it is announced anew");
            }
            _ = renew.tick() => {}
        }
        told = core.addresses.now();
        for held in core.models.served() {
            core.announce(&held).await;
        }
    }
}

/// Anchors the receipt log every so often, until `stop`.
pub(crate) async fn keep_anchored(core: Arc<Core>, every: Duration, stop: CancellationToken) {
    let mut tick = ticker(every);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let anchored = tokio::select! {
            () = stop.cancelled() => return,
            anchored = core.anchor() => anchored,
        };
        if let Err(error) = anchored {
            tracing::info!(%error, "receipts wait to be anchored");
        }
    }
}

fn ticker(every: Duration) -> tokio::time::Interval {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick
}
