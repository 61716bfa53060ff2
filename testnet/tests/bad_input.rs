//! What users get wrong, and what a hostile world does to files: each time a clear paragraph, a code of its own, and a
//! node that goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, net::UdpSocket, path::Path};

use zero2ai_testnet::{Daemon, Network, Ran, daemon::run, fixture};

/// Exit codes as `zero2ai --help` lists them.
const CONFIG: i32 = 3;
const UNREACHABLE: i32 = 4;
const NOT_FOUND: i32 = 5;
const DENIED: i32 = 6;
const INVALID: i32 = 7;
const STORAGE: i32 = 8;
const IN_USE: i32 = 9;
const INVITE: i32 = 10;

/// The code and a word of the message; never a panic.
#[track_caller]
fn refused(ran: &Ran, code: i32, word: &str) {
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.stderr.contains(word), "'{word}' is not in: {}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn names_inputs_and_files_are_refused_with_a_code_each() {
    let network = Network::start(1).unwrap();
    let (node, dir) = (&network.nodes[0], network.path());
    let digits = fixture("digits/digits.onnx");
    let model = fs::read(&digits).unwrap();

    refused(&node.run(&["resolve", "acme/nothing"]).unwrap(), NOT_FOUND, "acme/nothing");
    refused(&node.run(&["publish", "no-such-file.onnx", "--name", "acme/m"]).unwrap(), NOT_FOUND, "no-such-file");
    let text = write(dir, "notes.txt", b"just some words, no model at all");
    refused(&node.run(&["publish", &text, "--name", "acme/m"]).unwrap(), INVALID, "format");
    let empty = write(dir, "empty.onnx", b"");
    refused(&node.run(&["publish", &empty, "--name", "acme/m"]).unwrap(), INVALID, "empty");
    for cut in [1, 7, 100, model.len() / 2, model.len() - 1] {
        let path = write(dir, "cut.onnx", &model[..cut]);
        let ran = node.run(&["publish", &path, "--name", "acme/m"]).unwrap();
        assert!([INVALID, 15].contains(&ran.code), "cut at {cut}: {ran:?}");
    }
    let status = node.json(&["status"]).unwrap();
    assert_eq!(status["models"].as_array().map(Vec::len), Some(0), "something half-published: {status}");

    node.json(&["publish", digits.to_str().unwrap(), "--name", "acme/digits", "--replicas", "0"]).unwrap();
    let short = write(dir, "short.csv", b"1,2,3\n");
    refused(&node.run(&["predict", "acme/digits", "--input", &short]).unwrap(), INVALID, "64");
    let words = write(dir, "words.csv", b"1,2,3\none,two,three\n");
    refused(&node.run(&["predict", "acme/digits", "--input", &words]).unwrap(), INVALID, "2");
    refused(&node.run(&["run", "acme/digits", "hello"]).unwrap(), INVALID, "predict");
    refused(&node.run(&["resolve", "acme/digits@9"]).unwrap(), NOT_FOUND, "@9");
    refused(&node.run(&["resolve", "no-slash"]).unwrap(), 2, "publisher/model");
    let answer = node.run(&["resolve", "acme/nothing", "--json"]).unwrap();
    let error: serde_json::Value = serde_json::from_str(&answer.stderr).unwrap();
    assert_eq!(error["error"]["code"], "not_found");
    assert_eq!(node.run(&["status"]).unwrap().code, 0, "the node went on");
}

#[test]
fn homes_ports_invites_and_settings_are_refused_with_a_code_each() {
    let network = Network::start(1).unwrap();
    let (node, dir) = (&network.nodes[0], network.path());

    refused(&run(node.home(), &["up"]).unwrap(), IN_USE, "running node");
    refused(&run(&dir.join("nobody"), &["status"]).unwrap(), CONFIG, "up");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&run(&dir.join("p1"), &["up", "--listen", &address]).unwrap(), IN_USE, &address);
    refused(&run(&dir.join("p2"), &["up", "--swarm-listen", &address]).unwrap(), IN_USE, &address);

    let invite = network.invite("member").unwrap();
    let mut damaged = invite.clone().into_bytes();
    damaged[40] = if damaged[40] == b'A' { b'B' } else { b'A' };
    let damaged = String::from_utf8(damaged).unwrap();
    refused(&run(&dir.join("j1"), &["up", "--join", &damaged]).unwrap(), INVITE, "damaged");
    refused(&run(&dir.join("j1"), &["up", "--join", "hello"]).unwrap(), INVITE, "z2a1-");
    assert!(!dir.join("j1").join("pool.cbor").exists(), "a refused join left a pool behind");

    let home = dir.join("c1");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("config.toml"), "heartbeet_ms = 5\n").unwrap();
    refused(&run(&home, &["up"]).unwrap(), CONFIG, "heartbeet_ms");
}

#[test]
fn a_ticket_admits_as_often_as_it_says_and_a_revoked_member_is_out() {
    let mut network = Network::start(1).unwrap();
    let invite = network.invite("member").unwrap();
    let file = write(network.path(), "one-use", invite.as_bytes());
    let second = Daemon::up(&network.path().join("b"), &["--join-file", &file]).unwrap();
    let late = run(&network.path().join("late"), &["up", "--join-file", &file]).unwrap();
    assert!([DENIED, INVALID, INVITE].contains(&late.code), "a used-up ticket: {late:?}");

    let node = second.key().unwrap();
    network.nodes[0].run(&["pool", "rights", &node, "none"]).unwrap();
    let digits = fixture("digits/digits.onnx");
    network.nodes[0].json(&["publish", digits.to_str().unwrap(), "--name", "acme/digits", "--replicas", "0"]).unwrap();
    let fetch = second.run(&["fetch", "acme/digits"]).unwrap();
    assert_ne!(fetch.code, 0, "a revoked member fetched: {fetch:?}");
    drop(second);
    network.nodes[0].kill();
    let gone = network.nodes[0].run(&["status"]).unwrap();
    assert!([UNREACHABLE, CONFIG].contains(&gone.code), "{gone:?}");
}

#[test]
fn a_full_disk_fails_the_publish_and_nothing_else() {
    // A file system of its own, so that "full" is real; making one needs root, as on the machines that run the tests.
    let dir = tempfile::tempdir().unwrap();
    let mount =
        |args: &[&str]| std::process::Command::new(args[0]).args(&args[1..]).status().is_ok_and(|s| s.success());
    let point = dir.path().join("disk");
    fs::create_dir(&point).unwrap();
    let place = point.to_str().unwrap();
    if !rustix::process::geteuid().is_root() {
        println!("skipped: mounting a small file system needs root");
        return;
    }
    assert!(mount(&["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", place]), "a tmpfs could not be mounted");
    let home = point.join("n");
    let outcome = std::panic::catch_unwind(|| {
        let node = Daemon::up(&home, &[]).unwrap();
        let digits = fs::read(fixture("digits/digits.onnx")).unwrap();
        // The same model with 64 MiB of description behind it: a protobuf field (ModelProto.doc_string, 6).
        let mut state = 1u64;
        let noise: Vec<u8> = (0..64 << 20)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                b'a' + u8::try_from((state >> 33) % 26).unwrap()
            })
            .collect();
        let mut big = digits;
        big.extend([0x32, 0x80, 0x80, 0x80, 0x20]);
        big.extend(noise);
        let path = write(dir.path(), "big.onnx", &big);
        let ran = node.run(&["publish", &path, "--name", "acme/big", "--replicas", "0"]).unwrap();
        refused(&ran, STORAGE, "space");
        let status = node.json(&["status"]).unwrap();
        assert_eq!(status["models"].as_array().map(Vec::len), Some(0), "{status}");
    });
    assert!(mount(&["umount", "-l", place]), "the tmpfs could not be unmounted");
    outcome.unwrap();
}
