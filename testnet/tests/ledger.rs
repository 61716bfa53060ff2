//! `zero2ai ledger`: what lies on a node's disk, read and checked beside the running node and without it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use zero2ai_testnet::{Daemon, Network, fixture, until};

#[test]
fn the_ledger_is_shown_checked_and_exported_with_and_without_a_node() {
    let mut network = Network::start(1).unwrap();
    let model = fixture("digits/digits.onnx");
    let publish = ["publish", model.to_str().unwrap(), "--name", "lab/m", "--replicas", "0", "--store-only"];
    let height = network.nodes[0].json(&publish).unwrap()["height"].as_u64().unwrap();

    let node = &network.nodes[0];
    let block = node.json(&["ledger", "block", &height.to_string()]).unwrap();
    assert_eq!((&block["height"], &block["txs"][0]["kind"]), (&height.into(), &"publish".into()), "{block}");
    assert_eq!(block["signed_by"].as_array().unwrap().len(), 1);
    let id = block["txs"][0]["tx"].as_str().unwrap();
    let tx = node.json(&["ledger", "tx", id]).unwrap();
    assert_eq!((&tx["height"], &tx["block"]), (&height.into(), &block["block"]));
    assert!(node.json(&["ledger", "head"]).unwrap()["height"].as_u64().unwrap() >= height);
    assert_eq!(node.json(&["ledger", "evidence"]).unwrap()["evidence"], serde_json::json!([]));
    assert_eq!(node.json(&["status"]).unwrap()["contradicted"], serde_json::json!([]));
    let state = node.json(&["ledger", "state", "version/lab/m@1"]).unwrap();
    assert_eq!(state["entries"]["version/lab/m@1"]["height"], height, "{state}");
    let owner = &node.json(&["ledger", "state", "handle/"]).unwrap()["entries"]["handle/lab"]["owner"];
    let signers = node.json(&["ledger", "signers"]).unwrap();
    assert_eq!((&signers["signers"][0]["signer"], &signers["signers"][0]["signed"]), (owner, &signers["blocks"]));
    assert_eq!(node.run(&["ledger", "state", "version/lab/m@2"]).unwrap().code, 5);
    // What is not there is said so.
    assert_eq!(node.run(&["ledger", "block", "100000"]).unwrap().code, 5);
    assert_eq!(node.run(&["ledger", "tx", &"ab".repeat(32)]).unwrap().code, 5);

    assert_eq!(network.nodes[0].terminate().unwrap(), 0);
    let (node, dir) = (&network.nodes[0], network.path());
    let whole = node.json(&["ledger", "verify"]).unwrap();
    assert!(whole["height"].as_u64().unwrap() >= height && whole["faults"] == serde_json::json!([]), "{whole}");
    let file = dir.join("ledger.jsonl");
    let exported = node.json(&["ledger", "export", "--out", file.to_str().unwrap()]).unwrap();
    let lines = std::fs::read_to_string(&file).unwrap().lines().count() as u64;
    assert_eq!(exported["blocks"].as_u64().unwrap() + 1, lines);

    // One byte in the middle of the blocks.
    let blocks = node.home().join("chain/blocks/00000000000000000000.log");
    let mut bytes = std::fs::read(&blocks).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&blocks, bytes).unwrap();
    let ran = node.run(&["ledger", "verify", "--json"]).unwrap();
    assert_eq!(ran.code, 13, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("block ") && ran.stderr.contains("byte"), "{}", ran.stderr);
}

#[test]
fn a_node_that_comes_late_begins_with_a_snapshot_unless_it_wants_all() {
    let network = Network::start(1).unwrap();
    let model = fixture("digits/digits.onnx");
    let publish = ["publish", model.to_str().unwrap(), "--name", "lab/m", "--replicas", "0", "--store-only"];
    network.nodes[0].json(&publish).unwrap();
    let join = |name: &str, extra: &[&str]| {
        let (home, file) = (network.path().join(name), network.path().join(format!("{name}.invite")));
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("config.toml"), "snapshot_blocks = 3\n").unwrap();
        std::fs::write(&file, network.invite("member").unwrap()).unwrap();
        Daemon::up(&home, &[&["--join-file", file.to_str().unwrap()], extra].concat()).unwrap()
    };
    let (late, whole) = (join("late", &[]), join("whole", &["--full-history"]));
    for node in [&late, &whole] {
        // The model is known, and a transaction of the newcomer's own becomes final.
        assert_eq!(node.json(&["resolve", "lab/m"]).unwrap()["version"], 1);
        let name = if std::ptr::eq(node, &late) { "late/m" } else { "whole/m" };
        let published = ["publish", model.to_str().unwrap(), "--name", name, "--replicas", "0", "--store-only"];
        assert!(node.json(&published).unwrap()["height"].as_u64().unwrap() > 3);
    }
    let verified = |node: &Daemon| node.json(&["ledger", "verify"]).unwrap();
    let (late_says, whole_says) = (verified(&late), verified(&whole));
    assert_eq!((&whole_says["base"], &whole_says["faults"]), (&0.into(), &serde_json::json!([])), "{whole_says}");
    let base = late_says["base"].as_u64().unwrap();
    assert!(base >= 3 && late_says["faults"] == serde_json::json!([]), "{late_says}");
    let ran = late.run(&["ledger", "block", "1"]).unwrap();
    assert!(ran.code == 5 && ran.stderr.contains("snapshot"), "{}", ran.stderr);
    assert_eq!(late.json(&["ledger", "block", &(base + 1).to_string()]).unwrap()["height"], base + 1);
    let events = |node: &Daemon| node.json(&["audit", "lab/m"]).unwrap()["events"].clone();
    assert!(events(&late) == events(&whole) && events(&late) != serde_json::json!([]), "{}", events(&late));

    // As comma-separated values, of a time.
    let csv = whole.run(&["audit", "lab/m", "--csv", "--from", "2020-01-01"]).unwrap();
    let lines: Vec<&str> = csv.stdout.lines().collect();
    assert!(csv.code == 0 && lines[0].starts_with("what,time_ms,") && lines[1].starts_with("published,"), "{lines:?}");
    let before = whole.json(&["audit", "lab/m", "--to", "2020-01-01T00:00:00"]).unwrap();
    assert_eq!((&before["events"], &before["verified"]), (&serde_json::json!([]), &true.into()));

    // One byte of the state that it began with.
    let file = late.home().join("chain/snapshot");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let ran = late.run(&["ledger", "verify", "--json"]).unwrap();
    assert_eq!(ran.code, 13, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("chain/snapshot"), "{}", ran.stderr);
}

#[test]
fn a_node_that_lacks_the_pools_next_rules_stops_before_them_and_says_so() {
    let mut network = Network::start(1).unwrap();
    let node = &network.nodes[0];
    let height = || node.json(&["status"]).unwrap()["height"].as_u64().unwrap();
    // The rules that this program knows, in force as soon as they can be: every transaction makes a block or two.
    let rights = "admin,signer,validator,publisher,provider,auditor,user";
    let own = node.json(&["status"]).unwrap()["node"].as_str().unwrap().to_owned();
    let known = height() + 4;
    node.json(&["pool", "upgrade", "2", "--height", &known.to_string()]).unwrap();
    until("rules 2", Duration::from_secs(60), || {
        let _ = node.run(&["pool", "rights", &own, rights]).unwrap();
        height() >= known
    });
    let first = height() + 6;
    let named = ["pool", "upgrade", "3", "--height", &first.to_string()];
    let ran = node.run(&named).unwrap();
    assert!(ran.code == 7 && ran.stderr.contains("--force"), "{}", ran.stderr);
    let ran = node.run(&["pool", "upgrade", "4", "--height", "100000", "--force"]).unwrap();
    assert!(ran.code != 0 && ran.stderr.contains("one version after the other"), "{}", ran.stderr);
    let done = node.json(&[named.as_slice(), &["--force"]].concat()).unwrap();
    assert!(done["height"].as_u64().unwrap() + 2 <= first && done["from"] == first, "{done}");
    // More blocks of the old rules, until there is none behind them.
    for _ in 0..4 {
        let _ = node.run(&["pool", "rights", &own, rights]).unwrap();
    }

    let code = network.nodes[0].ended(Duration::from_secs(120)).unwrap();
    let log = network.nodes[0].log_end();
    assert!(code == 19 && log.contains("rules 3"), "exit code {code}: {log}");
    let again = network.nodes[0].start(&[]).unwrap_err().to_string();
    assert!(again.contains("rules 3"), "{again}");
    let whole = network.nodes[0].json(&["ledger", "verify"]).unwrap();
    assert_eq!((&whole["height"], &whole["faults"]), (&(first - 1).into(), &serde_json::json!([])), "{whole}");
}
