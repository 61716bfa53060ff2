//! Ranking of endpoints by what was measured, round trip plus queue, and by what the caller wishes ([`Wishes`]: regions, prices, nodes).
//! Pure: it knows nothing of how anything is measured, and takes its randomness from the caller. It knows no trust: a score is of
//! a version, whoever serves it.

mod wishes;

use std::time::Duration;

use zero2ai_proto::NodeId;

pub use wishes::{Offer, Wishes};

/// A challenger must be better than the current endpoint by this much, in percent of the current cost, to replace it.
/// Smaller, and callers hop between equals with every jitter of the network; larger, and they stay with a slow one.
const HYSTERESIS_PERCENT: u128 = 20;
/// And by this much, microseconds: less is the scheduling of a busy machine, and a new connection costs more than it saves.
const HYSTERESIS_US: u128 = 3_000;

/// The round trip assumed while none at all is known.
const UNKNOWN_RTT: Duration = Duration::from_millis(100);

/// One endpoint, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Measured round trip; `None` if it was never measured: taken as the median of the known ones.
    pub rtt: Option<Duration>,
    /// Expected wait before its work starts, microseconds: what the node itself says.
    pub queue_us: u64,
    /// What the caller's wishes add, microseconds: see [`Wishes::extra_us`].
    pub extra_us: u64,
}

/// What each candidate costs, microseconds, in their order: round trip, queue, and what the wishes add.
#[must_use]
pub fn costs(candidates: &[Candidate]) -> Vec<u128> {
    let mut known: Vec<Duration> = candidates.iter().filter_map(|c| c.rtt).collect();
    known.sort_unstable();
    // The lower median: an unknown endpoint is tried a little too early rather than never.
    let median = known.get(known.len().saturating_sub(1) / 2).copied().unwrap_or(UNKNOWN_RTT);
    let cost = |c: &Candidate| c.rtt.unwrap_or(median).as_micros() + u128::from(c.queue_us) + u128::from(c.extra_us);
    candidates.iter().map(cost).collect()
}

/// Indices of the candidates, cheapest first. Ties go by node, so that the order of the input does not matter.
#[must_use]
pub fn rank(candidates: &[Candidate]) -> Vec<usize> {
    let costs = costs(candidates);
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&i| (costs[i], candidates[i].node, i));
    order
}

/// True if a cost is so little above the best one that nobody should move for it.
const fn is_near(cost: u128, best: u128) -> bool {
    best + HYSTERESIS_US >= cost || best.saturating_mul(100) >= cost.saturating_mul(100 - HYSTERESIS_PERCENT)
}

/// The candidate to use, by index: the `current` one while it is about as good as the best; else, of those that are, the
/// cheaper of two drawn by `random` (power of two choices: Mitzenmacher, IEEE TPDS 12(10), 2001), so that callers who all
/// know the same figures do not fall on one endpoint together. `None` if there are none.
#[must_use]
pub fn choose(candidates: &[Candidate], current: Option<NodeId>, random: u64) -> Option<usize> {
    let costs = costs(candidates);
    let best = *costs.iter().min()?;
    let near: Vec<usize> = (0..candidates.len()).filter(|&i| is_near(costs[i], best)).collect();
    if let Some(stays) = near.iter().copied().find(|&i| Some(candidates[i].node) == current) {
        return Some(stays);
    }
    let among: Vec<Candidate> = near.iter().map(|&i| candidates[i]).collect();
    two_choices(&among, random).map(|i| near[i])
}

/// The candidate to use, by index: the `current` one, unless the best is clearly better; `None` if there are none.
#[must_use]
pub fn stay_or_move(candidates: &[Candidate], current: Option<NodeId>) -> Option<usize> {
    let best = *rank(candidates).first()?;
    let Some(held) = current.and_then(|node| candidates.iter().position(|c| c.node == node)) else {
        return Some(best);
    };
    let costs = costs(candidates);
    Some(if is_near(costs[held], costs[best]) { held } else { best })
}

/// Power of two choices: of two distinct candidates drawn by `random` the cheaper one, by index. Many callers who all know
/// the same best endpoint spread their load this way instead of falling on it together. Of equals it is the one drawn first. `None`
/// if there are none.
#[must_use]
pub fn two_choices(candidates: &[Candidate], random: u64) -> Option<usize> {
    let count = u64::try_from(candidates.len()).ok().filter(|n| *n > 0)?;
    let first = random % count;
    let second = match count {
        1 => first,
        // From 1 to count - 1 places further, so never the first again.
        _ => (first + 1 + (random / count) % (count - 1)) % count,
    };
    let drawn = [usize::try_from(first).ok()?, usize::try_from(second).ok()?];
    let costs = costs(candidates);
    drawn.into_iter().min_by_key(|&i| costs[i])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::{collection::vec, option, prelude::*};
    use zero2ai_proto::PublicKey;

    use super::*;

    fn candidate(node: u8, rtt_us: Option<u64>, queue_us: u64) -> Candidate {
        Candidate { node: PublicKey([node; 32]), rtt: rtt_us.map(Duration::from_micros), queue_us, extra_us: 0 }
    }

    /// Distinct nodes, small figures so that ties happen.
    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        vec((option::of(0..50_000_u64), 0..20_000_u64), 0..20).prop_map(|all| {
            let numbered = all.into_iter().zip(0..);
            numbered.map(|((rtt, queue), node)| candidate(node, rtt, queue)).collect()
        })
    }

    proptest! {
        #[test]
        fn the_order_of_the_input_does_not_matter(all in candidates(), turn in 0..20_usize) {
            let nodes = |c: &[Candidate]| rank(c).into_iter().map(|i| c[i].node).collect::<Vec<_>>();
            let before = nodes(&all);
            let mut turned = all;
            let by = turn.min(turned.len());
            turned.rotate_left(by);
            turned.reverse();
            prop_assert_eq!(nodes(&turned), before);
        }

        #[test]
        fn a_ranking_is_a_permutation_in_order_of_cost(all in candidates()) {
            let (order, costs) = (rank(&all), costs(&all));
            prop_assert!(order.is_sorted_by_key(|&i| costs[i]));
            let mut seen = order;
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..all.len()).collect::<Vec<_>>());
        }

        #[test]
        fn an_unknown_round_trip_stands_between_the_known(mut all in candidates()) {
            all.push(candidate(200, Some(7), 0));
            all.push(candidate(201, None, 0));
            let known: Vec<u128> = all.iter().filter_map(|c| c.rtt).map(|d| d.as_micros()).collect();
            let unknown = *costs(&all).last().unwrap();
            prop_assert!((*known.iter().min().unwrap()..=*known.iter().max().unwrap()).contains(&unknown));
        }

        #[test]
        fn whoever_stays_is_at_most_a_quarter_or_three_ms_dearer_than_the_best(all in candidates(), held in 0..20_u8) {
            let current = Some(PublicKey([held; 32]));
            let costs = costs(&all);
            match stay_or_move(&all, current) {
                None => prop_assert!(all.is_empty()),
                Some(i) => {
                    let best = costs[rank(&all)[0]];
                    prop_assert!(costs[i] * 80 <= best * 100 || costs[i] <= best + HYSTERESIS_US);
                }
            }
        }

        #[test]
        fn whatever_is_chosen_is_near_the_best_and_who_is_near_stays(
            all in candidates(), held in 0..20_u8, random: u64,
        ) {
            let current = PublicKey([held; 32]);
            let costs = costs(&all);
            let near = |i: usize| is_near(costs[i], costs[rank(&all)[0]]);
            match choose(&all, Some(current), random) {
                None => prop_assert!(all.is_empty()),
                Some(i) => {
                    prop_assert!(near(i));
                    let stays = all.iter().position(|c| c.node == current).filter(|&i| near(i));
                    prop_assert!(stays.is_none_or(|stays| stays == i));
                }
            }
        }

        #[test]
        fn callers_of_equals_spread(count in 2..9_u8) {
            let all: Vec<_> = (0..count).map(|n| candidate(n, Some(10_000), 0)).collect();
            let chosen: std::collections::BTreeSet<_> =
                (0..64_u64).filter_map(|n| choose(&all, None, n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
            prop_assert_eq!(chosen.len(), usize::from(count));
        }

        #[test]
        fn two_choices_never_takes_the_dearest_of_many(all in candidates(), random: u64) {
            match two_choices(&all, random) {
                None => prop_assert!(all.is_empty()),
                Some(i) => {
                    let costs = costs(&all);
                    prop_assert!(all.len() == 1 || (0..all.len()).any(|j| j != i && costs[j] >= costs[i]));
                }
            }
        }
    }

    #[test]
    fn a_small_gain_does_not_move_a_caller_and_a_large_one_does() {
        let near = [candidate(1, Some(10_000), 0), candidate(2, Some(9_000), 0)];
        assert_eq!(stay_or_move(&near, Some(PublicKey([1; 32]))), Some(0));
        let lan = [candidate(1, Some(3_000), 0), candidate(2, Some(300), 0)];
        assert_eq!(stay_or_move(&lan, Some(PublicKey([1; 32]))), Some(0), "three milliseconds are noise");
        let far = [candidate(1, Some(10_000), 0), candidate(2, Some(6_000), 0)];
        assert_eq!(stay_or_move(&far, Some(PublicKey([1; 32]))), Some(1));
        assert_eq!(stay_or_move(&far, None), Some(1));
        assert_eq!(stay_or_move(&far, Some(PublicKey([9; 32]))), Some(1), "the held one is gone");
    }

    #[test]
    fn what_the_caller_wishes_outweighs_a_short_trip() {
        let mut all = [candidate(1, Some(200), 0), candidate(2, Some(20_000), 0)];
        assert_eq!(rank(&all), [0, 1]);
        all[0].extra_us = 50_000;
        assert_eq!((rank(&all), choose(&all, None, 0)), (vec![1, 0], Some(1)));
    }

    #[test]
    fn a_long_queue_outweighs_a_short_trip() {
        let all = [candidate(1, Some(200), 50_000), candidate(2, Some(20_000), 0)];
        assert_eq!(rank(&all), [1, 0]);
    }
}
