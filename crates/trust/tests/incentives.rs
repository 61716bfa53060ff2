//! Scores over rounds, records, rewards, slashing, disputes: the invariants that no order, no split and no minority may break.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use zero2ai_proto::tx::ClassCounts;
use zero2ai_trust::{
    Aging, Cumulative, PPM, Reach, Reputation,
    dispute::{Ballot, Instance, refuted, seat, settle},
    reputation::LEAST_PPM,
    reward::{Shared, Split, Sums, agreement, bounty, claim, share, split},
    score::ScoreParts,
    slash::{Contradiction, Leaf, charges, contradiction, rate_ppm, slash},
};

fn round(score_ppm: u32, samples: u64) -> ScoreParts {
    ScoreParts { score_ppm: Some(score_ppm), datasets: 3, samples }
}

fn record(events: &[(u32, u32)]) -> Reputation {
    events.iter().fold(Reputation::default(), |record, (ok, bad)| record.after(*ok, *bad))
}

#[test]
fn rounds_add_up_and_fade() {
    let aging = Aging { epoch: 100, keep_ppm: 500_000, cap: 1_000, half: 1_000 };
    let first = Cumulative::default().with_round(100, &round(800_000, 5_000), &aging);
    assert_eq!((first.score_ppm(), first.samples), (Some(800_000), 1_000_000_000), "capped at 1,000 samples");
    assert_eq!(first.confidence_ppm(&aging), 500_000);
    let second = first.with_round(250, &round(500_000, 1_000), &aging);
    assert_eq!(second.score_ppm(), Some(600_000), "(500 · 0.8 + 1000 · 0.5) / 1500");
    assert_eq!(second.with_round(260, &ScoreParts { score_ppm: None, datasets: 2, samples: 9 }, &aging), second);
    let faded = second.aged(1_250, &aging);
    assert_eq!(faded.score_ppm(), Some(600_000));
    assert!(faded.confidence_ppm(&aging) < 2_000 && second.is_stale(1_250, 2_000, &aging));
    assert_eq!(second.aged(u64::MAX, &aging).score_ppm(), None);
    assert_eq!(Cumulative::default().confidence_ppm(&aging), 0);
}

#[test]
fn a_record_follows_the_formula() {
    // By hand: a = 0.98 + 1, b = 3.92; m = 0.335593, sd = sqrt(m (1 − m) / 6.9) = 0.179764; m − 1.28 sd = 0.105495.
    let weight = record(&[(1, 0)]).weight_ppm();
    assert!(weight.abs_diff(105_495) <= 3, "{weight}");
    assert_eq!(record(&[]).weight_ppm(), LEAST_PPM);
    assert!(record(&[(1, 0); 40]).weight_ppm() > 850_000);
    let long = record(&[(1, 0); 400]);
    assert!(long.weight_ppm() > 990_000);
    assert!(long.after(0, 1).weight_ppm() > 850_000, "one slip is forgiven");
    assert!(long.after(0, 40).weight_ppm() < 250_000, "a voided epoch is not");
    assert_eq!(
        Reputation { good: u64::MAX, bad: u64::MAX }.weight_ppm(),
        500_000,
        "rounded up below the mean by nothing"
    );
}

#[test]
fn a_finding_is_in_reach_as_its_size_allows() {
    let reach = Reach::default();
    assert!(reach.holds(900_000, 1_000, 860_000), "sd 0.011: four of them and 0.01");
    assert!(!reach.holds(920_000, 1_000, 860_000));
    assert!(reach.holds(920_000, 100, 860_000) && reach.holds(990_000, 1_000, 1_000_000));
    assert!(reach.holds(0, 0, 1_000_000) && !reach.holds(0, u32::MAX, 1_000_000));
}

#[test]
fn a_constant_answer_earns_nothing_and_knowing_does() {
    let truth = [600_000, 700_000, 800_000, 900_000, 950_000];
    let found = |f: fn(u32) -> u32| truth.map(|t| Shared { found_ppm: f(t), score_ppm: t });
    assert_eq!(agreement(&found(|_| 900_000), 50_000), 0);
    assert!(agreement(&found(|t| t), 50_000) > 900_000);
    assert!(agreement(&found(|t| 1_550_000 - t), 50_000) < 0);
    assert_eq!(agreement(&found(|t| t)[..1], 50_000), 0);
    assert_eq!(claim(10, -5, false), 0);
    assert_eq!((claim(10, 5, false), claim(10, 5, true)), (50, 0));
}

#[test]
fn failing_samples_earn_by_their_number() {
    assert_eq!(bounty(100, &[3, 0, 4]), Split { shares: vec![42, 0, 57], rest: 1 });
    assert_eq!(bounty(100, &[0, 0]), Split { shares: vec![0, 0], rest: 100 });
}

#[test]
fn slashing_grows_with_the_square_of_those_who_act_together() {
    assert_eq!(rate_ppm(1, 100), 50_000);
    assert_eq!(rate_ppm(10, 100), 90_000);
    assert_eq!(rate_ppm(20, 100), 360_000);
    assert_eq!(rate_ppm(34, 100), 1_000_000);
    assert_eq!((rate_ppm(0, 0), rate_ppm(u64::MAX, u64::MAX)), (50_000, 1_000_000));
    assert_eq!(charges(&[10, 10], 100), [4, 4]);
    assert_eq!((slash(0, PPM), slash(1, 50_000), slash(u64::MAX, PPM)), (0, 1, u64::MAX));
}

fn leaf(index: u32, label: u16, answer: u16) -> Leaf {
    Leaf { index, label, answer }
}

#[test]
fn opened_leaves_contradict_counts_or_do_not() {
    // Three samples: one right in class 0, one right in class 1, one of class 0 taken for class 1.
    let counts = [ClassCounts { tp: 1, fp: 0, fn_: 1 }, ClassCounts { tp: 1, fp: 1, fn_: 0 }];
    let check = |leaves: &[Leaf]| contradiction(&counts, 3, leaves);
    let honest = [leaf(0, 0, 0), leaf(1, 1, 1), leaf(2, 0, 1)];
    assert_eq!(check(&honest), None);
    assert_eq!(check(&honest[1..]), None);
    assert_eq!(check(&[honest[0], honest[0]]), None, "a place told twice counts once");
    for (leaves, expected) in [
        (&[leaf(3, 0, 0)][..], Contradiction::Index(3)),
        (&[leaf(0, 2, 0)], Contradiction::Class(2)),
        (&[leaf(0, 0, 9)], Contradiction::Class(9)),
        (&[leaf(0, 0, 0), leaf(1, 0, 0)], Contradiction::TruePositives(0)),
        (&[leaf(0, 0, 1), leaf(1, 0, 1)], Contradiction::FalsePositives(1)),
        (&[leaf(0, 1, 0)], Contradiction::FalsePositives(0)),
    ] {
        assert_eq!(check(leaves), Some(expected));
    }
    let more = [ClassCounts { tp: 2, fp: 1, fn_: 0 }, ClassCounts { tp: 1, fp: 0, fn_: 0 }];
    assert_eq!(contradiction(&more, 3, &[leaf(0, 1, 0)]), Some(Contradiction::FalseNegatives(1)));
    let boasted = [ClassCounts { tp: 2, fp: 0, fn_: 1 }, counts[1]];
    assert_eq!(
        contradiction(&boasted, 3, &honest),
        Some(Contradiction::Fewer),
        "all open, one true positive is missing"
    );
}

#[test]
fn what_is_no_classifier_is_contradicted_by_wrong_answers_that_were_told_to_be_right() {
    let counts = [ClassCounts { tp: 2, fp: 1, fn_: 1 }];
    let check = |leaves: &[Leaf]| contradiction(&counts, 3, leaves);
    assert_eq!(check(&[leaf(0, 0, 0), leaf(1, 0, 1), leaf(2, 0, 0)]), None);
    assert_eq!(check(&[leaf(0, 0, 1), leaf(1, 0, 1)]), Some(Contradiction::FalsePositives(0)));
    assert_eq!(check(&[leaf(0, 1, 0)]), Some(Contradiction::Class(1)));
}

#[test]
fn disputes_end_with_everyone_and_the_loser_pays() {
    assert_eq!(Instance::First.next().and_then(Instance::next), Some(Instance::Last));
    assert_eq!((Instance::Last.next(), Instance::Last.seats()), (None, None));
    assert_eq!((Instance::First.deposit(5), Instance::Last.deposit(u64::MAX)), (5, u64::MAX));
    let ballot = |weight, refuted| Ballot { weight, refuted };
    assert!(!refuted(&[]) && !refuted(&[ballot(5, true), ballot(5, false)]));
    assert!(refuted(&[ballot(6, true), ballot(5, false)]));
}

proptest! {
    /// Whatever the order of the rounds, the score is the same to a few millionths.
    #[test]
    fn rounds_in_any_order_come_to_one_score(
        rounds in proptest::collection::vec((0u64..2_000, 0u32..=PPM, 1_000u64..50_000), 1..12), keep_ppm in 300_000u32..=PPM,
    ) {
        let aging = Aging { epoch: 100, keep_ppm, ..Aging::default() };
        let add = |sum: Cumulative, (height, score, samples): &(u64, u32, u64)| {
            sum.with_round(*height, &round(*score, *samples), &aging)
        };
        let forth = rounds.iter().fold(Cumulative::default(), add);
        let back = rounds.iter().rev().fold(Cumulative::default(), add);
        prop_assert_eq!(forth.epoch, back.epoch);
        prop_assert!(forth.samples.abs_diff(back.samples) <= 40);
        let (forth, back) = (forth.score_ppm().unwrap(), back.score_ppm().unwrap());
        prop_assert!(forth.abs_diff(back) <= 2, "{} and {}", forth, back);
        let (low, high) = (rounds.iter().map(|r| r.1).min().unwrap(), rounds.iter().map(|r| r.1).max().unwrap());
        prop_assert!((low.saturating_sub(2)..=high + 2).contains(&forth));
    }

    #[test]
    fn a_better_round_never_lowers_the_score(
        rounds in proptest::collection::vec((0u64..2_000, 0u32..900_000, 1u64..50_000), 1..12),
        pick in any::<prop::sample::Index>(), more in 1u32..100_000,
    ) {
        let sum = |rounds: &[(u64, u32, u64)]| {
            let aging = Aging { epoch: 100, ..Aging::default() };
            let add = |sum: Cumulative, (h, s, n): &(u64, u32, u64)| sum.with_round(*h, &round(*s, *n), &aging);
            rounds.iter().fold(Cumulative::default(), add)
        };
        let mut better = rounds.clone();
        better[pick.index(rounds.len())].1 += more;
        prop_assert!(sum(&better).score_ppm() >= sum(&rounds).score_ppm());
    }

    /// Confidence only falls while nothing happens, and more epochs never leave more.
    #[test]
    fn fading_is_monotone(samples in 1u64..100_000, keep_ppm in 0u32..=PPM, epochs in 0u64..10_000) {
        let aging = Aging { epoch: 1, keep_ppm, ..Aging::default() };
        let sum = Cumulative::default().with_round(0, &round(500_000, samples), &aging);
        prop_assert!(sum.aged(epochs + 1, &aging).samples <= sum.aged(epochs, &aging).samples);
        prop_assert_eq!(sum.aged(0, &aging), sum);
    }

    /// The integers follow the formula in floating point.
    #[test]
    fn weights_follow_the_formula(events in proptest::collection::vec((0u32..3, 0u32..3), 0..200)) {
        let (mut a, mut b) = (1.0f64, 4.0f64);
        for (ok, bad) in &events {
            (a, b) = (0.98 * a + f64::from(*ok), 0.98 * b + 4.0 * f64::from(*bad));
        }
        let (m, s) = (a / (a + b), a + b);
        let expected = (m - 1.28 * (a * b / (s * s * (s + 1.0))).sqrt()).max(0.05) * 1e6;
        let got = f64::from(record(&events).weight_ppm());
        prop_assert!((got - expected).abs() < 5.0, "{} for {}", got, expected);
    }

    /// One more good event never lowers a weight, one more bad one never raises it.
    #[test]
    fn weights_are_monotone(events in proptest::collection::vec((0u32..3, 0u32..3), 1..100), pick in any::<prop::sample::Index>()) {
        let i = pick.index(events.len());
        let (mut good, mut bad) = (events.clone(), events.clone());
        good[i].0 += 1;
        bad[i].1 += 1;
        let held = record(&events).weight_ppm();
        prop_assert!(record(&good).weight_ppm() >= held && record(&bad).weight_ppm() <= held);
        prop_assert!((LEAST_PPM..=PPM).contains(&held));
    }

    #[test]
    fn a_pool_is_divided_without_loss_and_a_split_gains_nothing(
        pool in any::<u64>(), claims in proptest::collection::vec(0u128..1 << 104, 1..20),
        pick in any::<prop::sample::Index>(), part_ppm in 0u128..=1_000_000,
    ) {
        let whole = split(pool, &claims);
        prop_assert_eq!(whole.shares.iter().map(|s| u128::from(*s)).sum::<u128>() + u128::from(whole.rest), u128::from(pool));
        let i = pick.index(claims.len());
        let part = claims[i] / 1_000_000 * part_ppm;
        let mut parts = claims.clone();
        parts[i] -= part;
        parts.push(part);
        let cut = split(pool, &parts);
        prop_assert!(cut.shares[i] + cut.shares.last().unwrap() <= whole.shares[i]);
        prop_assert_eq!(&cut.shares[..i], &whole.shares[..i], "nobody else is touched");
        let backwards: Vec<u128> = claims.iter().rev().copied().collect();
        let mut turned = split(pool, &backwards).shares;
        turned.reverse();
        prop_assert_eq!(turned, whole.shares);
    }

    /// Weight, claim and share together: a stake in parts with one record and one set of findings gets no more.
    #[test]
    fn a_stake_in_parts_earns_no_more(
        stakes in proptest::collection::vec(1u64..1 << 40, 2..8), part in 0u64..1 << 40, rho in 0u32..400, ca in 1i64..1_000_000,
        pool in any::<u64>(),
    ) {
        let record = record(&vec![(1, 0); rho as usize]);
        let claims = |stakes: &[u64]| -> Vec<u128> { stakes.iter().map(|s| claim(record.weight(*s), ca, false)).collect() };
        let part = part.min(stakes[0]);
        let mut parts = stakes.clone();
        parts[0] -= part;
        parts.push(part);
        let (whole, cut) = (split(pool, &claims(&stakes)), split(pool, &claims(&parts)));
        prop_assert!(cut.shares[0] + cut.shares.last().unwrap() <= whole.shares[0]);
    }

    /// Summed up one by one they are what the formula gives of all at once: same / n − (all − same) / (n (n − 1)).
    #[test]
    fn agreement_as_findings_come_is_that_of_all_of_them(
        shared in proptest::collection::vec((0u32..=PPM, 0u32..=PPM), 2..40), tolerance in 1u32..=PPM,
    ) {
        let list: Vec<Shared> = shared.iter().map(|(f, s)| Shared { found_ppm: *f, score_ppm: *s }).collect();
        let (mut sums, n) = (Sums::default(), list.len() as i128);
        for (i, next) in list.iter().enumerate() {
            sums = sums.with(&list[..i], *next, tolerance);
        }
        let like = |f: &Shared, s: &Shared| {
            i128::from(tolerance.saturating_sub(f.found_ppm.abs_diff(s.score_ppm))) * i128::from(PPM) / i128::from(tolerance)
        };
        let same: i128 = list.iter().map(|x| like(x, x)).sum();
        let all: i128 = list.iter().flat_map(|x| list.iter().map(move |y| like(x, y))).sum();
        prop_assert_eq!((i128::from(sums.same), i128::from(sums.all)), (same, all));
        prop_assert_eq!(i128::from(sums.agreement(list.len())), (same * n - all).div_euclid(n * (n - 1)));
        prop_assert_eq!(agreement(&list, tolerance), sums.agreement(list.len()));
    }

    /// Paid one by one nobody gets another share than of all at once, and all together never more than there is.
    #[test]
    fn shares_one_by_one_add_up_to_no_more_than_the_pool(
        pool in 0u64..1 << 44, claims in proptest::collection::vec(0u64..1 << 50, 1..30),
    ) {
        let total: u64 = claims.iter().sum();
        let shares: Vec<u64> = claims.iter().map(|claim| share(pool, *claim, total)).collect();
        prop_assert!(shares.iter().sum::<u64>() <= pool);
        let whole: Vec<u128> = claims.iter().map(|claim| u128::from(*claim)).collect();
        prop_assert_eq!(shares, split(pool, &whole).shares);
        prop_assert_eq!(share(pool, 1, 0), 0);
    }

    #[test]
    fn seats_bind_no_more_than_was_laid_down(bonds in proptest::collection::vec(0u64..1_000, 1..31), deposit in 0u64..9_000) {
        let bound: u64 = bonds.iter().map(|bond| seat(*bond, deposit, bonds.len())).sum();
        prop_assert!(bound <= deposit && bonds.iter().all(|bond| seat(*bond, deposit, bonds.len()) <= *bond));
        prop_assert_eq!(seat(9, deposit, 0), 0);
    }

    #[test]
    fn agreement_is_bounded_and_order_free(
        shared in proptest::collection::vec((0u32..=PPM, 0u32..=PPM), 0..30), constant in 0u32..=PPM, tolerance in 0u32..=PPM,
    ) {
        let list: Vec<Shared> = shared.iter().map(|(f, s)| Shared { found_ppm: *f, score_ppm: *s }).collect();
        let got = agreement(&list, tolerance);
        prop_assert!(got.abs() <= 1_000_000);
        let turned: Vec<Shared> = list.iter().rev().copied().collect();
        prop_assert_eq!(agreement(&turned, tolerance), got);
        let same: Vec<Shared> = list.iter().map(|s| Shared { found_ppm: constant, ..*s }).collect();
        prop_assert_eq!(agreement(&same, tolerance), 0, "the same answer to everything");
    }

    #[test]
    fn nobody_loses_more_than_his_stake_and_crumbs_lose_no_less(
        stakes in proptest::collection::vec(0u64..1 << 40, 1..10), others in 0u64..1 << 44, part in 0u64..1 << 40,
    ) {
        let total = stakes.iter().sum::<u64>() + others;
        let lost = charges(&stakes, total);
        prop_assert!(lost.iter().zip(&stakes).all(|(lost, stake)| lost <= stake));
        let mut parts = stakes.clone();
        let part = part.min(parts[0]);
        parts[0] -= part;
        parts.push(part);
        let crumbs = charges(&parts, total);
        prop_assert!(crumbs[0] + crumbs.last().unwrap() >= lost[0]);
        let mut more = stakes.clone();
        more.push(others / 2);
        prop_assert!(charges(&more, total)[0] >= lost[0], "more who act together lose more each");
    }

    /// Counts that were counted contradict none of their leaves, however few, many or often told.
    #[test]
    fn honest_counts_are_never_contradicted(
        run in proptest::collection::vec((0u16..5, 0u16..5), 1..80), open in proptest::collection::vec(any::<prop::sample::Index>(), 0..120),
        lie in any::<prop::sample::Index>(),
    ) {
        let mut counts = vec![ClassCounts::default(); 5];
        for (label, answer) in &run {
            if label == answer {
                counts[usize::from(*label)].tp += 1;
            } else {
                counts[usize::from(*answer)].fp += 1;
                counts[usize::from(*label)].fn_ += 1;
            }
        }
        let all: Vec<Leaf> = run.iter().zip(0..).map(|((label, answer), i)| leaf(i, *label, *answer)).collect();
        let opened: Vec<Leaf> = open.iter().map(|i| all[i.index(all.len())]).collect();
        prop_assert_eq!(contradiction(&counts, all.len() as u32, &opened), None);
        prop_assert_eq!(contradiction(&counts, all.len() as u32, &all), None);
        // With all leaves open, any other counts are a lie that shows.
        let k = lie.index(5);
        counts[k].tp += 1;
        prop_assert!(contradiction(&counts, all.len() as u32, &all).is_some());
    }

    #[test]
    fn deposits_are_conserved(right in any::<u64>(), wrong in any::<u64>()) {
        let settled = settle(right, wrong);
        let all = (u128::from(right) + u128::from(wrong)).min(u128::from(u64::MAX));
        prop_assert_eq!(u128::from(settled.winner) + u128::from(settled.burned), all);
        prop_assert!(settled.winner >= right && settled.burned >= wrong.min(u64::MAX - right) / 2);
    }

    /// At the last instance, whoever carries less than half of what voted cannot win, in however many parts.
    #[test]
    fn a_minority_wins_no_last_instance(
        honest in proptest::collection::vec(1u64..1_000, 1..20), attack in proptest::collection::vec(1u64..1_000, 0..40), truth in any::<bool>(),
    ) {
        let power: u64 = honest.iter().sum();
        let mut used = 0;
        let mut ballots: Vec<Ballot> = honest.iter().map(|w| Ballot { weight: u128::from(*w), refuted: truth }).collect();
        for weight in attack {
            if used + weight < power {
                used += weight;
                ballots.push(Ballot { weight: u128::from(weight), refuted: !truth });
            }
        }
        prop_assert_eq!(refuted(&ballots), truth);
    }
}
