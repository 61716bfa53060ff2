//! Attacks against models whose robustness is known exactly: the L∞ radius of a linear model is margin / ‖w‖₁, the L2
//! radius margin / ‖w‖₂. No attack may beat them; ours must come close.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use zero2ai_trust::{
    attacks::{
        AtMost, AttackError, Model, Outcome, Space, accuracy, audio, curve,
        decision::{self, Norm},
        image::{CORRUPTIONS, Corruption, corrupt},
        square::{self, Shape},
        strongest, text,
    },
    draw::Draws,
};

const SEED: [u8; 32] = [8; 32];

/// Two classes; the second where w·x + b > 0. Counts what it is asked.
struct Linear {
    weights: Vec<f64>,
    bias: f64,
    asked: u64,
}

impl Linear {
    fn drawn(n: usize, index: u64) -> Self {
        let mut d = Draws::new(&SEED, "weights", index);
        Self { weights: (0..n).map(|_| d.normal()).collect(), bias: 0.0, asked: 0 }
    }

    fn value(&self, x: &[f32]) -> f64 {
        self.weights.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum::<f64>() + self.bias
    }

    fn label(&self, x: &[f32]) -> u16 {
        u16::from(self.value(x) > 0.0)
    }
}

impl Model<Vec<f32>> for Linear {
    fn predict(&mut self, batch: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, String> {
        self.asked += batch.len() as u64;
        // The sign is all that counts, but the size is kept for attacks that see scores.
        Ok(batch.iter().map(|x| self.value(x) as f32).map(|v| vec![-v, v]).collect())
    }
}

fn inputs(n: usize, count: u64) -> Vec<Vec<f32>> {
    (0..count)
        .map(|i| {
            let mut d = Draws::new(&SEED, "inputs", i);
            (0..n).map(|_| d.between(-0.5, 0.5) as f32).collect()
        })
        .collect()
}

/// Mean and largest factor by which `found` exceeds the exact radii; panics if one is below.
#[track_caller]
fn factors(found: &[(f64, f64)]) -> (f64, f64) {
    let all: Vec<f64> = found.iter().map(|(exact, found)| found / exact).collect();
    assert!(all.iter().all(|f| *f > 1.0 - 1e-4), "an attack beat what is possible: {all:?}");
    (all.iter().sum::<f64>() / all.len() as f64, all.iter().copied().fold(0.0, f64::max))
}

fn broken(outcome: Outcome<Vec<f32>>, model: &Linear, label: u16, budget: u32) -> f64 {
    let Outcome::Broken { adversarial, distance, queries } = outcome else { panic!("{outcome:?}") };
    assert_ne!(model.label(&adversarial), label);
    assert!(queries <= budget);
    distance.0
}

#[test]
fn square_comes_close_to_the_exact_radius_of_a_linear_model_and_never_beats_it() {
    let (n, space) = (48, Space::uniform(48, -10.0, 10.0));
    let shape = Shape { height: 4, width: 4, channels: 3 };
    let mut found = Vec::new();
    for (i, x) in inputs(n, 6).iter().enumerate() {
        let mut model = Linear::drawn(n, i as u64);
        let label = model.label(x);
        let exact = model.value(x).abs() / model.weights.iter().map(|w| w.abs()).sum::<f64>();
        let settings = square::Settings { epsilon: 8.0 * exact, budget: 1_500, seed: &SEED, sample: i as u64 };
        let outcome = square::smallest(&mut model, x, label, shape, &space, settings, 9).unwrap();
        found.push((exact, broken(outcome, &model, label, 9 * 1_500)));
    }
    let (mean, worst) = factors(&found);
    println!("square: {mean:.3} times the exact radius on average, {worst:.3} at worst");
    assert!(mean < 1.05 && worst < 1.1, "{mean} {worst}");
}

#[test]
fn decisions_alone_come_close_too_in_both_norms() {
    let (n, space) = (24, Space::uniform(24, -10.0, 10.0));
    for (norm, mean_limit, worst_limit) in [(Norm::Max, 1.02, 1.05), (Norm::Euclid, 1.02, 1.05)] {
        let mut found = Vec::new();
        for (i, x) in inputs(n, 6).iter().enumerate() {
            let mut model = Linear::drawn(n, i as u64);
            let label = model.label(x);
            let length = match norm {
                Norm::Max => model.weights.iter().map(|w| w.abs()).sum::<f64>(),
                Norm::Euclid => model.weights.iter().map(|w| w * w).sum::<f64>().sqrt(),
            };
            let exact = model.value(x).abs() / length;
            let settings = decision::Settings { norm, budget: 12_000, seed: &SEED, sample: i as u64 };
            let outcome = decision::attack(&mut model, x, label, &space, &[], settings).unwrap();
            found.push((exact, broken(outcome, &model, label, 12_000)));
            assert!(model.asked <= 12_000);
        }
        let (mean, worst) = factors(&found);
        println!("{norm:?}: {mean:.3} times the exact radius on average, {worst:.3} at worst");
        assert!(mean < mean_limit && worst < worst_limit, "{norm:?} {mean} {worst}");
    }
}

/// The least largest change that turns a linear model's answer within the bounds: found by halving, since what can be reached grows with it.
fn exact_within(model: &Linear, x: &[f32], space: &Space) -> f64 {
    let value = model.value(x);
    let turned = |reach: f64| {
        let best = model.weights.iter().zip(x).zip(space.low.iter().zip(&space.high)).map(|((w, x), (low, high))| {
            let step = if w * value < 0.0 { reach } else { -reach };
            w * ((f64::from(*x) + step).clamp(f64::from(*low), f64::from(*high)) - f64::from(*x))
        });
        (value + best.sum::<f64>()) * value <= 0.0
    };
    let (mut low, mut high) = (0.0, 1.0);
    assert!(turned(high));
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if turned(middle) { high = middle } else { low = middle }
    }
    high
}

#[test]
fn pictures_within_their_bounds_are_broken_near_the_exact_radius() {
    let (shape, mut found) = (Shape { height: 8, width: 8, channels: 3 }, Vec::new());
    let n = shape.height * shape.width * shape.channels;
    let space = Space::uniform(n, 0.0, 1.0);
    for i in 0..4_u64 {
        let mut draws = Draws::new(&SEED, "picture", i);
        let mut picture = || (0..n).map(|_| draws.unit() as f32).collect::<Vec<f32>>();
        let (x, others) = (picture(), (0..20).map(|_| picture()).collect::<Vec<_>>());
        let mut model = Linear::drawn(n, i);
        // Half of all pictures are of each class.
        model.bias = -model.weights.iter().sum::<f64>() / 2.0;
        let label = model.label(&x);
        let exact = exact_within(&model, &x, &space);
        let begin: Vec<Vec<f32>> = others.into_iter().filter(|o| model.label(o) != label).collect();
        let settings = decision::Settings { norm: Norm::Max, budget: 12_000, seed: &SEED, sample: i };
        let outcome = decision::attack(&mut model, &x, label, &space, &begin, settings).unwrap();
        found.push((exact, broken(outcome, &model, label, 12_000)));
    }
    let (mean, worst) = factors(&found);
    println!("pictures: {mean:.3} times the exact radius on average, {worst:.3} at worst");
    assert!(mean < 1.5 && worst < 2.0, "{mean} {worst}");
}

#[test]
fn tables_keep_their_bounds_and_what_must_not_change() {
    let n = 12;
    let mut found = Vec::new();
    for (i, x) in inputs(n, 5).iter().enumerate() {
        let mut model = Linear::drawn(n, i as u64);
        let label = model.label(x);
        let mut space = Space::uniform(n, -20.0, 20.0);
        // Features in different units; the first three must not change, and the fourth must not fall below where it is.
        space.scale = (0..n).map(|k| if k < 3 { 0.0 } else { 0.5 + k as f32 / 4.0 }).collect();
        let reach = model.weights.iter().zip(&space.scale).map(|(w, s)| w.abs() * f64::from(*s)).sum::<f64>();
        let exact = model.value(x).abs() / reach;
        let start = inputs(n, 40).into_iter().filter(|o| model.label(o) != label).collect::<Vec<_>>();
        let settings = decision::Settings { norm: Norm::Max, budget: 8_000, seed: &SEED, sample: i as u64 };
        space.low[3] = x[3];
        let outcome = decision::attack(&mut model, x, label, &space, &start, settings).unwrap();
        let Outcome::Broken { adversarial, .. } = &outcome else { panic!("{outcome:?}") };
        assert_eq!(adversarial[..3], x[..3]);
        assert!(adversarial.iter().zip(&space.low).zip(&space.high).all(|((a, l), h)| a >= l && a <= h));
        let (few, changed) = decision::fewest(&mut model, x, adversarial, label, &space, 100).unwrap();
        assert!((1..=9).contains(&changed) && model.label(&few) != label);
        found.push((exact, broken(outcome, &model, label, 8_000)));
    }
    // The bound on the fourth only takes possibilities away: the exact radius without it holds as a lower one.
    let (mean, _) = factors(&found);
    println!("tables: {mean:.3} times the exact radius (without one bound) on average");
    assert!(mean < 1.1, "{mean}");
}

#[test]
fn the_same_seed_gives_the_same_bits_and_the_budget_is_kept() {
    let (n, space) = (24, Space::uniform(24, -10.0, 10.0));
    let x = &inputs(n, 1)[0];
    for budget in [0, 1, 2, 7, 150, 700] {
        let run = || {
            let mut model = Linear::drawn(n, 0);
            let label = model.label(x);
            let decided = decision::Settings { norm: Norm::Max, budget, seed: &SEED, sample: 3 };
            let a = decision::attack(&mut model, x, label, &space, &[], decided).unwrap();
            assert!(model.asked <= u64::from(budget), "{} of {budget}", model.asked);
            model.asked = 0;
            let scored = square::Settings { epsilon: 0.05, budget, seed: &SEED, sample: 3 };
            let b = square::attack(&mut model, x, label, Shape::line(n), &space, scored).unwrap();
            assert!(model.asked <= u64::from(budget), "{} of {budget}", model.asked);
            (a, b)
        };
        assert_eq!(run(), run());
    }
    let mut model = Linear::drawn(n, 0);
    let wrong = 1 - model.label(x);
    let settings = decision::Settings { norm: Norm::Max, budget: 50, seed: &SEED, sample: 0 };
    assert_eq!(decision::attack(&mut model, x, wrong, &space, &[], settings), Ok(Outcome::AlreadyWrong));
}

#[test]
fn what_does_not_fit_is_refused_and_a_failing_model_ends_the_attack() {
    struct Broken;
    impl Model<Vec<f32>> for Broken {
        fn predict(&mut self, _: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, String> {
            Err("worker died".into())
        }
    }
    let settings = decision::Settings { norm: Norm::Max, budget: 50, seed: &SEED, sample: 0 };
    let attack =
        |model: &mut dyn Model<Vec<f32>>, x: &[f32], space: &Space| decision::attack(model, x, 0, space, &[], settings);
    let space = Space::uniform(2, 0.0, 1.0);
    assert_eq!(attack(&mut Broken, &[0.5, 0.5], &space), Err(AttackError::Model("worker died".into())));
    let shape = |r| assert!(matches!(r, Err(AttackError::Shape { .. })), "{r:?}");
    shape(attack(&mut Broken, &[0.5], &space));
    shape(attack(&mut Broken, &[0.5, f32::NAN], &space));
    shape(attack(&mut Broken, &[0.5, 0.5], &Space { scale: vec![0.0; 2], ..space.clone() }));
    shape(attack(&mut Broken, &[0.5, 0.5], &Space { low: vec![2.0; 2], ..space.clone() }));
    let squared = square::Settings { epsilon: 1.0, budget: 9, seed: &SEED, sample: 0 };
    shape(square::attack(&mut Broken, &[0.5, 0.5], 0, Shape { height: 2, width: 2, channels: 1 }, &space, squared));
}

#[test]
fn a_curve_falls_and_is_worded_as_an_upper_bound() {
    let broken = |d| Outcome::Broken { adversarial: (), distance: AtMost(d), queries: 1 };
    let all = [Outcome::AlreadyWrong, broken(0.1), broken(0.3), Outcome::Held { queries: 9 }];
    let points = curve(&all, &[0.0, 0.1, 0.2, 1.0]);
    assert_eq!(points.iter().map(|p| p.right).collect::<Vec<_>>(), [3, 2, 2, 1]);
    assert_eq!(points[1].accuracy.to_string(), "≤ 0.5000 (black-box)");
    let other = [broken(0.2), broken(0.3), broken(0.05), Outcome::Held { queries: 9 }];
    let both = strongest(&[&all, &other], &[0.0, 0.1, 0.2, 1.0]);
    assert_eq!(both.iter().map(|p| p.right).collect::<Vec<_>>(), [3, 1, 1, 1]);
    assert_eq!(strongest(&[&all], &[0.1]), curve(&all, &[0.1]));
}

/// A picture with edges and shades.
fn picture(shape: Shape) -> Vec<f32> {
    let value = |y: usize, x: usize, c: usize| ((x / 3 + y / 4) % 2) as f32 * 0.6 + (c as f32 + y as f32 / 40.0) * 0.1;
    let pixels = (0..shape.height).flat_map(|y| (0..shape.width).map(move |x| (y, x)));
    pixels.flat_map(|(y, x)| (0..shape.channels).map(move |c| value(y, x, c))).collect()
}

#[test]
fn every_corruption_changes_a_picture_more_with_severity_and_repeats_to_the_bit() {
    for shape in [Shape { height: 32, width: 40, channels: 3 }, Shape { height: 8, width: 8, channels: 1 }] {
        let clean = picture(shape);
        for corruption in CORRUPTIONS {
            let change = |severity, seed: &[u8; 32]| corrupt(&clean, shape, corruption, severity, seed, 4).unwrap();
            let distance = |severity| {
                let changed = change(severity, &SEED);
                assert_eq!(changed.len(), clean.len());
                assert!(changed.iter().all(|v| (0.0..=1.0).contains(v)), "{corruption:?}");
                assert_eq!(changed, change(severity, &SEED), "{corruption:?}");
                changed.iter().zip(&clean).map(|(a, b)| f64::from((a - b) * (a - b))).sum::<f64>().sqrt()
            };
            let all: Vec<f64> = (1..=5).map(distance).collect();
            assert!(all[0] > 0.01, "{corruption:?} does nothing: {all:?}");
            // On eight pixels, and for glass (which on these narrow stripes moves everything at once), no order is asked.
            let ordered = shape.height > 8 && corruption != Corruption::GlassBlur;
            assert!(all[4] > all[0] || !ordered, "{corruption:?}: {all:?}");
            assert_eq!(distance(9), all[4]);
        }
    }
    let shape = Shape { height: 2, width: 2, channels: 1 };
    assert_eq!(corrupt(&[0.5; 3], shape, CORRUPTIONS[0], 1, &SEED, 0), None);
    assert_eq!(corrupt(&[f32::NAN; 4], shape, CORRUPTIONS[0], 1, &SEED, 0), None);
    assert_eq!(corrupt(&[], Shape { height: 0, ..shape }, CORRUPTIONS[0], 1, &SEED, 0), None);
}

#[test]
fn noise_has_the_ratio_it_says_and_clipping_cuts() {
    let sound: Vec<f32> = (0..8_000).map(|i| (i as f32 * 0.05).sin()).collect();
    let power = |v: &[f32]| v.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
    for (severity, decibels) in [(1, 30.0), (3, 10.0), (4, 0.0), (5, -10.0)] {
        let noisy = audio::change(&sound, audio::Change::Noise, severity, &SEED, 0);
        let noise: Vec<f32> = noisy.iter().zip(&sound).map(|(a, b)| a - b).collect();
        let ratio = 10.0 * (power(&sound) / power(&noise)).log10();
        assert!((ratio - decibels).abs() < 0.3, "{ratio} dB");
    }
    let clipped = audio::change(&sound, audio::Change::Clipping, 2, &SEED, 0);
    assert!(clipped.iter().all(|v| v.abs() <= 0.501));
    let clipped = audio::change(&sound, audio::Change::Clipping, 5, &SEED, 0);
    assert!(clipped.iter().all(|v| v.abs() <= 0.011));
    assert_eq!(audio::change(&[0.0; 9], audio::Change::Noise, 5, &SEED, 0), [0.0; 9]);
}

#[test]
fn texts_change_by_their_kind_and_canaries_tell_who_follows() {
    let sentence = "The quick brown fox jumps over the lazy dog and goes home to sleep until noon";
    let change = |kind, severity| text::change(sentence, kind, severity, &SEED, 0);
    let letters = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    assert_eq!(change(text::Change::Case, 5).to_lowercase(), sentence.to_lowercase());
    assert_eq!(letters(&change(text::Change::Spacing, 5)), letters(sentence));
    let sorted = |t: &str| {
        let mut w: Vec<String> = t.split(' ').map(str::to_owned).collect();
        w.sort();
        w
    };
    assert_eq!(sorted(&change(text::Change::Swap, 5)), sorted(sentence));
    assert_eq!(change(text::Change::Homoglyph, 5).chars().count(), sentence.chars().count());
    for kind in text::CHANGES {
        assert_ne!(change(kind, 5), sentence, "{kind:?}");
        assert_eq!(change(kind, 5), change(kind, 5));
        assert_eq!(text::change("  ", kind, 3, &SEED, 0), "  ");
    }
    let canaries = text::canaries("Summarise: all is well.", &SEED, 0);
    let words: std::collections::BTreeSet<&str> = canaries.iter().map(|c| c.word.as_str()).collect();
    assert_eq!(words.len(), canaries.len());
    for canary in &canaries {
        assert!(canary.text.contains(&canary.word) && canary.sings(&format!("ok {}", canary.word.to_lowercase())));
        assert!(!canary.sings("All is well."));
    }
}

/// A list that a model is to go on with: what its lines show is not what is attacked.
#[test]
fn the_lines_of_a_prompt_survive_every_change() {
    let prompt = "France: Paris\nJapan: Tokyo and more\n\n  - Peru:  Lima\nSpain:";
    let blank = |t: &str| t.chars().filter(|c| c.is_whitespace() && *c != ' ').collect::<String>();
    let lines = |t: &str| t.lines().map(|l| l.split_whitespace().collect::<String>().len()).collect::<Vec<_>>();
    for kind in text::CHANGES {
        for severity in 1..=5 {
            for sample in 0..20 {
                let changed = text::change(prompt, kind, severity, &SEED, sample);
                assert_eq!(blank(&changed), blank(prompt), "{kind:?} at {severity}: {changed}");
                if [text::Change::Case, text::Change::Spacing, text::Change::Swap].contains(&kind) {
                    assert_eq!(lines(&changed), lines(prompt), "{kind:?} at {severity}: {changed}");
                }
            }
        }
    }
    // Case alone touches nothing but letters, and at severity 1 those of one word.
    let changed = text::change(prompt, text::Change::Case, 1, &SEED, 0);
    assert_eq!(changed.to_lowercase(), prompt.to_lowercase());
    let words = |t: &str| t.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&changed).iter().zip(words(prompt)).filter(|(a, b)| *a != b).count(), 1, "{changed}");
}

/// Says 1 if the text holds the word "good" as it is.
struct Keyword;
impl Model<String> for Keyword {
    fn predict(&mut self, batch: &[String]) -> Result<Vec<Vec<f32>>, String> {
        Ok(batch
            .iter()
            .map(|t| if t.split(' ').any(|w| w == "good") { vec![0.0, 1.0] } else { vec![1.0, 0.0] })
            .collect())
    }
}

#[test]
fn a_fragile_text_model_is_broken_and_corruption_accuracy_is_counted() {
    let outcome = text::attack(&mut Keyword, "this is a good day", 1, 200, &SEED, 0).unwrap();
    let Outcome::Broken { adversarial, distance, queries } = outcome else { panic!("{outcome:?}") };
    assert!(!adversarial.split(' ').any(|w| w == "good") && (1.0..=5.0).contains(&distance.0) && queries <= 200);
    let held = text::attack(&mut Keyword, "a bad day", 0, 100, &SEED, 0).unwrap();
    assert!(matches!(held, Outcome::Held { queries } if queries <= 100));
    let words = ["good", "bad"];
    let survival = accuracy(&mut Keyword, &[1, 1], 2.0, |i| words[i].to_owned()).unwrap();
    assert_eq!((survival.right, survival.samples), (1, 2));
}

proptest! {
    #[test]
    fn any_text_can_be_changed(words in ".{0,60}", severity in 0u8..9) {
        for kind in text::CHANGES {
            let _ = text::change(&words, kind, severity, &SEED, 1);
        }
    }
}
