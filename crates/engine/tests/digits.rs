//! The digits fixture through a real, sandboxed worker: scikit-learn's own counts to the last one, and clear errors for
//! every kind of wrong input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{batch, config, digits, fixture, likeliest, rows, worker};
use zero2ai_engine::{EngineError, ModelFile, Worker};
use zero2ai_proto::{
    calls::{GenerateInput, Prompt, Sampling},
    manifest::{ConformanceSample, Format, Task},
    tensor::{DType, Tensor},
    worker::Fault,
};

#[tokio::test]
async fn every_count_equals_scikit_learns() {
    let (worker, info) = digits().await;
    assert_eq!(info.task, Task::Classify { classes: 10 });
    assert_eq!(info.inputs[0].shape, [None, Some(64)]);
    assert_eq!(info.outputs[0].name, "probabilities");
    assert_eq!(info.parameters, 64 * 64 + 64 + 64 * 10 + 10);
    let golden: serde_json::Value = serde_json::from_slice(&fixture("golden.json")).unwrap();
    for (file, want) in golden["files"].as_object().unwrap() {
        let rows = rows(file);
        let outputs = worker.predict(vec![batch(&rows)]).await.unwrap();
        let probabilities = outputs[0].to_f32().unwrap();
        let said: Vec<usize> = probabilities.chunks(10).map(likeliest).collect();
        let mut counts = [[0_u64; 3]; 10]; // tp, fp, fn
        for (said, (_, class)) in said.iter().zip(&rows) {
            if said == class {
                counts[*class][0] += 1;
            } else {
                counts[*said][1] += 1;
                counts[*class][2] += 1;
            }
        }
        for (class, got) in counts.iter().enumerate() {
            let want = &want["per_class"][class];
            assert_eq!(got.map(Some), ["tp", "fp", "fn"].map(|k| want[k].as_u64()), "{file}, class {class}");
        }
        assert_eq!(want["samples"], rows.len());
        for (row, want) in want["first_probabilities"].as_array().unwrap().iter().enumerate() {
            for (class, want) in want.as_array().unwrap().iter().enumerate() {
                let got = f64::from(probabilities[row * 10 + class]);
                assert!((got - want.as_f64().unwrap()).abs() < 1e-5, "{file} row {row} class {class}");
            }
        }
    }
}

#[tokio::test]
async fn rows_give_the_same_answer_alone_and_in_company() {
    let (worker, _) = digits().await;
    let rows = rows("predict.csv");
    let together = worker.predict(vec![batch(&rows)]).await.unwrap()[0].to_f32().unwrap();
    let alone = rows.iter().take(20).map(|row| worker.predict(vec![batch(std::slice::from_ref(row))]));
    for (index, prediction) in alone.enumerate() {
        let got = prediction.await.unwrap()[0].to_f32().unwrap();
        assert_eq!(likeliest(&got), likeliest(&together[index * 10..][..10]));
    }
}

#[tokio::test]
async fn wrong_inputs_are_the_callers_fault_and_say_what_was_expected() {
    let (worker, _) = digits().await;
    let nan = Tensor::f32("pixels", &[1, 64], &[f32::NAN; 64]);
    let doubles = Tensor { dtype: DType::F64, ..Tensor::f32("pixels", &[1, 32], &[0.0; 64]) };
    let cases = [
        (vec![], "0 tensors"),
        (vec![Tensor::f32("pixels", &[1, 63], &[0.0; 63])], "'pixels' F32 [batch, 64]"),
        (vec![Tensor::f32("pixels", &[64], &[0.0; 64])], "number of dimensions"),
        (vec![Tensor::f32("pixels", &[0, 64], &[])], "empty dimension"),
        (vec![Tensor::f32("pixel", &[1, 64], &[0.0; 64])], "no tensor is named 'pixels'"),
        (vec![Tensor::f32("pixels", &[2, 64], &[0.0; 64])], "does not take"),
        (vec![doubles], "another type"),
        (vec![nan], "64 of the values"),
    ];
    for (inputs, expected) in cases {
        let error = worker.predict(inputs).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Input, "{error}");
        assert!(error.to_string().contains(expected), "'{error}' lacks '{expected}'");
    }
    let text = GenerateInput { prompt: Prompt::Text("hi".into()), sampling: Sampling::default(), resume: vec![] };
    let error = worker.generate(b"", text).await.unwrap().next().await.unwrap().unwrap_err();
    assert_eq!(error.fault(), Fault::Input);
    // And it still works, the only input unnamed.
    let rows = rows("predict.csv");
    worker.predict(vec![Tensor { name: String::new(), ..batch(&rows) }]).await.unwrap();
}

#[tokio::test]
async fn a_file_cut_anywhere_is_the_models_fault() {
    let whole = fixture("digits.onnx");
    for cut in [0, 1, 7, 100, whole.len() / 2, whole.len() - 1] {
        let worker = worker().await;
        let file = ModelFile::from_bytes("digits.onnx", &whole[..cut]).unwrap();
        let error = worker.load(Format::Onnx, vec![file], vec![]).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Model, "cut at {cut}: {error}");
        let error = worker.predict(vec![batch(&rows("predict.csv"))]).await.unwrap_err();
        assert!(error.to_string().contains("no model"), "{error}");
    }
}

#[tokio::test]
async fn conformance_samples_that_are_not_reproduced_keep_a_model_from_serving() {
    let input = batch(&rows("predict.csv")[..1]);
    let (good, _) = digits().await;
    let outputs = good.predict(vec![input.clone()]).await.unwrap();
    let mut wrong = outputs[0].to_f32().unwrap();
    wrong[3] += 0.01;
    let wrong = vec![Tensor::f32("probabilities", &[1, 10], &wrong)];
    for (outputs, passes) in [(outputs, true), (wrong, false)] {
        let sample = ConformanceSample { inputs: vec![input.clone()], outputs, tolerance_ppm: 1_000 };
        let file = ModelFile::from_bytes("digits.onnx", &fixture("digits.onnx")).unwrap();
        let loaded = worker().await.load(Format::Onnx, vec![file], vec![sample]).await;
        match loaded {
            Ok(_) => assert!(passes),
            Err(error) => {
                assert!(!passes, "{error}");
                assert!(error.to_string().contains("off by 0.01") && error.fault() == Fault::Model, "{error}");
            }
        }
    }
}

#[tokio::test]
async fn many_callers_share_one_worker() {
    let (worker, _) = digits().await;
    let rows = rows("predict.csv");
    let calls = (0..100).map(|i| worker.predict(vec![batch(&rows[i..=i])]));
    let answers = futures_join(calls).await;
    let right = answers.iter().zip(&rows).filter(|(p, (_, class))| likeliest(p) == *class).count();
    assert_eq!(right, 93);
    assert_eq!(worker.in_flight(), 0);
}

async fn futures_join(
    calls: impl Iterator<Item = impl Future<Output = Result<Vec<Tensor>, EngineError>>>,
) -> Vec<Vec<f32>> {
    let mut answers = Vec::new();
    for answer in futures::future::join_all(calls).await {
        answers.push(answer.unwrap()[0].to_f32().unwrap());
    }
    answers
}

#[tokio::test]
async fn a_program_that_is_no_worker_is_told_from_one() {
    let mut other = config();
    other.program = "/bin/true".into();
    let error = Worker::spawn(other).await.unwrap_err();
    assert!(matches!(&error, EngineError::Died(why) if why.contains("exit code 0")), "{error}");
    let mut missing = config();
    missing.program = "/nonexistent/worker".into();
    assert!(matches!(Worker::spawn(missing).await, Err(EngineError::Spawn { .. })));
}
