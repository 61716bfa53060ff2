//! A tiny llama in GGUF, made on the spot: 2 layers, 256 byte tokens, a merge or two and three control tokens.
#![allow(dead_code, clippy::unwrap_used)]

use candle_core::{
    Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value},
    },
};

pub(crate) const CONTEXT: u32 = 96;
pub(crate) const VOCABULARY: usize = 261;
const WIDTH: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD: usize = 16;
const FFN: usize = 128;

/// GPT-2's spelling of every byte.
fn byte_tokens() -> Vec<String> {
    let printable = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    let spell = |b: u32| {
        let code = if printable(b) {
            b
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).unwrap().to_string()
    };
    (0..256).map(spell).collect()
}

/// The file's bytes, its matrices of type `dtype`, its architecture called `architecture`.
pub(crate) fn tiny(dtype: GgmlDType, architecture: &str) -> Vec<u8> {
    file(dtype, false, architecture, 0)
}

/// One whose rows see the last `window` positions alone.
pub(crate) fn tiny_sliding(dtype: GgmlDType, window: u32) -> Vec<u8> {
    file(dtype, false, "llama", window)
}

/// The same weights, after rounding to `dtype`, in single precision.
pub(crate) fn tiny_unrounded(dtype: GgmlDType) -> Vec<u8> {
    file(dtype, true, "llama", 0)
}

fn file(dtype: GgmlDType, unrounded: bool, architecture: &str, window: u32) -> Vec<u8> {
    let mut state = 12_345_u64;
    let mut random = |shape: &[usize], scale: f32| {
        let values: Vec<f32> = (0..shape.iter().product::<usize>())
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5) * scale
            })
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    let mut tensors: Vec<(String, QTensor)> = Vec::new();
    let mut add = |name: &str, tensor: Tensor| {
        let dtype = if tensor.rank() == 1 { GgmlDType::F32 } else { dtype };
        let mut stored = QTensor::quantize(&tensor, dtype).unwrap();
        if unrounded {
            stored = QTensor::quantize(&stored.dequantize(&Device::Cpu).unwrap(), GgmlDType::F32).unwrap();
        }
        tensors.push((name.to_owned(), stored));
    };
    add("token_embd.weight", random(&[VOCABULARY, WIDTH], 2.0));
    add("output.weight", random(&[VOCABULARY, WIDTH], 1.0));
    add("output_norm.weight", (random(&[WIDTH], 0.2) + 1.0).unwrap());
    for layer in 0..2 {
        let mut part = |name: &str, shape: &[usize]| {
            let tensor = if shape.len() == 1 { (random(shape, 0.2) + 1.0).unwrap() } else { random(shape, 0.5) };
            add(&format!("blk.{layer}.{name}.weight"), tensor);
        };
        part("attn_norm", &[WIDTH]);
        part("ffn_norm", &[WIDTH]);
        part("attn_q", &[HEADS * HEAD, WIDTH]);
        part("attn_k", &[KV_HEADS * HEAD, WIDTH]);
        part("attn_v", &[KV_HEADS * HEAD, WIDTH]);
        part("attn_output", &[WIDTH, HEADS * HEAD]);
        part("ffn_gate", &[FFN, WIDTH]);
        part("ffn_up", &[FFN, WIDTH]);
        part("ffn_down", &[WIDTH, FFN]);
    }
    let strings = |list: &[&str]| Value::Array(list.iter().map(|s| Value::String((*s).to_owned())).collect());
    let bytes = byte_tokens();
    let mut tokens: Vec<&str> = bytes.iter().map(String::as_str).collect();
    tokens.extend(["he", "Ġhe", "<|end|>", "<|user|>", "<|assistant|>"]);
    let types = (0..VOCABULARY).map(|id| Value::I32(if id < 258 { 1 } else { 3 })).collect();
    let template =
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}<|assistant|>";
    let number = |n: usize| Value::U32(n as u32);
    let mut metadata = vec![
        ("general.architecture", Value::String(architecture.to_owned())),
        ("llama.block_count", number(2)),
        ("llama.context_length", Value::U32(CONTEXT)),
        ("llama.embedding_length", number(WIDTH)),
        ("llama.feed_forward_length", number(FFN)),
        ("llama.attention.head_count", number(HEADS)),
        ("llama.attention.head_count_kv", number(KV_HEADS)),
        ("llama.rope.dimension_count", number(HEAD)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.model", Value::String("gpt2".to_owned())),
        ("tokenizer.ggml.pre", Value::String("smollm".to_owned())),
        ("tokenizer.ggml.tokens", strings(&tokens)),
        ("tokenizer.ggml.token_type", Value::Array(types)),
        ("tokenizer.ggml.merges", strings(&["h e", "Ġ he"])),
        ("tokenizer.ggml.eos_token_id", number(258)),
        ("tokenizer.chat_template", Value::String(template.to_owned())),
    ];
    if window > 0 {
        metadata.push(("llama.attention.sliding_window", Value::U32(window)));
    }
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    file.into_inner()
}
