//! Models in memory as this node's user sees them: what each takes, pinned or let go by hand.

use std::time::Duration;

use zero2ai_proto::{
    local::{ModelCall, ModelState, ModelsReply, PinCall, ResidentModel},
    rpc::{ErrorCode, RpcError},
};

use crate::{
    core::Core,
    models::{Absent, Counts, Held, VersionKey},
    serve::errors::{invalid, not_found},
};

/// How long a pinned model may take to be loaded: as long as any load.
const LOAD: Duration = Duration::from_secs(300);

/// Characters of a reason that are told.
const WHY: usize = 2_048;

impl Core {
    /// Every held version, and the figures of all.
    pub(crate) fn residents(&self) -> ModelsReply {
        let Counts { budget, taken, loads, failures, evictions } = self.models.table.counts();
        let models = self.models.held().into_iter().map(|held| self.resident(held)).collect();
        ModelsReply { budget, taken, loads, failures, evictions, models }
    }

    fn resident(&self, held: Held) -> ResidentModel {
        let (key, table) = (held.key(), &self.models.table);
        let (serving, known) = (table.get(&key), table.known(&key));
        let (state, why) = match (&serving, table.absent(&key)) {
            (Some(_), _) => (ModelState::Resident, None),
            _ if self.models.is_loading(&key) => (ModelState::Loading, None),
            _ if !held.serve => (ModelState::Stored, None),
            (None, Some(Absent::Failed(failed))) => (ModelState::Failed, Some(failed.why)),
            (None, Some(Absent::Evicted(last))) => (ModelState::Evicted, last.map(|failed| failed.why)),
            (None, None) => (ModelState::Waiting, None),
        };
        let last_use = serving.as_ref().map(|s| s.last_use().1).or_else(|| known.as_ref().map(|k| k.last_use_ms));
        ResidentModel {
            state,
            why: why.map(|why| why.chars().take(WHY).collect()),
            bytes: serving.as_ref().map_or(0, |s| s.room.bytes()),
            last_bytes: table.known_bytes(&key),
            last_use_ms: last_use.filter(|ms| *ms > 0),
            pinned: table.is_pinned(&key),
            calls: self.models.calls(&key),
            in_hand: serving.as_ref().map_or(0, |s| s.in_hand()),
            name: held.name,
            version: held.version,
        }
    }

    /// Pins a version in memory, loading it if it is not there, or takes the pin away.
    pub(crate) async fn pin_in_memory(&self, call: &PinCall) -> Result<(), RpcError> {
        let key = (call.name.clone(), call.version);
        if !call.pinned {
            return self.models.pin_in_memory(&key, false);
        }
        self.must_serve(&key)?;
        let was = self.models.table.is_pinned(&key);
        // First the pin: between the load and the pin it could be evicted again.
        self.models.pin_in_memory(&key, true)?;
        self.models.table.hope(&key);
        match self.place(&key, LOAD).await {
            Ok(_) => Ok(()),
            Err(_) if self.models.table.get(&key).is_some() => Ok(()),
            Err(error) => {
                if !was {
                    self.models.pin_in_memory(&key, false)?;
                }
                Err(error)
            }
        }
    }

    /// Evicts a version now; the next call loads it again.
    pub(crate) async fn let_go(&self, call: &ModelCall) -> Result<(), RpcError> {
        let (name, version) = (&call.name, call.version);
        let key = (name.clone(), version);
        self.must_serve(&key)?;
        if self.models.table.is_pinned(&key) {
            return Err(invalid(format!(
                "{name}@{version} is pinned in memory: take the pin away first with 'zero2ai models unpin {name}@{version}'"
            )));
        }
        match self.models.table.evict(&key) {
            Ok(gone) => {
                self.retire(gone.into_iter().collect()).await;
                Ok(())
            }
            Err(calls) => Err(RpcError::new(
                ErrorCode::Busy,
                format!(
                    "{name}@{version} has {calls} calls in hand, which are never cut off: try again when they have ended"
                ),
            )),
        }
    }

    fn must_serve(&self, key: &VersionKey) -> Result<(), RpcError> {
        let (name, version) = key;
        if self.models.to_serve(key).is_some() {
            return Ok(());
        }
        let why =
            format!("{name}@{version} is not served by this node: 'zero2ai fetch {name}@{version} --serve' makes it");
        Err(not_found(why))
    }
}
