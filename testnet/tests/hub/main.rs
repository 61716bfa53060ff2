//! `publish hf:...` against a local server that speaks a hub's protocol, and lies where it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod server;

use std::{fs, path::PathBuf};

use serde_json::Value;
use zero2ai_testnet::{Daemon, Network, Ran, faults::rng::Rng, fixture};

use server::{Fault, Hub, Item};

/// Exit codes as `zero2ai --help` lists them.
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 4;
const NOT_FOUND: i32 = 5;
const DENIED: i32 = 6;
const INVALID: i32 = 7;
const UNVERIFIED: i32 = 13;

/// Bytes that do not compress, the same for the same seed.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    Rng::new(seed, 0).bytes(len)
}

fn safetensors(bytes: &[u8]) -> Vec<u8> {
    let json = format!(r#"{{"w":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, bytes.len());
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), bytes].concat()
}

/// A repository as hubs lay them out: small files in git, weights in large file storage.
fn repository() -> Vec<Item> {
    vec![
        Item::plain(".gitattributes", b"*.safetensors filter=lfs"),
        Item::plain("config.json", br#"{"architectures":["BertModel"]}"#),
        Item::plain("empty.txt", b""),
        Item::plain("sub folder/tokenizer.json", br#"{"version":"1.0"}"#),
        Item::large("model.safetensors", &safetensors(&noise(3_000_000, 7))),
        Item::large("pytorch_model.bin", &noise(1_000, 8)),
    ]
}

fn publish(node: &Daemon, hub: &Hub, place: &str, more: &[&str]) -> Ran {
    let args = ["publish", place, "--name", "acme/m", "--replicas", "0", "--hub", hub.url(), "--json"];
    node.run(&[&args, more].concat()).unwrap()
}

#[track_caller]
fn refused(ran: &Ran, code: i32, word: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.stderr.contains(word), "'{word}' is not in: {}", ran.stderr);
}

fn versions(node: &Daemon) -> usize {
    node.json(&["store", "ls"]).unwrap()["versions"].as_array().unwrap().len()
}

/// Files below the home's downloads, locks left out.
fn left(node: &Daemon) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![node.home().join("hub")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != ".lock" {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_repository_is_downloaded_through_broken_connections_and_published() {
    let network = Network::start(1).unwrap();
    let node = &network.nodes[0];
    let hub = Hub::start(repository());
    // Cut twice in the middle; after the second time the server sends everything from the start again.
    hub.fault("model.safetensors", &[Fault::CutAt(1_000_000), Fault::CutAt(900_000), Fault::Whole]);
    let one = publish(node, &hub, "hf:acme/tiny", &["--only", "*.json", "--only", "*.safetensors"]).json().unwrap();
    assert_eq!((&one["files"], &one["version"]), (&3.into(), &1.into()), "{one}");
    assert_eq!(one["source"], format!("hf:acme/tiny@{}", hub.commit()));
    let ranges = hub.ranges("model.safetensors");
    assert_eq!(ranges, [None, Some(1_000_000), Some(1_900_000)]);
    assert_eq!(left(node), Vec::<PathBuf>::new(), "what was published is not kept twice");

    // The whole of it, at a tag; every byte is the repository's. Unchanged tensors are stored already.
    let two = publish(node, &hub, "hf:acme/tiny@v1.0", &["--keep-download"]).json().unwrap();
    assert_eq!((&two["files"], &two["version"]), (&5.into(), &2.into()), "{two}");
    assert!(two["reused"].as_u64() > Some(0), "{two}");
    let folder = node.home().join("hub/acme--tiny").join(hub.commit());
    for item in repository().iter().filter(|i| !i.path.starts_with('.')) {
        assert_eq!(fs::read(folder.join(&item.path)).unwrap(), item.bytes, "{}", item.path);
    }
    // What lies there already is not asked for again, and what is not wanted any more goes.
    let before = hub.ranges("model.safetensors").len();
    publish(node, &hub, "hf:acme/tiny", &["--only", "model.*", "--keep-download"]).json().unwrap();
    assert_eq!((hub.ranges("model.safetensors").len(), left(node).len()), (before, 1));
}

#[test]
fn a_download_goes_on_where_an_earlier_command_gave_up() {
    let network = Network::start(1).unwrap();
    let node = &network.nodes[0];
    let hub = Hub::start(vec![Item::large("m.safetensors", &safetensors(&noise(2_000_000, 3)))]);
    hub.fault("m.safetensors", &[&[Fault::CutAt(700_000)][..], &[Fault::CutAt(0); 6]].concat());
    refused(&publish(node, &hub, "hf:acme/m", &[]), UNREACHABLE, "700000 of");
    assert_eq!((versions(node), left(node).len()), (0, 1));
    let report = publish(node, &hub, "hf:acme/m", &[]).json().unwrap();
    assert_eq!(report["files"], 1);
    assert_eq!(hub.ranges("m.safetensors").last(), Some(&Some(700_000)));
}

#[test]
fn a_model_that_runs_is_served_right_away() {
    let network = Network::start(1).unwrap();
    let node = &network.nodes[0];
    let digits = fs::read(fixture("digits/digits.onnx")).unwrap();
    let hub = Hub::start(vec![Item::plain("README.md", b"# Digits"), Item::large("onnx/model.onnx", &digits)]);
    let report = publish(node, &hub, "hf:digits", &[]).json().unwrap();
    assert_eq!((&report["files"], &report["not_served"]), (&2.into(), &Value::Null));
    let rows = fixture("digits/predict.csv");
    node.json(&["predict", "acme/m", "--labelled", "--input", rows.to_str().unwrap()]).unwrap();
}

#[test]
fn nothing_that_a_hub_made_up_is_published_or_written_elsewhere() {
    let network = Network::start(1).unwrap();
    let node = &network.nodes[0];
    let outside = network.path().join("outside");
    for name in ["../../../../outside", outside.to_str().unwrap(), "a/../../b", "c\\d"] {
        let hub = Hub::start(vec![Item::plain("config.json", b"{}"), Item::plain(name, b"evil")]);
        refused(&publish(node, &hub, "hf:acme/m", &["--store-only"]), INVALID, "a file named");
        assert!(hub.ranges(name).is_empty(), "it was not even asked for");
    }
    let bytes = safetensors(&noise(100_000, 4));
    // Bytes of the right number that are not those listed, in both kinds of storage.
    for lie in [Item::large("m.safetensors", &bytes), Item::plain("m.safetensors", &bytes)] {
        let hub = Hub::start(vec![Item { hash: "00".repeat(lie.hash.len() / 2), ..lie }]);
        refused(&publish(node, &hub, "hf:acme/m", &[]), UNVERIFIED, "hash");
    }
    // More bytes, or fewer, than were listed.
    for listed in [bytes.len() as u64 + 1, bytes.len() as u64 - 1] {
        let hub = Hub::start(vec![Item { listed, ..Item::large("m.safetensors", &bytes) }]);
        refused(&publish(node, &hub, "hf:acme/m", &[]), UNVERIFIED, "were listed");
    }
    // A commit that would be another folder, and a list that is none.
    let hub = Hub::start(repository());
    hub.set_commit("../../../../../../outside");
    refused(&publish(node, &hub, "hf:acme/m", &[]), INVALID, "no commit");
    hub.set_list("<html>not found</html>");
    refused(&publish(node, &hub, "hf:acme/m", &[]), INVALID, "cannot be read");
    assert_eq!((versions(node), outside.exists(), left(node)), (0, false, Vec::new()));
}

#[test]
fn what_cannot_be_had_says_why() {
    let network = Network::start(1).unwrap();
    let node = &network.nodes[0];
    let hub = Hub::start(repository());
    refused(&publish(node, &hub, "hf:acme/none", &[]), NOT_FOUND, "of that name");
    refused(&publish(node, &hub, "hf:acme/tiny@gone", &[]), NOT_FOUND, "revision");
    refused(&publish(node, &hub, "hf:acme/gated", &[]), DENIED, "HF_TOKEN");
    refused(&publish(node, &hub, "hf:acme/tiny", &["--only", "*.onnx"]), INVALID, "--only");
    refused(&publish(node, &hub, "hf:../x", &[]), USAGE, "hf:org/repo");
    refused(&publish(node, &hub, "config.json", &["--only", "x"]), USAGE, "hf:ORG/REPO");
    // The list came, the bytes do not.
    hub.fault("config.json", &[Fault::Status(404)]);
    refused(&publish(node, &hub, "hf:acme/tiny", &[]), NOT_FOUND, "config.json");
    hub.fault("config.json", &[Fault::Status(503), Fault::Status(429)]);
    publish(node, &hub, "hf:acme/tiny", &[]).json().unwrap();
}
