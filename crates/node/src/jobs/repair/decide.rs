//! Who makes the next copy, when, and where: pure, and the same on every node that sees the same.

use std::time::Duration;

use zero2ai_proto::{ManifestId, NodeId};

/// What a node knows of one version.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) me: NodeId,
    pub(super) manifest: ManifestId,
    /// Copies there should be.
    pub(super) wanted: u32,
    /// Nodes that are up and hold all of it, `me` among them.
    pub(super) holders: Vec<NodeId>,
    /// Nodes that are up and could hold it.
    pub(super) candidates: Vec<NodeId>,
}

/// How patient repair is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Milliseconds for which copies must be too few before the first holder acts.
    pub(super) grace_ms: u64,
    /// Milliseconds between one holder's turn and the next one's: time to make a copy and to be seen to have it.
    pub(super) step_ms: u64,
}

impl Pace {
    /// Turns at a quarter of the time for which copies must be too few, a minute at least: or as long as that time, if it is
    /// shorter than a minute. Who sets it so short has copies that are made in seconds.
    pub(super) fn after(grace: Duration) -> Self {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        Self { grace_ms, step_ms: (grace_ms / 4).max(grace_ms.clamp(1_000, 60_000)) }
    }
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// There are enough copies.
    Enough,
    /// Too few, and it is not this node's turn yet.
    Wait,
    /// Too few, and nobody could hold one more.
    Nobody,
    /// Ask these to hold one.
    Ask(Vec<NodeId>),
}

/// A hash of (manifest, node, salt): FNV-1a, then the finalizer of SplitMix64. The same in every build.
fn weight(manifest: &ManifestId, node: &NodeId, salt: u8) -> u64 {
    let bytes = manifest.0.iter().chain(&node.0).chain(std::iter::once(&salt));
    let z = bytes.fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `nodes` in the order in which they are to hold `manifest`: the same wherever it is computed, another for each manifest.
pub(super) fn in_turn(manifest: &ManifestId, mut nodes: Vec<NodeId>) -> Vec<NodeId> {
    nodes.sort_by_key(|node| (weight(manifest, node, 0), *node));
    nodes.dedup();
    nodes
}

/// What `view.me` does at `now_ms` about copies that are too few since `short_since_ms`.
pub(super) fn decide(view: &View, pace: Pace, short_since_ms: u64, now_ms: u64) -> Decision {
    let holders = in_turn(&view.manifest, view.holders.clone());
    let missing = (view.wanted as usize).saturating_sub(holders.len());
    if missing == 0 {
        return Decision::Enough;
    }
    // Not among the holders, as far as it knows: behind all of them.
    let rank = holders.iter().position(|n| *n == view.me).unwrap_or(holders.len()) as u64;
    let jitter = weight(&view.manifest, &view.me, 1) % (pace.step_ms / 2).max(1);
    let due = short_since_ms
        .saturating_add(pace.grace_ms)
        .saturating_add(rank.saturating_mul(pace.step_ms))
        .saturating_add(jitter);
    if now_ms < due {
        return Decision::Wait;
    }
    let mut nodes = in_turn(&view.manifest, view.candidates.clone());
    nodes.retain(|n| !holders.contains(n) && *n != view.me);
    nodes.truncate(missing);
    if nodes.is_empty() { Decision::Nobody } else { Decision::Ask(nodes) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use zero2ai_proto::PublicKey;

    use super::*;

    const PACE: Pace = Pace { grace_ms: 100_000, step_ms: 40_000 };

    fn node(n: u8) -> NodeId {
        PublicKey([n; 32])
    }

    fn nodes(list: &BTreeSet<u8>) -> Vec<NodeId> {
        list.iter().map(|n| node(*n)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn few_act_at_once_all_ask_the_same_and_never_for_more_than_is_missing(
            manifest in any::<[u8; 32]>(),
            holders in prop::collection::btree_set(0u8..100, 1..20),
            candidates in prop::collection::btree_set(100u8..200, 0..20),
            wanted in 0u32..12,
            waited in 0u64..1_000_000,
        ) {
            let view = |me: u8| View {
                me: node(me),
                manifest: ManifestId(manifest),
                wanted,
                holders: nodes(&holders),
                candidates: nodes(&candidates),
            };
            let decisions: Vec<_> = holders.iter().map(|me| decide(&view(*me), PACE, 5_000, 5_000 + waited)).collect();
            let missing = (wanted as usize).saturating_sub(holders.len());
            let acting = decisions.iter().filter(|d| !matches!(d, Decision::Wait | Decision::Enough)).count() as u64;
            if missing == 0 {
                prop_assert!(decisions.iter().all(|d| *d == Decision::Enough));
            } else {
                // One more each step; nobody within the grace; the first at the latest half a step after it.
                let after = waited.saturating_sub(PACE.grace_ms);
                prop_assert!(acting <= after / PACE.step_ms + 1 && (waited >= PACE.grace_ms || acting == 0));
                prop_assert!(acting >= 1 || waited < PACE.grace_ms + PACE.step_ms / 2);
            }
            let asked: BTreeSet<_> = decisions.iter().filter_map(|d| match d {
                Decision::Ask(nodes) => Some(nodes.clone()),
                _ => None,
            }).collect();
            prop_assert!(asked.len() <= 1, "all ask the same nodes");
            for nodes in asked {
                prop_assert!(nodes.len() == missing.min(candidates.len()));
                prop_assert!(nodes.iter().all(|n| candidates.contains(&n.0[0])));
                prop_assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), nodes.len());
            }
        }

        /// A pool in virtual time: 20 nodes, 10 models of 3 copies each; some nodes die at once.
        #[test]
        fn a_pool_heals_without_a_storm(dead in prop::collection::btree_set(0u8..20, 1..6), seed in any::<u8>()) {
            let manifests: Vec<_> = (0..10u8).map(|n| ManifestId([n ^ seed; 32])).collect();
            let all: Vec<NodeId> = (0..20).map(node).collect();
            let first = |m: &ManifestId| in_turn(m, all.clone()).into_iter().take(3).collect::<BTreeSet<_>>();
            let mut held: BTreeMap<_, BTreeSet<NodeId>> = manifests.iter().map(|m| (*m, first(m))).collect();
            let up: Vec<NodeId> = all.iter().copied().filter(|n| !dead.contains(&n.0[0])).collect();
            let (mut asked, mut lost, mut running) = (0usize, 0usize, Vec::new());
            for holders in held.values_mut() {
                holders.retain(|n| up.contains(n));
                lost += if holders.is_empty() { 0 } else { 3 - holders.len() };
            }
            for now in (0..400_000u64).step_by(20_000) {
                running.retain(|(done, manifest, target)| {
                    if *done <= now {
                        held.get_mut(manifest).unwrap().insert(*target);
                    }
                    *done > now
                });
                for (manifest, holders) in &held {
                    for me in holders {
                        let candidates = up.iter().copied().filter(|n| !holders.contains(n)).collect();
                        let holders = holders.iter().copied().collect();
                        let view = View { me: *me, manifest: *manifest, wanted: 3, holders, candidates };
                        if let Decision::Ask(nodes) = decide(&view, PACE, 0, now) {
                            for target in nodes {
                                // A holder waits for its own requests before it looks again.
                                if !running.contains(&(now + 30_000, *manifest, target))
                                    && !running.iter().any(|(_, m, t)| (m, t) == (manifest, &target))
                                {
                                    asked += 1;
                                    running.push((now + 30_000, *manifest, target));
                                }
                            }
                        }
                    }
                }
            }
            for (manifest, holders) in &held {
                let was = first(manifest).iter().any(|n| up.contains(n));
                prop_assert_eq!(holders.len(), if was { 3 } else { 0 });
            }
            prop_assert_eq!(asked, lost, "each lost copy is made once");
        }
    }
}
