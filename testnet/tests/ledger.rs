//! `zero2ai ledger`: what lies on a node's disk, read and checked beside the running node and without it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use zero2ai_testnet::{Network, fixture};

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
