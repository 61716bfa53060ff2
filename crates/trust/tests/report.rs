//! Reports: what a good model, a bad one, a biased one, a fragile one and one that saw the data come to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use zero2ai_trust::{
    attacks::Survival,
    draw::Draws,
    gate::{self, Check, Criterion, Gate, Outcome, bias},
    load::{Scenario, summary},
    report::{
        Curve, Decision, Domain, Policy, Report, Rule, Subject,
        figures::{self, Answers, Drawing},
    },
};

const SEED: [u8; 32] = [4; 32];

fn subject(domain: Domain) -> Subject {
    Subject {
        model: "acme/digits@2".into(),
        domain,
        dataset: "heldout.csv".into(),
        samples: 400,
        dataset_root: "00".repeat(32),
        seed: "04".repeat(32),
    }
}

fn policy() -> Policy {
    let rule = |metric: &str, worst, best, weight, gate| Rule { metric: metric.into(), worst, best, weight, gate };
    let rules = vec![
        rule("macro F1", 0.5, 0.95, 2, None),
        rule("log loss", 1.0, 0.0, 1, None),
        rule("Square at 0.1", 0.0, 1.0, 0, Some(0.5)),
    ];
    Policy { rules, accept_ppm: 600_000, reject_ppm: 300_000 }
}

/// A run over 400 samples of two classes and two groups: `right` is the share of right answers per group, `robust` the
/// share that survives the attack.
fn run(right: [f64; 2], robust: f64, domain: Domain, threads: usize, checks: &[Check]) -> Report {
    let mut d = Draws::new(&SEED, "answers", 0);
    let groups: Vec<u32> = (0..400).map(|i| i % 2).collect();
    let truth: Vec<u16> = (0..400).map(|i| (i / 2 % 2) as u16).collect();
    let rows: Vec<Vec<f64>> = (truth.iter().zip(&groups))
        .map(|(t, g)| {
            let p = 0.55 + 0.4 * d.unit();
            // The second group's errors are all "no".
            let hit = d.unit() < right[*g as usize] || (*g == 1 && *t == 0);
            if hit == (*t == 1) { vec![1.0 - p, p] } else { vec![p, 1.0 - p] }
        })
        .collect();
    let mut report = Report::new(subject(domain));
    let names = ["no", "yes"].map(str::to_owned);
    let parts: Vec<String> = groups.iter().map(|g| format!("group {g}")).collect();
    let answers = Answers { truth: &truth, rows: &rows, names: &names, slices: Some(&parts) };
    figures::classification(&mut report, answers, Drawing { seed: &SEED, resamples: 100, threads }).unwrap();
    let said: Vec<u16> = rows.iter().map(|r| u16::from(r[1] > r[0])).collect();
    report.model_checks.push(bias::answers(&truth, &said, 1, &groups, bias::Limits::default()));
    let points = vec![Survival::new(0.0, 390, 400), Survival::new(0.1, (robust * 400.0) as u64, 400)];
    report.add_curve(Curve { attack: "Square".into(), unit: "L∞ of 0 to 1".into(), points }, &[0.1]);
    report.load.push(summary(Scenario::SingleStream, &[900, 1_000, 1_200], 3, 3_100));
    report.dataset_checks = checks.to_vec();
    report.finish(&policy())
}

fn sound() -> Vec<Check> {
    use Criterion::{Adversarial, Bias, Overlap, Privacy, Shift, Stress};
    let check = |criterion| Check { criterion, outcome: Outcome::Pass, figures: vec![], notes: vec![] };
    [Bias, Privacy, Overlap, Shift, Adversarial, Stress].map(check).into()
}

#[test]
fn each_fault_fails_by_its_own_gate_and_a_good_model_passes() {
    let good = run([0.97, 0.97], 0.8, Domain::Tabular, 2, &sound());
    assert_eq!((good.grade.decision, good.gate.clone()), (Decision::Positive, Gate::Sound), "{:?}", good.grade);
    assert!(good.grade.reasons.iter().any(|r| r.contains("black-box")));

    let shuffled = run([0.5, 0.5], 0.8, Domain::Tabular, 2, &sound());
    assert_eq!(shuffled.grade.decision, Decision::Negative);
    assert!(shuffled.grade.quality_ppm.unwrap() < 300_000);

    let fragile = run([0.97, 0.97], 0.2, Domain::Tabular, 2, &sound());
    assert_eq!(fragile.grade.decision, Decision::Negative);
    assert!(fragile.grade.reasons[0].contains("Square at 0.1"), "{:?}", fragile.grade);

    let biased = run([0.98, 0.45], 0.8, Domain::Tabular, 2, &sound());
    assert_eq!(biased.grade.decision, Decision::Negative);
    assert!(biased.grade.reasons[0].contains("for bias"), "{:?}", biased.grade);

    let mut seen = sound();
    seen[2].outcome = Outcome::Fail;
    let over_fitted = run([0.99, 0.99], 0.8, Domain::Tabular, 2, &seen);
    assert_eq!((over_fitted.grade.decision, over_fitted.gate), (Decision::Void, Gate::Void(vec![Criterion::Overlap])));
}

#[test]
fn what_is_unknown_or_missing_is_not_graded() {
    assert_eq!(run([0.97, 0.97], 0.8, Domain::Unknown, 1, &sound()).grade.decision, Decision::Ungraded);
    let mut report = Report::new(subject(Domain::Tabular));
    report.dataset_checks = sound();
    let report = report.finish(&policy());
    assert_eq!(report.grade.decision, Decision::Ungraded);
    assert!(report.grade.reasons[0].contains("macro F1"));
    let partial = run([0.97, 0.97], 0.8, Domain::Tabular, 1, &sound()[..5]);
    assert_eq!((partial.grade.decision, partial.gate), (Decision::Positive, Gate::Partial(vec![Criterion::Stress])));
    assert!(partial.grade.reasons.contains(&"Not assessed of the dataset: stress.".to_owned()));
    let several = run([0.97, 0.97], 0.8, Domain::Tabular, 1, &[sound()[0].clone(), sound()[4].clone()]);
    let words = "Not assessed of the dataset: privacy, overlap, shift and stress.".to_owned();
    assert!(several.grade.reasons.contains(&words), "{:?}", several.grade);
}

#[test]
fn two_validators_get_the_same_bits_on_different_threads_and_json_keeps_them() {
    let one = run([0.9, 0.8], 0.8, Domain::Tabular, 1, &sound());
    let other = run([0.9, 0.8], 0.8, Domain::Tabular, 7, &sound());
    let (left, right) = (serde_json::to_string(&one).unwrap(), serde_json::to_string(&other).unwrap());
    assert_eq!(left, right);
    assert_eq!(serde_json::from_str::<Report>(&left).unwrap(), one);
}

#[test]
fn scores_that_are_no_probabilities_have_no_calibration_and_the_report_says_so() {
    let mut report = Report::new(subject(Domain::Tabular));
    let names = ["a", "b"].map(str::to_owned);
    let rows = [[3.0, -1.0], [0.5, 2.0], [1.0, 4.0], [2.0, 0.1]].map(|r| r.to_vec());
    let answers = Answers { truth: &[0, 1, 1, 0], rows: &rows, names: &names, slices: None };
    figures::classification(&mut report, answers, Drawing { seed: &SEED, resamples: 50, threads: 1 }).unwrap();
    assert_eq!(report.calibration, None);
    assert!(report.notes.iter().any(|n| n.contains("no probabilities")), "{:?}", report.notes);
    assert!(report.metrics.iter().any(|m| m.name == "ROC-AUC" && m.estimate.value == 1.0));
    let short = [vec![1.0]];
    let bad = Answers { truth: &[0], rows: &short, names: &names, slices: None };
    assert!(figures::classification(&mut report, bad, Drawing { seed: &SEED, resamples: 50, threads: 1 }).is_err());
}

#[test]
fn a_few_right_answers_do_not_look_like_a_good_model() {
    let mut report = Report::new(subject(Domain::Tabular));
    let names = ["a", "b"].map(str::to_owned);
    let rows = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]].map(|r| r.to_vec());
    let answers = Answers { truth: &[0, 1, 1, 0, 0], rows: &rows, names: &names, slices: None };
    figures::classification(&mut report, answers, Drawing { seed: &SEED, resamples: 100, threads: 1 }).unwrap();
    for metric in &report.metrics {
        let far = (metric.bound() - metric.estimate.value).abs();
        assert!(far > 0.4, "{metric:?}: five samples say more than they can");
    }
}

#[test]
fn every_kind_of_answer_has_its_figures() {
    let drawing = Drawing { seed: &SEED, resamples: 60, threads: 2 };
    let mut report = Report::new(subject(Domain::Text));
    let truth: Vec<f64> = (0..30).map(f64::from).collect();
    let said: Vec<f64> = truth.iter().map(|t| t + (t * 1.7).sin()).collect();
    figures::numbers(&mut report, &truth, &said, drawing).unwrap();
    figures::answers(&mut report, &[vec!["the cat", "a dog"], vec!["x"]], &["Cat.", "y"], drawing).unwrap();
    let (heard, written) = (vec!["one too three"; 25], vec!["one two three"; 25]);
    figures::transcripts(&mut report, &written, &heard, drawing).unwrap();
    figures::language(&mut report, &vec![vec![-1.0, -2.0]; 25], drawing).unwrap();
    let query = zero2ai_trust::metrics::retrieval::Query { ranked: vec![3, 1, 2], relevant: [1].into() };
    figures::search(&mut report, &[query.clone(), query], &[1, 2], drawing).unwrap();
    let names: Vec<&str> = report.metrics.iter().map(|m| m.name.as_str()).collect();
    let all = [
        "MAE",
        "RMSE",
        "R²",
        "exact match",
        "token F1",
        "ROUGE-L",
        "WER",
        "CER",
        "perplexity",
        "MRR",
        "recall@1",
        "recall@2",
    ];
    assert_eq!(names, all);
    let names_len = names.len();
    for m in &report.metrics {
        assert!(m.estimate.low <= m.estimate.value && m.estimate.value <= m.estimate.high, "{m:?}");
    }
    assert!(figures::answers(&mut report, &[], &[], drawing).is_err());
    // Too few for a bootstrap that nothing bounds: said, not told.
    figures::numbers(&mut report, &truth[..4], &said[..4], drawing).unwrap();
    assert_eq!((report.metrics.len(), report.notes.len()), (names_len, 3), "{:?}", report.notes);
    assert_eq!(
        gate::judge(&[]),
        Gate::Partial(vec![
            Criterion::Bias,
            Criterion::Privacy,
            Criterion::Overlap,
            Criterion::Shift,
            Criterion::Adversarial,
            Criterion::Stress,
        ])
    );
}
