//! Commitments, windows, bonds, settlements, seeds, committees, elections.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use zero2ai_proto::{Digest, ModelName, NodeId, PoolId};
use zero2ai_trust::{
    Aging, Cumulative, Reach, Reputation,
    commit::{Bond, Commitment, Entry, HALT_MS, Phase, Schedule, StepError, Windows, bond, commit, reveal},
    committee::{Selection, draw, is_challenged, leaves, next_seed, selection},
    election::{elect, step_power},
    settle::{Conduct, Finding, Settled, Standing, settle},
};

fn id(n: u8) -> NodeId {
    zero2ai_proto::PublicKey([n; 32])
}

const SCHEDULE: Schedule = Schedule { opened: 100, windows: Windows { commit: 10, reveal: 5, dispute: 20 } };

#[test]
fn a_round_goes_through_its_phases() {
    for (height, phase) in [
        (0, Phase::Before),
        (99, Phase::Before),
        (100, Phase::Commit),
        (109, Phase::Commit),
        (110, Phase::Reveal),
        (114, Phase::Reveal),
        (115, Phase::Dispute),
        (134, Phase::Dispute),
        (135, Phase::Settled),
        (u64::MAX, Phase::Settled),
    ] {
        assert_eq!(SCHEDULE.phase(height), phase, "at {height}");
    }
    let windows = SCHEDULE.windows;
    assert_eq!(windows.check(10), Ok(()), "f = 3: five heights");
    assert_eq!(windows.check(13).unwrap_err().least, 6);
    assert!(Windows { commit: 1, ..windows }.check(1).is_err());
}

#[test]
fn what_was_committed_to_is_revealed_once_and_by_its_owner_alone() {
    let name: ModelName = "lab/digits".parse().unwrap();
    let (pool, validator, other) = (PoolId([1; 32]), id(1), id(2));
    let (body, salt) = (Digest([7; 32]), [8; 32]);
    let honest =
        Commitment { pool: &pool, name: &name, version: 1, round: 3, validator: &validator, body: &body, salt: &salt };
    let digest = honest.digest();
    let entry = commit(&SCHEDULE, None, digest, 105, 4).unwrap();
    assert_eq!(commit(&SCHEDULE, Some(&entry), digest, 106, 0), Err(StepError::Again));
    let late = Err(StepError::Phase { at: Phase::Reveal, needs: Phase::Commit });
    assert_eq!(commit(&SCHEDULE, None, digest, 110, 0), late);
    assert!(matches!(reveal(&SCHEDULE, Some(&entry), &honest, 109), Err(StepError::Phase { .. })));
    assert_eq!(reveal(&SCHEDULE, None, &honest, 110), Err(StepError::Nothing));
    let revealed = reveal(&SCHEDULE, Some(&entry), &honest, 112).unwrap();
    assert_eq!(revealed, Entry::Revealed { height: 105, index: 4, body });
    assert_eq!(reveal(&SCHEDULE, Some(&revealed), &honest, 112), Err(StepError::Again));

    let elsewhere: ModelName = "lab/digit".parse().unwrap();
    let (pool2, body2, salt2) = (PoolId([2; 32]), Digest([9; 32]), [9; 32]);
    for wrong in [
        Commitment { pool: &pool2, ..honest },
        Commitment { name: &elsewhere, ..honest },
        Commitment { version: 2, ..honest },
        Commitment { round: 4, ..honest },
        Commitment { validator: &other, ..honest },
        Commitment { body: &body2, ..honest },
        Commitment { salt: &salt2, ..honest },
    ] {
        assert_eq!(reveal(&SCHEDULE, Some(&entry), &wrong, 112), Err(StepError::Other), "{wrong:?}");
    }
    assert_eq!((bond(&revealed, 0), bond(&entry, 0)), (Bond::Returned, Bond::Burned));
    assert_eq!((bond(&entry, HALT_MS), bond(&entry, HALT_MS - 1)), (Bond::Returned, Bond::Burned));
}

#[test]
fn a_commitments_bytes_are_pinned() {
    let name: ModelName = "lab/digits".parse().unwrap();
    let (pool, validator, body, salt) = (PoolId([1; 32]), id(2), Digest([3; 32]), [4; 32]);
    let commitment =
        Commitment { pool: &pool, name: &name, version: 5, round: 6, validator: &validator, body: &body, salt: &salt };
    // Computed from the fields in Python with the package blake3.
    assert_eq!(commitment.digest().to_string(), "35ef852a4c59560a9dec44d661488673aa37c1d09bf998381f12dcaa19dc1396");
}

#[test]
fn few_signers_appoint() {
    assert_eq!((selection(3), selection(4)), (Selection::Appointed, Selection::Random));
}

#[test]
fn a_seed_depends_on_all_before_it() {
    let (a, b) = (Digest([1; 32]), Digest([2; 32]));
    let seeds = [next_seed(&a, 1, b"x"), next_seed(&b, 1, b"x"), next_seed(&a, 2, b"x"), next_seed(&a, 1, b"y")];
    for (i, seed) in seeds.iter().enumerate() {
        assert!(!seeds[..i].contains(seed));
    }
}

/// Ten thousand draws: stake decides how often one is drawn, first and at all, as counted by hand.
#[test]
fn draws_follow_the_stake() {
    let candidates = [(id(1), 10), (id(2), 30), (id(3), 60)];
    let (mut first, mut within_two) = ([0u32; 3], [0u32; 3]);
    for i in 0..10_000u32 {
        let drawn = draw(&Digest([5; 32]), &i.to_le_bytes(), &candidates, 2);
        first[usize::from(drawn[0].0[0]) - 1] += 1;
        drawn.iter().for_each(|node| within_two[usize::from(node.0[0]) - 1] += 1);
    }
    // Of two seats, key 1 has 0.1 + 0.3 · 10/70 + 0.6 · 10/40; five standard deviations are 250 draws at most.
    for (got, expected) in
        first.iter().zip([1_000u32, 3_000, 6_000]).chain(within_two.iter().zip([2_929, 7_833, 9_238]))
    {
        assert!(got.abs_diff(expected) < 250, "{first:?} {within_two:?}");
    }
}

/// Chance that each of `stakes` is among the first `seats` drawn, by going through all orders.
fn chances(stakes: &[f64], seats: usize) -> Vec<f64> {
    fn walk(stakes: &[f64], left: usize, taken: u32, chance: f64, sums: &mut [f64]) {
        if left == 0 {
            return;
        }
        let free = |i: usize| taken >> i & 1 == 0;
        let total: f64 = stakes.iter().enumerate().filter(|(i, _)| free(*i)).map(|(_, s)| s).sum();
        for (i, stake) in stakes.iter().enumerate().filter(|(i, _)| free(*i)) {
            let chance = chance * stake / total;
            sums[i] += chance;
            walk(stakes, left - 1, taken | 1 << i, chance, sums);
        }
    }
    let mut sums = vec![0.0; stakes.len()];
    walk(stakes, seats, 0, 1.0, &mut sums);
    sums
}

/// A proposer who withholds a block chooses between two draws: what he gets with p otherwise he gets with 1 − (1 − p)², and no more.
#[test]
fn a_withheld_block_is_worth_a_second_draw() {
    let candidates: Vec<(NodeId, u64)> = (0..20).map(|n| (id(n), 1)).collect();
    let captured = |seed: &Digest| draw(seed, b"job", &candidates, 5).iter().filter(|node| node.0[0] < 8).count() >= 3;
    let (mut once, mut chosen, mut seed) = (0u32, 0u32, Digest([0; 32]));
    for height in 0..4_000u64 {
        let (sent, withheld) = (next_seed(&seed, height, b"a"), next_seed(&seed, height, b"b"));
        once += u32::from(captured(&sent));
        chosen += u32::from(captured(&sent) || captured(&withheld));
        seed = sent;
    }
    let p = f64::from(once) / 4_000.0;
    let twice = f64::from(chosen) / 4_000.0;
    assert!((twice - (1.0 - (1.0 - p) * (1.0 - p))).abs() < 0.04, "{p} and {twice}");
    assert!(p > 0.2 && p < 0.4, "{p}");
}

#[test]
fn challenges_come_as_often_as_said() {
    let seed = Digest([3; 32]);
    let hit = (0..10_000u32).filter(|i| is_challenged(&seed, &i.to_le_bytes(), &id(1), 100_000)).count();
    assert!(hit.abs_diff(1_000) < 150, "{hit}");
    assert!(!is_challenged(&seed, b"j", &id(1), 0) && is_challenged(&seed, b"j", &id(1), 1_000_000));
}

#[test]
fn seats_go_to_those_with_the_most_stake_behind_them() {
    let votes = [(id(1), 5), (id(2), 3), (id(3), 5), (id(2), 1), (id(4), 0)];
    assert_eq!(elect(&votes, 2), [(id(1), 5), (id(3), 5)]);
    assert_eq!(elect(&votes, 9).len(), 3);
}

#[test]
fn power_moves_a_twentieth_at_most() {
    assert_eq!(step_power(1_000, 900_000, 880_000), 1_020);
    assert_eq!(step_power(1_000, 1_000_000, 0), 1_050);
    assert_eq!(step_power(1_000, 0, 1_000_000), 950);
    assert_eq!((step_power(1, 0, 1_000_000), step_power(0, 1_000_000, 0)), (1, 0));
}

fn standing(n: u8, stake: u64, conduct: Conduct) -> Standing {
    let reputation = (0..50).fold(Reputation::default(), |r, _| r.after(1, 0));
    Standing { validator: id(n), stake, reputation, history: Cumulative::default(), conduct }
}

fn upheld(n: u8, quality_ppm: u32) -> Conduct {
    let dataset_root = Digest([n; 32]);
    Conduct::Upheld(Finding { quality_ppm, samples: 1_000, dataset_root, height: 1, index: u32::from(n) })
}

fn settled(standings: &[Standing]) -> Settled {
    settle(standings, 10_000, &Aging::default(), &Reach::default())
}

#[test]
fn a_settlement_counts_who_stood_up_and_tells_everyones_record() {
    let mut standings = vec![
        standing(1, 10, upheld(1, 900_000)),
        standing(2, 10, upheld(2, 890_000)),
        standing(3, 10, upheld(3, 910_000)),
        standing(4, 12, upheld(4, 400_000)),
        standing(5, 1_000, Conduct::Refuted),
        standing(6, 10, Conduct::Silent),
    ];
    let seen = settle(&standings[..1], 10_000, &Aging::default(), &Reach::default()).validators[0].history;
    standings[4].history = seen;
    standings[5].history = seen;
    let done = settled(&standings);
    assert_eq!(
        (done.score.score_ppm, done.score.datasets),
        (Some(890_000), 4),
        "the refuted one's stake counts for nothing"
    );
    let record = |n: usize| done.validators[n].reputation.weight_ppm();
    let before = standings[0].reputation.weight_ppm();
    assert!((0..3).all(|n| record(n) >= before) && (3..6).all(|n| record(n) < before));
    assert!((0..4).all(|n| done.validators[n].shared.is_some()) && (4..6).all(|n| done.validators[n].shared.is_none()));
    assert_eq!((done.validators[4].history, done.validators[5].history), (Cumulative::default(), seen));
    let few = settled(&standings[..2]);
    assert_eq!(few.score.score_ppm, None);
    assert_eq!(few.validators[0].reputation, standings[0].reputation, "without a score nobody is measured by it");
}

proptest! {
    /// Neither order nor a division of the refuted or of a stake that says one thing changes the score; and no minority of what stood up
    /// takes it out of the others' range.
    #[test]
    fn a_settlement_is_free_of_order_and_stays_in_the_honest_range(
        honest in proptest::collection::vec((1u64..100, 500_000u32..900_000), 3..12),
        attack in proptest::collection::vec((1u64..100, 0u32..=1_000_000), 0..12), turn in any::<usize>(),
    ) {
        let power: u64 = honest.iter().map(|(stake, _)| stake).sum();
        let mut standings: Vec<Standing> =
            honest.iter().zip(0u8..).map(|((stake, q), n)| standing(n, *stake, upheld(n, *q))).collect();
        let mut used = 0;
        for ((stake, q), n) in attack.iter().zip(100u8..) {
            let within = used + stake < power;
            used += if within { *stake } else { 0 };
            standings.push(standing(n, *stake, if within { upheld(n, *q) } else { Conduct::Refuted }));
        }
        let done = settled(&standings);
        let score = done.score.score_ppm.unwrap();
        prop_assert!(honest.iter().any(|(_, q)| *q >= score) && honest.iter().any(|(_, q)| *q <= score));
        let by = turn % standings.len();
        standings.rotate_left(by);
        let mut turned = settled(&standings);
        turned.validators.rotate_right(by);
        prop_assert_eq!(turned, done);
    }

    #[test]
    fn a_draw_is_free_of_order_and_repetition(
        stakes in proptest::collection::btree_map(any::<u8>(), 0u64..1_000, 1..30), seats in 0usize..40, seed in any::<[u8; 32]>(),
    ) {
        let candidates: Vec<(NodeId, u64)> = stakes.iter().map(|(n, stake)| (id(*n), *stake)).collect();
        let drawn = draw(&Digest(seed), b"job", &candidates, seats);
        let turned: Vec<_> = candidates.iter().rev().copied().collect();
        prop_assert_eq!(&draw(&Digest(seed), b"job", &turned, seats), &drawn);
        let distinct: std::collections::BTreeSet<_> = drawn.iter().collect();
        prop_assert_eq!(distinct.len(), drawn.len());
        prop_assert_eq!(drawn.len(), seats.min(stakes.values().filter(|s| **s > 0).count()));
        let fewer = draw(&Digest(seed), b"job", &candidates, seats / 2);
        prop_assert_eq!(&fewer[..], &drawn[..fewer.len()], "a larger committee begins with the smaller one");
    }

    /// Expected weight on a committee, computed exactly: in two parts it is never more than whole.
    #[test]
    fn a_split_stake_sits_with_no_more_weight(
        stakes in proptest::collection::vec(1u32..100, 2..6), part in 1u32..100, seats in 1usize..4,
    ) {
        let mut whole: Vec<f64> = stakes.iter().map(|s| f64::from(*s)).collect();
        whole[0] += f64::from(part);
        let mut parts: Vec<f64> = stakes.iter().map(|s| f64::from(*s)).collect();
        parts.push(f64::from(part));
        let as_whole = chances(&whole, seats.min(whole.len()))[0] * whole[0];
        let chance = chances(&parts, seats.min(whole.len()));
        let as_parts = chance[0] * parts[0] + chance.last().unwrap() * f64::from(part);
        prop_assert!(as_parts <= as_whole + 1e-9, "{} and {}", as_parts, as_whole);
    }

    #[test]
    fn leaves_are_distinct_and_in_range(samples in 0u32..5_000, count in 0u32..200, seed in any::<[u8; 32]>()) {
        let places = leaves(&Digest(seed), b"job", &id(1), samples, count);
        prop_assert_eq!(places.len(), count.min(samples) as usize);
        prop_assert!(places.windows(2).all(|w| w[0] < w[1]) && places.iter().all(|p| *p < samples));
    }

    #[test]
    fn votes_in_parts_elect_the_same(
        votes in proptest::collection::vec((0u8..6, 0u64..1_000), 1..20), part in 0u64..1_000, seats in 0usize..5,
    ) {
        let whole: Vec<(NodeId, u64)> = votes.iter().map(|(n, stake)| (id(*n), *stake)).collect();
        let mut parts = whole.clone();
        let part = part.min(parts[0].1);
        parts[0].1 -= part;
        parts.push((parts[0].0, part));
        parts.reverse();
        prop_assert_eq!(elect(&whole, seats), elect(&parts, seats));
    }

    #[test]
    fn power_stays_within_a_twentieth(power in any::<u64>(), standing in any::<u32>(), mean in any::<u32>()) {
        let after = step_power(power, standing, mean);
        prop_assert!(after.abs_diff(power) <= power / 20);
        prop_assert!(power == 0 || after > 0);
    }
}
