//! One node alone: it is its own pool with a one-signer chain, and does the whole job by the commands that users type.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Up, digits, json, run, zero2ai};

#[test]
fn the_whole_job_on_one_node() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let up = Up::start(&home, &[]);

    let status = json(&home, &["status"]);
    assert_eq!(status["rights"][0], "admin");
    let show = json(&home, &["pool", "show"]);
    assert_eq!((show["members"].as_array().unwrap().len(), &show["pool"]), (1, &status["pool"]));
    assert!(json(&home, &["pool", "invite"])["invite"].as_str().unwrap().starts_with("z2a1-"));

    // A second node on the same home, and one on the same port.
    let (code, _, err) = run(&home, &["up"]);
    assert!(code == 9 && err.contains("in use"), "{code}: {err}");
    let address =
        status["addresses"].as_array().unwrap().iter().find_map(|a| a.as_str().filter(|a| !a.starts_with('/')));
    let other = folder.path().join("other");
    let (code, _, err) = run(&other, &["up", "--listen", address.unwrap()]);
    assert!(code == 9 && err.contains(address.unwrap()), "{code}: {err}");

    // Names that nobody published, files that are no models.
    let (code, _, err) = run(&home, &["resolve", "lab/digits"]);
    assert!(code == 5 && err.contains("lab/digits"), "{code}: {err}");
    let truncated = folder.path().join("cut.onnx");
    let model = std::fs::read(digits("digits.onnx")).unwrap();
    std::fs::write(&truncated, &model[..model.len() / 2]).unwrap();
    let (code, _, err) = run(&home, &["publish", truncated.to_str().unwrap(), "--name", "lab/digits"]);
    assert!([7, 15].contains(&code) && !err.is_empty(), "{code}: {err}");

    let file = digits("digits.onnx");
    let done = json(&home, &["publish", file.to_str().unwrap(), "--name", "lab/digits", "--replicas", "0"]);
    assert_eq!((&done["version"], done["bytes"].as_u64().unwrap()), (&1.into(), model.len() as u64));
    assert_eq!(json(&home, &["resolve", "lab/digits"])["endpoints"].as_array().unwrap().len(), 1);

    let rows = digits("predict.csv");
    let answer = json(&home, &["predict", "lab/digits", "--input", rows.to_str().unwrap(), "--labelled"]);
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(digits("golden.json")).unwrap()).unwrap();
    assert_eq!(answer["correct"], golden["files"]["predict.csv"]["correct"]);
    // Sixty-five columns where the model takes sixty-four.
    let (code, _, err) = run(&home, &["predict", "lab/digits", "--input", rows.to_str().unwrap()]);
    assert!(code == 7 && err.contains("64"), "{code}: {err}");

    audit(&folder, &home);
    assert_eq!(run(&home, &["stop"]).0, 0);
    assert_eq!(up.ended(), Some(0));
    assert_eq!(run(&home, &["status"]).0, 4);
}

/// The receipt is anchored soon; then the audit holds it, verifies offline, and not with a byte changed.
fn audit(folder: &tempfile::TempDir, home: &std::path::Path) {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let start = std::time::Instant::now();
    let status = || json(home, &["status"]);
    while status()["anchored"].as_u64() == Some(0) {
        assert!(start.elapsed().as_secs() < 30, "nothing is anchored");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let (export, genesis) = (path("audit.cbor"), path("genesis.cbor"));
    let told = json(home, &["audit", "lab/digits", "--export", &export]);
    assert_eq!(told["receipts"].as_array().unwrap().len(), 1);
    assert_eq!(run(home, &["pool", "genesis", "--out", &genesis]).0, 0);

    let nowhere = folder.path().join("nowhere"); // verification needs no home
    let verified = json(&nowhere, &["audit", "verify", &export, "--genesis", &genesis]);
    assert_eq!(verified["receipts"], told["receipts"]);
    let mut bytes = std::fs::read(&export).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&export, bytes).unwrap();
    let output = zero2ai(&nowhere).args(["audit", "verify", &export, "--genesis", &genesis]).output().unwrap();
    let (code, _, err) = common::finish(output);
    assert!([7, 13].contains(&code) && !err.is_empty(), "{code}: {err}");
}
