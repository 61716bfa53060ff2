//! The round score: order-free, monotone, and out of a minority's reach.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use zero2ai_proto::{Digest, state::Verdict, tx::Thresholds};
use zero2ai_trust::{Vote, conflicts, round_score, verdict};

fn vote(root: u8, weight: u64, quality_ppm: u32) -> Vote {
    Vote { weight, quality_ppm, dataset_root: Digest([root; 32]), samples: 100, height: 1, index: u32::from(root) }
}

fn votes() -> impl Strategy<Value = Vec<Vote>> {
    let one =
        (0u8..12, 0u64..5, 0u32..=1_000_000, 1u32..1_000, 1u64..4).prop_map(|(root, weight, q, samples, height)| {
            Vote { weight, quality_ppm: q, dataset_root: Digest([root; 32]), samples, height, index: 0 }
        });
    proptest::collection::vec(one, 0..24)
}

#[test]
fn verdicts_follow_the_thresholds() {
    let marks = Thresholds { accept_ppm: 900_000, reject_ppm: 700_000 };
    for (quality, expected) in [
        (1_000_000, Verdict::Positive),
        (900_000, Verdict::Positive),
        (899_999, Verdict::Abstain),
        (700_001, Verdict::Abstain),
        (700_000, Verdict::Negative),
        (0, Verdict::Negative),
    ] {
        assert_eq!(verdict(quality, marks), expected, "at {quality}");
    }
}

#[test]
fn the_score_is_the_weighted_median_of_three_datasets_or_more() {
    assert_eq!(round_score(&[vote(1, 1, 9), vote(2, 1, 8)]).score_ppm, None);
    assert_eq!(round_score(&[vote(1, 1, 9), vote(2, 1, 8), vote(3, 1, 1)]).score_ppm, Some(8));
    assert_eq!(round_score(&[vote(1, 1, 9), vote(2, 1, 8), vote(3, 1, 7), vote(4, 1, 6)]).score_ppm, Some(8));
    assert_eq!(round_score(&[vote(1, 1, 9), vote(2, 1, 8), vote(3, 9, 1)]).score_ppm, Some(1));
    assert_eq!(round_score(&[]).datasets, 0);
}

#[test]
fn one_dataset_counts_once() {
    let parts = round_score(&[vote(1, 1, 9), vote(1, 1, 5), vote(2, 1, 8), vote(2, 1, 8)]);
    assert_eq!((parts.score_ppm, parts.datasets, parts.samples), (None, 2, 200));
    let copied_later = Vote { height: 2, quality_ppm: 0, ..vote(1, 1, 0) };
    let honest = [vote(1, 1, 9), vote(2, 1, 8), vote(3, 1, 7)];
    let with_copy = [honest.as_slice(), &[copied_later]].concat();
    assert_eq!(round_score(&with_copy), round_score(&honest), "a later copy of a root changes nothing");
    let heavier = Vote { height: 2, ..vote(1, 1_000, 1) };
    let with_heavier = [honest.as_slice(), &[heavier]].concat();
    assert_eq!(round_score(&with_heavier), round_score(&honest), "not even a heavy one");
    let same_block = Vote { index: 2, ..vote(1, 1_000, 1) };
    assert_eq!(round_score(&[&[same_block], honest.as_slice()].concat()), round_score(&honest));
    assert_eq!(conflicts(&with_heavier), [honest[0].dataset_root]);
    assert_eq!(conflicts(&honest), []);
}

proptest! {
    #[test]
    fn order_does_not_matter(votes in votes(), seed in any::<u64>()) {
        let mut shuffled = votes.clone();
        for i in (1..shuffled.len()).rev() {
            let j = (seed.rotate_left(i as u32 % 64) % (i as u64 + 1)) as usize;
            shuffled.swap(i, j);
        }
        prop_assert_eq!(round_score(&votes), round_score(&shuffled));
    }

    #[test]
    fn a_minority_stays_inside_the_honest_range(
        honest in proptest::collection::vec((1u64..10, 300_000u32..800_000), 3..10),
        attack in proptest::collection::vec((1u64..10, 0u32..=1_000_000), 0..10),
    ) {
        let honest: Vec<Vote> = honest.iter().zip(0u8..).map(|((w, q), root)| vote(root, *w, *q)).collect();
        let power: u64 = honest.iter().map(|v| v.weight).sum();
        let mut used = 0;
        let attack = attack.iter().zip(100u8..).map(|((w, q), root)| vote(root, *w, *q)).take_while(|v| {
            used += v.weight;
            used < power
        });
        let all: Vec<Vote> = honest.iter().copied().chain(attack).collect();
        let score = round_score(&all).score_ppm.unwrap();
        let (low, high) = (honest.iter().map(|v| v.quality_ppm).min(), honest.iter().map(|v| v.quality_ppm).max());
        prop_assert!(Some(score) >= low && Some(score) <= high);
    }

    /// What somebody carries moves the score no further when it is split over many findings, each on a dataset of its own, than
    /// when it all stands behind the lowest or the highest of them.
    #[test]
    fn splitting_a_weight_gains_nothing(
        honest in proptest::collection::vec((1u64..10, 0u32..=1_000_000), 3..10),
        parts in proptest::collection::vec((1u64..10, 0u32..=1_000_000), 1..10),
    ) {
        let honest: Vec<Vote> = honest.iter().zip(0u8..).map(|((w, q), root)| vote(root, *w, *q)).collect();
        let with = |more: &[Vote]| round_score(&[honest.as_slice(), more].concat()).score_ppm.unwrap();
        let weight = parts.iter().map(|(w, _)| w).sum();
        let whole = |quality| with(&[vote(200, weight, quality)]);
        let split: Vec<Vote> = parts.iter().zip(100u8..).map(|((w, q), root)| vote(root, *w, *q)).collect();
        let (low, high) = (parts.iter().map(|p| p.1).min().unwrap(), parts.iter().map(|p| p.1).max().unwrap());
        let score = with(&split);
        prop_assert!(whole(low) <= score && score <= whole(high), "{score}: {} to {}", whole(low), whole(high));
        let agreed: Vec<Vote> = split.iter().map(|v| Vote { quality_ppm: low, ..*v }).collect();
        prop_assert_eq!(with(&agreed), whole(low));
    }

    #[test]
    fn a_better_finding_never_lowers_the_score(votes in votes(), pick in any::<prop::sample::Index>(), more in 0u32..500_000) {
        prop_assume!(!votes.is_empty());
        let mut better = votes.clone();
        let i = pick.index(better.len());
        better[i].quality_ppm = (better[i].quality_ppm + more).min(1_000_000);
        prop_assert!(round_score(&better).score_ppm >= round_score(&votes).score_ppm);
    }
}
