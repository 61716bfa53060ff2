//! A member is revoked and the pool key rotated under running nodes: those who are up go on, one that was away comes back by
//! itself, and the old key opens nothing, neither with the revoked identity nor with a fresh one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path, time::Duration};

use zero2ai_client::{Client, ClientConfig};
use zero2ai_proto::{SecretKey, calls::Ping, pool::Invite};
use zero2ai_testnet::{Daemon, Network, fixture, until};

const LONG: Duration = Duration::from_secs(10);

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn epoch(node: &Daemon) -> u64 {
    node.json(&["pool", "show"]).unwrap()["epoch"].as_u64().unwrap()
}

/// What a program gets that has an invite's pool key and this identity: an answer, or why there is none.
fn knocks(invite: &Invite, key: SecretKey) -> Result<String, String> {
    let at = &invite.bootstrap[0];
    let bootstrap = vec![(at.node, at.addresses.clone())];
    let config = ClientConfig { key, pool: invite.pool, pool_key: invite.key.clone(), bootstrap, genesis: None };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = Client::connect(config).await.map_err(|e| e.to_string())?;
        let pong = client.call::<Ping>(at.node, &at.addresses, &Default::default(), LONG).await;
        pong.map(|pong| pong.version).map_err(|e| e.to_string())
    })
}

/// A node's own key, as a copy of its home has it.
fn copied(node: &Daemon) -> SecretKey {
    SecretKey::from_bytes(&fs::read(node.home().join("node.key")).unwrap().try_into().unwrap())
}

#[test]
fn a_revoked_member_is_out_and_everyone_else_has_the_new_key() {
    let mut network = Network::start(4).unwrap();
    let invite = network.invite("member").unwrap();
    let digits = fixture("digits/digits.onnx");
    network.nodes[0].json(&["publish", digits.to_str().unwrap(), "--name", "acme/digits"]).unwrap();
    let (old, member) = (invite.parse::<Invite>().unwrap(), copied(&network.nodes[1]));
    knocks(&old, member.clone()).unwrap();
    assert_eq!(network.nodes[3].terminate().unwrap(), 0, "this one is away");

    let revoked = network.nodes[1].key().unwrap();
    let said = network.nodes[0].json(&["pool", "revoke", &revoked, "--grace", "0s"]).unwrap();
    assert_eq!(said["epoch"], 1, "{said}");
    until("the other member has the new key", PATIENCE, || epoch(&network.nodes[2]) == 1);
    let files = |node: &Daemon| node.home().join("pool.key");
    assert_eq!(fs::read(files(&network.nodes[0])).unwrap(), fs::read(files(&network.nodes[2])).unwrap());
    assert!(!network.nodes[0].home().join("pool.key.next").exists());

    // The old key, with the identity that was revoked, and with a fresh one.
    for key in [member, SecretKey::generate().unwrap()] {
        let why = knocks(&old, key).unwrap_err();
        assert!(why.contains("wrong pool key") || why.contains("closed"), "{why}");
    }
    // An invite from before, and one from now.
    let late = network.path().join("late");
    let refused = Daemon::up(&late, &["--join", &invite]).err().expect("an old invite lets nobody in").to_string();
    assert!(refused.contains("ended with"), "{refused}");
    network.join("member").unwrap();
    assert_eq!(epoch(network.nodes.last().unwrap()), 1);

    // The one that was away learns of it by itself, and everything goes on.
    network.nodes[3].start(&[]).unwrap();
    until("the one that was away has the new key", PATIENCE, || epoch(&network.nodes[3]) == 1);
    let rows = network.path().join("rows.csv");
    let text = fs::read_to_string(fixture("digits/predict.csv")).unwrap();
    fs::write(&rows, text.lines().take(3).collect::<Vec<_>>().join("\n")).unwrap();
    until("it predicts", PATIENCE, || predicts(&network.nodes[3], &rows));

    let rotated = network.nodes[0].json(&["pool", "rotate", "--grace", "1h"]).unwrap();
    assert_eq!(rotated["epoch"], 2, "{rotated}");
    until("again", PATIENCE, || [0, 2, 3].iter().all(|n| epoch(&network.nodes[*n]) == 2));
    assert!(predicts(&network.nodes[2], &rows));
    let refused = network.nodes[2].run(&["pool", "rotate"]).unwrap();
    assert!(refused.code != 0 && refused.stderr.contains("administrator"), "{}", refused.stderr);
}

fn predicts(from: &Daemon, rows: &Path) -> bool {
    let ran = from.run(&["predict", "acme/digits", "--labelled", "--input", rows.to_str().unwrap(), "--json"]).unwrap();
    ran.code == 0
}
