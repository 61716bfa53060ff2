//! A kept call, checked and run again by another node: the same bits, whatever that node held before; and what is changed in
//! the file, or was never computed by the model, is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use zero2ai_proto::{
    ByteBuf, SecretKey, Signed, decode, encode,
    kept::{CallOutput, KeptCall},
    receipt::commit_output,
    tensor::Tensor,
};
use zero2ai_testnet::{Daemon, Network, fixture, until};

/// "Run again here, the model gave another answer".
const DIFFERS: i32 = 18;
/// "A proof or signature does not hold".
const UNVERIFIED: i32 = 13;
/// "The input is not acceptable".
const INVALID: i32 = 7;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// How long is tried until it succeeds: a node may be a block behind the one where something became final.
const PATIENCE: Duration = Duration::from_secs(60);

fn serves(node: &Daemon, name: &str) -> bool {
    let status = node.json(&["status"]).unwrap();
    status["models"].as_array().unwrap().iter().any(|m| m["name"] == name && m["serving"] == true)
}

/// Node 0 publishes and serves both models, node 1 calls them and keeps the calls.
struct Kept {
    network: Network,
    digits: PathBuf,
    words: PathBuf,
}

fn kept() -> Kept {
    let network = Network::start(2).unwrap();
    let [provider, caller] = &network.nodes[..] else { panic!() };
    for (file, name) in [("digits/digits.onnx", "lab/digits"), ("tiny/tiny.gguf", "lab/tiny")] {
        provider.json(&["publish", text(&fixture(file)), "--name", name, "--replicas", "0"]).unwrap();
    }
    let [digits, words, rows] = ["digits.call", "words.call", "rows.csv"].map(|name| network.path().join(name));
    let all = std::fs::read_to_string(fixture("digits/predict.csv")).unwrap();
    std::fs::write(&rows, all.lines().take(5).collect::<Vec<_>>().join("\n")).unwrap();
    let predict =
        ["predict", "lab/digits", "--labelled", "--input", text(&rows), "--save-call", text(&digits), "--json"];
    // The runtime is asked for behind the answer: on a busy machine it may not be told at once.
    let told = |args: &[&str]| {
        let ran = caller.run(args).unwrap();
        ran.code == 0 && ran.json().unwrap()["runtime"].is_string()
    };
    until("a prediction", PATIENCE, || told(&predict));
    let run = ["run", "lab/tiny", "he said", "--raw", "--max-tokens", "60", "--temperature", "0.9", "--seed", "7"];
    let run = [&run[..], &["--save-call", text(&words), "--json"]].concat();
    until("a text", PATIENCE, || told(&run));
    Kept { network, digits, words }
}

#[test]
fn a_kept_call_gives_the_same_bits_on_another_node_and_a_changed_or_invented_one_does_not() {
    let Kept { network, digits, words } = kept();
    let [provider, caller] = &network.nodes[..] else { panic!() };

    // Which runtime served is told with the answer.
    until("the runtime told", PATIENCE, || {
        let again = caller.json(&["run", "lab/tiny", "he said", "--raw", "--max-tokens", "3"]).unwrap();
        again["runtime"].as_str().is_some_and(|runtime| runtime.starts_with("kernels/"))
    });
    assert_eq!(std::fs::metadata(&words).unwrap().permissions().mode() & 0o077, 0, "readable by its user alone");

    // On the node that asked, which holds neither model; then on the one that serves both.
    for node in [caller, provider] {
        for (file, runtime) in [(&digits, "tract"), (&words, "kernels/")] {
            let found = node.json(&["audit", "re-run", text(file)]).unwrap();
            assert_eq!(found["same"], true, "{found}");
            let call = &found["calls"][0];
            for side in ["runtime", "runtime_here"] {
                assert!(call[side].as_str().unwrap().starts_with(runtime), "{side}: {found}");
            }
        }
    }
    assert!(!serves(caller, "lab/digits") && !serves(caller, "lab/tiny"), "a check makes nobody a provider");

    // A byte changed anywhere, and a file cut short.
    let whole = std::fs::read(&words).unwrap();
    let other = network.path().join("other.call");
    for at in (0..whole.len()).step_by(whole.len() / 24) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        // What the provider said of its runtime is its own unsigned word: it comes last, and may be changed.
        if decode::<Vec<KeptCall>>(&bytes, bytes.len()).is_ok_and(|calls| {
            let mut read: Vec<KeptCall> = decode(&whole, whole.len()).unwrap();
            read[0].runtime = calls[0].runtime.clone();
            read == calls
        }) {
            continue;
        }
        std::fs::write(&other, &bytes).unwrap();
        let ran = provider.run(&["audit", "re-run", text(&other)]).unwrap();
        assert!([UNVERIFIED, INVALID].contains(&ran.code), "byte {at}: {} {}", ran.code, ran.stderr);
    }
    std::fs::write(&other, &whole[..whole.len() - 9]).unwrap();
    assert_eq!(provider.run(&["audit", "re-run", text(&other)]).unwrap().code, INVALID);

    // A provider that signs what its model never said.
    let seed: [u8; 32] = std::fs::read(provider.home().join("node.key")).unwrap().try_into().unwrap();
    let key = SecretKey::from_bytes(&seed);
    for (file, place) in [(&words, "token 3"), (&digits, "element 3 of output")] {
        let bytes = std::fs::read(file).unwrap();
        let mut calls: Vec<KeptCall> = decode(&bytes, bytes.len()).unwrap();
        invent(&mut calls[0], &key, &pool(provider));
        std::fs::write(&other, encode(&calls).unwrap()).unwrap();
        let ran = caller.run(&["audit", "re-run", text(&other), "--json"]).unwrap();
        assert_eq!(ran.code, DIFFERS, "{}{}", ran.stdout, ran.stderr);
        let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(found["same"], false);
        assert!(found["calls"][0]["differs"]["at"].as_str().unwrap().starts_with(place), "{found}");
        assert!(ran.stderr.contains(place), "{}", ran.stderr);
    }
}

fn pool(node: &Daemon) -> zero2ai_proto::PoolId {
    node.json(&["status"]).unwrap()["pool"].as_str().unwrap().parse().unwrap()
}

/// Changes the third token or number, and signs that.
fn invent(call: &mut KeptCall, key: &SecretKey, pool: &zero2ai_proto::PoolId) {
    match &mut call.output {
        CallOutput::Tokens(tokens) => tokens[2] ^= 1,
        CallOutput::Tensors(tensors) => {
            let tensor: &mut Tensor = &mut tensors[0];
            let size = tensor.dtype.size();
            let mut data = tensor.data.to_vec();
            data[2 * size] ^= 1;
            tensor.data = ByteBuf::from(data);
        }
    }
    let salt: [u8; 32] = call.salt.as_slice().try_into().unwrap();
    let mut response = call.receipt.response.read_unverified().unwrap();
    response.commitment = commit_output(&salt, &call.output.committed().unwrap());
    call.receipt.response = Signed::sign(&response, pool, key).unwrap();
    call.check(pool).unwrap();
}
