//! A report made from a real run, however small: a linear model, its answers, attacks on it, checks of its data; and the page
//! of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

use zero2ai_trust::{
    attacks::{
        Model, Outcome, Space, accuracy, curve,
        decision::{self, Norm},
        square::{self, Shape},
    },
    draw::Draws,
    gate::{Check, Criterion, bias, composition, minhash::Salt, overlap, privacy, shift},
    load::{Scenario, latencies, summary},
    report::{
        Curve, Decision, Domain, Policy, Report, Rule, Subject,
        figures::{self, Answers, Drawing},
    },
};
use zero2ai_validator::report::page;

const SEED: [u8; 32] = [3; 32];
const CLASSES: usize = 3;
const FEATURES: usize = 12;

/// Softmax over three linear scores.
struct Softmax(Vec<Vec<f64>>);

impl Softmax {
    fn probabilities(&self, x: &[f32]) -> Vec<f64> {
        let score = |w: &Vec<f64>| w.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum::<f64>();
        let scores: Vec<f64> = self.0.iter().map(score).collect();
        let most = scores.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|s| (s - most).exp()).sum();
        scores.iter().map(|s| (s - most).exp() / total).collect()
    }
}

impl Model<Vec<f32>> for Softmax {
    fn predict(&mut self, batch: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, String> {
        Ok(batch.iter().map(|x| self.probabilities(x).into_iter().map(|p| p as f32).collect()).collect())
    }
}

fn rows(count: usize, label: &str, centres: &[Vec<f64>]) -> (Vec<Vec<f32>>, Vec<u16>) {
    let mut d = Draws::new(&SEED, label, 0);
    let truth: Vec<u16> = (0..count).map(|i| (i % CLASSES) as u16).collect();
    let row = |t: &u16, d: &mut Draws| centres[usize::from(*t)].iter().map(|c| (c + 0.9 * d.normal()) as f32).collect();
    (truth.iter().map(|t| row(t, &mut d)).collect(), truth)
}

fn rule(metric: &str, worst: f64, best: f64, weight: u32, gate: Option<f64>) -> Rule {
    Rule { metric: metric.into(), worst, best, weight, gate }
}

/// The order in which a validator's command does it.
fn run() -> Report {
    let mut d = Draws::new(&SEED, "centres", 0);
    let centres: Vec<Vec<f64>> = (0..CLASSES).map(|_| (0..FEATURES).map(|_| 0.45 * d.normal()).collect()).collect();
    let mut model = Softmax(centres.clone());
    let (inputs, truth) = rows(240, "held out", &centres);
    let (reference, _) = rows(200, "reference", &centres);

    let mut report = Report::new(Subject {
        model: "acme/<iris> & co@3".into(),
        domain: Domain::Tabular,
        dataset: "heldout.csv".into(),
        samples: inputs.len() as u64,
        dataset_root: "7f".repeat(32),
        seed: "03".repeat(32),
    });
    let names = ["setosa", "versicolor", "virginica"].map(str::to_owned);
    let groups: Vec<u32> = (0..240).map(|i| (i / CLASSES % 2) as u32).collect();
    let parts: Vec<String> = groups.iter().map(|g| format!("region {g}")).collect();
    let probabilities: Vec<Vec<f64>> = inputs.iter().map(|x| model.probabilities(x)).collect();
    let answers = Answers { truth: &truth, rows: &probabilities, names: &names, slices: Some(&parts) };
    figures::classification(&mut report, answers, Drawing { seed: &SEED, resamples: 60, threads: 2 }).unwrap();

    let space = Space::uniform(FEATURES, -8.0, 8.0);
    let strengths = [0.0, 0.1, 0.2, 0.4, 0.8];
    let attacked = 12;
    let square: Vec<Outcome<Vec<f32>>> = (0..attacked)
        .map(|i| {
            let s = square::Settings { epsilon: 2.0, budget: 120, seed: &SEED, sample: i as u64 };
            square::smallest(&mut model, &inputs[i], truth[i], Shape::line(FEATURES), &space, s, 6).unwrap()
        })
        .collect();
    let decided: Vec<Outcome<Vec<f32>>> = (0..attacked)
        .map(|i| {
            let s = decision::Settings { norm: Norm::Max, budget: 600, seed: &SEED, sample: i as u64 };
            decision::attack(&mut model, &inputs[i], truth[i], &space, &[], s).unwrap()
        })
        .collect();
    let unit = "largest change of a feature";
    for (name, outcomes) in [("Square", &square), ("HopSkipJump", &decided)] {
        let points = curve(outcomes, &strengths);
        report.add_curve(Curve { attack: name.into(), unit: unit.into(), points }, &[0.1]);
    }
    let noisy = |deviation: f64| {
        let mut d = Draws::new(&SEED, "noise", 0);
        let all: Vec<Vec<f32>> =
            inputs.iter().map(|x| x.iter().map(|v| v + (deviation * d.normal()) as f32).collect()).collect();
        all
    };
    let points = [0.0, 0.5, 1.0, 2.0].map(|s| {
        accuracy(&mut model, &truth, s, {
            let all = noisy(s);
            move |i| all[i].clone()
        })
        .unwrap()
    });
    report.add_curve(
        Curve { attack: "noise".into(), unit: "standard deviation of noise".into(), points: points.into() },
        &[],
    );

    let due = Scenario::Server(2_000.0).schedule(400, &SEED).unwrap();
    let done: Vec<u64> = due.iter().enumerate().map(|(i, t)| t + 300 + (i as u64 * 37) % 900).collect();
    report.load.push(summary(Scenario::Server(2_000.0), &latencies(&due, &done), 400, *done.last().unwrap()));
    report.load.push(summary(Scenario::Offline, &[180_000], 240, 180_000));

    let salt = Salt::new([5; 32]);
    let prints = overlap::Fingerprints::of(&salt, reference.iter().map(|r| overlap::Sample::Row(r, 0.25))).unwrap();
    let samples = inputs.iter().map(|r| overlap::Sample::Row(r, 0.25));
    let found = overlap::compare(&salt, &prints, samples, overlap::Limits::default());
    let column = |rows: &[Vec<f32>], k: usize| rows.iter().map(|r| f64::from(r[k])).collect::<Vec<_>>();
    let columns: Vec<shift::Column> = (0..FEATURES)
        .map(|k| shift::Column {
            name: format!("x{k}"),
            values: shift::Values::Numbers(column(&reference[..60], k), column(&inputs[..60], k)),
        })
        .collect();
    report.dataset_checks = vec![
        bias::dataset(&truth, CLASSES as u16, Some(&groups), bias::Limits::default()),
        privacy::check(["a comment column", "nothing personal <script>alert(1)</script>"], 0),
        overlap::check(Some(&found), overlap::Limits::default()),
        shift::check(&columns, shift::Limits::default(), &SEED),
        composition::adversarial(240, Some(24), composition::ADVERSARIAL),
        Check::not_assessable(Criterion::Stress, "no load run: run the Server or Offline scenario on this dataset"),
    ];
    let said: Vec<u16> = probabilities.iter().map(|p| zero2ai_proto::tensor::argmax(p) as u16).collect();
    report.model_checks.push(bias::answers(&truth, &said, 1, &groups, bias::Limits::default()));
    report.notes.push("Latency was measured with other work on the machine.".into());
    report.finish(&Policy {
        rules: vec![
            rule("macro F1", 0.3, 0.9, 3, None),
            rule("log loss", 2.0, 0.0, 1, None),
            rule("Square at 0.1", 0.0, 1.0, 1, Some(0.1)),
        ],
        accept_ppm: 600_000,
        reject_ppm: 300_000,
    })
}

/// Every tag is closed by its own, in order; returns how many there are.
fn well_formed(page: &str) -> usize {
    let page = page.strip_prefix("<!DOCTYPE html>\n").expect("a document type");
    let (mut open, mut count) = (Vec::new(), 0);
    for piece in page.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap_or_else(|| panic!("not closed: <{piece}"));
        assert!(
            !text
                .replace("&amp;", "")
                .replace("&lt;", "")
                .replace("&gt;", "")
                .replace("&quot;", "")
                .replace("&#39;", "")
                .contains('&')
        );
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
            count += 1;
        }
    }
    assert_eq!(open, Vec::<&str>::new());
    count
}

#[test]
fn a_real_run_makes_a_page_that_is_whole_escaped_and_loads_nothing() {
    let report = run();
    assert_eq!(report.grade.decision, Decision::Positive, "{:?}", report.grade);
    let html = page(&report);
    assert!(well_formed(&html) > 300);
    for word in [
        "acme/&lt;iris&gt; &amp; co@3",
        "Positive",
        "macro F1",
        "versicolor",
        "region 1",
        "Calibration",
        "black-box",
        "HopSkipJump",
        "Server, 2000 a second",
        "Overlap",
        "not assessable",
        "To repeat it",
    ] {
        assert!(html.contains(word), "the page lacks {word}");
    }
    for none in ["<script", "<img", "<link", "url(", "src=", "href=", "<iris>", "NaN", "inf"] {
        assert!(!html.contains(none), "the page has {none}");
    }
    assert_eq!(html, page(&serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap()));
    // For people who want to look at it.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::write(folder.join("report.html"), &html).unwrap();
    fs::write(folder.join("report.json"), serde_json::to_string_pretty(&report).unwrap()).unwrap();
}

#[test]
fn an_empty_report_is_a_page_too() {
    let subject = Subject {
        model: "\u{202E}x\u{0}".into(),
        domain: Domain::Unknown,
        dataset: String::new(),
        samples: 0,
        dataset_root: String::new(),
        seed: String::new(),
    };
    let html = page(&Report::new(subject).finish(&Policy { rules: vec![], accept_ppm: 1, reject_ppm: 0 }));
    well_formed(&html);
    assert!(html.contains("Not graded") && !html.contains('\u{202E}'));
}
