//! Answers kept by name: fresh, then stale (given out while they are revalidated), then gone; and the newest header ever
//! seen for a name, kept longer: over a restart too, by whoever writes them down. Pure: time comes in.

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

/// Names whose newest height is remembered after their answer is gone: beyond that, the lowest heights are forgotten first,
/// so that what is forgotten says least. 16,384 names are about 1 MB.
pub const HEIGHTS: usize = 16 * ENTRIES;

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
    heights: BTreeMap<ModelName, u64>,
    /// How often a height was added or raised.
    raised: u64,
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

    /// Takes an answer, and gives back what is the answer now: endpoints are the new ones, but if the record is older than
    /// the one kept, that one stays. A resolver never goes back.
    ///
    /// # Errors
    /// [`Older`] if a newer header was seen for this name and its record is not kept any more.
    pub fn put(
        &mut self,
        name: ModelName,
        record: NameRecord,
        height: u64,
        endpoints: Vec<Signed<EndpointRecord>>,
        now_ms: u64,
    ) -> Result<Entry, Older> {
        let seen = self.height(&name);
        let kept = self.entries.get(&name).filter(|kept| kept.height > height);
        let (record, height) = match kept {
            Some(newer) => (newer.record.clone(), newer.height),
            None if seen > height => return Err(Older { seen, offered: height }),
            None => (record, height),
        };
        let ends = endpoints.iter().filter_map(|e| e.read_unverified().ok()).map(|e| e.expires_ms);
        let expires_ms = ends.min().unwrap_or(u64::MAX);
        let entry = Entry { record, height, endpoints, at_ms: now_ms, expires_ms, used_ms: now_ms };
        self.remember(&name, height);
        self.entries.insert(name, entry.clone());
        while self.entries.len() > ENTRIES {
            let oldest = self.entries.iter().min_by_key(|(_, e)| e.used_ms).map(|(n, _)| n.clone());
            let Some(oldest) = oldest else { break };
            self.entries.remove(&oldest);
        }
        Ok(entry)
    }

    /// Notes that a header of `height` was seen; one that is lower than what is remembered changes nothing.
    fn remember(&mut self, name: &ModelName, height: u64) {
        if height <= self.height(name) {
            return;
        }
        self.heights.insert(name.clone(), height);
        self.raised += 1;
        if self.heights.len() > HEIGHTS {
            let lowest = self.heights.iter().filter(|(n, _)| *n != name).min_by_key(|(_, h)| **h);
            if let Some(lowest) = lowest.map(|(n, _)| n.clone()) {
                self.heights.remove(&lowest);
            }
        }
    }

    /// The height of the newest header seen for `name`; 0 if none is remembered.
    #[must_use]
    pub fn height(&self, name: &ModelName) -> u64 {
        self.heights.get(name).copied().unwrap_or(0)
    }

    /// Takes what was seen before, in another run of the program; at most [`HEIGHTS`] of them. Nothing is lowered by it.
    pub fn restore(&mut self, seen: impl IntoIterator<Item = (ModelName, u64)>) {
        for (name, height) in seen.into_iter().take(HEIGHTS) {
            self.remember(&name, height);
        }
    }

    /// All heights remembered, in order of name, and a mark; `None` if none was added or raised since `mark`.
    #[must_use]
    pub fn seen_since(&self, mark: u64) -> Option<(u64, Vec<(ModelName, u64)>)> {
        let all = || self.heights.iter().map(|(name, height)| (name.clone(), *height)).collect();
        (self.raised != mark).then(|| (self.raised, all()))
    }

    /// Forgets the answer for `name`, and not how new it was.
    pub fn forget(&mut self, name: &ModelName) {
        self.entries.remove(name);
    }
}

/// An answer that is older than one that was given before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record found is of height {offered}, and one of height {seen} was seen before")]
pub struct Older {
    /// The newest height seen.
    pub seen: u64,
    /// The height of what was found.
    pub offered: u64,
}
