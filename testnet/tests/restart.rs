//! What a node knows of the network is not lost by a restart: how new the names were that it resolved.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, time::Duration};

use zero2ai_proto::{ModelName, decode, encode};
use zero2ai_testnet::{Network, fixture, until};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the network cannot have.
const FAR: u64 = 1_000_000;

#[test]
fn a_resolver_that_was_killed_still_takes_no_older_record() {
    let mut network = Network::start(2).unwrap();
    let digits = fixture("digits/digits.onnx");
    network.nodes[0].json(&["publish", digits.to_str().unwrap(), "--name", "lab/m", "--replicas", "0"]).unwrap();
    let resolver = &mut network.nodes[1];
    let file = resolver.home().join("heights.cbor");
    let resolves = |node: &zero2ai_testnet::Daemon| node.run(&["resolve", "lab/m", "--fresh"]).unwrap();
    let seen = || -> Vec<(ModelName, u64)> { fs::read(&file).map_or(Vec::new(), |b| decode(&b, b.len()).unwrap()) };
    until("what was seen is written down", PATIENCE, || resolves(resolver).code == 0 && !seen().is_empty());
    resolver.kill();
    let before = seen();
    assert_eq!((before.len(), before[0].0.as_str(), before[0].1 > 0), (1, "lab/m", true), "{before:?}");

    // As if it had seen a newer one than anybody has now.
    fs::write(&file, encode(&vec![(before[0].0.clone(), before[0].1 + FAR)]).unwrap()).unwrap();
    resolver.start(&[]).unwrap();
    until("old records are refused", PATIENCE, || {
        let ran = resolves(resolver);
        assert_ne!(ran.code, 0, "an old record was given out: {ran:?}");
        ran.stderr.contains("only old records")
    });
    assert_eq!(resolver.terminate().unwrap(), 0);
    assert_eq!(seen()[0].1, before[0].1 + FAR, "nothing was lowered");

    fs::write(&file, encode(&before).unwrap()).unwrap();
    resolver.start(&[]).unwrap();
    until("the network's record is taken again", PATIENCE, || resolves(resolver).code == 0);
}
