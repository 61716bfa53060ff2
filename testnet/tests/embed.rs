//! An embedder through real daemons: a folder published, fetched and served by another node, the same bits from both, by the
//! command line and by the gateway's `/v1/embeddings`; what it does not do is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../crates/engine/tests/common/bert.rs"]
mod bert;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use serde_json::{Value, json};
use zero2ai_testnet::{Daemon, Network, Ran};

const NAME: &str = "lab/tiny-bert";
/// Exit codes as `zero2ai --help` lists them.
const INVALID: i32 = 7;
const NOT_FOUND: i32 = 5;

fn write(folder: &Path, files: bert::Folder) {
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn rows(answer: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(answer["embeddings"].clone()).unwrap()
}

#[track_caller]
fn refused(ran: &Ran, word: &str) {
    assert_eq!(ran.code, INVALID, "{ran:?}");
    assert!(ran.stderr.contains(word), "'{word}' is not in: {}", ran.stderr);
}

#[test]
fn a_folder_is_published_fetched_and_gives_the_same_bits_everywhere() {
    let network = Network::start(2).unwrap();
    let (publisher, other) = (&network.nodes[0], &network.nodes[1]);
    let folder = network.path().join("model");
    write(&folder, bert::folder());
    let published = publisher.json(&["publish", folder.to_str().unwrap(), "--name", NAME, "--replicas", "0"]).unwrap();
    assert_eq!((&published["files"], &published["not_served"]), (&json!(7), &Value::Null), "{published}");

    let texts = ["The cat sits.", "a dog runs", "not on the cat"];
    let first = publisher.until(&[&["embed", NAME], texts.as_slice()].concat()).unwrap();
    assert_eq!((&first["width"], &first["tokens"]), (&json!(bert::WIDTH), &json!([6, 5, 6])));
    let lengths: Vec<f64> = rows(&first).iter().map(|row| row.iter().map(|v| v * v).sum()).collect();
    assert!(lengths.iter().all(|length| (length - 1.0).abs() < 1e-4), "{lengths:?}");

    let long = "cat ".repeat(40);
    refused(&publisher.run(&["embed", NAME, &long]).unwrap(), "42 tokens");
    let cut = publisher.until(&["embed", NAME, &long, "--truncate"]).unwrap();
    assert_eq!(cut["tokens"], json!([42]));
    refused(&publisher.run(&["run", NAME, "hello"]).unwrap(), "use embed");

    other.until(&["fetch", NAME, "--serve"]).unwrap();
    // The publisher is gone: the answer can only come from the other node.
    let mut network = network;
    assert_eq!(network.nodes[0].terminate().unwrap(), 0);
    let other = &network.nodes[1];
    let lines = network.path().join("lines");
    fs::write(&lines, texts.join("\n\n")).unwrap();
    let again = other.until(&["embed", NAME, "--lines", lines.to_str().unwrap()]).unwrap();
    assert_ne!(again["node"], first["node"]);
    assert_eq!(again["embeddings"], first["embeddings"], "the same bits from another machine's worker");
}

#[test]
fn what_looks_like_an_embedder_and_is_none_is_told_at_publication() {
    let network = Network::start(1).unwrap();
    let node = &network.nodes[0];
    let publish = |folder: &Path, more: &[&str]| {
        node.run(&[&["publish", folder.to_str().unwrap(), "--name", "lab/m", "--replicas", "0"], more].concat())
            .unwrap()
    };
    let mut config = bert::config();
    config["hidden_act"] = json!("relu");
    let folder = network.path().join("relu");
    write(&folder, bert::with("config.json", Some(config.to_string().into_bytes())));
    let ran = publish(&folder, &[]);
    assert!(ran.code != 0 && ran.stderr.contains("'relu'") && ran.stderr.contains("--store-only"), "{ran:?}");
    // Of an architecture that is not run at all: stored, and told why.
    config["model_type"] = json!("roberta");
    let folder = network.path().join("roberta");
    write(&folder, bert::with("config.json", Some(config.to_string().into_bytes())));
    let ran = publish(&folder, &["--json"]);
    assert!(ran.json().unwrap()["not_served"].as_str().unwrap().contains("'roberta'"), "{ran:?}");
    assert_eq!(node.run(&["embed", "lab/m", "text"]).unwrap().code, NOT_FOUND);
}

#[test]
fn the_gateway_answers_as_openai_does() {
    let dir = tempfile::tempdir().unwrap();
    let node = Daemon::up(&dir.path().join("n"), &["--http", "127.0.0.1:0", "--json"]).unwrap();
    let log = fs::read_to_string(dir.path().join("n.log")).unwrap();
    let said: Value = log.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap();
    let url = format!("{}/v1/embeddings", said["http"]["url"].as_str().unwrap());
    let token = fs::read_to_string(said["http"]["token_file"].as_str().unwrap()).unwrap();
    let folder = dir.path().join("model");
    write(&folder, bert::folder());
    node.json(&["publish", folder.to_str().unwrap(), "--name", NAME, "--replicas", "0"]).unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let post = |body: Value| {
        let request = agent.post(&url).header("authorization", format!("Bearer {token}"));
        let mut response = request.header("content-type", "application/json").send(body.to_string()).unwrap();
        let answer: Value = serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
        (response.status().as_u16(), answer)
    };

    let (status, answer) = post(json!({ "model": NAME, "input": ["the cat", "a dog."] }));
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["object"], &answer["model"]), (&json!("list"), &json!(NAME)));
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 9, "total_tokens": 9 }));
    let plain: Vec<f32> = serde_json::from_value(answer["data"][1]["embedding"].clone()).unwrap();
    assert_eq!((plain.len(), &answer["data"][1]["index"]), (bert::WIDTH, &json!(1)));
    // A text alone, as bytes: the same numbers.
    let (_, answer) = post(json!({ "model": NAME, "input": "a dog.", "encoding_format": "base64" }));
    let bytes = BASE64.decode(answer["data"][0]["embedding"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(bytes, plain.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());

    for (body, status, param) in [
        (json!({ "model": NAME, "input": "a", "dimensions": 8 }), 400, json!("dimensions")),
        (json!({ "model": NAME, "input": [1, 2, 3] }), 400, json!("input")),
        (json!({ "model": NAME, "input": "cat ".repeat(40) }), 400, Value::Null),
        (json!({ "model": "lab/nothing", "input": "a" }), 404, Value::Null),
    ] {
        let (got, answer) = post(body.clone());
        assert_eq!((got, &answer["error"]["param"]), (status, &param), "{body}: {answer}");
    }
    let (status, _) = post(json!({ "model": NAME, "input": "cat ".repeat(40), "truncate": true }));
    assert_eq!(status, 200);

    // A token's budget is of tokens: what was refused costs nothing.
    let made = node.json(&["token", "new", "few", "--scopes", "infer", "--budget", "12"]).unwrap();
    let few = |body: Value| {
        let request = agent.post(&url).header("authorization", format!("Bearer {}", made["token"].as_str().unwrap()));
        request.header("content-type", "application/json").send(body.to_string()).unwrap().status().as_u16()
    };
    // Some fifty bytes are taken for a dozen tokens, and turn out to be more than the model takes.
    assert_eq!(few(json!({ "model": NAME, "input": "a ".repeat(23) })), 400);
    assert_eq!(few(json!({ "model": NAME, "input": ["the cat", "a dog."] })), 200);
    assert_eq!(few(json!({ "model": NAME, "input": "cat ".repeat(8) })), 429);
    // The list is of what is on disk, which may be too much for some seconds.
    let used = || {
        let listed = node.json(&["token", "list"]).unwrap();
        listed.as_array().unwrap().iter().find(|t| t["id"] == made["id"]).unwrap()["used"].clone()
    };
    let start = Instant::now();
    while used() != 9 {
        assert!(start.elapsed() < Duration::from_secs(60), "{} used", used());
        std::thread::sleep(Duration::from_millis(100));
    }
}
