//! Two of four signers die, and the chain stands still. Everything else goes on with the last final state, keys are granted to
//! nobody, and what was used meanwhile is anchored once the chain moves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use zero2ai_client::Client;
use zero2ai_proto::tensor::Tensor;
use zero2ai_testnet::{
    Daemon, Network,
    binary::zero2ai,
    faults::chain::{height, sign_together},
    fixture, until,
};

/// Predictions while the chain stands still.
const PREDICTIONS: u64 = 1_000;
/// How long anything here may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn halted(node: &Daemon) -> bool {
    node.json(&["status"]).unwrap()["halted"] == true
}

#[test]
fn a_halted_chain_stops_nothing_but_grants() {
    let mut network = sign_together(Network::start(4).unwrap()).unwrap();
    let digits = fixture("digits/digits.onnx");
    let publish = |name: &str| {
        network.nodes[0]
            .json(&["publish", digits.to_str().unwrap(), "--name", name, "--replicas", "0"])
            .unwrap_or_else(|e| panic!("{name}: {e:#}"))
    };
    publish("lab/known");
    publish("lab/unknown");
    network.nodes[1].json(&["fetch", "lab/known"]).unwrap();
    let invite = network.invite("user").unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(Client::open(&network.path().join("user"), Some(&invite))).unwrap();
    for dead in [2, 3] {
        network.nodes[dead].kill();
    }
    let stands = |network: &Network| height(network.nodes[0].home()).unwrap();
    // Something to decide, which nobody will: by this the survivors notice.
    let (one, two) = (&network.nodes[0], &network.nodes[1]);
    let mut waiting = std::process::Command::new(zero2ai().unwrap())
        .arg("--home")
        .arg(one.home())
        .args(["names", "offer", "lab/known", &two.key().unwrap()])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("both notice", PATIENCE, || halted(one) && halted(two));
    let before = stands(&network);

    let row = Tensor::f32("", &[1, 64], &[0.5; 64]);
    runtime.block_on(async {
        for n in 0..PREDICTIONS {
            let found = client.find(&"lab/known".parse().unwrap()).await.unwrap();
            let answer = client.predict(&found, vec![row.clone()], Duration::from_secs(30)).await;
            answer.unwrap_or_else(|e| panic!("prediction {n}: {e}"));
        }
    });
    let resolved = two.json(&["resolve", "lab/known"]).unwrap();
    assert_eq!(resolved["version"], 1, "{resolved}");
    // Its key is here from before; its chunks come again.
    two.json(&["store", "drop", "lab/known@1"]).unwrap();
    two.json(&["store", "gc"]).unwrap();
    two.json(&["fetch", "lab/known"]).unwrap();
    // A key that is not here is given to nobody: a revocation may be waiting.
    let refused = two.run(&["fetch", "lab/unknown", "--json"]).unwrap();
    assert!(refused.code != 0 && refused.stderr.contains("halted"), "{}: {}", refused.code, refused.stderr);
    assert_eq!(stands(&network), before, "no block without a quorum");
    let ended = waiting.try_wait().unwrap();
    assert!(ended.is_none_or(|status| !status.success()), "nothing is said to be final");
    waiting.kill().unwrap();
    waiting.wait().unwrap();

    for dead in [2, 3] {
        network.nodes[dead].start(&[]).unwrap();
    }
    let one = &network.nodes[0];
    until("the chain goes on and has the anchors", PATIENCE, || {
        let status = one.json(&["status"]).unwrap();
        status["halted"] == false
            && status["receipts"].as_u64() == Some(PREDICTIONS)
            && status["anchored"] == PREDICTIONS
    });
    until("keys are given again", PATIENCE, || network.nodes[1].run(&["fetch", "lab/unknown"]).unwrap().code == 0);
}
