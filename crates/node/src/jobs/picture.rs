//! How a transfer stands, drawn a few times a second for whoever watches it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use zero2ai_chunk::ChunkSet;
use zero2ai_proto::{
    ByteBuf, NodeId,
    limits::PICTURE_CELLS,
    local::{FetchPeer, FetchPicture},
};
use zero2ai_swarm::Progress;

/// Where pictures go. Bounded; when full a picture is dropped, never waited for.
pub(crate) type Pictures = mpsc::Sender<FetchPicture>;

/// Least time between two pictures.
const EVERY: Duration = Duration::from_millis(200);
/// Half-life, roughly, of the rates shown.
const WINDOW: Duration = Duration::from_secs(2);
/// Peers shown.
const PEERS: usize = 64;

/// Draws the pictures of one transfer.
pub(crate) struct Painter {
    to: Pictures,
    state: Mutex<State>,
}

struct State {
    last: Option<Instant>,
    /// Bytes and rate of each peer at the last picture.
    peers: BTreeMap<NodeId, (u64, u64)>,
}

impl Painter {
    pub(crate) fn new(to: Pictures) -> Self {
        Self { to, state: Mutex::new(State { last: None, peers: BTreeMap::new() }) }
    }

    /// Draws `progress`, unless the last picture is too fresh and this is not the end.
    pub(crate) fn draw(&self, progress: Progress<'_>) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = state.last.map(|last| now.duration_since(last));
        let done = progress.chunks >= progress.total_chunks;
        if !done && passed.is_some_and(|p| p < EVERY) {
            return;
        }
        state.last = Some(now);
        for (node, bytes) in progress.by_peer {
            let seen = state.peers.entry(*node).or_insert((0, 0));
            *seen = (*bytes, next_rate(*seen, *bytes, passed.unwrap_or(EVERY)));
        }
        let mut peers: Vec<FetchPeer> = state
            .peers
            .iter()
            .map(|(node, (bytes, rate))| FetchPeer { node: *node, bytes: *bytes, rate: *rate })
            .collect();
        peers.sort_by_key(|p| std::cmp::Reverse(p.bytes));
        peers.truncate(PEERS);
        let _ = self.to.try_send(FetchPicture {
            chunks: progress.chunks,
            total_chunks: progress.total_chunks,
            bytes: progress.bytes,
            total_bytes: progress.total_bytes,
            cells: ByteBuf::from(cells(progress.held)),
            peers,
        });
    }
}

/// The rate after `bytes` where there were `was.0` at rate `was.1`, bytes a second: a mean that forgets within [`WINDOW`].
fn next_rate(was: (u64, u64), bytes: u64, passed: Duration) -> u64 {
    let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
    let window = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
    let now = bytes.saturating_sub(was.0).saturating_mul(1_000) / millis;
    let weight = millis.min(window);
    (was.1.saturating_mul(window - weight).saturating_add(now.saturating_mul(weight))) / window
}

/// How much of each part of a model is here, 0 to 255.
fn cells(held: &ChunkSet) -> Vec<u8> {
    let (chunks, count) = (u64::from(held.chunks()), u64::from(held.chunks()).min(PICTURE_CELLS as u64));
    let part = |cell: u64| {
        let (from, to) = (cell * chunks / count, (cell + 1) * chunks / count);
        let here = (from..to).filter(|c| u32::try_from(*c).is_ok_and(|c| held.contains(c))).count() as u64;
        u8::try_from(here * 255 / (to - from).max(1)).unwrap_or(255)
    };
    (0..count).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_cover_every_chunk_once_and_only_full_ones_are_full() {
        for chunks in [1usize, 3, 63, 64, 65, 1_000] {
            assert!(cells(&ChunkSet::empty(chunks)).iter().all(|c| *c == 0));
            let full = cells(&ChunkSet::full(chunks));
            assert!(full.len() == chunks.min(PICTURE_CELLS) && full.iter().all(|c| *c == 255));
            let mut one_less = ChunkSet::full(chunks);
            one_less.remove(0);
            let cells = cells(&one_less);
            assert!(cells[0] < 255 && cells[1..].iter().all(|c| *c == 255), "{chunks}: {cells:?}");
        }
    }

    #[test]
    fn rates_follow_and_fade() {
        let mut seen = (0, 0);
        for n in 1..=20u64 {
            seen = (n * 1_000, next_rate(seen, n * 1_000, EVERY));
        }
        assert!((4_000..=5_000).contains(&seen.1), "1,000 bytes in 200 ms: {}", seen.1);
        for _ in 0..40 {
            seen.1 = next_rate(seen, seen.0, EVERY);
        }
        assert!(seen.1 < 100);
        assert!(next_rate((0, u64::MAX), u64::MAX, Duration::ZERO) > 0);
    }
}
