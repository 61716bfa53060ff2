//! Who grades, who judges, and what is opened, out of a seed that nobody chose. Owns the chain of seeds, the draw by stake and the
//! draw of leaves; the verification of VRF proofs stands before it.
//!
//! **The seed.** Every proposer adds the output of a VRF (RFC 9381) over the seed before to the chain of seeds. The output is
//! fixed by his key, so that he cannot choose it; a job uses the seed some blocks after it was opened. *Residual bias*: a proposer may
//! withhold his block, and the next one's output takes its place. So each block that is withheld lets a cabal choose between two
//! draws: one bit. What it wants and would get with probability p, it gets with at most 1 − (1 − p)² after one, 1 − (1 − p)^(2^k)
//! if it withholds up to k blocks in a row, losing their fees. It can never do more than choose between outputs that were fixed before.
//!
//! **Few signers.** Below [`RANDOM_SIGNERS`] signers one of them has a say in nearly every block: then the committee is called
//! appointed, never random.
//!
//! **The draw.** By stake, without replacement. A validator's vote then weighs stake × reputation. Splitting a stake does not
//! gain: whole, its owner votes with all of it whenever he is drawn; in parts only with those that are drawn, and a part is drawn
//! no more often than the whole. (Joining stakes does gain a little, as it does wherever seats are drawn without replacement.)

use std::collections::{BTreeMap, BTreeSet};

use zero2ai_proto::{Digest, NodeId, ids::tagged_hash};

use crate::{PPM, sortition::Draws};

/// Signers from which on a committee may be called random.
pub const RANDOM_SIGNERS: usize = 4;
/// Seats of a committee at most.
pub const SEATS: usize = 1_024;
/// Leaves that are drawn for one opening at most.
pub const LEAVES: u32 = 4_096;

const SEED: &str = "zero2ai committee seed v1";
const DRAW: &str = "zero2ai committee draw v1";
const CHALLENGE: &str = "zero2ai leaf challenge v1";

/// How a committee came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Out of a seed that at least four signers added to.
    Random,
    /// Too few signers for that word.
    Appointed,
}

/// How a committee of a pool with so many signers comes about.
#[must_use]
pub const fn selection(signers: usize) -> Selection {
    if signers < RANDOM_SIGNERS { Selection::Appointed } else { Selection::Random }
}

/// The seed after the block at `height`, whose proposer's VRF output (64 bytes in RFC 9381's Ed25519 suites) was verified.
#[must_use]
pub fn next_seed(seed: &Digest, height: u64, output: &[u8]) -> Digest {
    let bytes = [seed.as_bytes().as_slice(), &height.to_le_bytes(), output].concat();
    Digest(tagged_hash(SEED, &bytes))
}

/// Draws up to `seats` (at most [`SEATS`]) of the candidates for the job `job`, each next one by stake among those left; in the order drawn.
/// The candidates' order does not matter; one told twice has the sum of both stakes; one without stake is never drawn. Whoever must not sit
/// (the publisher, the parties) is left out by the caller.
#[must_use]
pub fn draw(seed: &Digest, job: &[u8], candidates: &[(NodeId, u64)], seats: usize) -> Vec<NodeId> {
    let mut left: BTreeMap<NodeId, u128> = BTreeMap::new();
    for (node, stake) in candidates.iter().filter(|(_, stake)| *stake > 0) {
        *left.entry(*node).or_default() += u128::from(*stake);
    }
    let mut total: u128 = left.values().sum();
    let mut draws = Draws::new(DRAW, seed, job);
    let mut drawn = Vec::new();
    while drawn.len() < seats.min(SEATS) && !left.is_empty() {
        let mut ticket = draws.below(total);
        let holder = left.iter().find(|(_, stake)| match ticket.checked_sub(**stake) {
            Some(less) => {
                ticket = less;
                false
            }
            None => true,
        });
        let Some((node, stake)) = holder.map(|(node, stake)| (*node, *stake)) else { break };
        left.remove(&node);
        total = total.saturating_sub(stake);
        drawn.push(node);
    }
    drawn
}

/// Whether one endorsement must be opened, with probability `rate_ppm`, by a seed from after its reveal; `job` names the round.
#[must_use]
pub fn is_challenged(seed: &Digest, job: &[u8], validator: &NodeId, rate_ppm: u32) -> bool {
    draws_of(seed, job, validator, b"whether").below(u128::from(PPM)) < u128::from(rate_ppm)
}

/// The places of the leaves to open: `count` different ones (at most [`LEAVES`]) of `samples`, ascending; all if there are
/// no more than that. By Floyd's algorithm (Bentley, "Programming Pearls: a sample of brilliance", 1987).
#[must_use]
pub fn leaves(seed: &Digest, job: &[u8], validator: &NodeId, samples: u32, count: u32) -> Vec<u32> {
    let count = count.min(LEAVES).min(samples);
    let mut draws = draws_of(seed, job, validator, b"leaves");
    let mut chosen = BTreeSet::new();
    for last in samples - count..samples {
        let place = u32::try_from(draws.below(u128::from(last) + 1)).unwrap_or(last);
        if !chosen.insert(place) {
            chosen.insert(last);
        }
    }
    chosen.into_iter().collect()
}

fn draws_of(seed: &Digest, job: &[u8], validator: &NodeId, end: &[u8]) -> Draws {
    Draws::new(CHALLENGE, seed, &[validator.0.as_slice(), end, job].concat())
}
