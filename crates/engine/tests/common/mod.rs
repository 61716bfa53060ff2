//! Starting real workers, and the digits fixture.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod bert;
pub(crate) mod gguf;

use std::path::PathBuf;

use zero2ai_engine::{ModelFile, Worker, WorkerConfig};
use zero2ai_proto::{manifest::Format, tensor::Tensor, worker::ModelInfo};

pub(crate) fn config() -> WorkerConfig {
    WorkerConfig {
        program: env!("CARGO_BIN_EXE_zero2ai-engine-worker").into(),
        args: vec![],
        threads: 1,
        memory_bytes: 1 << 30,
        allow_unsandboxed: false,
    }
}

pub(crate) async fn worker() -> Worker {
    Worker::spawn(config()).await.unwrap()
}

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testnet/fixtures/digits");
    std::fs::read(folder.join(name)).unwrap()
}

pub(crate) async fn digits() -> (Worker, ModelInfo) {
    let worker = worker().await;
    let file = ModelFile::from_bytes("digits.onnx", &fixture("digits.onnx")).unwrap();
    let info = worker.load(Format::Onnx, vec![file], vec![]).await.unwrap();
    (worker, info)
}

/// Pixels and class of each row.
pub(crate) fn rows(name: &str) -> Vec<([f32; 64], usize)> {
    let text = String::from_utf8(fixture(name)).unwrap();
    let row = |line: &str| {
        let numbers: Vec<u8> = line.split(',').map(|n| n.parse().unwrap()).collect();
        let (class, pixels) = numbers.split_last().unwrap();
        (std::array::from_fn(|i| f32::from(pixels[i])), usize::from(*class))
    };
    text.lines().skip(1).map(row).collect()
}

pub(crate) fn batch(rows: &[([f32; 64], usize)]) -> Tensor {
    let values: Vec<f32> = rows.iter().flat_map(|(pixels, _)| pixels.iter().copied()).collect();
    Tensor::f32("pixels", &[rows.len() as u64, 64], &values)
}

pub(crate) fn likeliest(probabilities: &[f32]) -> usize {
    zero2ai_proto::tensor::argmax(probabilities)
}
