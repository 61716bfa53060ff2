//! Figures against the reference implementations: what `testnet/goldens/trust.py` wrote down of scikit-learn, SciPy,
//! jiwer, rouge-score, fairlearn and datasketch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeSet, path::Path, sync::LazyLock};

use serde_json::Value;
use zero2ai_trust::{
    gate::{
        bias,
        minhash::{self, Salt, Sketcher},
        statistics,
    },
    metrics::{MetricError, interval, labels, regression, retrieval, scores, text},
};

static GOLDEN: LazyLock<Value> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testnet/goldens/trust.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
});

fn cases(key: &str) -> &'static Vec<Value> {
    let cases = GOLDEN.pointer(key).and_then(Value::as_array).unwrap_or_else(|| panic!("no {key}"));
    assert!(!cases.is_empty());
    cases
}
fn floats(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}
fn classes(v: &Value) -> Vec<u16> {
    v.as_array().unwrap().iter().map(|v| u16::try_from(v.as_u64().unwrap()).unwrap()).collect()
}
fn flags(v: &Value) -> Vec<bool> {
    v.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() == 1).collect()
}
/// Within 1e-9 of the golden, relative to it where it is large.
#[track_caller]
fn close(ours: f64, golden: &Value) {
    let golden = golden.as_f64().unwrap_or_else(|| panic!("{golden} is no number"));
    assert!((ours - golden).abs() <= 1e-9 * golden.abs().max(1.0), "ours {ours}, reference {golden}");
}

#[test]
fn labels_as_scikit_learn() {
    for case in cases("/labels") {
        let (truth, answers) = (classes(&case["truth"]), classes(&case["answers"]));
        let n = u16::try_from(case["classes"].as_u64().unwrap()).unwrap();
        let counted = labels::count(&truth, &answers, n).unwrap();
        close(counted.accuracy(), &case["accuracy"]);
        for (average, key) in [(counted.micro(), "micro"), (counted.macro_mean(), "macro")] {
            close(average.precision, &case[key][0]);
            close(average.recall, &case[key][1]);
            close(average.f1, &case[key][2]);
        }
        for (k, class) in counted.per_class().iter().enumerate() {
            close(class.precision, &case["per_class"][0][k]);
            close(class.recall, &case["per_class"][1][k]);
            close(class.f1, &case["per_class"][2][k]);
        }
        // The ledger's integers say the same as the doubles, to the millionth.
        let integers = zero2ai_trust::macro_scores(&counted.counts).unwrap();
        let f1 = zero2ai_trust::ppm(counted.macro_mean().f1);
        assert!(integers.f1_ppm.abs_diff(f1) <= 1, "{integers:?} {f1}");
        assert_eq!(zero2ai_trust::check_counts(&counted.counts, counted.samples, counted.correct), Ok(()));
    }
}

#[test]
fn areas_as_scikit_learn() {
    for case in cases("/binary") {
        let (truth, values) = (flags(&case["truth"]), floats(&case["scores"]));
        close(scores::roc_auc(&truth, &values).unwrap(), &case["roc_auc"]);
        close(scores::average_precision(&truth, &values).unwrap(), &case["average_precision"]);
    }
}

#[test]
fn probabilities_as_scikit_learn() {
    for case in cases("/probabilities") {
        let truth = classes(&case["truth"]);
        let rows: Vec<Vec<f64>> = case["rows"].as_array().unwrap().iter().map(floats).collect();
        close(scores::log_loss(&truth, &rows).unwrap(), &case["log_loss"]);
        close(scores::calibration(&truth, &rows, scores::BINS).unwrap().ece, &case["ece"]);
        close(scores::roc_auc_one_vs_rest(&truth, &rows).unwrap(), &case["roc_auc"]);
        close(scores::average_precision_one_vs_rest(&truth, &rows).unwrap(), &case["average_precision"]);
    }
}

#[test]
fn regression_as_scikit_learn() {
    for case in cases("/regression") {
        let (truth, answers) = (floats(&case["truth"]), floats(&case["answers"]));
        close(regression::mean_absolute_error(&truth, &answers).unwrap(), &case["mae"]);
        close(regression::root_mean_squared_error(&truth, &answers).unwrap(), &case["rmse"]);
        close(regression::r_squared(&truth, &answers).unwrap(), &case["r2"]);
    }
}

#[test]
fn texts_as_squad_rouge_score_and_jiwer() {
    let mut corpus = text::Errors::default();
    for case in cases("/texts/pairs") {
        let (reference, answer) = (case["reference"].as_str().unwrap(), case["answer"].as_str().unwrap());
        assert_eq!(text::exact_match(reference, answer), case["exact"].as_bool().unwrap(), "{case}");
        close(text::token_f1(reference, answer), &case["token_f1"]);
        close(text::rouge_l(reference, answer).unwrap(), &case["rouge_l"]);
        let (words, characters) =
            (text::word_errors(reference, answer).unwrap(), text::character_errors(reference, answer).unwrap());
        assert_eq!(words.edits, case["word_edits"].as_u64().unwrap(), "{case}");
        assert_eq!(characters.edits, case["character_edits"].as_u64().unwrap(), "{case}");
        if reference.is_empty() {
            assert!(matches!(words.rate(), Err(MetricError::Undefined(_))), "{case}");
        } else {
            close(words.rate().unwrap(), &case["wer"]);
            close(characters.rate().unwrap(), &case["cer"]);
            corpus = corpus + words;
        }
    }
    close(corpus.rate().unwrap(), &GOLDEN["texts"]["corpus_wer"]);
    close(text::perplexity(&floats(&GOLDEN["texts"]["log_probabilities"])).unwrap(), &GOLDEN["texts"]["perplexity"]);
}

#[test]
fn retrieval_as_scikit_learn() {
    for case in cases("/retrieval") {
        let queries: Vec<retrieval::Query> = (case["scores"].as_array().unwrap().iter())
            .zip(classes(&case["truth"]))
            .map(|(s, t)| retrieval::Query::from_scores(&floats(s), BTreeSet::from([u32::from(t)])))
            .collect();
        close(retrieval::mean_reciprocal_rank(&queries).unwrap(), &case["mrr"]);
        for (k, golden) in case["recall"].as_object().unwrap() {
            close(retrieval::mean_recall_at(&queries, k.parse().unwrap()).unwrap(), golden);
        }
    }
}

#[test]
fn wilson_as_scipy() {
    for case in cases("/wilson") {
        let estimate = interval::share(case["hits"].as_u64().unwrap(), case["n"].as_u64().unwrap()).unwrap();
        close(estimate.low, &case["low"]);
        close(estimate.high, &case["high"]);
    }
}

#[test]
fn fairness_as_fairlearn() {
    for case in cases("/fairness") {
        let groups: Vec<u32> = classes(&case["groups"]).into_iter().map(u32::from).collect();
        let found = bias::fairness(&flags(&case["truth"]), &flags(&case["answers"]), &groups).unwrap();
        close(found.parity_difference, &case["parity_difference"]);
        close(found.parity_ratio, &case["parity_ratio"]);
        close(found.odds_difference.unwrap(), &case["odds_difference"]);
        close(found.odds_ratio.unwrap(), &case["odds_ratio"]);
    }
}

#[test]
fn tests_of_two_samples_as_scipy() {
    for case in cases("/shift/ks") {
        let (d, p) = statistics::kolmogorov_smirnov(&floats(&case["left"]), &floats(&case["right"])).unwrap();
        close(d, &case["d"]);
        close(p, &case["p"]);
    }
    let counts = |v: &Value| v.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect::<Vec<_>>();
    for case in cases("/shift/chi2") {
        let found = statistics::chi_square(&counts(&case["left"]), &counts(&case["right"])).unwrap();
        close(found.statistic, &case["chi2"]);
        close(found.p, &case["p"]);
    }
    for case in cases("/shift/tails") {
        let (df, x) = (case["df"].as_f64().unwrap(), case["x"].as_f64().unwrap());
        let p = statistics::chi_square_tail(df, x);
        close(p, &case["p"]);
        if p > 1e-6 && p < 0.999 {
            assert!((statistics::chi_square_limit(df, p) - x).abs() < 1e-6 * x.max(1.0), "df {df} x {x}");
        }
    }
    let p = floats(&GOLDEN["shift"]["p"]);
    for (ours, key) in [(statistics::holm(&p), "holm"), (statistics::benjamini_hochberg(&p), "benjamini_hochberg")] {
        for (i, value) in ours.into_iter().enumerate() {
            close(value, &GOLDEN["shift"][key][i]);
        }
    }
}

#[test]
fn minhash_estimates_as_datasketch() {
    let sketcher = Sketcher::new(&Salt::new([4; 32]));
    let sketch = |v: &Value| {
        let members: Vec<[u8; 8]> = v.as_array().unwrap().iter().map(|v| v.as_u64().unwrap().to_le_bytes()).collect();
        sketcher.sketch(members.iter().map(<[u8; 8]>::as_slice)).unwrap()
    };
    for case in cases("/minhash") {
        let ours = sketch(&case["left"]).agreement(&sketch(&case["right"])) as f64 / minhash::SIZE as f64;
        let (truth, theirs) = (case["jaccard"].as_f64().unwrap(), case["datasketch"].as_f64().unwrap());
        // Four standard deviations of an estimate from 128 numbers, each against the true similarity.
        let deviation = (truth * (1.0 - truth) / minhash::SIZE as f64).sqrt();
        assert!((ours - truth).abs() <= 4.0 * deviation, "ours {ours}, true {truth}");
        assert!((theirs - truth).abs() <= 4.0 * deviation, "datasketch {theirs}, true {truth}");
    }
}
