//! Models as a worker loads them, here without a worker around them.

use std::io::Cursor;

use zero2ai_chunk::{
    cut::{cuts, is_pickle},
    detect_format, named_format,
};
use zero2ai_engine::{ModelFile, load_here};
use zero2ai_proto::{
    ByteBuf, decode,
    limits::MANIFEST_BYTES,
    manifest::{ConformanceSample, Format},
    tensor::{DType, Tensor},
    texts::{Embeddings, Texts},
};

/// A whole embedder: the files that are not fuzzed.
const EMBEDDER: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("../embedder/config.json")),
    ("tokenizer.json", include_bytes!("../embedder/tokenizer.json")),
    ("modules.json", include_bytes!("../embedder/modules.json")),
    ("1_Pooling/config.json", include_bytes!("../embedder/1_Pooling.json")),
    ("model.safetensors", include_bytes!("../embedder/model.safetensors")),
];

/// What any file is, as `inspect` and `publish` ask.
pub fn inspect(bytes: &[u8]) {
    let mut reader = Cursor::new(bytes);
    let pickle = is_pickle(&mut reader).expect("memory can be read");
    if let Ok(format) = detect_format(&mut reader) {
        assert!(reader.position() == 0 && cuts(&mut reader, format).is_ok());
        assert!(!(pickle && format == Format::Gguf));
    }
    let _ = std::str::from_utf8(bytes).map(named_format);
}

/// One file of an embedder's folder: the first byte says which. What loads gives numbers.
pub fn embedder(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let which = usize::from(*which) % EMBEDDER.len();
    let file = |(place, (name, own)): (usize, &(&str, &[u8]))| {
        ModelFile::from_bytes(name, if place == which { bytes } else { own }).expect("memory can be had")
    };
    let files: Vec<ModelFile> = EMBEDDER.iter().enumerate().map(file).collect();
    let texts = Texts::new(&["the cat sits.", "dogs [SEP]"]).to_tensors().expect("texts within bounds");
    if let Ok(outputs) = load_here(Format::Safetensors, &files, &texts) {
        let rows = Embeddings::from_tensors(&outputs, 2).expect("rows of two texts");
        assert!(rows.values.iter().all(|v| v.is_finite()));
    }
}

/// A language model's header with its vocabulary, once it passed what `publish` asks of it.
pub fn vocabulary(bytes: &[u8]) {
    if !matches!(cuts(&mut Cursor::new(bytes), Format::Gguf), Ok(Some(_))) {
        return;
    }
    let file = ModelFile::from_bytes("model.gguf", bytes).expect("memory can be had");
    let (name, shape, data) = ("text".to_owned(), vec![9], ByteBuf::from(&b"the <|end|>"[..9]));
    let _ = load_here(Format::Gguf, &[file], &[Tensor { name, dtype: DType::U8, shape, data }]);
}

/// Conformance samples as a manifest has them: what passes is tensors that hold together.
pub fn samples(bytes: &[u8]) {
    let Ok(samples) = decode::<Vec<ConformanceSample>>(bytes, MANIFEST_BYTES) else { return };
    if ConformanceSample::check_all(&samples).is_ok() {
        assert!(samples.iter().flat_map(|s| s.inputs.iter().chain(&s.outputs)).all(|t| t.check().is_ok()));
        assert!(samples.iter().all(|s| !s.inputs.is_empty() && !s.outputs.is_empty()));
    }
}
