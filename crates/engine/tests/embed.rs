//! A tiny BERT through real, sandboxed workers: near candle's single precision, the same bits alone and in company on any
//! number of threads, and a clear refusal of what it does not do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use common::{
    bert::{self, CONTEXT, Folder, WIDTH},
    config,
};
use serde_json::json;
use zero2ai_engine::{EngineError, ModelFile, Worker, is_embedder_file};
use zero2ai_proto::{
    calls::{GenerateInput, Prompt, Sampling},
    manifest::{ConformanceSample, Format, Task},
    texts::{Embeddings, Texts},
    worker::{Fault, ModelInfo},
};

const TEXTS: [&str; 6] =
    ["the cat sits.", "a dog runs, not the cats on a dog", "", "abcde edcba xyz", "[SEP] cat", "Cat"];

async fn load_with(folder: Folder, threads: usize) -> Result<(Worker, ModelInfo), EngineError> {
    let mut config = config();
    config.threads = threads;
    let worker = Worker::spawn(config).await.unwrap();
    let files = folder.into_iter().map(|(name, bytes)| ModelFile::from_bytes(&name, &bytes).unwrap()).collect();
    let info = worker.load(Format::Safetensors, files, vec![]).await?;
    Ok((worker, info))
}

async fn load(folder: Folder) -> (Worker, ModelInfo) {
    load_with(folder, 1).await.unwrap()
}

async fn embed(worker: &Worker, texts: &[&str]) -> Embeddings {
    worker.embed(&Texts::new(texts)).await.unwrap()
}

fn bits(rows: &Embeddings) -> Vec<u32> {
    rows.values.iter().map(|v| v.to_bits()).collect()
}

/// Token ids as the fixture's tokenizer makes them, without its cut and padding.
fn ids(text: &str) -> Vec<u32> {
    let bytes = serde_json::to_vec(&bert::tokenizer()).unwrap();
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes).unwrap();
    tokenizer.with_truncation(None).unwrap();
    tokenizer.with_padding(None);
    tokenizer.encode_fast(text, true).unwrap().get_ids().to_vec()
}

/// What candle makes of a text: rows of all its tokens.
fn reference(text: &str) -> Vec<Vec<f32>> {
    let tensors = bert::tensors()
        .into_iter()
        .map(|(name, shape, numbers)| (name, Tensor::from_vec(numbers, shape.as_slice(), &Device::Cpu).unwrap()));
    let builder = VarBuilder::from_tensors(tensors.collect(), DType::F32, &Device::Cpu);
    let config: Config = serde_json::from_value(bert::config()).unwrap();
    let model = BertModel::load(builder, &config).unwrap();
    let ids = Tensor::new(ids(text).as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let rows = model.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
    rows.squeeze(0).unwrap().to_vec2().unwrap()
}

fn mean(rows: &[Vec<f32>]) -> Vec<f32> {
    (0..WIDTH).map(|at| rows.iter().map(|row| row[at]).sum::<f32>() / rows.len() as f32).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[tokio::test]
async fn rows_are_candles_but_for_the_rounding_of_weights() {
    let (worker, info) = load(bert::folder()).await;
    assert_eq!(info.task, Task::Embed { width: WIDTH as u32, context: CONTEXT as u32 });
    assert_eq!(info.architecture, "bert (mean pooling, normalised)");
    assert!(info.runtime.contains("q8_0"), "{}", info.runtime);
    assert_eq!(info.parameters, bert::tensors().iter().map(|(_, _, n)| n.len() as u64).sum::<u64>());
    let rows = embed(&worker, &TEXTS).await;
    assert_eq!(rows.tokens, TEXTS.map(|text| ids(text).len() as u64));
    for (text, row) in TEXTS.iter().zip(rows.rows()) {
        let want = mean(&reference(text));
        assert!(cosine(row, &want) > 0.999, "{text}: {}", cosine(row, &want));
        assert!((row.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[tokio::test]
async fn pooling_is_what_the_folder_says() {
    let pooling = json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false });
    let mut folder = bert::with("1_Pooling/config.json", Some(serde_json::to_vec(&pooling).unwrap()));
    folder.retain(|(name, _)| name != "modules.json");
    let modules = json!([
        { "idx": 0, "path": "", "type": "sentence_transformers.models.Transformer" },
        { "idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling" },
    ]);
    folder.push(("modules.json".to_owned(), serde_json::to_vec(&modules).unwrap()));
    let (worker, info) = load(folder).await;
    assert_eq!(info.architecture, "bert (first-token pooling)");
    let rows = embed(&worker, &TEXTS).await;
    for (text, row) in TEXTS.iter().zip(rows.rows()) {
        let want = &reference(text)[0];
        assert!(cosine(row, want) > 0.999, "{text}");
        assert!((row.iter().map(|v| v * v).sum::<f32>().sqrt() - 1.0).abs() > 0.1, "it is not normalised");
    }
    let mut plain = bert::with("modules.json", None);
    plain.retain(|(name, _)| !name.starts_with("1_Pooling"));
    assert_eq!(load(plain).await.1.architecture, "bert (mean pooling, normalised, assumed)");
}

#[tokio::test]
async fn company_and_threads_change_no_bit() {
    let (one, _) = load(bert::folder()).await;
    let (three, _) = load_with(bert::folder(), 3).await.unwrap();
    let together = embed(&one, &TEXTS).await;
    assert_eq!(bits(&embed(&three, &TEXTS).await), bits(&together));
    for (text, row) in TEXTS.iter().zip(together.rows()) {
        for worker in [&one, &three] {
            let alone = embed(worker, &[text]).await;
            assert_eq!(bits(&alone), row.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), "{text}");
        }
    }
    // Sixty callers at once, each with texts of its own: they run together, and none sees another.
    let calls = (0..60).map(|i| {
        let own = [TEXTS[i % 6], TEXTS[i / 6 % 6]];
        let (one, three) = (&one, &three);
        async move { (i, embed(if i % 2 == 0 { one } else { three }, &own).await) }
    });
    let rows: Vec<&[f32]> = together.rows().collect();
    for (i, got) in futures::future::join_all(calls).await {
        assert_eq!(got.values, [rows[i % 6], rows[i / 6 % 6]].concat());
    }
}

#[tokio::test]
async fn long_texts_are_refused_or_cut_as_asked_and_never_in_silence() {
    let (worker, _) = load(bert::folder()).await;
    let long = "cat ".repeat(60);
    let texts = ["dog", long.as_str()];
    let error = worker.embed(&Texts::new(&texts)).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Input);
    assert!(error.to_string().contains("62 tokens") && error.to_string().contains("takes 24"), "{error}");
    let cut = worker.embed(&Texts { texts: texts.to_vec(), truncate: true }).await.unwrap();
    assert_eq!(cut.tokens, [3, 62], "what was cut shows");
    let fits = "cat ".repeat(CONTEXT - 2);
    let whole = embed(&worker, &["dog", fits.as_str()]).await;
    assert_eq!(bits(&cut), bits(&whole));
    // What the cut left behind: the next text is refused again.
    assert!(worker.embed(&Texts::new(&texts)).await.is_err());
}

#[tokio::test]
async fn wrong_inputs_are_the_callers_fault_and_others_go_on() {
    let (worker, info) = load(bert::folder()).await;
    let good = Texts::new(&["cat"]).to_tensors().unwrap();
    let mut beyond = good.clone();
    beyond[0].data[0] = 200;
    let calls = [beyond, vec![good[0].clone()], good.clone(), vec![]].map(|inputs| worker.predict(inputs));
    let [beyond, one, fine, none] = futures::future::join_all(calls).await.try_into().unwrap();
    for refused in [beyond, one, none] {
        assert_eq!(refused.unwrap_err().fault(), Fault::Input);
    }
    assert_eq!(fine.unwrap()[0].shape, [1, WIDTH as u64]);
    assert_eq!(
        good.iter().map(|t| &t.name).collect::<Vec<_>>(),
        info.inputs.iter().map(|t| &t.name).collect::<Vec<_>>()
    );
    let text = GenerateInput { prompt: Prompt::Text("hi".into()), sampling: Sampling::default(), resume: vec![] };
    let error = worker.generate(b"", text).await.unwrap().next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("embeds"), "{error}");
}

#[tokio::test]
async fn golden_rows_keep_a_wrong_model_from_serving() {
    let (good, _) = load(bert::folder()).await;
    let inputs = Texts::new(&TEXTS).to_tensors().unwrap();
    let outputs = good.predict(inputs.clone()).await.unwrap();
    let pooling = json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false });
    let wrong = bert::with("1_Pooling/config.json", Some(serde_json::to_vec(&pooling).unwrap()));
    for (folder, passes) in [(bert::folder(), true), (wrong, false)] {
        let sample = ConformanceSample { inputs: inputs.clone(), outputs: outputs.clone(), tolerance_ppm: 1_000 };
        let files = folder.into_iter().map(|(name, bytes)| ModelFile::from_bytes(&name, &bytes).unwrap()).collect();
        let loaded = common::worker().await.load(Format::Safetensors, files, vec![sample]).await;
        assert_eq!(loaded.is_ok(), passes, "{loaded:?}");
    }
}

#[tokio::test]
async fn what_is_not_computed_is_refused_by_name() {
    let setting = |name: &str, value: serde_json::Value| {
        let mut config = bert::config();
        config[name] = value;
        bert::with("config.json", Some(serde_json::to_vec(&config).unwrap()))
    };
    let file = |name: &str, value: serde_json::Value| bert::with(name, Some(serde_json::to_vec(&value).unwrap()));
    let part = |name: &str, value: serde_json::Value| {
        let mut tokenizer = bert::tokenizer();
        tokenizer[name] = value;
        file("tokenizer.json", tokenizer)
    };
    let weights = |bytes: &[u8]| bert::with("model.safetensors", Some(bytes.to_vec()));
    let plain = |architecture: &str| {
        let mut folder = setting("architectures", json!([architecture]));
        folder.retain(|(name, _)| name != "modules.json" && !name.starts_with("1_Pooling"));
        folder
    };
    let pattern = json!({ "type": "Split", "pattern": { "Regex": "(a+)+$" }, "behavior": "Isolated", "invert": false });
    let cases: Vec<(Folder, &str)> = vec![
        (setting("model_type", json!("roberta")), "'roberta'"),
        (setting("model_type", json!("llama")), "'llama'"),
        (setting("hidden_act", json!("gelu_new")), "'gelu_new'"),
        (setting("position_embedding_type", json!("relative_key")), "'relative_key'"),
        (setting("hidden_size", json!(1_u64 << 40)), "hidden_size"),
        (setting("hidden_size", json!(66)), "num_attention_heads"),
        (setting("intermediate_size", json!(100)), "multiples of 32"),
        (setting("num_hidden_layers", json!(3)), "encoder.layer.2"),
        (setting("num_hidden_layers", json!(1_000_000)), "num_hidden_layers"),
        (setting("vocab_size", json!(26)), "shape"),
        (setting("layer_norm_eps", json!(-1.0)), "layer_norm_eps"),
        (setting("max_position_embeddings", json!(1_u64 << 50)), "max_position_embeddings"),
        (plain("BertForSequenceClassification"), "BertForSequenceClassification"),
        (
            file(
                "modules.json",
                json!([{ "path": "", "type": "x.Transformer" }, { "path": "2_Dense", "type": "x.Dense" }]),
            ),
            "Dense",
        ),
        (file("1_Pooling/config.json", json!({ "pooling_mode_max_tokens": true })), "pooling_mode_max_tokens"),
        (file("1_Pooling/config.json", json!({})), "no mode"),
        (file("sentence_bert_config.json", json!({ "max_seq_length": 4_000 })), "max_seq_length"),
        (part("model", json!({ "type": "BPE", "vocab": {}, "merges": [] })), "'BPE'"),
        (part("pre_tokenizer", pattern.clone()), "'Split'"),
        (part("pre_tokenizer", json!({ "type": "Sequence", "pretokenizers": [pattern] })), "'Split'"),
        (weights(b"\x80\x02}q\x00(X\x04\x00\x00\x00"), "pickle"),
        (weights(b"PK\x03\x04archive/data.pkl"), "pickle"),
        (weights(b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"), "beyond its end"),
        (weights(b""), "cut short"),
        (bert::with("tokenizer.json", None), "no 'tokenizer.json'"),
        (bert::with("config.json", None), "no 'config.json'"),
        (bert::with("model.safetensors", None), "no 'model.safetensors'"),
    ];
    for (folder, word) in cases {
        let error = load_with(folder, 1).await.err().unwrap_or_else(|| panic!("'{word}' was taken"));
        assert_eq!(error.fault(), Fault::Model, "{error}");
        assert!(error.to_string().contains(word), "'{error}' lacks '{word}'");
    }
    assert!(is_embedder_file("config.json") && !is_embedder_file("pytorch_model.bin"));
}
