//! Who of several nodes that fetch the same model takes which chunk from a peer that holds everything, so that the origin
//! sends each chunk about once: the rest travels between those who fetch. Nobody has to talk about it: each chunk belongs to
//! the node with the highest hash of (node, chunk) (rendezvous hashing, Thaler and Ravishankar 1996).

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

use crate::chunk_set::ChunkSet;

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

/// The chunks that are this node's to take from an origin, among those who fetch at the same time.
#[derive(Debug)]
pub(super) struct Share<P> {
    me: u64,
    others: BTreeMap<P, u64>,
    mine: ChunkSet,
}

impl<P: Copy + Ord + Hash> Share<P> {
    pub(super) fn new(me: P, chunks: u32) -> Self {
        Self { me: key_of(&me), others: BTreeMap::new(), mine: ChunkSet::full(chunks as usize) }
    }

    /// Sets who else fetches. Costs a pass over all chunks and `others` when they changed, nothing else.
    pub(super) fn among(&mut self, others: &[P]) {
        if others.len() == self.others.len() && others.iter().all(|p| self.others.contains_key(p)) {
            return;
        }
        self.others = others.iter().map(|p| (*p, key_of(p))).collect();
        let chunks = self.mine.chunks();
        self.mine = ChunkSet::empty(chunks as usize);
        for chunk in 0..chunks {
            let own = weight(self.me, chunk);
            if self.others.values().all(|key| weight(*key, chunk) < own) {
                self.mine.insert(chunk);
            }
        }
    }

    /// True if somebody else fetches too.
    pub(super) fn is_shared(&self) -> bool {
        !self.others.is_empty()
    }

    pub(super) fn is_mine(&self, chunk: u32) -> bool {
        self.mine.contains(chunk)
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
            assert_eq!(shares.iter().filter(|s| s.is_mine(chunk)).count(), 1, "chunk {chunk}");
        }
        for share in &shares {
            assert!((180..320).contains(&share.mine.count()), "{} of 2000 chunks", share.mine.count());
        }
    }
}
