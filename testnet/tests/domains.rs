//! Pictures and sounds through real daemons: inspected, published with samples and with how their input is prepared, fetched and
//! served by another node, asked with files; what comes out is what ONNX Runtime makes of it. The real models of each domain
//! are tried by `testnet/domains/test_real.py`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use zero2ai_testnet::{Daemon, Network, Ran};

/// Exit codes as `zero2ai --help` lists them.
const NOT_FOUND: i32 = 5;
const INVALID: i32 = 7;
const MODEL: i32 = 15;

const PICTURE: &str = "lab/picture";
const SOUND: &str = "lab/sound";
const IMAGE: &str = "24x16,mean=0.5,std=0.5,input=pixels";
const AUDIO: &str = "16000,window=64,hop=48,lead=16,input=frames,zeros=state:1x8";

fn file(name: &str) -> String {
    let path: PathBuf = zero2ai_testnet::fixture("media").join(name);
    path.to_str().unwrap().to_owned()
}

fn golden(of: &str) -> Value {
    let all: Value = serde_json::from_slice(&fs::read(file("golden.json")).unwrap()).unwrap();
    all[of].clone()
}

#[track_caller]
fn refused(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    for word in words {
        assert!(ran.stderr.contains(word), "'{word}' is not in: {}", ran.stderr);
    }
}

/// Holds an answer's outputs to what ONNX Runtime gave.
#[track_caller]
fn same(answer: &Value, want: &Value) {
    let outputs = answer["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), want.as_object().unwrap().len(), "{answer}");
    for output in outputs {
        let numbers = |v: &Value| serde_json::from_value::<Vec<f64>>(v.clone()).unwrap();
        let (got, want) = (numbers(&output["data"]), numbers(&want[output["name"].as_str().unwrap()]));
        assert_eq!(got.len(), want.len(), "{output}");
        let worst = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-4, "{} is off by {worst}", output["name"]);
    }
}

fn publish(node: &Daemon, model: &str, name: &str, more: &[&str]) -> Ran {
    let path = file(model);
    node.run(&[&["--json", "publish", &path, "--name", name, "--replicas", "0"], more].concat()).unwrap()
}

fn published(node: &Daemon, model: &str, name: &str, more: &[&str]) {
    let samples = file(&model.replace(".onnx", ".samples.json"));
    let ran = publish(node, model, name, &[&["--samples", &samples], more].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let said = ran.json().unwrap();
    assert_eq!((&said["samples"], &said["not_served"]), (&json!(2), &Value::Null), "{said}");
}

#[test]
fn pictures_and_sounds_are_answered_alike_by_every_node() {
    let mut network = Network::start(2).unwrap();
    let (publisher, other) = (&network.nodes[0], &network.nodes[1]);
    for (model, domain) in [("picture.onnx", "image"), ("sound.onnx", "audio")] {
        let found = publisher.json(&["inspect", &file(model)]).unwrap();
        assert_eq!((&found["format"], &found["model"]["domains"][0]["domain"]), (&json!("onnx"), &json!(domain)));
    }
    published(publisher, "picture.onnx", PICTURE, &["--image", IMAGE]);
    published(publisher, "sound.onnx", SOUND, &["--audio", AUDIO]);
    let (png, clip) = (file("picture.png"), file("clip.wav"));
    same(&publisher.until(&["predict", PICTURE, &png]).unwrap(), &golden("picture.png"));
    same(&publisher.until(&["predict", SOUND, &clip]).unwrap(), &golden("clip.wav"));

    for name in [PICTURE, SOUND] {
        other.until(&["fetch", name, "--serve"]).unwrap();
    }
    // The publisher is gone: the answers can only come from the other node, which reproduced the samples first.
    assert_eq!(network.nodes[0].terminate().unwrap(), 0);
    let other = &network.nodes[1];
    same(&other.until(&["predict", PICTURE, &png]).unwrap(), &golden("picture.png"));
    same(&other.until(&["predict", SOUND, &clip]).unwrap(), &golden("clip.wav"));

    let batch = other.until(&["predict", PICTURE, &png, &file("picture.webp"), &file("picture.jpg")]).unwrap();
    let rows: Vec<f64> = serde_json::from_value(batch["outputs"][0]["data"].clone()).unwrap();
    assert_eq!(batch["outputs"][0]["shape"], json!([3, 3]), "{batch}");
    assert_eq!(rows[..3], rows[3..6], "the same picture, without loss");
    // At another rate, in two channels, in every format: a sound is a sound.
    for name in ["tone.wav", "tone.flac", "tone.ogg", "tone.mp3"] {
        let answer = other.until(&["predict", SOUND, &file(name)]).unwrap();
        let frames = answer["outputs"][0]["data"].as_array().unwrap().len();
        assert!((33..60).contains(&frames), "{name}: {frames} frames");
    }
    let predict = |name: &str, files: &[&str]| other.run(&[&["predict", name], files].concat()).unwrap();
    refused(&predict(PICTURE, &[&clip]), INVALID, &["WAV sound", "takes a picture"]);
    refused(&predict(SOUND, &[&png]), INVALID, &["PNG picture", "takes a sound"]);
    refused(&predict(SOUND, &[&clip, &clip]), INVALID, &["one file"]);
    refused(&predict(PICTURE, &[&file("picture.onnx")]), INVALID, &["no known kind"]);
    let cut = network.path().join("cut.png");
    fs::write(&cut, &fs::read(&png).unwrap()[..100]).unwrap();
    refused(&predict(PICTURE, &[cut.to_str().unwrap()]), INVALID, &["cut short"]);
    // Tensors are still tensors.
    let rows = network.path().join("rows.csv");
    fs::write(&rows, "1,2,3\n").unwrap();
    refused(&predict(PICTURE, &[rows.to_str().unwrap()]), INVALID, &["pixels"]);
}

#[test]
fn what_does_not_hold_is_not_published() {
    let network = Network::start(1).unwrap();
    let node = &network.nodes[0];
    let mut samples: Value = serde_json::from_slice(&fs::read(file("picture.samples.json")).unwrap()).unwrap();
    let number = &mut samples["samples"][1]["outputs"][0]["data"][2];
    *number = json!(number.as_f64().unwrap() + 0.253);
    let wrong = network.path().join("wrong.json");
    fs::write(&wrong, samples.to_string()).unwrap();
    let wrong = wrong.to_str().unwrap();
    let ran = publish(node, "picture.onnx", PICTURE, &["--samples", wrong]);
    refused(&ran, MODEL, &["sample 2 of 2", "'scores'", "off by 0.25", "element 2"]);

    let of_another = file("sound.samples.json");
    refused(&publish(node, "picture.onnx", PICTURE, &["--samples", &of_another]), MODEL, &["sample 1 of 2"]);
    let ran = publish(node, "picture.onnx", PICTURE, &["--samples", &file("golden.json")]);
    refused(&ran, INVALID, &["testnet/samples/record.py"]);
    let ran = publish(node, "picture.onnx", PICTURE, &["--image", "10x10,input=pixels"]);
    refused(&ran, INVALID, &["[?, 3, 16, 24]", "[?, 3, 10, 10]"]);
    let ran = publish(node, "sound.onnx", SOUND, &["--audio", "16000,window=64,input=frames"]);
    refused(&ran, INVALID, &["makes 1 tensors", "takes 2"]);
    assert_eq!(node.run(&["resolve", PICTURE]).unwrap().code, NOT_FOUND);

    // Without a word on pictures, a model takes tensors alone.
    assert_eq!(publish(node, "picture.onnx", PICTURE, &[]).code, 0);
    node.until(&["resolve", PICTURE]).unwrap();
    refused(&node.run(&["predict", PICTURE, &file("picture.png")]).unwrap(), INVALID, &["tensors alone", "--image"]);
}
