//! What lies on disk is ciphertext, and what was changed on disk is noticed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use zero2ai_testnet::{Network, fixture};

const CANARY: &[u8] = b"CANARY-7d1c-a-secret-that-no-disk-may-see-in-the-clear";

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The digits model with a canary in its description (ModelProto.doc_string, field 6): still the same model.
fn model_with_canary(dir: &Path) -> PathBuf {
    let mut bytes = fs::read(fixture("digits/digits.onnx")).unwrap();
    bytes.push(0x32);
    bytes.push(u8::try_from(CANARY.len()).unwrap());
    bytes.extend_from_slice(CANARY);
    let path = dir.join("canary.onnx");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn no_home_holds_the_model_in_the_clear() {
    let network = Network::start(3).unwrap();
    let model = model_with_canary(network.path());
    let published = network.nodes[0].json(&["publish", model.to_str().unwrap(), "--name", "acme/secret"]).unwrap();
    assert_eq!(published["holders"].as_array().map(Vec::len), Some(3), "{published}");
    network.nodes[1].json(&["fetch", "acme/secret", "--serve"]).unwrap();
    let row = network.path().join("rows.csv");
    let text = fs::read_to_string(fixture("digits/predict.csv")).unwrap();
    fs::write(&row, text.lines().take(5).collect::<Vec<_>>().join("\n")).unwrap();
    network.nodes[2].json(&["predict", "acme/secret", "--labelled", "--input", row.to_str().unwrap()]).unwrap();

    let (mut searched, head) = (0, &fs::read(&model).unwrap()[200..240]);
    for node in &network.nodes {
        for file in files(node.home()) {
            let bytes = fs::read(&file).unwrap();
            for secret in [CANARY, head] {
                let found = bytes.windows(secret.len()).any(|w| w == secret);
                assert!(!found, "{} holds the model in the clear", file.display());
            }
            searched += 1;
        }
    }
    assert!(searched > 20, "only {searched} files were searched");
}

#[test]
fn a_flipped_byte_in_a_stored_chunk_is_noticed_and_healed_from_a_peer() {
    let mut network = Network::start(2).unwrap();
    let digits = fixture("digits/digits.onnx");
    let publish = ["publish", digits.to_str().unwrap(), "--name", "acme/digits", "--replicas", "1"];
    network.nodes[0].json(&publish).unwrap();
    let home = network.nodes[1].home().to_owned();
    network.nodes[1].terminate().unwrap();
    let chunks = files(&home.join("store").join("chunks"));
    assert_eq!(chunks.len(), 1, "{chunks:?}");
    let mut bytes = fs::read(&chunks[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&chunks[0], &bytes).unwrap();

    network.nodes[1].start(&[]).unwrap();
    let first = network.nodes[1].run(&["fetch", "acme/digits", "--serve"]).unwrap();
    if first.code != 0 {
        assert!(first.stderr.contains("damaged"), "not told by what: {}", first.stderr);
        network.nodes[1].json(&["fetch", "acme/digits", "--serve"]).unwrap();
    }
    let healed = fs::read(&chunks[0]).unwrap();
    assert_ne!(healed, bytes, "the damaged chunk is still there");
}

#[test]
fn a_node_comes_back_with_what_it_had() {
    let mut network = Network::start(2).unwrap();
    let digits = fixture("digits/digits.onnx");
    network.nodes[0].json(&["publish", digits.to_str().unwrap(), "--name", "acme/digits", "--replicas", "1"]).unwrap();
    let before = network.nodes[0].json(&["status"]).unwrap();
    network.nodes[0].kill();
    network.nodes[0].start(&[]).unwrap();
    let after = network.nodes[0].json(&["status"]).unwrap();
    assert_eq!(before["node"], after["node"]);
    assert_eq!(before["addresses"], after["addresses"], "it is found where it was");
    assert!(after["height"].as_u64() >= before["height"].as_u64(), "{before} {after}");
    let rows = fixture("digits/predict.csv");
    let start = std::time::Instant::now();
    loop {
        let ran = network.nodes[1]
            .run(&["predict", "acme/digits", "--labelled", "--input", rows.to_str().unwrap(), "--json"])
            .unwrap();
        if ran.code == 0 {
            break;
        }
        assert!(start.elapsed().as_secs() < 20, "a restarted provider does not serve: {ran:?}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(network.nodes[0].terminate().unwrap(), 0, "SIGTERM stops in order");
}
