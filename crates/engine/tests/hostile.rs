//! Hostile ONNX files in a real, sandboxed worker: each is refused in words or kills the worker alone. How they were made:
//! `testnet/fixtures/hostile/make.py`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{path::PathBuf, time::Duration};

use common::{batch, digits, fixture, rows, worker};
use zero2ai_engine::{EngineError, ModelFile};
use zero2ai_proto::{
    manifest::Format,
    tensor::Tensor,
    worker::{Fault, ModelInfo},
};

/// Patience with anything: machines that run tests are slow and busy.
const PATIENCE: Duration = Duration::from_secs(120);

fn hostile(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testnet/fixtures/hostile");
    std::fs::read(folder.join(name)).unwrap()
}

async fn load(bytes: &[u8]) -> Result<ModelInfo, EngineError> {
    let file = ModelFile::from_bytes("model.onnx", bytes).unwrap();
    let worker = worker().await;
    tokio::time::timeout(PATIENCE, worker.load(Format::Onnx, vec![file], vec![])).await.expect("it was never loaded")
}

#[tokio::test]
async fn what_cannot_be_right_is_refused_in_words() {
    let cases = [
        ("loop.onnx", "operator Loop"),
        ("outside.onnx", "outside the ONNX file"),
        ("overflow.onnx", "impossible shape"),
        ("negative.onnx", "impossible shape"),
        ("cycle.onnx", ""),
        ("itself.onnx", ""),
        ("deep.onnx", "not a whole ONNX file"),
    ];
    for (name, words) in cases {
        let error = load(&hostile(name)).await.expect_err(name);
        assert_eq!(error.fault(), Fault::Model, "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: '{error}' lacks '{words}'");
    }
    // Four terabytes: refused, or the death of the worker that asks for them.
    let error = load(&hostile("huge.onnx")).await.unwrap_err();
    assert!(error.fault() == Fault::Model || matches!(error, EngineError::Died(_)), "{error}");
}

#[tokio::test]
async fn a_prediction_that_never_ends_ends_its_worker_and_nothing_else() {
    let (good, _) = digits().await;
    let file = ModelFile::from_bytes("endless.onnx", &hostile("endless.onnx")).unwrap();
    let bad = worker().await;
    bad.load(Format::Onnx, vec![file], vec![]).await.unwrap();
    let x = || vec![Tensor::f32("x", &[1, 1], &[0.25])];
    let endless = bad.predict_within(x(), Duration::from_millis(200));
    let error = tokio::time::timeout(PATIENCE, endless).await.expect("it was never ended").unwrap_err();
    assert!(matches!(&error, EngineError::Died(why) if why.contains("does not come to an end")), "{error}");
    assert!(matches!(bad.predict(x()).await, Err(EngineError::Died(_))));
    good.predict(vec![batch(&rows("predict.csv"))]).await.unwrap();
}

/// A caller that goes away leaves the worker with its work: that is ended all the same.
#[tokio::test]
async fn one_whose_caller_went_away_is_ended_too() {
    let file = ModelFile::from_bytes("endless.onnx", &hostile("endless.onnx")).unwrap();
    let bad = worker().await;
    bad.load(Format::Onnx, vec![file], vec![]).await.unwrap();
    let x = vec![Tensor::f32("x", &[1, 1], &[0.25])];
    let given_up = bad.predict_within(x, Duration::from_millis(200));
    assert!(tokio::time::timeout(Duration::from_millis(300), given_up).await.is_err());
    tokio::time::timeout(PATIENCE, bad.exited()).await.expect("it was never ended");
}

#[tokio::test]
async fn flipped_bits_are_refused_or_another_model() {
    let whole = fixture("digits.onnx");
    let (mut state, mut refused) = (7_u64, 0);
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..80 {
        let mut bytes = whole.clone();
        for _ in 0..=draw(3) {
            // Mostly where structure is: numbers of weights fill the rest.
            let at = draw(if round % 4 == 0 { bytes.len() } else { 700 });
            bytes[at] ^= 1 << draw(8);
        }
        match load(&bytes).await {
            Ok(_) => {}
            Err(error) => {
                refused += 1;
                assert!(error.fault() == Fault::Model || matches!(error, EngineError::Died(_)), "{round}: {error}");
            }
        }
    }
    assert!(refused > 5, "{refused} of 80 were refused: too few flips meet structure");
}
