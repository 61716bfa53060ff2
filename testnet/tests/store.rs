//! What lies in a node's store, and what users do about it: lists, pins, drops, collections, and damage found and healed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::Value;
use zero2ai_testnet::{Daemon, Network, Ran, fixture, until};

/// Exit codes as `zero2ai --help` lists them.
const NOT_FOUND: i32 = 5;
const INVALID: i32 = 7;
const STORAGE: i32 = 8;
const BUSY: i32 = 16;

/// A word of a chain or a peer may be on its way still.
const PATIENCE: Duration = Duration::from_secs(30);

#[track_caller]
fn refused(ran: &Ran, code: i32, word: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.stderr.contains(word), "'{word}' is not in: {}", ran.stderr);
}

fn publish(node: &Daemon, file: &Path, name: &str) -> Value {
    node.json(&["publish", file.to_str().unwrap(), "--name", name, "--replicas", "0"]).unwrap()
}

/// Nodes hear of each other by gossip, which takes a moment after a start.
fn fetch(node: &Daemon, args: &[&str]) {
    until("a fetch", PATIENCE, || {
        let ran = node.run(&[&["fetch"], args].concat()).unwrap();
        println!("{ran:?}");
        ran.code == 0
    });
}

/// Another model than the fixture, of the same use: a description (ModelProto.doc_string, field 6) of its own.
fn variant(dir: &Path, n: u8) -> PathBuf {
    let mut bytes = fs::read(fixture("digits/digits.onnx")).unwrap();
    bytes.extend_from_slice(&[0x32, 4, b'v', b'-', b'a' + n / 26, b'a' + n % 26]);
    let path = dir.join(format!("variant-{n}.onnx"));
    fs::write(&path, bytes).unwrap();
    path
}

fn chunk_files(node: &Daemon) -> Vec<PathBuf> {
    let folders = fs::read_dir(node.home().join("store/chunks")).unwrap();
    folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap()).map(|f| f.unwrap().path()).collect()
}

fn flip_a_byte(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn versions(node: &Daemon) -> Vec<Value> {
    node.json(&["store", "ls"]).unwrap()["versions"].as_array().unwrap().clone()
}

#[test]
fn what_is_pinned_or_served_stays_and_what_is_dropped_is_freed() {
    let network = Network::start(2).unwrap();
    let (publisher, holder) = (&network.nodes[0], &network.nodes[1]);
    assert!(versions(holder).is_empty());
    publish(publisher, &fixture("digits/digits.onnx"), "acme/digits");
    fetch(holder, &["acme/digits"]);

    let held = versions(holder);
    assert_eq!((held.len(), &held[0]["serving"], &held[0]["pinned"]), (1, &false.into(), &false.into()));
    assert_eq!((&held[0]["present"], &held[0]["problem"]), (&held[0]["chunks"], &Value::Null));
    assert_eq!(versions(publisher)[0]["serving"], true);
    let stats = holder.json(&["store", "stats"]).unwrap();
    assert_eq!((&stats["bytes"], &stats["unneeded_chunks"]), (&held[0]["sealed_bytes"], &0.into()));

    // Pinned, and so after a restart.
    holder.json(&["store", "pin", "acme/digits@1"]).unwrap();
    refused(&holder.run(&["store", "drop", "acme/digits@1", "--stop-serving"]).unwrap(), INVALID, "unpin");
    assert_eq!(versions(holder)[0]["pinned"], true);
    holder.json(&["store", "unpin", "acme/digits@1"]).unwrap();
    refused(&holder.run(&["store", "drop", "acme/digits@2"]).unwrap(), NOT_FOUND, "store ls");
    refused(&holder.run(&["store", "pin", "acme/nothing@1"]).unwrap(), NOT_FOUND, "acme/nothing@1");

    holder.json(&["store", "drop", "acme/digits@1"]).unwrap();
    assert!(versions(holder).is_empty());
    let would = holder.json(&["store", "gc", "--dry-run"]).unwrap();
    assert_eq!((&would["bytes"], &would["manifests"], &would["kept_chunks"]), (&stats["bytes"], &1.into(), &0.into()));
    assert!(!chunk_files(holder).is_empty(), "a dry run deletes nothing");
    let freed = holder.json(&["store", "gc"]).unwrap();
    assert_eq!(freed["bytes"], would["bytes"]);
    assert!(chunk_files(holder).is_empty());
    assert_eq!(holder.json(&["store", "stats"]).unwrap()["chunks"], 0);

    // It comes back, and the publisher may now let its own copy go and fetch it again from here.
    fetch(holder, &["acme/digits"]);
    refused(&publisher.run(&["store", "drop", "acme/digits@1"]).unwrap(), INVALID, "--stop-serving");
    publisher.json(&["store", "drop", "acme/digits@1", "--stop-serving"]).unwrap();
    publisher.json(&["store", "gc"]).unwrap();
    assert!(chunk_files(publisher).is_empty());
    assert_eq!(publisher.json(&["status"]).unwrap()["models"], Value::Array(Vec::new()));
    fetch(publisher, &["acme/digits", "--serve"]);
    let rows = fixture("digits/predict.csv");
    publisher.json(&["predict", "acme/digits", "--labelled", "--input", rows.to_str().unwrap()]).unwrap();
}

#[test]
fn damage_is_found_under_a_running_node_and_healed_from_a_peer() {
    let network = Network::start(2).unwrap();
    let (publisher, holder) = (&network.nodes[0], &network.nodes[1]);
    publish(publisher, &fixture("digits/digits.onnx"), "acme/digits");
    fetch(holder, &["acme/digits"]);
    let sound = holder.json(&["store", "verify"]).unwrap();
    assert_eq!((&sound["damaged"], &sound["checked"]), (&0.into(), &(chunk_files(holder).len() + 1).into()), "{sound}");

    let victim = chunk_files(holder)[0].clone();
    let before = fs::read(&victim).unwrap();
    flip_a_byte(&victim);
    let healed = holder.json(&["store", "verify"]).unwrap();
    assert_eq!((&healed["damaged"], &healed["healed"], &healed["lost"]), (&1.into(), &1.into(), &0.into()), "{healed}");
    assert_eq!(fs::read(&victim).unwrap(), before);

    // The manifest too, and a chunk that somebody removed.
    let manifest = holder.home().join("store/manifests").join(versions(holder)[0]["manifest"].as_str().unwrap());
    flip_a_byte(&manifest);
    fs::remove_file(&victim).unwrap();
    refused(&holder.run(&["store", "gc"]).unwrap(), STORAGE, "was deleted: what acme/digits@1 needs");
    let healed = holder.json(&["store", "verify"]).unwrap();
    assert_eq!((&healed["damaged"], &healed["lost"]), (&1.into(), &0.into()), "{healed}");
    assert_eq!(fs::read(&victim).unwrap(), before);
    let held = versions(holder);
    assert_eq!((&held[0]["present"], &held[0]["problem"]), (&held[0]["chunks"], &Value::Null));
}

#[test]
fn damage_that_nobody_can_heal_is_exit_8_until_somebody_can() {
    let network = Network::start(1).unwrap();
    let node = &network.nodes[0];
    publish(node, &fixture("digits/digits.onnx"), "acme/digits");
    flip_a_byte(&chunk_files(node)[0]);
    for round in 0..2 {
        let ran = node.run(&["store", "verify", "--json"]).unwrap();
        assert_eq!(ran.code, STORAGE, "{ran:?}");
        let told: Value = serde_json::from_str(&ran.stdout).unwrap();
        let found = if round == 0 { "damaged" } else { "missing" };
        assert_eq!((&told[found], &told["lost"], &told["healed"]), (&1.into(), &1.into(), &0.into()), "{told}");
        assert_eq!(told["broken"][0]["name"], "acme/digits");
        let error: Value = serde_json::from_str(&ran.stderr).unwrap();
        assert_eq!(error["error"]["code"], "storage");
    }
    let held = versions(node);
    assert!(held[0]["present"].as_u64() < held[0]["chunks"].as_u64(), "{held:?}");
    // Dropped, the damage needs no healing any more; what is left of it is garbage.
    node.json(&["store", "drop", "acme/digits@1", "--stop-serving"]).unwrap();
    node.json(&["store", "gc"]).unwrap();
    assert_eq!(node.json(&["store", "verify"]).unwrap()["checked"], 0);
}

#[test]
fn the_index_is_rebuilt_with_a_node_and_without() {
    let mut network = Network::start(1).unwrap();
    publish(&network.nodes[0], &fixture("digits/digits.onnx"), "acme/digits");
    let node = &mut network.nodes[0];
    let victim = chunk_files(node)[0].clone();
    let bytes = fs::read(&victim).unwrap();
    fs::remove_file(&victim).unwrap();
    let with = node.json(&["store", "rebuild"]).unwrap();
    assert_eq!((&with["removed"], &with["added"], &with["chunks"]), (&1.into(), &0.into(), &0.into()), "{with}");
    node.terminate().unwrap();
    fs::write(&victim, bytes).unwrap();
    let without = node.json(&["store", "rebuild"]).unwrap();
    assert_eq!((&without["removed"], &without["added"], &without["chunks"]), (&0.into(), &1.into(), &1.into()));
    node.start(&[]).unwrap();
    assert_eq!(versions(node)[0]["present"], 1);
}

/// Says that it is over, also when a check before failed: whoever waits for that word must not wait for ever.
struct Finally<'a>(&'a AtomicBool);

impl Drop for Finally<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_collection_never_takes_what_a_publication_or_a_fetch_is_bringing() {
    let network = Network::start(2).unwrap();
    let (publisher, holder) = (&network.nodes[0], &network.nodes[1]);
    let done = AtomicBool::new(false);
    let sweep = |node: &Daemon| {
        let (mut swept, mut turned_away) = (0u32, 0u32);
        while !done.load(Ordering::Relaxed) {
            let ran = node.run(&["store", "gc"]).unwrap();
            match ran.code {
                0 => swept += 1,
                BUSY => turned_away += 1,
                _ => panic!("{ran:?}"),
            }
        }
        (swept, turned_away)
    };
    std::thread::scope(|scope| {
        let sweeps = [scope.spawn(|| sweep(publisher)), scope.spawn(|| sweep(holder))];
        let publishing = Finally(&done);
        for n in 0..6 {
            let report = publish(publisher, &variant(network.path(), n), "acme/digits");
            assert_eq!(report["version"], n + 1);
            fetch(holder, &[&format!("acme/digits@{}", n + 1)]);
        }
        drop(publishing);
        for sweep in sweeps {
            let (swept, _) = sweep.join().unwrap();
            assert!(swept > 0, "no collection ran at all");
        }
    });
    for node in [publisher, holder] {
        until("six versions", PATIENCE, || versions(node).len() == 6);
        for v in versions(node) {
            assert_eq!(v["present"], v["chunks"], "{v}");
        }
        let verified = node.json(&["store", "verify"]).unwrap();
        assert_eq!((&verified["damaged"], &verified["missing"]), (&0.into(), &0.into()), "{verified}");
        assert_eq!(node.json(&["store", "gc"]).unwrap()["chunks"], 0);
    }
}
