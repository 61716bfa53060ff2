//! A pool that knows no IPv4: its founder listens on `::1`, members join by its invite, one of them listens on every address, and what
//! one of them serves answers. Skipped, with a word, where this machine has no IPv6.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    net::{Ipv6Addr, UdpSocket},
    time::Duration,
};

use zero2ai_testnet::{Daemon, Network, fixture, until};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a node says that it is.
fn addresses(node: &Daemon) -> Vec<String> {
    let status = node.json(&["status"]).unwrap();
    status["addresses"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect()
}

#[test]
fn members_join_fetch_and_predict_over_ipv6_alone_and_come_back() {
    if let Err(error) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) {
        return eprintln!("skipped: this machine has no IPv6: {error}");
    }
    let (one, all) = (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into());
    let mut network = Network::start_at(&[one, one, all]).unwrap();
    for (nth, node) in network.nodes.iter().enumerate() {
        let told = addresses(node);
        assert!(told.iter().any(|a| a.starts_with("[::1]:")), "{told:?}");
        assert!(!told.iter().any(|a| a.contains("fe80:")), "{told:?}");
        let of_six = |a: &String| a.starts_with('[') || a.starts_with("/ip6/");
        // Every address means those of IPv4, too, of peer RPC and of the swarm.
        let of_four = ["127.0.0.1:", "/ip4/127.0.0.1/"].map(|kind| told.iter().any(|a| a.starts_with(kind)));
        assert_eq!((told.iter().all(of_six), of_four), (nth != 2, [nth == 2; 2]), "{told:?}");
    }
    let [publisher, caller, provider] = &mut network.nodes[..] else { panic!() };
    let digits = fixture("digits/digits.onnx");
    let name = "lab/digits";
    publisher.json(&["publish", digits.to_str().unwrap(), "--name", name, "--replicas", "0"]).unwrap();
    until("a fetch", PATIENCE, || provider.run(&["fetch", name, "--serve"]).unwrap().code == 0);
    // From now on the one that listens on every address is all there is.
    publisher.kill();
    let rows = caller.home().with_extension("csv");
    let text = fs::read_to_string(fixture("digits/predict.csv")).unwrap();
    fs::write(&rows, text.lines().take(3).collect::<Vec<_>>().join("\n")).unwrap();
    let predict = ["predict", name, "--labelled", "--input", rows.to_str().unwrap()];
    until("a prediction", PATIENCE, || caller.run(&predict).unwrap().code == 0);
    assert_eq!(caller.terminate().unwrap(), 0);
    caller.start(&[]).unwrap();
    until("a prediction after a restart", PATIENCE, || caller.run(&predict).unwrap().code == 0);
}
