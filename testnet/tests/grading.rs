//! Grading from end to end over real daemons: three validators take versions by themselves, a publisher waits for what they find, and
//! of five models four fail, each by the gate that it must fail by.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use zero2ai_testnet::{Daemon, Network, until};

/// Patience with all that one validator grades, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(240);
/// 32 bytes in hexadecimal.
const SEED: &str = "0707070707070707070707070707070707070707070707070707070707070707";

fn fixture(name: &str) -> String {
    let path: PathBuf = zero2ai_testnet::fixture("grading").join(name);
    path.to_str().unwrap().to_owned()
}

/// A validator's folder: its own data for these models.
fn folder(network: &Network, nth: usize, models: &[&str]) -> PathBuf {
    let folder = network.path().join(format!("data{nth}"));
    fs::create_dir_all(folder.join("lab")).unwrap();
    for model in models {
        let data = fs::read(fixture(&format!("heldout-{nth}.csv"))).unwrap();
        fs::write(folder.join(format!("lab/{model}.csv")), data).unwrap();
        let columns = "label = \"granted\"\ngroup = \"region\"\n";
        fs::write(folder.join(format!("lab/{model}.toml")), columns).unwrap();
    }
    folder
}

fn publish(node: &Daemon, model: &str, more: &[&str]) -> Value {
    let (file, name) = (fixture(&format!("{model}.onnx")), format!("lab/{model}"));
    let args = [&["publish", &file, "--name", &name, "--replicas", "0"], more].concat();
    let said = node.json(&args).unwrap();
    assert_eq!(said["not_served"], Value::Null, "{said}");
    said
}

fn report(reports: &Path, model: &str) -> Value {
    let path = reports.join(format!("lab/{model}@1.json"));
    until(&format!("a report of {model}"), PATIENCE, || path.exists());
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The grade of a report and the first reason for it.
#[track_caller]
fn graded(report: &Value, decision: &str, words: &[&str]) {
    let grade = &report["grade"];
    assert_eq!(grade["decision"], decision, "{grade:#} {:#} {:#}", report["metrics"], report["dataset_checks"]);
    let reasons = grade["reasons"].to_string();
    for word in words {
        assert!(reasons.contains(word), "'{word}' is not in: {reasons}");
    }
}

/// What must be the same for two validators: everything but latency.
fn without_latency(report: &Value) -> Value {
    let mut report = report.clone();
    report["load"] = json!(null);
    report["tokens"] = json!(null);
    report
}

#[test]
fn three_validators_grade_and_each_bad_model_fails_by_its_own_gate() {
    let mut network = Network::start(1).unwrap();
    // The validators compute in different numbers of threads: nothing but latency may depend on it.
    for nth in 1..=3 {
        let home = network.path().join(format!("n{nth}"));
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("config.toml"), format!("[worker]\nthreads = {nth}\n")).unwrap();
        network.join("member").unwrap();
    }
    let (publisher, validators) = network.nodes.split_first().unwrap();
    let bad = ["shuffled", "leaked", "biased", "fragile"];
    let all = [&["good"], bad.as_slice()].concat();
    let mut jobs = Vec::new();
    for (validator, nth) in validators.iter().zip(1..) {
        let data = folder(&network, nth, if nth == 1 { &all } else { &all[..1] });
        let reports = network.path().join(format!("reports{nth}"));
        let args = ["validator", "run", "--every", "1", "--data", data.to_str().unwrap()];
        jobs.push(validator.spawn(&[&args[..], &["--reports", reports.to_str().unwrap()]].concat()).unwrap());
    }
    // Made with other loans than the validators', and it says which.
    let train = ["--train-data", &fixture("train.csv")];
    let refused =
        publisher.run(&[&["publish", &fixture("good.onnx"), "--name", "lab/good"][..], &train].concat()).unwrap();
    assert!(refused.stderr.contains("'north' is no number"), "{refused:?}");
    let plain = network.path().join("train.csv");
    fs::write(&plain, without_region(&fs::read_to_string(fixture("train.csv")).unwrap())).unwrap();
    let said = publish(publisher, "good", &["--train-data", plain.to_str().unwrap(), "--wait", "60"]);
    assert_eq!(said["grade"]["positive"], 3, "{said}");
    assert!(said["grade"]["score"].as_f64().unwrap() > 0.95, "{said}");

    // Made with the very samples that it is graded on.
    let leaked = network.path().join("leaked.csv");
    fs::write(&leaked, without_region(&fs::read_to_string(fixture("heldout-1.csv")).unwrap())).unwrap();
    for model in bad {
        let train = ["--train-data", leaked.to_str().unwrap()];
        publish(publisher, model, if model == "leaked" { &train } else { &[] });
    }
    let reports = network.path().join("reports1");
    graded(&report(&reports, "good"), "positive", &["Quality"]);
    graded(&report(&reports, "shuffled"), "negative", &["Quality 0.5"]);
    graded(&report(&reports, "leaked"), "void", &["overlap"]);
    graded(&report(&reports, "biased"), "negative", &["bias"]);
    graded(&report(&reports, "fragile"), "negative", &["HopSkipJump at 0.05", "misses the gate"]);
    drop(jobs);
    // The ledger took the counts of what was good or plainly bad; of the others it would have thought too well.
    let names = publisher.json(&["names", "ls"]).unwrap();
    let endorsed = |model: &str| {
        let history = publisher.json(&["names", "history", &format!("lab/{model}")]).unwrap();
        history.as_array().unwrap().iter().filter(|e| e["what"] == "endorsed").count()
    };
    let counts: Vec<usize> = all.iter().map(|m| endorsed(m)).collect();
    assert_eq!(counts, [3, 1, 0, 0, 0], "{names}");

    // A second validator with the same data and seed, in another number of threads.
    let again = |validator: &Daemon, nth: usize| -> Value {
        let file = network.path().join(format!("again{nth}.json"));
        let (data, file) = (fixture("heldout-2.csv"), file.to_str().unwrap().to_owned());
        let columns = ["--label", "granted", "--group", "region", "--report", &file, "--seed", SEED];
        validator.json(&[&["validate", "lab/good", "--data", &data][..], &columns].concat()).unwrap();
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    };
    let (one, other) = (again(&validators[0], 1), again(&validators[2], 3));
    assert_eq!(without_latency(&one), without_latency(&other));
    let page = fs::read_to_string(reports.join("lab/biased@1.html")).unwrap();
    assert!(page.contains("Negative") && page.contains("region") || page.contains("south"));
}

/// A table without its column of regions, which is no number.
fn without_region(table: &str) -> String {
    let line = |line: &str| {
        let mut cells: Vec<&str> = line.split(',').collect();
        cells.remove(9);
        cells.join(",") + "\n"
    };
    table.lines().map(line).collect()
}

#[test]
fn data_that_fail_their_gate_are_not_endorsed_with_or_without_a_report() {
    let mut network = Network::start(1).unwrap();
    network.join("member").unwrap();
    let leaked = network.path().join("leaked.csv");
    fs::write(&leaked, without_region(&fs::read_to_string(fixture("heldout-1.csv")).unwrap())).unwrap();
    let leaked = leaked.to_str().unwrap();
    publish(&network.nodes[0], "leaked", &["--train-data", leaked]);
    let validator = &network.nodes[1];
    let said = validator.until(&["validate", "lab/leaked", "--data", leaked]).unwrap();
    assert_eq!((&said["endorsement"], &said["score"]), (&Value::Null, &Value::Null), "{said}");
    assert!(said["withheld"].as_str().unwrap().contains("overlap"), "{said}");
    let wrong = validator.run(&["validate", "lab/leaked", "--data", &fixture("good.onnx")]).unwrap();
    assert!(wrong.stderr.contains(".csv, .jsonl or .parquet"), "{wrong:?}");
    // What it was not made with is endorsed.
    let other = network.path().join("other.csv");
    fs::write(&other, without_region(&fs::read_to_string(fixture("heldout-2.csv")).unwrap())).unwrap();
    let said = validator.json(&["validate", "lab/leaked", "--data", other.to_str().unwrap()]).unwrap();
    assert_eq!((&said["withheld"], &said["endorsement"]["verdict"]), (&Value::Null, &json!("positive")), "{said}");
}
