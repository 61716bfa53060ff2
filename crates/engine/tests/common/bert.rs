//! A tiny BERT with random weights, as a folder that sentence-transformers would save: made on the spot.
#![allow(dead_code, clippy::unwrap_used)]

use serde_json::{Value, json};

pub(crate) const WIDTH: usize = 64;
pub(crate) const CONTEXT: usize = 24;
pub(crate) const LAYERS: usize = 2;
const HEADS: usize = 4;
const INSIDE: usize = 128;
const POSITIONS: usize = 32;
/// Word pieces after the five marks.
const WORDS: [&str; 20] = [
    "a", "b", "c", "d", "e", "##a", "##b", "##c", "##d", "##e", "cat", "dog", "sits", "runs", "the", "##s", ".", ",",
    "not", "on",
];

/// Files by name.
pub(crate) type Folder = Vec<(String, Vec<u8>)>;

pub(crate) fn vocabulary() -> Vec<&'static str> {
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].into_iter().chain(WORDS).collect()
}

pub(crate) fn config() -> Value {
    json!({
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "intermediate_size": INSIDE, "hidden_act": "gelu", "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2, "vocab_size": vocabulary().len(), "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02, "pad_token_id": 0, "position_embedding_type": "absolute",
    })
}

pub(crate) fn tokenizer() -> Value {
    let marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].into_iter().enumerate();
    let added: Vec<Value> = marks
        .map(|(id, content)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true })
        })
        .collect();
    let ids: serde_json::Map<String, Value> =
        vocabulary().into_iter().enumerate().map(|(id, word)| (word.to_owned(), json!(id))).collect();
    let mark = |name: &str| json!({ "SpecialToken": { "id": name, "type_id": 0 } });
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let special = |name: &str, id: u32| json!({ "id": name, "ids": [id], "tokens": [name] });
    json!({
        "version": "1.0",
        // What a saved tokenizer often has: cut and padded in silence. Neither may show.
        "truncation": { "direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0 },
        "padding": {
            "strategy": { "Fixed": 8 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": added,
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [mark("[CLS]"), text, mark("[SEP]")],
            "pair": [mark("[CLS]"), text, mark("[SEP]")],
            "special_tokens": { "[CLS]": special("[CLS]", 2), "[SEP]": special("[SEP]", 3) },
        },
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    })
}

/// A tensor's name, shape and numbers.
pub(crate) type Named = (String, Vec<usize>, Vec<f32>);

/// Adds a tensor of a name and shape: random numbers of a spread around a middle.
type Add<'a> = &'a mut dyn FnMut(String, &[usize], f32, f32);

/// All tensors.
pub(crate) fn tensors() -> Vec<Named> {
    let mut state = 99_u64;
    let mut random = |scale: f32, middle: f32, count: usize| -> Vec<f32> {
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5) * scale + middle
        };
        (0..count).map(|_| draw()).collect()
    };
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize], scale: f32, middle: f32| {
        tensors.push((name, shape.to_vec(), random(scale, middle, shape.iter().product())));
    };
    let norm = |add: Add<'_>, name: &str| {
        add(format!("{name}.LayerNorm.weight"), &[WIDTH], 0.4, 1.0);
        add(format!("{name}.LayerNorm.bias"), &[WIDTH], 0.2, 0.0);
    };
    add("embeddings.word_embeddings.weight".into(), &[vocabulary().len(), WIDTH], 2.0, 0.0);
    add("embeddings.position_embeddings.weight".into(), &[POSITIONS, WIDTH], 0.5, 0.0);
    add("embeddings.token_type_embeddings.weight".into(), &[2, WIDTH], 0.5, 0.0);
    norm(&mut add, "embeddings");
    for layer in 0..LAYERS {
        let mut dense = |part: &str, rows: usize, columns: usize| {
            add(format!("encoder.layer.{layer}.{part}.weight"), &[rows, columns], 0.4, 0.0);
            add(format!("encoder.layer.{layer}.{part}.bias"), &[rows], 0.2, 0.0);
        };
        dense("attention.self.query", WIDTH, WIDTH);
        dense("attention.self.key", WIDTH, WIDTH);
        dense("attention.self.value", WIDTH, WIDTH);
        dense("attention.output.dense", WIDTH, WIDTH);
        dense("intermediate.dense", INSIDE, WIDTH);
        dense("output.dense", WIDTH, INSIDE);
        norm(&mut add, &format!("encoder.layer.{layer}.attention.output"));
        norm(&mut add, &format!("encoder.layer.{layer}.output"));
    }
    tensors
}

/// A safetensors file of these tensors.
pub(crate) fn safetensors(tensors: &[Named]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    for (name, shape, numbers) in tensors {
        let start = data.len();
        data.extend(numbers.iter().flat_map(|v| v.to_le_bytes()));
        header.insert(name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] }));
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// The whole folder.
pub(crate) fn folder() -> Folder {
    let json = |value: Value| serde_json::to_vec(&value).unwrap();
    let module = |index: u32, path: &str, kind: &str| json!({ "idx": index, "name": index.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") });
    let modules =
        json!([module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"), module(2, "2_Normalize", "Normalize")]);
    let pooling =
        json!({ "word_embedding_dimension": WIDTH, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true });
    [
        ("1_Pooling/config.json", json(pooling)),
        ("README.md", b"# A model".to_vec()),
        ("config.json", json(config())),
        ("model.safetensors", safetensors(&tensors())),
        ("modules.json", json(modules)),
        ("sentence_bert_config.json", json(json!({ "max_seq_length": CONTEXT, "do_lower_case": false }))),
        ("tokenizer.json", json(tokenizer())),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

/// The folder with one file changed, or without it.
pub(crate) fn with(name: &str, bytes: Option<Vec<u8>>) -> Folder {
    let mut folder: Folder = folder().into_iter().filter(|(other, _)| other != name).collect();
    folder.extend(bytes.map(|bytes| (name.to_owned(), bytes)));
    folder
}
