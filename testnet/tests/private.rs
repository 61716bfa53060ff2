//! A private model: who was granted it opens it, a seeder cannot, and what is sealed after a revocation stays shut.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path, time::Duration};

use zero2ai_testnet::{Daemon, Network, fixture, until};

/// The code of "the ledger does not let you".
const DENIED: i32 = 6;

fn predicts(from: &Daemon, rows: &Path, name: &str) -> bool {
    let ran = from.run(&["predict", name, "--labelled", "--input", rows.to_str().unwrap(), "--json"]).unwrap();
    ran.code == 0
}

/// How long is tried until it holds: the keeper looks every two seconds, announcements run out within some more.
const PATIENCE: Duration = Duration::from_secs(30);

fn serves(node: &Daemon, name: &str, version: u64) -> bool {
    let status = node.json(&["status"]).unwrap();
    let models = status["models"].as_array().unwrap();
    models.iter().any(|m| m["name"] == name && m["version"] == version && m["serving"] == true)
}

#[test]
fn only_those_who_are_granted_a_private_model_can_open_it() {
    let network = Network::start(3).unwrap();
    let [owner, granted, seeder] = &network.nodes[..] else { panic!() };
    let rows = network.path().join("rows.csv");
    let text = fs::read_to_string(fixture("digits/predict.csv")).unwrap();
    fs::write(&rows, text.lines().take(5).collect::<Vec<_>>().join("\n")).unwrap();

    let digits = fixture("digits/digits.onnx");
    let publish = ["publish", digits.to_str().unwrap(), "--name", "acme/own", "--domain", "private"];
    let published = owner.json(&publish).unwrap();
    assert_eq!(published["holders"].as_array().map(Vec::len), Some(3), "ciphertext goes to anyone: {published}");

    // Both hold every chunk, and neither can open it.
    for node in [granted, seeder] {
        let fetched = node.json(&["fetch", "acme/own"]).unwrap();
        assert_eq!(fetched["opened"], false, "{fetched}");
        let refused = node.run(&["fetch", "acme/own", "--serve"]).unwrap();
        assert_eq!(refused.code, DENIED, "{}", refused.stderr);
        assert!(refused.stderr.contains("not granted"), "{}", refused.stderr);
    }

    let out = network.path().join("out");
    let clear = |node: &Daemon, name: &str| node.run(&["fetch", name, "--out", out.to_str().unwrap()]).unwrap();
    let refused = clear(seeder, "acme/own");
    assert_eq!((refused.code, out.exists()), (DENIED, false), "{}", refused.stderr);
    assert!(refused.stderr.contains("zero2ai grant acme/own"), "{}", refused.stderr);

    owner.json(&["grant", "acme/own", &granted.key().unwrap()]).unwrap();
    // The granted node may be a block behind the one where the grant was made final.
    until("the granted node serves", PATIENCE, || granted.run(&["fetch", "acme/own", "--serve"]).unwrap().code == 0);
    assert!(predicts(seeder, &rows, "acme/own"), "users need no key");
    let call = network.path().join("kept.call");
    let (from, kept) = (rows.to_str().unwrap(), call.to_str().unwrap());
    seeder.json(&["predict", "acme/own", "--labelled", "--input", from, "--save-call", kept]).unwrap();
    assert_eq!(seeder.run(&["fetch", "acme/own", "--serve"]).unwrap().code, DENIED);
    assert_eq!(clear(granted, "acme/own").code, 0);
    assert_eq!(fs::read(out.join("digits.onnx")).unwrap(), fs::read(&digits).unwrap());
    let self_service = seeder.run(&["grant", "acme/own", &seeder.key().unwrap()]).unwrap();
    assert_ne!(self_service.code, 0, "a member granted itself another's model");

    let revoked = owner.json(&["revoke", "acme/own", &granted.key().unwrap(), "--reseal"]).unwrap();
    assert_eq!(revoked["resealed"][0]["new"], 2, "{revoked}");
    let grants = owner.json(&["grants", "acme/own"]).unwrap();
    assert_eq!(grants["grants"][0]["granted"], false, "{grants}");
    until("the revoked node stops serving", PATIENCE, || !serves(granted, "acme/own", 1));
    until("the owner serves what was sealed anew", PATIENCE, || serves(owner, "acme/own", 2));
    let sealed = granted.json(&["fetch", "acme/own@2"]).unwrap();
    assert_eq!((&sealed["opened"], &sealed["reused"]), (&false.into(), &0.into()), "no chunk is shared: {sealed}");
    assert_eq!(granted.run(&["fetch", "acme/own@2", "--serve"]).unwrap().code, DENIED);
    fs::remove_dir_all(&out).unwrap();
    assert_eq!((clear(granted, "acme/own@2").code, out.exists()), (DENIED, false));
    until("what was sealed anew answers", PATIENCE, || predicts(granted, &rows, "acme/own"));

    // A call of the version that was withdrawn: run again where all of it is held, and nowhere else.
    let again = owner.json(&["audit", "re-run", kept]).unwrap();
    assert_eq!((&again["same"], &again["calls"][0]["version"]), (&true.into(), &1.into()), "{again}");
    until("one who cannot open it says why", PATIENCE, || {
        let refused = seeder.run(&["audit", "re-run", kept]).unwrap();
        assert_eq!(refused.code, DENIED, "{refused:?}");
        refused.stderr.contains("was withdrawn by its owner")
    });

    let help = owner.run(&["revoke", "--help"]).unwrap().stdout;
    assert!(help.contains("it keeps"), "the help says what a revoked member can still do: {help}");
}

#[test]
fn publishers_of_a_pool_share_chunks_and_private_models_do_not() {
    let network = Network::start(2).unwrap();
    let digits = fixture("digits/digits.onnx");
    let publish = |node: &Daemon, name: &str, domain: &str| {
        let path = digits.to_str().unwrap();
        // A member's own ledger may be a block behind the one that admitted it.
        node.until(&["publish", path, "--name", name, "--domain", domain, "--replicas", "0"]).unwrap()
    };
    let chunks = publish(&network.nodes[0], "one/pool", "pool")["chunks"].as_u64().unwrap();
    // The second publisher asks the first for the pool's secret; then it has every chunk but on another disk.
    publish(&network.nodes[1], "two/pool", "pool");
    let shared = network.nodes[1].json(&["fetch", "one/pool"]).unwrap();
    assert_eq!(shared["reused"].as_u64(), Some(chunks), "{shared}");
    publish(&network.nodes[0], "one/private", "private");
    publish(&network.nodes[1], "two/private", "private");
    let apart = network.nodes[1].json(&["fetch", "one/private"]).unwrap();
    assert_eq!(apart["reused"].as_u64(), Some(0), "{apart}");
    // The same file in the public domain is the same ciphertext for everyone.
    publish(&network.nodes[0], "one/public", "public");
    publish(&network.nodes[1], "two/public", "public");
    let same = network.nodes[1].json(&["fetch", "one/public"]).unwrap();
    assert_eq!(same["reused"].as_u64(), Some(chunks), "{same}");
}
