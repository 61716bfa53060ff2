//! What is known of one peer: what it holds, what it was asked for, and how fast it answers.

use std::collections::BTreeMap;

use crate::chunk_set::ChunkSet;

/// Requests open to a peer of which nothing is known yet, and to every one that delivers: one in work, one on its way.
const FIRST_WINDOW: u32 = 2;
/// Milliseconds that requests are ahead of what the round trip alone would want: a task that waits for its turn, or a disk
/// that syncs, must not leave a fast line idle. A slow peer gets hardly a chunk more of it.
const SLACK_MS: u64 = 100;
/// Longest pause, as a power of two of the first.
const LONGEST_PAUSE: u32 = 6;
/// Milliseconds of the first pause after a peer said that it has no slot free. It doubles up to [`LONGEST_BUSY`] times.
const BUSY_MS: u64 = 50;
/// Longest pause of a busy peer, as a power of two of the first: 3.2 s.
const LONGEST_BUSY: u32 = 6;
/// Longest patience with one peer, as a power of two of the usual one.
const LONGEST_PATIENCE: u32 = 3;

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
    /// Answers in a row that it had no slot free.
    busy: u32,
    paused_until_ms: u64,
    /// When it came, or last said that it got another chunk.
    gained_ms: u64,
}

impl Peer {
    pub(super) fn new(now_ms: u64, held: ChunkSet) -> Self {
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
            busy: 0,
            paused_until_ms: 0,
            gained_ms: now_ms,
        }
    }

    pub(super) fn is_paused(&self, now_ms: u64) -> bool {
        now_ms < self.paused_until_ms
    }

    pub(super) fn may_be_asked(&self, now_ms: u64) -> bool {
        !self.is_paused(now_ms) && self.open.len() < self.window as usize
    }

    /// True if its last answer was that it has no slot free.
    pub(super) fn is_busy(&self) -> bool {
        self.busy > 0
    }

    /// It said that it got another chunk.
    pub(super) fn gained(&mut self, now_ms: u64) {
        self.gained_ms = now_ms;
        self.fruitless = None;
    }

    /// True if it fetches too: it lacks chunks, and got one within the last `within_ms`.
    pub(super) fn is_growing(&self, now_ms: u64, within_ms: u64) -> bool {
        !self.held.is_full() && !self.is_paused(now_ms) && now_ms.saturating_sub(self.gained_ms) <= within_ms
    }

    /// Chunks per million milliseconds; 0 before the first.
    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    /// Milliseconds without a chunk after which this peer counts as silent: `stall_ms`, or longer for one that was slow
    /// before, so that a slow line that is all there is gets its chunk through in the end.
    pub(super) fn patience_ms(&self, stall_ms: u64) -> u64 {
        let learned = self.usual_ms.saturating_mul(4).min(stall_ms.saturating_mul(1 << LONGEST_PATIENCE));
        stall_ms.saturating_mul(1 << self.strikes.min(LONGEST_PATIENCE)).max(learned)
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

    /// A chunk came. The window follows the rate × (twice the shortest round trip (BBR's rule, Cardwell et al. 2016) and
    /// [`SLACK_MS`]), so that it grows while the path carries more and stays once it does not.
    pub(super) fn delivered(&mut self, now_ms: u64, chunk: u32, most: u32) {
        self.delivered = self.delivered.saturating_add(1);
        self.last_delivery_ms = now_ms;
        self.strikes = 0;
        self.busy = 0;
        let Some(request) = self.open.remove(&chunk) else { return };
        let took = now_ms.saturating_sub(request.since_ms).max(1);
        self.round_trip_ms = if self.round_trip_ms == 0 { took } else { self.round_trip_ms.min(took) };
        self.usual_ms =
            if self.usual_ms == 0 { took } else { self.usual_ms.saturating_mul(7).saturating_add(took) / 8 };
        let sample = u64::from(self.delivered - request.delivered) * 1_000_000 / took;
        self.rate = sample.max(self.rate / 8 * 7 + sample / 8);
        let ahead_ms = self.round_trip_ms.saturating_mul(2).saturating_add(SLACK_MS);
        let wanted = self.rate.saturating_mul(ahead_ms).div_ceil(1_000_000);
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
        // One at a time until it delivers: two chunks that share a slow line take twice as long each.
        self.window = 1;
        self.paused_until_ms = now_ms.saturating_add(pause);
        self.strikes
    }

    /// It has no slot free: a short pause that doubles, and fewer requests from now on. No strike, since it said so at once.
    pub(super) fn no_slot(&mut self, now_ms: u64) {
        if self.is_paused(now_ms) {
            return; // Asked before the pause, like the one that caused it.
        }
        self.paused_until_ms = now_ms.saturating_add(BUSY_MS << self.busy.min(LONGEST_BUSY));
        self.busy = self.busy.saturating_add(1);
        self.window = u32::try_from(self.open.len()).unwrap_or(u32::MAX).max(1);
    }
}
