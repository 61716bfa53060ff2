//! Publishing more than one file: folders that run and folders that do not, a second version as differences to the first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use zero2ai_testnet::{Daemon, Network, Ran, faults::rng::Rng, fixture};

/// Exit codes as `zero2ai --help` lists them.
const INVALID: i32 = 7;

/// Bytes that do not compress, the same for the same seed.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    Rng::new(seed, 0).bytes(len)
}

fn safetensors(tensors: &[(&str, &[u8])]) -> Vec<u8> {
    let mut end = 0;
    let mut entry = |(name, bytes): &(&str, &[u8])| {
        let begin = end;
        end += bytes.len();
        format!(r#""{name}":{{"dtype":"F16","shape":[{}],"data_offsets":[{begin},{end}]}}"#, bytes.len() / 2)
    };
    let json = format!("{{{}}}", tensors.iter().map(&mut entry).collect::<Vec<_>>().join(","));
    let data = tensors.iter().flat_map(|(_, bytes)| bytes.iter().copied());
    (json.len() as u64).to_le_bytes().into_iter().chain(json.bytes()).chain(data).collect()
}

/// A model in two shards, as model hubs lay them out.
fn shards(folder: &Path, changed: &[u8], kept: &[u8]) {
    fs::create_dir_all(folder).unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    put("config.json", br#"{"architectures":["LlamaForCausalLM"]}"#);
    put("tokenizer.json", br#"{"version":"1.0"}"#);
    put("model-00001-of-00002.safetensors", &safetensors(&[("changed", changed)]));
    put("model-00002-of-00002.safetensors", &safetensors(&[("kept", kept)]));
    put(
        "model.safetensors.index.json",
        br#"{"weight_map":{"changed":"model-00001-of-00002.safetensors","kept":"model-00002-of-00002.safetensors"}}"#,
    );
    put(".gitattributes", b"hidden");
}

fn publish(node: &Daemon, path: &Path, more: &[&str]) -> Value {
    node.json(&[&["publish", path.to_str().unwrap(), "--name", "acme/m"], more].concat()).unwrap()
}

#[track_caller]
fn refused(ran: &Ran, word: &str) {
    assert_eq!(ran.code, INVALID, "{ran:?}");
    assert!(ran.stderr.contains(word), "'{word}' is not in: {}", ran.stderr);
}

/// Nodes hear of each other by gossip, which takes a moment after a start.
fn fetch(node: &Daemon, args: &[&str]) {
    let start = Instant::now();
    while node.run(&[&["fetch"], args].concat()).unwrap().code != 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "not fetched in time: {args:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn a_folder_of_shards_is_held_and_its_second_version_is_differences() {
    let network = Network::start(2).unwrap();
    let (publisher, other) = (&network.nodes[0], &network.nodes[1]);
    let (first, second) = (network.path().join("first"), network.path().join("second"));
    let (old, kept) = (noise(1_500_000, 1), noise(2_500_000, 2));
    let moved: Vec<u8> = old
        .iter()
        .zip(noise(1_500_000, 3))
        .enumerate()
        .map(|(i, (o, n))| o ^ (n & if i % 2 == 0 { 3 } else { 0 }))
        .collect();
    shards(&first, &old, &kept);
    shards(&second, &moved, &kept);

    let one = publish(publisher, &first, &["--replicas", "0"]);
    assert_eq!((&one["files"], &one["deltas"]), (&5.into(), &0.into()));
    assert!(one["not_served"].as_str().unwrap().contains("safetensors"), "{one}");
    let bytes = |node: &Daemon| node.json(&["store", "stats"]).unwrap()["bytes"].as_u64().unwrap();
    let before = bytes(publisher);
    let two = publish(publisher, &second, &["--replicas", "0", "--base", "acme/m@1"]);
    assert_eq!((&two["version"], &two["deltas"]), (&2.into(), &2.into()), "{two}");
    let (saved, added) = (two["saved"].as_u64().unwrap(), bytes(publisher) - before);
    assert!(saved > 1_000_000 && added < 300_000, "{saved} saved, {added} added");

    // Both are on the ledger under one name.
    let names = publisher.json(&["names", "ls", "acme/"]).unwrap();
    assert_eq!((&names[0]["name"], &names[0]["latest"], &names[1]), (&"acme/m".into(), &2.into(), &Value::Null));
    assert_eq!(publisher.json(&["names", "ls", "other/"]).unwrap(), Value::Array(Vec::new()));
    let history = publisher.json(&["names", "history", "acme/m"]).unwrap();
    let what: Vec<_> =
        history.as_array().unwrap().iter().map(|e| (e["what"].as_str(), e["version"].as_u64())).collect();
    assert_eq!(what, [(Some("published"), Some(1)), (Some("published"), Some(2))]);
    assert_ne!(publisher.run(&["names", "history", "acme/none"]).unwrap().code, 0);

    // Who never had the first version gets what the second starts from, and can be read of in turn.
    fetch(other, &["acme/m@2"]);
    let held = other.json(&["store", "ls"]).unwrap()["versions"][0].clone();
    assert_eq!((&held["present"], &held["version"]), (&held["chunks"], &2.into()));
    assert!(other.json(&["store", "verify"]).unwrap()["lost"] == 0);
    // Its files come out as they were published, differences and all; not over what is there, unless told to.
    let out = network.path().join("out");
    let clear =
        |more: &[&str]| other.run(&[&["fetch", "acme/m@2", "--out", out.to_str().unwrap()], more].concat()).unwrap();
    assert_eq!(clear(&[]).code, 0);
    let mut files: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files.len(), 5, "{files:?}");
    for name in &files {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(second.join(name)).unwrap(), "{name:?}");
    }
    fs::write(out.join("config.json"), "mine").unwrap();
    refused(&clear(&[]), "--force");
    assert_eq!(fs::read(out.join("config.json")).unwrap(), b"mine");
    assert_eq!(clear(&["--force"]).code, 0);
    assert_eq!(fs::read(out.join("config.json")).unwrap(), fs::read(second.join("config.json")).unwrap());
    // A collection keeps the base chunks that only differences need.
    publisher.json(&["store", "drop", "acme/m@1"]).unwrap();
    publisher.json(&["store", "gc"]).unwrap();
    let held = publisher.json(&["store", "ls"]).unwrap()["versions"][0].clone();
    assert_eq!((&held["present"], &held["version"]), (&held["chunks"], &2.into()));
    // What is not run is not served either, and says so.
    let ran = other.run(&["fetch", "acme/m@2", "--serve"]).unwrap();
    assert!(ran.code != 0 && ran.stderr.contains("is not run from safetensors"), "{ran:?}");
    // The first version is not here any more: nothing can start from it.
    let ran = publisher.run(&["publish", second.to_str().unwrap(), "--name", "acme/m", "--base", "acme/m@1"]).unwrap();
    assert!(ran.code != 0 && ran.stderr.contains("zero2ai fetch acme/m@1"), "{ran:?}");
}

#[test]
fn a_folder_with_one_model_that_runs_is_served() {
    let network = Network::start(2).unwrap();
    let folder = network.path().join("digits");
    fs::create_dir_all(folder.join("onnx")).unwrap();
    fs::copy(fixture("digits/digits.onnx"), folder.join("onnx/digits.onnx")).unwrap();
    fs::write(folder.join("README.md"), "# Digits").unwrap();
    fs::write(folder.join("weights.safetensors"), safetensors(&[("w", &noise(3_000_000, 4))])).unwrap();
    let published = publish(&network.nodes[0], &folder, &["--replicas", "1"]);
    assert_eq!((&published["files"], &published["not_served"]), (&3.into(), &Value::Null));
    fetch(&network.nodes[1], &["acme/m", "--serve"]);
    let rows = fixture("digits/predict.csv");
    for node in &network.nodes {
        node.json(&["predict", "acme/m", "--labelled", "--input", rows.to_str().unwrap()]).unwrap();
    }
}

#[test]
fn what_should_not_be_published_is_refused_with_what_to_do() {
    let network = Network::start(1).unwrap();
    let (node, folder) = (&network.nodes[0], network.path().join("f"));
    fs::create_dir_all(&folder).unwrap();
    let run = |path: &Path, more: &[&str]| {
        node.run(&[&["publish", path.to_str().unwrap(), "--name", "acme/m", "--replicas", "0"], more].concat()).unwrap()
    };
    refused(&run(&folder, &[]), "no files");
    fs::write(folder.join("data.bin"), noise(100, 5)).unwrap();
    refused(&run(&folder, &[]), "--store-only");
    refused(&run(&folder.join("data.bin"), &[]), "--store-only");
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
    refused(&run(&folder, &["--store-only"]), "symbolic link");
    fs::remove_file(folder.join("link")).unwrap();
    fs::write(folder.join("m.safetensors"), &safetensors(&[("w", &noise(500, 6))])[..300]).unwrap();
    refused(&run(&folder, &["--store-only"]), "m.safetensors");
    fs::remove_file(folder.join("m.safetensors")).unwrap();
    assert_eq!(node.json(&["store", "stats"]).unwrap()["chunks"], 0);
    let published = publish(node, &folder, &["--replicas", "0", "--store-only"]);
    assert!(published["not_served"].as_str().unwrap().contains("--store-only"));
    // Of a model that could run, too.
    let digits = publish(node, &fixture("digits/digits.onnx"), &["--replicas", "0", "--store-only"]);
    assert_eq!((&digits["version"], digits["not_served"].is_string()), (&2.into(), true));
}
