//! The dataset gate: each criterion fails by its own gate, passes what it should, and says what it cannot judge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use zero2ai_trust::{
    draw::Draws,
    gate::{
        Check, Criterion, Gate, Outcome, bias, composition, judge,
        minhash::Salt,
        overlap::{self, Fingerprints, Sample},
        shift::{self, Column, Values},
        statistics,
    },
};

fn draws(label: &str, index: u64) -> Draws {
    Draws::new(&[6; 32], label, index)
}
fn open(check: &Check) -> bool {
    matches!(check.outcome, Outcome::NotAssessable(_))
}

#[test]
fn a_lopsided_dataset_fails_for_bias() {
    let even: Vec<u16> = (0..400).map(|i| i % 4).collect();
    assert_eq!(bias::dataset(&even, 4, None, bias::Limits::default()).outcome, Outcome::Pass);
    let missing: Vec<u16> = (0..400).map(|i| i % 3).collect();
    assert_eq!(bias::dataset(&missing, 4, None, bias::Limits::default()).outcome, Outcome::Fail);
    // Balanced classes and groups, but the label follows the group in four of five samples.
    let groups: Vec<u32> = (0..400).map(|i| i % 2).collect();
    let fair: Vec<u16> = (0..400).map(|i| (i / 2 % 2) as u16).collect();
    let tied: Vec<u16> = (0..400u32).map(|i| if i % 10 < 8 { (i % 2) as u16 } else { ((i + 1) % 2) as u16 }).collect();
    assert_eq!(bias::dataset(&fair, 2, Some(&groups), bias::Limits::default()).outcome, Outcome::Pass);
    assert_eq!(bias::dataset(&tied, 2, Some(&groups), bias::Limits::default()).outcome, Outcome::Fail);
    // One group only, or a tiny one: told, not judged.
    let lone = bias::dataset(&fair, 2, Some(&[7; 400]), bias::Limits::default());
    assert!(lone.outcome == Outcome::Pass && lone.notes[0].contains("one group"));
    assert!(open(&bias::dataset(&[], 2, None, bias::Limits::default())));
    assert!(open(&bias::dataset(&[3], 2, None, bias::Limits::default())));
}

#[test]
fn a_biased_model_fails_and_a_difference_by_chance_does_not() {
    let mut d = draws("answers", 0);
    let groups: Vec<u32> = (0..600).map(|i| i % 2).collect();
    let truth: Vec<u16> = (0..600).map(|i| (i / 2 % 2) as u16).collect();
    let fair: Vec<u16> = truth.iter().map(|t| if d.unit() < 0.9 { *t } else { 1 - *t }).collect();
    let biased: Vec<u16> = groups.iter().map(|g| u16::from(d.unit() < if *g == 0 { 0.8 } else { 0.4 })).collect();
    let judge = |said: &[u16], groups: &[u32]| bias::answers(&truth, said, 1, groups, bias::Limits::default());
    assert_eq!(judge(&fair, &groups).outcome, Outcome::Pass);
    assert_eq!(judge(&biased, &groups).outcome, Outcome::Fail);
    let tiny: Vec<u32> = (0..600).map(|i| u32::from(i < 5)).collect();
    assert!(open(&judge(&fair, &tiny)));
    // A group without positives: equalised odds do not exist there, and 0 would be a guess.
    let split: Vec<u32> = truth.iter().map(|t| u32::from(*t)).collect();
    let is = |v: &[u16]| v.iter().map(|x| *x == 1).collect::<Vec<bool>>();
    assert_eq!(bias::fairness(&is(&truth), &is(&fair), &split).unwrap().odds_difference, None);
}

const WORDS: [&str; 12] =
    ["peer", "chunk", "ledger", "model", "name", "key", "vote", "block", "score", "proof", "node", "pool"];

fn sentence(d: &mut Draws, n: usize) -> String {
    (0..n).map(|_| WORDS[d.below(WORDS.len())]).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_publishers_own_samples_are_found_exact_in_runs_and_nearly() {
    let (salt, mut d) = (Salt::new([1; 32]), draws("texts", 0));
    let mut theirs: Vec<String> = (0..60).map(|_| sentence(&mut d, 40)).collect();
    theirs.push(sentence(&mut d, 12));
    let prints = Fingerprints::of(&salt, theirs.iter().map(|t| Sample::Text(t))).unwrap();
    let compare = |salt: &Salt, texts: &[String]| {
        overlap::compare(salt, &prints, texts.iter().map(|t| Sample::Text(t)), overlap::Limits::default())
    };
    let fresh: Vec<String> = (0..60).map(|_| sentence(&mut d, 40)).collect();
    let found = compare(&salt, &fresh);
    assert_eq!((found.exact, found.runs, found.near), (0, 0, 0), "{found:?}");
    assert_eq!(overlap::check(Some(&found), overlap::Limits::default()).outcome, Outcome::Pass);

    let shouted = theirs[3].to_uppercase().replace(' ', ", ") + "!";
    let extended = format!("{} {}", theirs[4], sentence(&mut d, 5));
    // Shorter than a run of 13, and without its last word: a near duplicate.
    let cut = theirs[60].rsplit_once(' ').unwrap().0.to_owned();
    let mixed = vec![fresh[0].clone(), shouted, extended, cut];
    let found = compare(&salt, &mixed);
    assert_eq!((found.exact, found.runs, found.near), (1, 1, 1), "{found:?}");
    assert_eq!(found.first, [1, 2, 3]);
    assert_eq!(overlap::check(Some(&found), overlap::Limits::default()).outcome, Outcome::Fail);
    // Under another salt nothing matches: fingerprints of two publications cannot be joined.
    let other = compare(&Salt::new([2; 32]), &theirs);
    assert_eq!((other.exact, other.runs, other.near), (0, 0, 0));
    assert!(open(&overlap::check(None, overlap::Limits::default())));
}

#[test]
fn rows_with_a_little_noise_are_near_duplicates() {
    let (salt, mut d) = (Salt::new([1; 32]), draws("rows", 0));
    let mut row = || (0..64).map(|_| d.below(16) as f32).collect::<Vec<f32>>();
    let theirs: Vec<Vec<f32>> = (0..50).map(|_| row()).collect();
    let fresh: Vec<Vec<f32>> = (0..50).map(|_| row()).collect();
    let noisy: Vec<Vec<f32>> = theirs.iter().map(|r| r.iter().map(|v| v + 0.2).collect()).collect();
    fn all(rows: &[Vec<f32>]) -> impl Iterator<Item = Sample<'_>> {
        rows.iter().map(|r| Sample::Row(r, 1.0))
    }
    let prints = Fingerprints::of(&salt, all(&theirs)).unwrap();
    let near = |rows: &[Vec<f32>]| overlap::compare(&salt, &prints, all(rows), overlap::Limits::default());
    assert_eq!(near(&noisy).near, 50);
    assert_eq!(near(&theirs).exact, 50);
    let new = near(&fresh);
    assert_eq!((new.exact, new.near), (0, 0));
    // Fingerprints travel: what is read back is what was written.
    let text = serde_json::to_string(&prints).unwrap();
    assert_eq!(serde_json::from_str::<Fingerprints>(&text).unwrap(), prints);
}

fn normal(d: &mut Draws, n: usize, shift: f64) -> Vec<f64> {
    (0..n).map(|_| d.normal() + shift).collect()
}

#[test]
fn tests_of_shift_raise_false_alarms_as_rarely_as_they_say() {
    // 200 pairs of equal distributions at 5 %: ten expected; 20 is three standard deviations above.
    let (mut ks, mut chi, mut mmd) = (0, 0, 0);
    for run in 0..200 {
        let mut d = draws("null", run);
        let (left, right) = (normal(&mut d, 60, 0.0), normal(&mut d, 80, 0.0));
        ks += u32::from(statistics::kolmogorov_smirnov(&left, &right).unwrap().1 < 0.05);
        let mut counts = || {
            (0..200).fold([0u64; 5], |mut c, _| {
                c[d.below(5)] += 1;
                c
            })
        };
        chi += u32::from(statistics::chi_square(&counts(), &counts()).unwrap().p < 0.05);
        if run < 40 {
            let rows = |v: &[f64]| v.chunks(2).take(20).map(<[f64]>::to_vec).collect::<Vec<_>>();
            mmd += u32::from(statistics::mmd(&rows(&left), &rows(&right), &[1; 32], "x").unwrap().p <= 0.05);
        }
    }
    assert!(ks <= 20, "KS: {ks} of 200");
    assert!((1..=20).contains(&chi), "χ²: {chi} of 200");
    assert!(mmd <= 7, "MMD: {mmd} of 40");
}

#[test]
fn the_stability_index_is_noise_at_fixed_limits_and_calibrated_here() {
    let (mut fixed, mut calibrated, mut seen) = (0, 0, 0);
    for run in 0..200 {
        let mut d = draws("psi", run);
        let (index, limit) =
            shift::stability_index(&normal(&mut d, 100, 0.0), &normal(&mut d, 100, 0.0), 0.05).unwrap();
        fixed += u32::from(index > 0.1);
        calibrated += u32::from(index > limit);
        let (index, limit) =
            shift::stability_index(&normal(&mut d, 100, 0.0), &normal(&mut d, 100, 1.0), 0.05).unwrap();
        seen += u32::from(index > limit);
    }
    assert!(fixed > 120, "the fixed limit fails equal data in {fixed} of 200");
    assert!(calibrated <= 20, "calibrated: {calibrated} of 200");
    assert!(seen > 190, "a shift by one deviation is seen in {seen} of 200");
}

#[test]
fn another_domain_fails_for_shift_and_new_data_of_the_same_does_not() {
    let columns = |run: u64, moved: f64| -> Vec<Column> {
        let (n, m) = (60, 50);
        let mut d = draws("domain", run);
        let mut all: Vec<Column> = (0..8)
            .map(|i| Column {
                name: format!("x{i}"),
                values: Values::Numbers(
                    normal(&mut d, 150, 0.0),
                    normal(&mut d, 120, if i == 3 { moved } else { 0.0 }),
                ),
            })
            .collect();
        let mut kinds = |n| (0..n).map(|_| d.below(6) as u32).collect::<Vec<u32>>();
        all.push(Column { name: "kind".into(), values: Values::Categories(kinds(n), kinds(m)) });
        all
    };
    let check = |moved, run| shift::check(&columns(run, moved), shift::Limits::default(), &[1; 32]);
    // Equal data passes, and 9 columns do not make it nine times likelier to be called different.
    let differing = |c: &Check| c.figures[1].value;
    let alarms = (0..20).filter(|run| differing(&check(0.0, *run)) > 0.0).count();
    assert!(alarms <= 3, "{alarms} of 20");
    assert_eq!(check(0.5, 1).outcome, Outcome::Pass, "a real but small shift is new data");
    let far = check(3.0, 1);
    assert_eq!(far.outcome, Outcome::Fail);
    assert!(far.figures.last().unwrap().name.contains("x3"), "{far:?}");
    assert_eq!(check(3.0, 1), far, "the same seed gives the same figures");
    assert!(open(&shift::check(&[], shift::Limits::default(), &[1; 32])));
}

#[test]
fn composition_and_the_sum_of_it() {
    assert_eq!(composition::adversarial(100, Some(10), composition::ADVERSARIAL).outcome, Outcome::Pass);
    assert_eq!(composition::adversarial(100, Some(2), composition::ADVERSARIAL).outcome, Outcome::Fail);
    assert_eq!(composition::adversarial(100, Some(90), composition::ADVERSARIAL).outcome, Outcome::Fail);
    assert!(open(&composition::adversarial(100, None, composition::ADVERSARIAL)));
    let load = composition::Load { sizes: vec![10, 10, 30], calls: 100, calls_needed: 64, concurrency: 8 };
    assert_eq!(composition::stress(Some(&load)).outcome, Outcome::Pass);
    assert_eq!(composition::stress(Some(&composition::Load { calls: 50, ..load.clone() })).outcome, Outcome::Fail);
    assert_eq!(
        composition::stress(Some(&composition::Load { sizes: vec![10; 5], ..load.clone() })).outcome,
        Outcome::Fail
    );
    assert!(open(&composition::stress(None)));

    let good = |criterion| Check { criterion, outcome: Outcome::Pass, figures: vec![], notes: vec![] };
    use Criterion::{Adversarial, Bias, Overlap, Privacy, Shift, Stress};
    let mut all: Vec<Check> = [Bias, Privacy, Overlap, Shift, Adversarial, Stress].map(good).into();
    assert_eq!(judge(&all), Gate::Sound);
    assert_eq!(judge(&all[1..]), Gate::Partial(vec![Bias]), "what was not checked is not sound");
    all[2] = Check::not_assessable(Overlap, "x");
    assert_eq!(judge(&all), Gate::Partial(vec![Overlap]));
    all[0].outcome = Outcome::Fail;
    assert_eq!(judge(&all), Gate::Void(vec![Bias]));
}
