//! `zero2ai doctor` names the first thing that fails, and tells the rest all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use serde_json::Value;
use zero2ai_testnet::{Daemon, Network, fixture, until};

/// Exit codes as `zero2ai --help` lists them.
const CONFIG: i32 = 3;
const UNREACHABLE: i32 = 4;
const NOT_FOUND: i32 = 5;
const DENIED: i32 = 6;

/// The exit code and what was found.
fn doctor(node: &Daemon, patient: &[&str]) -> (i32, Value) {
    let ran = node.run(&[&["doctor", "--json"], patient].concat()).unwrap();
    let found: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    assert_eq!(ran.code == 0, found["first_failure"].is_null(), "{ran:?}");
    if ran.code != 0 {
        let error: Value = serde_json::from_str(&ran.stderr).unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains(found["first_failure"].as_str().unwrap()));
    }
    (ran.code, found)
}

/// How one check came out.
#[track_caller]
fn result<'a>(found: &'a Value, check: &str) -> &'a str {
    let checks = found["checks"].as_array().unwrap();
    let row = checks.iter().find(|c| c["check"].as_str().unwrap().starts_with(check));
    row.unwrap_or_else(|| panic!("no check '{check}' in {found}"))["result"].as_str().unwrap()
}

/// Waits until a doctor's visit comes out like this: gossip and announcements take a moment.
#[track_caller]
fn soon(node: &Daemon, patient: &[&str], code: i32) -> Value {
    let start = Instant::now();
    loop {
        let (now, found) = doctor(node, patient);
        if now == code {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(40), "exit code {now}, not {code}: {found}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn a_healthy_pool_a_served_model_and_a_name_that_nobody_serves() {
    let network = Network::start(2).unwrap();
    let (one, two) = (&network.nodes[0], &network.nodes[1]);
    let found = soon(two, &[], 0);
    for check in ["home", "config", "node", "clock", "peers", "chain", "rights"] {
        assert_eq!(result(&found, check), "ok", "{found}");
    }
    let digits = fixture("digits/digits.onnx");
    one.json(&["publish", digits.to_str().unwrap(), "--name", "acme/digits", "--replicas", "0"]).unwrap();
    let found = soon(two, &["acme/digits"], 0);
    for check in ["ledger", "record", "endpoints", "endpoint "] {
        assert_eq!(result(&found, check), "ok", "{found}");
    }
    let found = soon(two, &[&one.key().unwrap()], 0);
    for check in ["member", "address", "dial", "pool proof", "answer"] {
        assert_eq!(result(&found, check), "ok", "{found}");
    }

    let (code, found) = doctor(two, &["acme/nothing"]);
    assert_eq!((code, &found["first_failure"]), (NOT_FOUND, &"ledger".into()), "{found}");
    assert_eq!(
        (result(&found, "record"), result(&found, "endpoints"), result(&found, "node")),
        ("failed", "skipped", "ok")
    );
    // Published, but nobody serves it any more. (The endpoint record runs out within 80 seconds: a fresh version has none.)
    soon(two, &["acme/digits@2"], NOT_FOUND);
    let text = two.run(&["doctor", "acme/digits@2"]).unwrap();
    assert!(
        text.code == NOT_FOUND && text.stdout.contains("FAILS") && text.stderr.contains("First failure"),
        "{text:?}"
    );
}

#[test]
fn a_peer_that_is_gone_a_stranger_and_a_stopped_node() {
    let mut network = Network::start(2).unwrap();
    let other = network.nodes[1].key().unwrap();
    soon(&network.nodes[0], &[&other], 0);
    network.nodes[1].kill();
    let found = soon(&network.nodes[0], &[&other], UNREACHABLE);
    assert_eq!((result(&found, "member"), result(&found, "address")), ("ok", "ok"), "{found}");
    assert!(["dial", "answer"].iter().any(|check| result(&found, check) == "failed"), "{found}");

    // A key that nobody has: no member, no address.
    network.nodes[1].start(&[]).unwrap();
    soon(&network.nodes[0], &[], 0);
    let mut found = Value::Null;
    // Connections to a process that is gone are ended once the new one is met: for a moment there may be no peer.
    until("only the stranger is at fault", Duration::from_secs(40), || {
        let (code, now) = doctor(&network.nodes[0], &[&"ab".repeat(32)]);
        found = now;
        [NOT_FOUND, DENIED].contains(&code)
    });
    assert_eq!(
        (result(&found, "member"), result(&found, "address"), result(&found, "dial")),
        ("failed", "failed", "skipped")
    );

    network.nodes[0].terminate().unwrap();
    let (code, found) = doctor(&network.nodes[0], &["acme/digits"]);
    assert_eq!((code, &found["first_failure"]), (UNREACHABLE, &"node".into()), "{found}");
    assert_eq!(
        (result(&found, "home"), result(&found, "clock"), result(&found, "acme/digits")),
        ("ok", "skipped", "skipped")
    );

    // A key that others can read comes before that.
    let secret = network.nodes[0].home().join("pool.key");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(network.nodes[0].home().join("config.toml"), "heartbeet_ms = 5\n").unwrap();
    let (code, found) = doctor(&network.nodes[0], &[]);
    assert_eq!((code, &found["first_failure"]), (CONFIG, &"home".into()), "{found}");
    assert!(found["checks"][0]["says"].as_str().unwrap().contains("chmod 600"), "{found}");
    assert_eq!((result(&found, "config"), result(&found, "node")), ("failed", "failed"));
}

#[test]
fn a_pool_finds_itself_again_without_the_node_that_everyone_joined_by() {
    let mut network = Network::start(3).unwrap();
    let keys: Vec<String> = network.nodes.iter().map(|node| node.key().unwrap()).collect();
    let others = |node: &Daemon| node.json(&["status", "--peers"]).unwrap()["peers"].as_array().unwrap().clone();
    let connected = |node: &Daemon, to: &str| others(node).iter().any(|p| p["node"] == to && p["swarm"] == true);
    let patience = Duration::from_secs(60);
    until("the last two know each other", patience, || {
        others(&network.nodes[1]).iter().any(|p| p["node"] == keys[2] && !p["heard_ms_ago"].is_null())
            && others(&network.nodes[2]).iter().any(|p| p["node"] == keys[1] && !p["heard_ms_ago"].is_null())
    });
    for node in &mut network.nodes {
        node.terminate().unwrap();
    }
    network.nodes[1].start(&[]).unwrap();
    let status = network.nodes[1].json(&["status"]).unwrap();
    assert!(status["waiting"].as_str().unwrap().starts_with("a peer"), "{status}");
    network.nodes[2].start(&[]).unwrap();
    until("they are connected", patience, || {
        connected(&network.nodes[1], &keys[2]) && connected(&network.nodes[2], &keys[1])
    });
    let status = network.nodes[1].json(&["status"]).unwrap();
    assert!(!status["waiting"].as_str().unwrap_or("").starts_with("a peer"), "{status}");
    let top = network.nodes[1].run(&["top", "--count", "2", "--interval", "0.1"]).unwrap();
    assert!(top.code == 0 && top.stdout.contains("known member"), "{top:?}");
}
