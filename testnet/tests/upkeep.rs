//! What nodes do about copies by themselves: make new ones when a node leaves, heal what rotted, and give way when full.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use zero2ai_testnet::{Daemon, Network, faults::rng::Rng, until};

/// Words of peers and looks of keepers take seconds, on a busy machine many.
const PATIENCE: Duration = Duration::from_secs(120);

fn configure(home: &Path, toml: &str) {
    fs::create_dir_all(home).unwrap();
    fs::write(home.join("config.toml"), toml).unwrap();
}

/// A model of noise that is stored and not run, the same for the same seed.
fn model(folder: &Path, len: usize, seed: u64) -> PathBuf {
    let path = folder.join(format!("model-{seed}.bin"));
    fs::write(&path, Rng::new(seed, 0).bytes(len)).unwrap();
    path
}

fn publish(node: &Daemon, file: &Path, name: &str, replicas: &str) -> Value {
    let args = ["publish", file.to_str().unwrap(), "--name", name, "--replicas", replicas, "--store-only"];
    node.json(&args).unwrap()
}

/// Names of the versions that lie whole in a node's store.
fn whole(node: &Daemon) -> Vec<String> {
    let versions = node.json(&["store", "ls"]).unwrap()["versions"].as_array().unwrap().clone();
    let whole = versions.iter().filter(|v| v["present"] == v["chunks"]);
    whole.map(|v| v["name"].as_str().unwrap().to_owned()).collect()
}

fn chunk_files(node: &Daemon) -> Vec<PathBuf> {
    let folders = fs::read_dir(node.home().join("store/chunks")).unwrap();
    folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap()).map(|f| f.unwrap().path()).collect()
}

/// Four nodes of which three hold a model: its publisher wants three copies where the others' settings say two. With it the
/// two other holders, and the node without.
fn three_copies() -> (Network, [usize; 2], usize) {
    let mut network = Network::start(1).unwrap();
    let config = "[swarm]\nreplicas = 2\nrepair_after_s = 2\n";
    network.nodes[0].terminate().unwrap();
    configure(network.nodes[0].home(), config);
    network.nodes[0].start(&[]).unwrap();
    for n in 1..4 {
        configure(&network.path().join(format!("n{n}")), config);
        network.join("member").unwrap();
    }
    let file = model(network.path(), 200_000, 1);
    let published = publish(&network.nodes[0], &file, "acme/m", "2");
    assert_eq!(published["holders"].as_array().unwrap().len(), 3, "{published}");
    let (holds, without): (Vec<usize>, Vec<usize>) = (1..4).partition(|n| !whole(&network.nodes[*n]).is_empty());
    let ([one, two], [without]) = (&holds[..], &without[..]) else { panic!("{holds:?} hold it, {without:?} do not") };
    (network, [*one, *two], *without)
}

#[test]
fn a_copy_that_leaves_is_made_again_and_the_publisher_says_how_many() {
    let (mut network, holders, without) = three_copies();
    network.nodes[holders[0]].kill();
    until("the third node holds a copy", PATIENCE, || !whole(&network.nodes[without]).is_empty());
}

#[test]
fn how_many_copies_a_publisher_wants_is_known_to_those_who_hold_them() {
    let (network, _, without) = three_copies();
    network.nodes[0].json(&["store", "drop", "acme/m@1"]).unwrap();
    network.nodes[0].json(&["store", "gc"]).unwrap();
    // Two are left, which is enough by the holders' settings; and what was dropped does not come back by itself.
    until("the fourth node holds a copy", PATIENCE, || !whole(&network.nodes[without]).is_empty());
    assert!(whole(&network.nodes[0]).is_empty());
}

#[test]
fn a_scrub_heals_what_rotted_from_a_peer() {
    let mut network = Network::start(2).unwrap();
    let file = model(network.path(), 200_000, 2);
    publish(&network.nodes[0], &file, "acme/m", "0");
    until("a fetch", PATIENCE, || network.nodes[1].run(&["fetch", "acme/m"]).unwrap().code == 0);
    let holder = &mut network.nodes[1];
    let victim = chunk_files(holder)[0].clone();
    let sound = fs::read(&victim).unwrap();
    let mut rotten = sound.clone();
    rotten[sound.len() / 2] ^= 1;
    holder.terminate().unwrap();
    fs::write(&victim, &rotten).unwrap();
    configure(holder.home(), "[store]\nscrub_settle_s = 1\n");
    holder.start(&[]).unwrap();
    until("a scrub heals", PATIENCE, || {
        let scrub = holder.json(&["store", "stats"]).unwrap()["scrub"].clone();
        if scrub["lost"].as_u64() > Some(0) {
            // It ran before any peer was known; the next one is a month away, or at the next start.
            holder.terminate().unwrap();
            fs::remove_file(holder.home().join("scrub.cbor")).unwrap();
            holder.start(&[]).unwrap();
            return false;
        }
        scrub["healed"].as_u64() == Some(1)
    });
    assert_eq!(fs::read(&victim).unwrap(), sound);
    assert_eq!(holder.json(&["store", "verify"]).unwrap()["damaged"], 0);
}

#[test]
fn a_full_quota_lets_unpinned_copies_go_and_refuses_when_none_may() {
    let mut network = Network::start(1).unwrap();
    configure(&network.path().join("n1"), "[store]\nquota_mb = 5\n");
    network.join("member").unwrap();
    let [publisher, holder] = &network.nodes[..] else { panic!() };
    for (seed, name) in [(3, "acme/a"), (4, "acme/b"), (5, "acme/c")] {
        publish(publisher, &model(network.path(), 2_000_000, seed), name, "0");
    }
    for name in ["acme/a", "acme/b"] {
        until("a fetch", PATIENCE, || holder.run(&["fetch", name]).unwrap().code == 0);
    }
    assert_eq!(whole(holder), ["acme/a", "acme/b"]);
    // The one used least lately would go, but for its pin.
    holder.json(&["store", "pin", "acme/a@1"]).unwrap();
    holder.json(&["fetch", "acme/c"]).unwrap();
    assert_eq!(whole(holder), ["acme/a", "acme/c"]);
    holder.json(&["store", "pin", "acme/c@1"]).unwrap();
    let ran = holder.run(&["fetch", "acme/b"]).unwrap();
    assert!(ran.code != 0 && ran.stderr.contains("quota"), "{ran:?}");
    assert_eq!(whole(holder), ["acme/a", "acme/c"], "nothing goes for nothing");
    let stats = holder.json(&["store", "stats"]).unwrap();
    assert!(stats["used"].as_u64().unwrap() <= 5 << 20, "{stats}");
}
