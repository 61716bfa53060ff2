//! A few runs of each fault loop. Hundreds are a matter of `cargo run -p zero2ai-testnet --bin faults`; what they gave is
//! in `testnet/RESULTS.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use serde_json::Value;
use zero2ai_testnet::faults::image;

/// Runs a loop and gives what it saw; a failed run is a failed test.
fn faults(args: &[&str]) -> Value {
    repeated("3", args)
}

fn repeated(runs: &str, args: &[&str]) -> Value {
    let ran = Command::new(env!("CARGO_BIN_EXE_faults")).args(args).args(["--runs", runs, "--json"]).output().unwrap();
    let (said, told) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}{told}");
    serde_json::from_str(&said).unwrap()
}

#[test]
fn a_node_killed_while_it_publishes_keeps_what_it_acknowledged() {
    let saw = faults(&["kill-publish"]);
    assert_eq!((&saw["runs"], saw["checked"].as_u64() > Some(0)), (&3.into(), true), "{saw}");
}

#[test]
fn a_fetch_goes_on_after_a_kill() {
    let saw = faults(&["kill-fetch"]);
    assert_eq!((&saw["runs"], &saw["checked"]), (&3.into(), &3.into()), "{saw}");
}

#[test]
fn killed_signers_lose_nothing_that_was_acknowledged_and_never_sign_twice() {
    let saw = faults(&["kill-signers"]);
    assert_eq!((&saw["runs"], saw["checked"].as_u64() > Some(6)), (&3.into(), true), "{saw}");
}

#[test]
fn a_paused_signer_and_one_started_anew_catch_up_while_the_others_go_on() {
    // Twenty seconds are asked of a quiet machine; here others may be at work.
    let saw = repeated("2", &["perturb", "--within", "120"]);
    assert_eq!(saw["resumed"], 2, "{saw}");
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if let Some(why) = image::missing() {
        println!("skipped: {why}");
        return;
    }
    let saw = faults(&["power-cut"]);
    assert!(saw["checked"].as_u64() > Some(10), "{saw}");
    faults(&["power-cut", "--node"]);
}
