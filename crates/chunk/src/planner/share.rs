//! Who of several nodes that fetch the same model takes which chunk from a peer that holds everything, so that the origin
//! sends each chunk about once: the rest travels between those who fetch. Nobody has to talk about it: each chunk belongs to
//! the node with the highest hash of (node, chunk) (rendezvous hashing, Thaler and Ravishankar 1996), and the node with the
//! second highest helps out. Owners take theirs from the lowest chunk upwards and helpers from the highest downwards, so that
//! both ask for the same chunk only where they meet.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{Hash, Hasher},
};

/// A stable hash: the same on every node and in every build.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn key_of(peer: &impl Hash) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    peer.hash(&mut hasher);
    hasher.finish()
}

/// The finalizer of SplitMix64.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn weight(key: u64, chunk: u32) -> u64 {
    mix(key ^ mix(u64::from(chunk).wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// Chunks looked at in one search: with that many asked for or spread already, a search may as well give up until some arrive.
const LOOKED_AT: usize = 4_096;

/// The chunks that are this node's to take from an origin, among those who fetch at the same time.
#[derive(Debug)]
pub(super) struct Share<P> {
    me: u64,
    others: BTreeMap<P, u64>,
    chunks: u32,
    /// Where this node has the highest weight, ascending.
    mine: VecDeque<u32>,
    /// Where only one other node has a higher weight, descending.
    next: VecDeque<u32>,
}

impl<P: Copy + Ord + Hash> Share<P> {
    pub(super) fn new(me: P, chunks: u32) -> Self {
        Self { me: key_of(&me), others: BTreeMap::new(), chunks, mine: VecDeque::new(), next: VecDeque::new() }
    }

    /// Sets who else fetches. Costs a pass over all chunks and `others` when they changed, nothing else.
    pub(super) fn among(&mut self, others: &[P]) {
        if others.len() == self.others.len() && others.iter().all(|p| self.others.contains_key(p)) {
            return;
        }
        self.others = others.iter().map(|p| (*p, key_of(p))).collect();
        (self.mine, self.next) = (VecDeque::new(), VecDeque::new());
        for chunk in 0..self.chunks {
            let own = weight(self.me, chunk);
            match self.others.values().filter(|key| weight(**key, chunk) >= own).take(2).count() {
                0 => self.mine.push_back(chunk),
                1 => self.next.push_front(chunk),
                _ => {}
            }
        }
    }

    /// True if somebody else fetches too.
    pub(super) fn is_shared(&self) -> bool {
        !self.others.is_empty()
    }

    /// The first of this node's own chunks that is `wanted`.
    pub(super) fn own(&self, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        self.mine.iter().copied().take(LOOKED_AT).find(|c| wanted(*c))
    }

    /// Where this node would help out first.
    pub(super) fn to_help(&self, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        self.next.iter().copied().take(LOOKED_AT).find(|c| wanted(*c))
    }

    /// Forgets what has come at the front of each list, so that searches stay short.
    pub(super) fn forget(&mut self, is_here: impl Fn(u32) -> bool) {
        for list in [&mut self.mine, &mut self.next] {
            while list.front().is_some_and(|c| is_here(*c)) {
                list.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_belongs_to_exactly_one_and_the_parts_are_even() {
        let nodes: Vec<u32> = (0..8).collect();
        let shares = nodes.iter().map(|me| {
            let mut share = Share::new(*me, 2_000);
            share.among(&nodes.iter().copied().filter(|n| n != me).collect::<Vec<_>>());
            share
        });
        let shares: Vec<_> = shares.collect();
        for chunk in 0..2_000 {
            assert_eq!(shares.iter().filter(|s| s.mine.contains(&chunk)).count(), 1, "chunk {chunk}");
            assert_eq!(shares.iter().filter(|s| s.next.contains(&chunk)).count(), 1, "chunk {chunk}");
        }
        for share in &shares {
            assert!((180..320).contains(&share.mine.len()), "{} of 2000 chunks", share.mine.len());
        }
    }
}
