//! Who is elected a validator, and how standing moves power. Owns the count of votes and the step of an epoch.

use std::{cmp::Reverse, collections::BTreeMap};

use zero2ai_proto::NodeId;

use crate::PPM;

/// How far standing moves a signer's power in one epoch at most, millionths of what it had.
pub const STEP_PPM: u32 = 50_000;

/// Elects up to `seats` by stake: every account's stake stands behind one candidate; seats go to those with the most, equal ones to
/// the lower key. Votes behind nobody (no stake) elect nobody. Their order does not matter, and stake in parts elects what it
/// elects whole: one voice per unit of stake keeps a bare majority from taking more seats than its stake can fill.
#[must_use]
pub fn elect(votes: &[(NodeId, u64)], seats: usize) -> Vec<(NodeId, u128)> {
    let mut behind: BTreeMap<NodeId, u128> = BTreeMap::new();
    for (candidate, stake) in votes.iter().filter(|(_, stake)| *stake > 0) {
        *behind.entry(*candidate).or_default() += u128::from(*stake);
    }
    let mut elected: Vec<_> = behind.into_iter().collect();
    elected.sort_by_key(|(candidate, stake)| (Reverse(*stake), *candidate));
    elected.truncate(seats);
    elected
}

/// A signer's power after an epoch: moved towards better standing by how much its weight differs from the signers' mean, by at
/// most [`STEP_PPM`] of what it had, never to nothing. Off unless a pool asks for it, and never in private pools: a caller's decision.
#[must_use]
pub fn step_power(power: u64, standing_ppm: u32, mean_ppm: u32) -> u64 {
    let moved = |by: u32| {
        let part = u128::from(power) * u128::from(by.min(STEP_PPM)) / u128::from(PPM);
        u64::try_from(part).unwrap_or(0)
    };
    let up = power.saturating_add(moved(standing_ppm.saturating_sub(mean_ppm)));
    let down = up.saturating_sub(moved(mean_ppm.saturating_sub(standing_ppm)));
    down.max(power.min(1))
}
