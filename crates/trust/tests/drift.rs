//! The detectors speak where river's do, on the same streams.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use zero2ai_trust::drift::{Adwin, Alarm, Ddm, Drift, Told, Watch};

/// SplitMix64, the upper 32 bits, as drift.py draws them.
struct Draws(u64);

impl Draws {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 32
    }
}

fn stream(case: &Value) -> Vec<bool> {
    let mut draws = Draws(case["seed"].as_u64().unwrap());
    let mut outcomes = Vec::new();
    for part in case["parts"].as_array().unwrap() {
        let (length, ppm) = (part[0].as_u64().unwrap(), part[1].as_u64().unwrap());
        outcomes.extend((0..length).map(|_| draws.draw() % 1_000_000 < ppm));
    }
    outcomes
}

fn golden() -> Vec<Value> {
    let golden: Value = serde_json::from_str(include_str!("drift.json")).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

#[test]
fn ddm_warns_and_alarms_where_rivers_does() {
    for case in golden() {
        let (mut warnings, mut changes, mut ddm) = (Vec::new(), Vec::new(), Ddm::default());
        for (i, wrong) in stream(&case).into_iter().enumerate() {
            match ddm.update(wrong) {
                Drift::Warning => warnings.push(i),
                Drift::Changed => changes.push(i),
                Drift::Steady => {}
            }
        }
        assert_eq!(
            serde_json::json!({ "warnings": warnings, "changes": changes }),
            case["ddm"],
            "seed {}",
            case["seed"]
        );
    }
}

#[test]
fn adwin_cuts_where_rivers_does() {
    let mut cuts = 0;
    for case in golden() {
        let (mut adwin, mut expected) = (Adwin::default(), case["adwin"].as_array().unwrap().iter());
        for (i, wrong) in stream(&case).into_iter().enumerate() {
            if adwin.update(f64::from(u8::from(wrong))) == Drift::Changed {
                let cut = expected.next().unwrap();
                assert_eq!((i as u64, adwin.width()), (cut[0].as_u64().unwrap(), cut[1].as_f64().unwrap()));
                assert!((adwin.mean() - cut[2].as_f64().unwrap()).abs() < 1e-9, "seed {}", case["seed"]);
                // River's begins anew after an alarm; the paper's, and ours, goes on with the newer part.
                adwin = Adwin::default();
                cuts += 1;
            }
        }
        assert_eq!(expected.next(), None, "seed {}", case["seed"]);
    }
    assert!(cuts > 5, "{cuts} cuts only");
}

#[test]
fn what_is_no_number_is_passed_over_and_memory_stays_small() {
    let mut adwin = Adwin::new(f64::NAN);
    assert_eq!(adwin.update(f64::NAN), Drift::Steady);
    assert_eq!((adwin.width(), adwin.mean()), (0.0, 0.0));
    for _ in 0..100_000 {
        adwin.update(0.25);
    }
    assert_eq!((adwin.width(), adwin.mean()), (100_000.0, 0.25));
}

/// Between two answers of a stream, milliseconds: six minutes.
const STEP_MS: u64 = 360_000;

fn told(teller: u8, at: usize, wrong: bool) -> Told {
    Told { teller: [teller; 32], time_ms: at as u64 * STEP_MS, wrong }
}

/// The places at which a watch alarms over right (`false`) and wrong answers, all of one account.
fn alarms(answers: impl IntoIterator<Item = bool>) -> Vec<usize> {
    let mut watch = Watch::default();
    answers.into_iter().enumerate().filter_map(|(at, wrong)| watch.take(told(1, at, wrong)).map(|_| at)).collect()
}

#[test]
fn a_watch_alarms_when_answers_become_worse_and_not_when_they_become_better() {
    let worse = |right: usize| (0..right).map(|_| false).chain((0..60).map(|_| true));
    for right in [31, 60, 400] {
        let found = alarms(worse(right));
        assert!(found.first().is_some_and(|at| (right + 4..right + 33).contains(at)), "{right} right: {found:?}");
    }
    assert_eq!(alarms((0..200).map(|i| i < 100)), Vec::<usize>::new(), "it became better");
    let mut watch = Watch::default();
    let alarm = worse(60).enumerate().find_map(|(at, wrong)| watch.take(told(1, at, wrong))).unwrap();
    assert!(alarm.ddm && alarm.after > alarm.before, "{alarm:?}");
    assert_eq!(alarm.accounts, 1, "his word is all there is");
    assert_eq!((watch.answers(), watch.wrong()), (65, 5));
}

#[test]
fn a_single_mistake_after_none_is_no_alarm_and_neither_is_a_steady_rate() {
    assert_eq!(alarms((0..500).map(|i| i == 100 || i == 300)), Vec::<usize>::new());
    let mut wrong_alarms = 0;
    for seed in 0..40 {
        let mut draws = Draws(seed);
        wrong_alarms += alarms((0..300).map(|_| draws.draw() % 100 < 8)).len();
    }
    assert!(wrong_alarms <= 8, "{wrong_alarms} alarms in forty steady streams");
}

/// Alarms of a stream in which account 0 says that `liars` of its answers are wrong and accounts 1 to `others` find one in `one_in`
/// of theirs wrong; from `change` on, one in `then`.
fn mixed(others: u8, liar_from: usize, (one_in, change, then): (u64, usize, u64), seed: u64) -> (Vec<Alarm>, Watch) {
    let (mut watch, mut draws, mut given) = (Watch::default(), Draws(seed), Vec::new());
    for at in 0..3_000 {
        let teller = (at % (usize::from(others) + 1)) as u8;
        let wrong = match teller {
            0 => at >= liar_from,
            _ => draws.draw() % (if at < change { one_in } else { then }) == 0,
        };
        given.extend(watch.take(told(teller, at, wrong)));
    }
    (given, watch)
}

#[test]
fn one_account_alone_raises_no_alarm_while_others_speak() {
    for others in [1, 2, 5, 9] {
        for seed in 0..10 {
            let (given, watch) = mixed(others, 1_500, (20, 3_000, 20), seed);
            assert_eq!(given, [], "{others} others, seed {seed}");
            assert!(watch.late() > 0.05, "the detectors heard him");
        }
    }
}

#[test]
fn what_several_accounts_see_is_an_alarm_that_says_how_many() {
    for (others, accounts) in [(1, 2), (2, 2), (9, 3)] {
        for seed in 0..10 {
            // Account 0 finds everything right, and answers become wrong for the others; with one other, for both.
            let liar_from = if others == 1 { 1_500 } else { 3_000 };
            let (given, _) = mixed(others, liar_from, (20, 1_500, 2), seed);
            let most = given.iter().map(|alarm| alarm.accounts).max();
            assert_eq!(most, Some(accounts), "{others} others, seed {seed}: {given:?}");
        }
    }
}

/// Two in league are two, however many others speak and err now and then.
#[test]
fn an_alarm_says_no_more_accounts_than_it_takes_to_make_it() {
    for seed in 0..20 {
        let (mut watch, mut draws, mut most) = (Watch::default(), Draws(seed), 0);
        for at in 0..3_000 {
            let teller = (at % 8) as u8;
            let wrong = if teller < 2 { at >= 1_500 } else { draws.draw() % 20 == 0 };
            most = most.max(watch.take(told(teller, at, wrong)).map_or(0, |alarm| alarm.accounts));
        }
        assert!(most <= 2, "{most} accounts, seed {seed}");
    }
}

/// The others' word comes late, when some have told hundreds of answers since the change.
#[test]
fn what_came_behind_a_change_is_not_what_was_before_it() {
    let (mut watch, mut most) = (Watch::default(), 0);
    let mut say = |from: usize, count: usize, wrong: bool, tellers: std::ops::Range<u8>| {
        for at in from..from + count {
            for teller in tellers.clone() {
                most = most.max(watch.take(told(teller, at, wrong)).map_or(0, |alarm| alarm.accounts));
            }
        }
    };
    say(0, 50, false, 0..4);
    say(50, 400, true, 0..1);
    say(450, 400, true, 0..4);
    assert_eq!(most, 3);
}

#[test]
fn a_flood_of_one_account_does_not_drown_the_others_word() {
    let (mut watch, mut given) = (Watch::default(), Vec::new());
    let mut at = 0;
    let mut say = |teller: u8, count: usize, wrong: bool| {
        for _ in 0..count {
            given.extend(watch.take(told(teller, at, wrong)).map(|alarm| alarm.accounts));
            at += 1;
        }
    };
    for _ in 0..20 {
        (1..=4).for_each(|teller| say(teller, 1, false));
    }
    say(9, 1_000, true);
    for _ in 0..4 {
        (1..=4).for_each(|teller| say(teller, 1, true));
    }
    assert_eq!(given.last(), Some(&3), "when others say so too");
    assert!(!given.contains(&1), "{given:?}");
}

#[test]
fn who_was_silent_for_a_week_is_not_waited_for() {
    let stream = |silent_hours: usize| {
        let mut watch = Watch::default();
        watch.take(told(2, 0, false));
        let later = silent_hours * 10;
        let answers = (0..100).map(|i| told(1, later + i, i >= 60));
        answers.filter_map(|told| watch.take(told)).map(|alarm| alarm.accounts).next()
    };
    assert_eq!((stream(24), stream(8 * 24)), (None, Some(1)));
}
