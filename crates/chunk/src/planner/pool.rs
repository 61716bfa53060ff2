//! The chunks that are still wanted, rarest first.

use std::collections::BTreeSet;

use crate::chunk_set::ChunkSet;

/// Free chunks looked at in order of rarity before a peer that holds little is searched by its own bit field instead.
const RAREST_LOOKED_AT: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Wanted, and nobody is asked.
    Free,
    /// Somebody is asked.
    Asked,
    Held,
}

#[derive(Debug)]
struct Chunk {
    state: State,
    /// Peers that hold it, without those that hold everything: they change no order.
    holders: u32,
    /// Random, so that nodes that start together do not all want the same one of equally rare chunks.
    tie: u32,
}

#[derive(Debug)]
pub(super) struct Pool {
    chunks: Vec<Chunk>,
    /// (holders, tie, chunk) of every free chunk.
    free: BTreeSet<(u32, u32, u32)>,
    missing: u32,
    /// The lowest chunk that is not here.
    lowest: u32,
    epoch: u64,
    random: u64,
}

impl Pool {
    pub(super) fn new(seed: u64, held: &ChunkSet) -> Self {
        let mut pool =
            Self { chunks: Vec::new(), free: BTreeSet::new(), missing: 0, lowest: 0, epoch: 0, random: seed };
        for chunk in 0..held.chunks() {
            let tie = (pool.next_random() >> 32) as u32;
            let state = if held.contains(chunk) { State::Held } else { State::Free };
            if state == State::Free {
                pool.free.insert((0, tie, chunk));
                pool.missing += 1;
            }
            pool.chunks.push(Chunk { state, holders: 0, tie });
        }
        pool.advance();
        pool
    }

    pub(super) fn chunks(&self) -> u32 {
        u32::try_from(self.chunks.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn missing(&self) -> u32 {
        self.missing
    }

    /// Changes whenever a chunk becomes free.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn count_in(&mut self, held: &ChunkSet) {
        self.count(held, |holders| holders.saturating_add(1));
    }

    pub(super) fn count_out(&mut self, held: &ChunkSet) {
        self.count(held, |holders| holders.saturating_sub(1));
    }

    fn count(&mut self, held: &ChunkSet, change: impl Fn(u32) -> u32) {
        if held.is_full() {
            return;
        }
        for (nth, chunk) in (0u32..).zip(&mut self.chunks) {
            if !held.contains(nth) {
                continue;
            }
            let was_free = self.free.remove(&(chunk.holders, chunk.tie, nth));
            chunk.holders = change(chunk.holders);
            if was_free {
                self.free.insert((chunk.holders, chunk.tie, nth));
            }
        }
    }

    /// One more of those who lack chunks holds `chunk`.
    pub(super) fn count_one_in(&mut self, chunk: u32) {
        self.count_one(chunk, |holders| holders.saturating_add(1));
    }

    /// One fewer of those who lack chunks holds `chunk`.
    pub(super) fn count_one_out(&mut self, chunk: u32) {
        self.count_one(chunk, |holders| holders.saturating_sub(1));
    }

    fn count_one(&mut self, nth: u32, change: impl Fn(u32) -> u32) {
        let Some(chunk) = self.chunks.get_mut(nth as usize) else { return };
        let was_free = self.free.remove(&(chunk.holders, chunk.tie, nth));
        chunk.holders = change(chunk.holders);
        if was_free {
            self.free.insert((chunk.holders, chunk.tie, nth));
        }
    }

    /// The lowest chunk that is not here; the number of chunks once all are.
    pub(super) fn lowest(&self) -> u32 {
        self.lowest
    }

    fn advance(&mut self) {
        let held = |c: &Chunk| c.state == State::Held;
        while self.chunks.get(self.lowest as usize).is_some_and(held) {
            self.lowest += 1;
        }
    }

    /// The rarest free chunk in `held` among the `window` lowest that are not here.
    pub(super) fn choose_low(&self, held: &ChunkSet, window: u32) -> Option<u32> {
        let low = (self.lowest..self.chunks()).take(window as usize).filter(|c| held.contains(*c));
        let free = low.filter_map(|c| self.chunks.get(c as usize).map(|chunk| (c, chunk)));
        let free = free.filter(|(_, chunk)| chunk.state == State::Free);
        free.min_by_key(|(c, chunk)| (chunk.holders, *c)).map(|(c, _)| c)
    }

    /// The first free chunk in `held` that is not below `start`.
    pub(super) fn first_from(&self, held: &ChunkSet, start: u32) -> Option<u32> {
        let free = |c: &u32| self.chunks.get(*c as usize).is_some_and(|chunk| chunk.state == State::Free);
        (start..self.chunks()).filter(|c| held.contains(*c)).find(free)
    }

    /// True if `chunk` is free, and nobody who lacks chunks holds it.
    pub(super) fn is_unspread(&self, chunk: u32) -> bool {
        self.chunks.get(chunk as usize).is_some_and(|c| c.state == State::Free && c.holders == 0)
    }

    /// True if `chunk` is here.
    pub(super) fn is_here(&self, chunk: u32) -> bool {
        self.chunks.get(chunk as usize).is_some_and(|c| c.state == State::Held)
    }

    /// A free chunk that is in `held`: any, or one of the rarest.
    pub(super) fn choose(&mut self, held: &ChunkSet, any: bool) -> Option<u32> {
        if !any {
            let rarest = self.free.iter().take(RAREST_LOOKED_AT).find(|(_, _, chunk)| held.contains(*chunk));
            if let Some((_, _, chunk)) = rarest {
                return Some(*chunk);
            }
        }
        let count = self.chunks();
        let start = u32::try_from(self.next_random() % u64::from(count.max(1))).unwrap_or(0);
        let is_free = |c: &u32| self.chunks.get(*c as usize).is_some_and(|chunk| chunk.state == State::Free);
        (start..count).chain(0..start).filter(|c| held.contains(*c)).find(is_free)
    }

    /// Somebody is being asked for `chunk`.
    pub(super) fn reserve(&mut self, chunk: u32) {
        self.change(chunk, State::Free, State::Asked);
    }

    /// Nobody is asked for `chunk` any more.
    pub(super) fn release(&mut self, chunk: u32) {
        self.change(chunk, State::Asked, State::Free);
    }

    /// `chunk` is here; false if it was before.
    pub(super) fn take(&mut self, chunk: u32) -> bool {
        let taken = self.change(chunk, State::Free, State::Held) || self.change(chunk, State::Asked, State::Held);
        self.missing -= u32::from(taken);
        self.advance();
        taken
    }

    fn change(&mut self, nth: u32, from: State, to: State) -> bool {
        let Some(chunk) = self.chunks.get_mut(nth as usize).filter(|c| c.state == from) else { return false };
        chunk.state = to;
        let place = (chunk.holders, chunk.tie, nth);
        self.free.remove(&place);
        if to == State::Free {
            self.free.insert(place);
            self.epoch += 1;
        }
        true
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): order of chunks, nothing secret.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
