//! Ranking of endpoints by what was measured: round trip plus queue. Pure: it knows nothing of how anything is measured,
//! and takes its randomness from the caller.

use std::time::Duration;

use zero2ai_proto::NodeId;

/// A challenger must be better than the current endpoint by this much, in percent of the current cost, to replace it.
/// Smaller, and callers hop between equals with every jitter of the network; larger, and they stay with a slow one.
const HYSTERESIS_PERCENT: u128 = 20;

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
}

/// What each candidate costs, microseconds, in their order: round trip plus queue.
#[must_use]
pub fn costs(candidates: &[Candidate]) -> Vec<u128> {
    let mut known: Vec<Duration> = candidates.iter().filter_map(|c| c.rtt).collect();
    known.sort_unstable();
    // The lower median: an unknown endpoint is tried a little too early rather than never.
    let median = known.get(known.len().saturating_sub(1) / 2).copied().unwrap_or(UNKNOWN_RTT);
    let cost = |c: &Candidate| c.rtt.unwrap_or(median).as_micros() + u128::from(c.queue_us);
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

/// The candidate to use, by index: the `current` one, unless the best is better by a fifth; `None` if there are none.
#[must_use]
pub fn stay_or_move(candidates: &[Candidate], current: Option<NodeId>) -> Option<usize> {
    let best = *rank(candidates).first()?;
    let Some(held) = current.and_then(|node| candidates.iter().position(|c| c.node == node)) else {
        return Some(best);
    };
    let costs = costs(candidates);
    let clearly_better = costs[best] * 100 < costs[held] * (100 - HYSTERESIS_PERCENT);
    Some(if clearly_better { best } else { held })
}

/// Power of two choices: of two distinct candidates drawn by `random` the cheaper one, by index. Many callers who all know
/// the same best endpoint spread their load this way instead of falling on it together. `None` if there are none.
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
    drawn.into_iter().min_by_key(|&i| (costs[i], candidates[i].node, i))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::{collection::vec, option, prelude::*};
    use zero2ai_proto::PublicKey;

    use super::*;

    fn candidate(node: u8, rtt_us: Option<u64>, queue_us: u64) -> Candidate {
        Candidate { node: PublicKey([node; 32]), rtt: rtt_us.map(Duration::from_micros), queue_us }
    }

    /// Distinct nodes, small figures so that ties happen.
    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        vec((option::of(0..50_u64), 0..20_u64), 0..20).prop_map(|all| {
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
        fn whoever_stays_is_at_most_a_quarter_dearer_than_the_best(all in candidates(), held in 0..20_u8) {
            let current = Some(PublicKey([held; 32]));
            let costs = costs(&all);
            match stay_or_move(&all, current) {
                None => prop_assert!(all.is_empty()),
                Some(i) => prop_assert!(costs[i] * 80 <= costs[rank(&all)[0]] * 100),
            }
        }

        #[test]
        fn two_choices_never_takes_the_dearest_of_many(all in candidates(), random: u64) {
            match two_choices(&all, random) {
                None => prop_assert!(all.is_empty()),
                Some(i) => prop_assert!(all.len() == 1 || i != *rank(&all).last().unwrap()),
            }
        }
    }

    #[test]
    fn a_small_gain_does_not_move_a_caller_and_a_large_one_does() {
        let near = [candidate(1, Some(1_000), 0), candidate(2, Some(900), 0)];
        assert_eq!(stay_or_move(&near, Some(PublicKey([1; 32]))), Some(0));
        let far = [candidate(1, Some(1_000), 0), candidate(2, Some(700), 0)];
        assert_eq!(stay_or_move(&far, Some(PublicKey([1; 32]))), Some(1));
        assert_eq!(stay_or_move(&far, None), Some(1));
        assert_eq!(stay_or_move(&far, Some(PublicKey([9; 32]))), Some(1), "the held one is gone");
    }

    #[test]
    fn a_long_queue_outweighs_a_short_trip() {
        let all = [candidate(1, Some(200), 50_000), candidate(2, Some(20_000), 0)];
        assert_eq!(rank(&all), [1, 0]);
    }
}
