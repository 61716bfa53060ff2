//! Answers kept by name: fresh, then stale (given out while they are revalidated), then gone. Pure: time comes in.

use std::collections::BTreeMap;

use zero2ai_proto::{
    Signed,
    name::ModelName,
    record::{EndpointRecord, NameRecord},
};

/// How long an answer is given out without asking again, milliseconds. Short: an endpoint that came or went shows soon.
pub const FRESH_MS: u64 = 2_000;
/// How long it is given out while it is revalidated in the background, milliseconds.
pub const STALE_MS: u64 = 10 * 60 * 1000;
/// Names kept; beyond that the one asked for longest ago goes.
pub const ENTRIES: usize = 1_024;

/// One answer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name record, checked.
    pub record: NameRecord,
    /// Height of its header: a lower one never replaces a higher one.
    pub height: u64,
    /// Endpoint records, checked.
    pub endpoints: Vec<Signed<EndpointRecord>>,
    /// When it came, milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// When the first of its endpoint records runs out.
    expires_ms: u64,
    used_ms: u64,
}

/// How usable a cached answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Use it.
    Fresh,
    /// Use it, and ask again in the background.
    Stale,
}

/// The cache.
#[derive(Debug, Default)]
pub struct Cache {
    entries: BTreeMap<ModelName, Entry>,
}

impl Cache {
    /// The answer for `name`, if it is not too old.
    pub fn get(&mut self, name: &ModelName, now_ms: u64) -> Option<(Entry, Age)> {
        let entry = self.entries.get_mut(name)?;
        let age = now_ms.saturating_sub(entry.at_ms);
        // Endpoints run out sooner than names do: an answer that lost any of them is asked for anew.
        if age > STALE_MS || entry.expires_ms <= now_ms {
            return None;
        }
        entry.used_ms = now_ms;
        Some((entry.clone(), if age > FRESH_MS { Age::Stale } else { Age::Fresh }))
    }

    /// Keeps an answer, unless a newer header was seen for this name: a resolver never goes back.
    /// Returns false if it was older.
    pub fn put(
        &mut self,
        name: ModelName,
        record: NameRecord,
        height: u64,
        endpoints: Vec<Signed<EndpointRecord>>,
        now_ms: u64,
    ) -> bool {
        if self.entries.get(&name).is_some_and(|e| e.height > height) {
            return false;
        }
        let ends = endpoints.iter().filter_map(|e| e.read_unverified().ok()).map(|e| e.expires_ms);
        let expires_ms = ends.min().unwrap_or(u64::MAX);
        self.entries.insert(name, Entry { record, height, endpoints, at_ms: now_ms, expires_ms, used_ms: now_ms });
        while self.entries.len() > ENTRIES {
            let oldest = self.entries.iter().min_by_key(|(_, e)| e.used_ms).map(|(n, _)| n.clone());
            let Some(oldest) = oldest else { break };
            self.entries.remove(&oldest);
        }
        true
    }

    /// The height of the newest header seen for `name`.
    #[must_use]
    pub fn height(&self, name: &ModelName) -> u64 {
        self.entries.get(name).map_or(0, |e| e.height)
    }

    /// Forgets `name`.
    pub fn forget(&mut self, name: &ModelName) {
        self.entries.remove(name);
    }
}
