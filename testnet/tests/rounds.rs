//! Grading in rounds between daemons: validators commit, show and open by themselves, also across a restart, and an audit of it holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{path::Path, time::Duration};

use serde_json::Value;
use zero2ai_testnet::{Daemon, fixture, until};

const PATIENCE: Duration = Duration::from_secs(180);

fn up(dir: &Path, name: &str, extra: &[&str]) -> Daemon {
    let home = dir.join(name);
    std::fs::create_dir_all(&home).unwrap();
    // Heights are what windows are counted in: one a second.
    std::fs::write(home.join("config.toml"), "heartbeat_ms = 1000\n").unwrap();
    Daemon::up(&home, extra).unwrap()
}

fn key(node: &Daemon) -> String {
    node.key().unwrap()
}

fn height(node: &Daemon) -> u64 {
    node.json(&["status"]).unwrap()["height"].as_u64().unwrap()
}

fn round(node: &Daemon) -> Value {
    node.json(&["validator", "rounds", "lab/digits"]).unwrap()["rounds"][0].clone()
}

/// 1 disputes a leaf of 2's; 3 sits alone over it, is shown the sample, runs the model, and votes, by itself. What people can do by hand fits.
fn dispute(dir: &Path, nodes: &[Daemon]) {
    let opened = nodes[1].json(&["validator", "leaves", "lab/digits"]).unwrap()["leaves"].clone();
    let of = format!("/{}/", key(&nodes[2]));
    let mut leaves = opened.as_array().unwrap().iter().filter_map(|leaf| leaf["leaf"].as_str());
    let leaf = leaves.find(|leaf| leaf.contains(&of)).unwrap();
    assert_eq!(opened.as_array().unwrap().len(), 12, "{opened}");
    nodes[1].json(&["validator", "dispute", leaf]).unwrap();
    let told = || nodes[3].json(&["validator", "disputes"]).unwrap()["disputes"][0].clone();
    until("a jury is drawn", PATIENCE, || {
        told()["jury"].as_array().is_some_and(|jury| jury.len() == 1 && jury[0]["node"] == key(&nodes[3]))
    });
    let salt = nodes[2].json(&["validator", "salt", leaf]).unwrap();
    let place = salt["sample"].as_u64().unwrap() as usize;
    let held = std::fs::read_to_string(fixture("digits/heldout-2.csv")).unwrap();
    let (head, rows) = held.split_once('\n').unwrap();
    let one = |place: usize| {
        let file = dir.join(format!("sample-{place}.csv"));
        std::fs::write(&file, format!("{head}\n{}\n", rows.lines().nth(place).unwrap())).unwrap();
        let check = ["validator", "check", leaf, "--salt", salt["salt"].as_str().unwrap(), "--data"];
        nodes[3].run(&[&check[..], &[file.to_str().unwrap()]].concat()).unwrap().code
    };
    assert_eq!((one(place), one((place + 1) % rows.lines().count())), (0, 13), "its own sample fits, another does not");
    assert_ne!(nodes[1].run(&["validator", "salt", leaf]).unwrap().code, 0, "another node has nothing of it");
    until("the juror votes", PATIENCE, || told()["jury"][0]["refuted"] == false);
    let told = told();
    assert_eq!((&told["deposit"], &told["opposed"], &told["instance"]), (&9.into(), &9.into(), &1.into()), "{told}");
}

/// An owner and three validators, 1 to 3, who have committed, shown and opened.
fn opened(dir: &Path) -> Vec<Daemon> {
    let mut nodes = vec![up(dir, "n0", &[])];
    for nth in 1..4 {
        let (file, invite) = (dir.join("invite"), nodes[0].json(&["pool", "invite"]).unwrap());
        std::fs::write(&file, invite["invite"].as_str().unwrap()).unwrap();
        nodes.push(up(dir, &format!("n{nth}"), &["--join-file", file.to_str().unwrap()]));
    }
    let first = (height(&nodes[0]) + 5).to_string();
    nodes[0].json(&["pool", "upgrade", "2", "--height", &first]).unwrap();
    until("rules 2 are in force", PATIENCE, || height(&nodes[0]) > first.parse::<u64>().unwrap());
    let short = [
        "--delay",
        "2",
        "--commit",
        "25",
        "--reveal",
        "8",
        "--dispute",
        "40",
        "--open-ppm",
        "1000000",
        "--leaves",
        "4",
    ];
    nodes[0].json(&[&["pool", "grading"][..], &short].concat()).unwrap();
    for node in &nodes[1..] {
        nodes[0].json(&["pool", "allot", &key(node), "1000"]).unwrap();
        // Its own ledger may be a block behind.
        node.until(&["validator", "stake", "900"]).unwrap();
    }
    let model = fixture("digits/digits.onnx");
    nodes[0]
        .json(&["publish", model.to_str().unwrap(), "--name", "lab/digits", "--replicas", "0", "--no-wait"])
        .unwrap();

    let data = |nth: usize| fixture(&format!("digits/heldout-{nth}.csv")).to_str().unwrap().to_owned();
    let revealed = std::thread::scope(|scope| {
        let runs: Vec<_> = (1..4)
            .map(|nth| {
                let node = &nodes[nth];
                scope.spawn(move || node.run(&["validate", "lab/digits", "--data", &data(nth), "--json"]).unwrap())
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    for ran in &revealed {
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    }
    // One comes back only when leaves are to be opened, and does it all the same.
    nodes[3].kill();
    nodes[3].start(&[]).unwrap();
    let entries = || nodes[0].json(&["ledger", "state", "entry/"]).unwrap()["entries"].clone();
    until("all leaves are opened", PATIENCE, || {
        let entries = entries();
        let entries = entries.as_object().unwrap();
        entries.len() == 3 && entries.values().all(|entry| entry["opened"].is_number())
    });
    nodes
}

#[test]
fn validators_commit_show_and_open_by_themselves_and_the_score_is_audited() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = opened(dir.path());
    dispute(dir.path(), &nodes);
    // Which waits for the dispute.
    until("the round is settled", PATIENCE, || round(&nodes[0])["confidence"].is_number());
    let settled = round(&nodes[0]);
    assert!(settled["score"].as_f64().unwrap() > 0.9, "{settled}");
    assert_eq!((&settled["selection"], &settled["revealed"]), (&"everyone".into(), &3.into()));
    let disputes = nodes[0].json(&["validator", "disputes"]).unwrap();
    assert!(
        disputes["disputes"][0]["settled"].is_number() && disputes["disputes"][0]["refuted"] == false,
        "{disputes}"
    );
    let records = nodes[1].json(&["reputation"]).unwrap();
    let rows = records["validators"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["bonds"] == 0), "{records}");
    let of = |nth: usize| rows.iter().find(|row| row["node"] == key(&nodes[nth])).unwrap();
    let has = |nth: usize| (of(nth)["staked"].as_u64().unwrap(), of(nth)["earned"].as_u64().unwrap());
    assert_eq!((has(1), has(2), has(3)), ((891, 0), (900, 4), (900, 0)), "who disputed in vain paid for it: {records}");
    assert_eq!(nodes[0].json(&["validator", "slashes"]).unwrap()["slashes"], serde_json::json!([]));

    let (audit, genesis) = (dir.path().join("audit.cbor"), dir.path().join("genesis.cbor"));
    nodes[1].json(&["pool", "genesis", "--out", genesis.to_str().unwrap()]).unwrap();
    let offline = ["audit", "verify", audit.to_str().unwrap(), "--genesis", genesis.to_str().unwrap()];
    // A block proves the state of the one before.
    let mut told = Value::Null;
    until("the settlement is proved", PATIENCE, || {
        nodes[1].json(&["audit", "lab/digits", "--export", audit.to_str().unwrap()]).unwrap();
        told = nodes[1].json(&offline).unwrap();
        told["rounds"][0]["score"].is_number()
    });
    assert_eq!(told["rounds"][0]["revealed"].as_array().unwrap().len(), 3, "{told}");
    assert_eq!(told["rounds"][0]["score"], settled["score"]);
    let score = ["score", "verify", audit.to_str().unwrap(), "--genesis", genesis.to_str().unwrap(), "--explain"];
    let told = nodes[1].json(&score).unwrap();
    assert_eq!((&told["score"], &told["round"]), (&settled["score"], &1.into()), "{told}");
    let parts = told["contributions"].as_array().unwrap();
    assert!(parts.len() == 3 && parts.iter().all(|part| part["counts"] == true && part["weight"] != 1.0), "{told}");
    assert_eq!(nodes[2].json(&["score", "lab/digits"]).unwrap()["contributions"], told["contributions"]);
    let whole = nodes[2].json(&["ledger", "verify"]).unwrap();
    assert_eq!(whole["faults"], serde_json::json!([]), "{whole}");
}

/// 2 disputes a leaf of 3's, who has lost the sample of it; 1 sits alone over it, asks in vain for half of the window, and votes by itself.
#[test]
fn a_leaf_whose_sample_nobody_shows_is_refuted() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = opened(dir.path());
    let opened = nodes[2].json(&["validator", "leaves", "lab/digits"]).unwrap()["leaves"].clone();
    let of = format!("/{}/", key(&nodes[3]));
    let mut leaves = opened.as_array().unwrap().iter().filter_map(|leaf| leaf["leaf"].as_str());
    let leaf = leaves.find(|leaf| leaf.contains(&of)).unwrap();
    let ends = format!(".{}.shown", leaf.rsplit('/').next().unwrap());
    let kept = std::fs::read_dir(dir.path().join("n3/rounds")).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = kept.filter(|path| path.to_str().unwrap().ends_with(&ends)).collect();
    assert_eq!(kept.len(), 1, "{ends}");
    std::fs::remove_file(&kept[0]).unwrap();
    nodes[2].json(&["validator", "dispute", leaf]).unwrap();
    until("the juror takes it for refuted", PATIENCE, || {
        let told = nodes[1].json(&["validator", "disputes"]).unwrap();
        let told = told["disputes"].as_array().unwrap().iter().find(|told| told["leaf"] == leaf).cloned().unwrap();
        told["jury"][0]["node"] == key(&nodes[1]) && told["jury"][0]["refuted"] == true
    });
    until("the round is settled", PATIENCE, || round(&nodes[0])["confidence"].is_number());
    let records = nodes[1].json(&["reputation"]).unwrap();
    let rows = records["validators"].as_array().unwrap();
    let staked = |nth: usize| rows.iter().find(|row| row["node"] == key(&nodes[nth])).unwrap()["staked"].clone();
    assert_eq!((staked(2), staked(3)), (900.into(), 882.into()), "a deposit and the round's bond: {records}");
}
