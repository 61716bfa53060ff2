//! When the routing table is looked through: pure. The library does so whenever a node with few peers meets one, and then asks
//! for a peer in every bucket. Here that is cut short after its first part, the search for one's own neighbours; the rest
//! is done some minutes after the first peer came, and again every half hour.

use std::time::{Duration, Instant};

use libp2p::kad::QueryId;

use crate::config::{FIRST_REFRESH, FIRST_REFRESH_JITTER, REFRESH, REFRESH_JITTER};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Refresh {
    /// When all buckets are due; not before the first peer came.
    next: Option<Instant>,
    /// The search through all of them that is under way.
    whole: Option<QueryId>,
}

impl Refresh {
    /// There are peers; `chance` (0 to 255) spreads nodes that began together.
    pub(crate) fn peers_came(&mut self, now: Instant, chance: u8) {
        self.next.get_or_insert_with(|| now + earlier(FIRST_REFRESH, FIRST_REFRESH_JITTER, chance));
    }

    /// True if all buckets are to be looked through now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|at| at <= now)
    }

    /// A search through all buckets began; `None`: the table is empty, and the next peer that comes counts as the first.
    pub(crate) fn began(&mut self, query: Option<QueryId>, now: Instant, chance: u8) {
        self.next = query.is_some().then(|| now + earlier(REFRESH, REFRESH_JITTER, chance));
        self.whole = query;
    }

    /// One part of a search is over and the next would begin: true if it is to be left out.
    pub(crate) fn ends(&self, query: QueryId) -> bool {
        self.whole != Some(query)
    }
}

/// `pause`, less up to so many per cent of it.
fn earlier(pause: Duration, percent: u32, chance: u8) -> Duration {
    pause - pause * percent / 100 * u32::from(chance) / 255
}

#[cfg(test)]
mod tests {
    use libp2p::{
        PeerId,
        kad::{self, store::MemoryStore},
    };

    use super::*;

    #[test]
    fn all_buckets_come_minutes_after_the_first_peer_and_then_every_half_hour() {
        let (mut refresh, start) = (Refresh::default(), Instant::now());
        assert!(!refresh.is_due(start + 2 * REFRESH), "alone there is nothing to look through");
        refresh.peers_came(start, 0);
        refresh.peers_came(start + FIRST_REFRESH, 0);
        assert!(!refresh.is_due(start + FIRST_REFRESH / 2) && refresh.is_due(start + FIRST_REFRESH));
        let mut kad = kad::Behaviour::new(PeerId::random(), MemoryStore::new(PeerId::random()));
        refresh.began(Some(kad.get_closest_peers(PeerId::random())), start, 255);
        assert!(!refresh.is_due(start + REFRESH / 2), "however the dice fall, not at once again");
        assert!(refresh.is_due(start + REFRESH));
        refresh.began(None, start, 0);
        assert!(!refresh.is_due(start + 2 * REFRESH), "there was nobody to ask");
        refresh.peers_came(start, 0);
        assert!(refresh.is_due(start + FIRST_REFRESH));
    }

    #[test]
    fn chance_spreads_and_never_hurries_to_nothing() {
        for chance in [0, 1, 128, 255] {
            let pause = earlier(FIRST_REFRESH, FIRST_REFRESH_JITTER, chance);
            assert!(pause >= FIRST_REFRESH / 5 && pause <= FIRST_REFRESH, "{chance}: {pause:?}");
        }
        assert!(earlier(REFRESH, REFRESH_JITTER, 255) < earlier(REFRESH, REFRESH_JITTER, 0));
    }
}
