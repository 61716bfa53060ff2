//! What is known of one peer: what it holds, what it was asked for, and how fast it answers.

use std::collections::BTreeMap;

use crate::chunk_set::ChunkSet;

/// Requests open to a peer of which nothing is known yet, and the least ever: one in work, one on its way.
const FIRST_WINDOW: u32 = 2;
/// Longest pause, as a power of two of the first.
const LONGEST_PAUSE: u32 = 6;

/// One request without an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) since_ms: u64,
    /// Chunks the peer had delivered when it was asked.
    delivered: u32,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) held: ChunkSet,
    pub(super) open: BTreeMap<u32, Request>,
    /// The pool's epoch in which this peer had nothing that was free: not searched again before the pool changes.
    pub(super) fruitless: Option<u64>,
    window: u32,
    delivered: u32,
    last_delivery_ms: u64,
    /// Shortest time an answer took; 1 at least, 0 before the first.
    round_trip_ms: u64,
    /// Smoothed time an answer took.
    usual_ms: u64,
    /// Chunks per million milliseconds, decaying towards newer samples.
    rate: u64,
    strikes: u32,
    paused_until_ms: u64,
}

impl Peer {
    pub(super) fn new(held: ChunkSet) -> Self {
        Self {
            held,
            open: BTreeMap::new(),
            fruitless: None,
            window: FIRST_WINDOW,
            delivered: 0,
            last_delivery_ms: 0,
            round_trip_ms: 0,
            usual_ms: 0,
            rate: 0,
            strikes: 0,
            paused_until_ms: 0,
        }
    }

    pub(super) fn may_be_asked(&self, now_ms: u64) -> bool {
        now_ms >= self.paused_until_ms && self.open.len() < self.window as usize
    }

    pub(super) fn ask(&mut self, now_ms: u64, chunk: u32) {
        self.open.insert(chunk, Request { since_ms: now_ms, delivered: self.delivered });
    }

    /// Milliseconds an answer of this peer usually takes; 0 before the first.
    pub(super) fn usual_ms(&self) -> u64 {
        self.usual_ms
    }

    /// Milliseconds that one more request would take, behind those that are open; 0 for a peer of which nothing is known, so
    /// that it is tried.
    pub(super) fn next_answer_ms(&self) -> u64 {
        self.round_trip_ms.saturating_mul(self.open.len() as u64 + 1)
    }

    /// Since when this peer owes a chunk without having sent any: the oldest request or the last delivery.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        self.open.values().map(|r| r.since_ms).min().map(|oldest| oldest.max(self.last_delivery_ms))
    }

    /// A chunk came. The window follows twice the rate × the shortest round trip (BBR's rule, Cardwell et al. 2016), so that
    /// it grows while the path carries more and stays once it does not.
    pub(super) fn delivered(&mut self, now_ms: u64, chunk: u32, most: u32) {
        self.delivered = self.delivered.saturating_add(1);
        self.last_delivery_ms = now_ms;
        self.strikes = 0;
        let Some(request) = self.open.remove(&chunk) else { return };
        let took = now_ms.saturating_sub(request.since_ms).max(1);
        self.round_trip_ms = if self.round_trip_ms == 0 { took } else { self.round_trip_ms.min(took) };
        self.usual_ms =
            if self.usual_ms == 0 { took } else { self.usual_ms.saturating_mul(7).saturating_add(took) / 8 };
        let sample = u64::from(self.delivered - request.delivered) * 1_000_000 / took;
        self.rate = sample.max(self.rate / 8 * 7 + sample / 8);
        let wanted = self.rate.saturating_mul(self.round_trip_ms).saturating_mul(2).div_ceil(1_000_000);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX).saturating_add(FIRST_WINDOW);
        // One step at a time: a burst that was waiting in a buffer is no proof of a faster path.
        self.window = wanted.clamp(FIRST_WINDOW, most.max(FIRST_WINDOW)).min(self.window.saturating_add(1));
    }

    /// Gives the peer a pause that doubles with each strike in a row, and says how many those are. What fails during a pause
    /// was asked before it, as when a connection breaks under many requests: one strike, not many.
    pub(super) fn strike(&mut self, now_ms: u64, pause_ms: u64) -> u32 {
        if now_ms < self.paused_until_ms {
            return self.strikes;
        }
        let pause = pause_ms.saturating_mul(1 << self.strikes.min(LONGEST_PAUSE)) / 4;
        self.strikes = self.strikes.saturating_add(1);
        self.window = FIRST_WINDOW;
        self.paused_until_ms = now_ms.saturating_add(pause);
        self.strikes
    }
}
