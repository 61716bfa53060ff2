//! Makes room in memory: reserves it for a model that is to be loaded, stops the workers of those that go for it, and looks
//! again at what a worker takes once it is loaded and while it runs.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use zero2ai_engine::Worker;
use zero2ai_proto::{
    manifest::Format,
    rpc::{ErrorCode, RpcError},
};

use crate::{
    core::Core,
    memory::{
        measure,
        plan::{Evict, NoRoom, mib},
    },
    models::{Room, Serving, VersionKey},
};

/// How long room is waited for while calls in hand, or other loads, take it. After that the caller hears `Busy`, and goes
/// elsewhere or comes again.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a caller hears of a model that does not fit.
pub(crate) fn no_room(what: &str, why: NoRoom) -> RpcError {
    let code = match why {
        NoRoom::TooBig { .. } => ErrorCode::Model,
        NoRoom::Taken { .. } => ErrorCode::Busy,
    };
    RpcError::new(code, format!("{what} cannot be loaded: {why}"))
}

impl Core {
    /// Room for a model of `bytes` bytes of files, of which `known` is what it took before, and `sure` says that it takes no less. Idle models go for it if `evict`
    /// says so; what passes by itself is waited for, a few seconds.
    ///
    /// # Errors
    /// See [`NoRoom`].
    pub(crate) async fn room_for(
        &self,
        known: Option<u64>,
        sure: bool,
        format: Format,
        bytes: u64,
        evict: Evict,
    ) -> Result<Room, NoRoom> {
        let table = &self.models.table;
        let need = measure::need(known, sure, format, bytes, table.budget());
        // An estimate alone refuses nothing whose files fit, nor does what it grew to in some call: what it takes is measured once
        // it is loaded.
        let least = (!sure).then_some(bytes);
        let (room, gone) = self.patiently(evict, || table.reserve(need, least, evict)).await?;
        self.retire(gone).await;
        Ok(room)
    }

    /// Tries until there is room, nothing that stands in the way will pass, or patience ends.
    async fn patiently<T>(&self, evict: Evict, attempt: impl Fn() -> Result<T, NoRoom>) -> Result<T, NoRoom> {
        let now = Instant::now();
        let until = now.checked_add(PATIENCE).unwrap_or(now);
        loop {
            // Before the try, so that nothing given back after it is missed.
            let freed = self.models.table.freed();
            match attempt() {
                Err(why) if evict == Evict::Idle && why.may_pass() => {
                    if timeout_at(until, freed).await.is_err() {
                        return Err(why);
                    }
                }
                result => return result,
            }
        }
    }

    /// Makes a worker's room count for what it took once it had loaded its model. What turns out too large is an error, and its
    /// worker must go; of a held version, `key`, that is remembered, so that it is not loaded again to find out.
    pub(crate) async fn settle(&self, key: Option<&VersionKey>, worker: &Worker, room: &Room) -> Result<(), RpcError> {
        let Some(bytes) = worker.pid().and_then(measure::resident) else { return Ok(()) };
        // One that grew in its calls before will do so again, as far as there was room for that.
        let grown = key.and_then(|key| self.models.table.known_bytes(key)).unwrap_or(0);
        let bytes = bytes.max(grown.min(room.bytes()));
        match self.patiently(Evict::Idle, || self.models.table.settle(room, bytes)).await {
            Ok(gone) => {
                self.retire(gone).await;
                Ok(())
            }
            Err(why) => {
                if let Some(key) = key {
                    self.models.table.note_size(key, bytes);
                }
                let what = key.map_or_else(|| "the model".to_owned(), |(name, version)| format!("{name}@{version}"));
                Err(no_room(&format!("{what}, which was loaded to see what it takes,"), why))
            }
        }
    }

    /// Stops workers that are out of the table, and waits until their memory is back.
    pub(crate) async fn retire(&self, gone: Vec<Arc<Serving>>) {
        for serving in gone {
            let held = &serving.held;
            tracing::info!(name = %held.name, version = held.version, "evicted from memory; the next call loads it again");
            serving.worker.stop().await;
        }
    }

    /// Counts what workers take by now: texts in hand need memory of their own. If it is too much, idle models go.
    pub(crate) async fn measure_again(&self) {
        let table = &self.models.table;
        let measured = table.all().into_iter().filter_map(|s| {
            let bytes = s.worker.pid().and_then(measure::resident)?;
            Some((s, bytes))
        });
        let measured: Vec<_> = measured.collect();
        let gone = table.grow(&measured);
        if !gone.is_empty() {
            tracing::info!(budget = %mib(table.budget()), "loaded models grew over their budget");
        }
        self.retire(gone).await;
    }
}
