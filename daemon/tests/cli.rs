//! Mistakes at the command line: each has its exit code, one clear paragraph, and leaves nothing half-written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{digits, run};

#[test]
fn help_shows_examples_and_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, _) = run(folder.path(), &["--help"]);
    assert!(code == 0 && out.contains("Exit codes:") && out.contains("13  unverified"));
    for command in [
        "up", "publish", "inspect", "fetch", "validate", "resolve", "predict", "run", "status", "doctor", "audit",
        "stop", "demo",
    ] {
        let (code, out, _) = run(folder.path(), &[command, "--help"]);
        assert!(code == 0 && out.contains("Example"), "{command}");
    }
    for command in ["create", "invite", "show", "signers", "rights", "genesis"] {
        let (code, out, _) = run(folder.path(), &["pool", command, "--help"]);
        assert!(code == 0 && out.contains("Example"), "pool {command}");
    }
    for command in ["new", "budget", "list", "revoke"] {
        let (code, out, _) = run(folder.path(), &["token", command, "--help"]);
        assert!(code == 0 && out.contains("Example"), "token {command}");
    }
    for command in ["new", "list"] {
        let (code, out, _) = run(folder.path(), &["account", command, "--help"]);
        assert!(code == 0 && out.contains("Example"), "account {command}");
    }
    for command in ["install", "uninstall", "status"] {
        let (code, out, _) = run(folder.path(), &["service", command, "--help"]);
        assert!(code == 0 && out.contains("Example"), "service {command}");
    }
    for command in ["ls", "stats", "verify", "gc", "pin", "unpin", "drop"] {
        let (code, out, _) = run(folder.path(), &["store", command, "--help"]);
        assert!(code == 0 && out.contains("Example"), "store {command}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    for line in [
        &["dance"][..],
        &["publish", "x"],
        &["resolve", "no-slash"],
        &["pool", "invite", "--ttl", "5"],
        &["account", "new", "me.account"],
        &["token", "budget", "1f0c9a3e", "-5"],
        &["token", "new", "x", "--budget", "0"],
        &["up", "--http-tls-key", "key.pem"],
        &["up", "--http-tls-name", "name"],
        &["store", "drop", "lab/m"],
        &["doctor", "neither-a-key-nor-a-name"],
        &["demo", "--nodes", "3"],
    ] {
        assert_eq!(run(folder.path(), line).0, 2, "{line:?}");
    }
    let (code, out, err) = run(folder.path(), &["resolve", "no-slash", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert!(code == 2 && out.is_empty() && error["error"]["code"] == "usage");
}

#[test]
fn shells_are_told_what_can_be_typed() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef zero2ai"), ("fish", "complete -c zero2ai")] {
        let (code, out, _) = run(folder.path(), &["completions", shell]);
        assert!(code == 0 && out.contains(word) && out.contains("publish"), "{shell}");
    }
}

#[test]
fn a_service_can_be_seen_before_it_is_installed_and_needs_systemd() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("my home");
    let (code, unit, _) = run(&home, &["service", "install", "--print", "--listen", "192.0.2.7:7411"]);
    assert!(code == 0 && unit.contains(" up --listen 192.0.2.7:7411\n") && unit.contains("NoNewPrivileges=yes"));
    assert!(!home.exists());
    let file = folder.path().join("zero2ai-test.service");
    std::fs::write(&file, &unit).unwrap();
    // Where systemd's own checker is installed, it has the last word on the unit.
    let checked = std::process::Command::new("systemd-analyze").arg("verify").arg(&file).output();
    if let Ok(checked) = checked {
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        let own: Vec<_> = said.lines().filter(|line| line.contains("zero2ai-test")).collect();
        assert!(own.is_empty(), "{own:?}");
    }
    if !std::path::Path::new("/run/systemd/system").exists() {
        for words in [&["service", "install"][..], &["service", "status"], &["service", "uninstall"]] {
            let (code, _, err) = run(&home, words);
            assert!(code == 3 && err.contains("systemd"), "{words:?}: {err}");
        }
    }
    assert_eq!(run(&home, &["service", "install", "--print", "--name", "../x"]).0, 2);
}

#[test]
fn a_home_without_a_pool_or_node_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let (code, _, err) = run(&home, &["status"]);
    assert!(code == 3 && err.contains("zero2ai up") && err.contains("home"), "{code}: {err}");
    assert!(!home.exists());

    assert_eq!(run(&home, &["pool", "create"]).0, 0);
    let (code, _, err) = run(&home, &["pool", "create"]);
    assert!(code == 3 && err.contains("already"), "{code}: {err}");
    let (code, _, err) = run(&home, &["status", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert!(code == 4 && error["error"]["code"] == "unreachable", "{code}: {err}");
}

#[test]
fn a_broken_invite_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    for invite in ["hello", "z2a1-AAAA", "z2a1-!!"] {
        let (code, _, err) = run(&home, &["up", "--join", invite]);
        assert!(code == 10 && err.contains("invite"), "{invite}: {code}: {err}");
    }
    assert!(!home.exists());
}

#[test]
fn an_unknown_setting_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), "listen_rcp = \"127.0.0.1:0\"\n").unwrap();
    let (code, _, err) = run(folder.path(), &["up"]);
    assert!(code == 3 && err.contains("listen_rcp") && err.contains("config.toml"), "{code}: {err}");
    assert!(!folder.path().join("pool.cbor").exists());
}

#[test]
fn a_mistake_in_the_input_is_told_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.csv");
    std::fs::write(&file, "1,2\n3\n").unwrap();
    let (code, _, err) = run(folder.path(), &["predict", "lab/m", "--input", file.to_str().unwrap()]);
    assert!(code == 7 && err.contains("Line 2"), "{code}: {err}");
    let (code, _, err) = run(folder.path(), &["predict", "lab/m", "--input", "/nowhere/rows.csv"]);
    assert!(code == 5 && err.contains("/nowhere/rows.csv"), "{code}: {err}");
}

#[test]
fn what_is_no_audit_is_refused_offline() {
    let folder = tempfile::tempdir().unwrap();
    let file = digits("predict.csv");
    let file = file.to_str().unwrap();
    let (code, _, err) = run(folder.path(), &["audit", "verify", file, "--genesis", file]);
    assert!(code == 7 && err.contains("genesis"), "{code}: {err}");
    assert_eq!(run(folder.path(), &["audit", "verify", "/nowhere", "--genesis", file]).0, 5);
}
