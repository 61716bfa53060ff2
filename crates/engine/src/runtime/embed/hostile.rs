//! Tests: a whole model gives the same bits on every instruction set and number of threads; damaged and hostile folders,
//! loaded without a process around them, are errors, never a panic, and never numbers that are none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../tests/common/bert.rs"]
mod bert;

use proptest::prelude::*;
use zero2ai_kernels::Path;
use zero2ai_proto::texts::{Embeddings, Texts};

use super::{
    super::Meanwhile,
    Embed, Runtime as _,
    config::Config,
    files::{Folder, WEIGHTS},
    model::Model,
    safetensors::Safetensors,
};
use crate::{EngineError, ModelFile};

fn load(folder: &bert::Folder) -> Result<Embed, EngineError> {
    let file = |(name, bytes): &(String, Vec<u8>)| {
        let file = ModelFile::from_bytes(name, bytes).unwrap();
        (name.clone(), file.fd().try_clone_to_owned().unwrap())
    };
    Embed::load(folder.iter().map(file).collect(), None)
}

fn works(embed: &mut Embed) {
    let inputs = Texts::new(&["the cat sits.", "dogs"]).to_tensors().unwrap();
    let outputs = embed.predict(&inputs, &mut Meanwhile { until: None, tell: &mut |_| {} });
    // Damage may make a model that knows other tokens; what it gives are numbers or an error.
    if let Ok(outputs) = outputs {
        assert!(Embeddings::from_tensors(&outputs, 2).unwrap().values.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn rows_are_the_same_bits_on_every_instruction_set() {
    let files = |(name, bytes): (String, Vec<u8>)| {
        let file = ModelFile::from_bytes(&name, &bytes).unwrap();
        (name, file.fd().try_clone_to_owned().unwrap())
    };
    let folder = Folder::new(bert::folder().into_iter().map(files).collect()).unwrap();
    let texts: Vec<Vec<u32>> = (1..20).map(|len| (0..len).map(|i| (i * 7 + len) % 25).collect()).collect();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let mut all = Vec::new();
    for (path, threads) in Path::available().flat_map(|path| [(path, 1), (path, 3)]) {
        let file = Safetensors::open(folder.get(WEIGHTS).unwrap()).unwrap();
        let model = Model::load(&file, Config::load(&folder).unwrap(), threads, path).unwrap();
        let bits = |rows: Vec<Vec<f32>>| rows.into_iter().flatten().map(f32::to_bits).collect::<Vec<_>>();
        all.push(bits(model.embed(&texts).unwrap()));
        // Each alone, too.
        all.push(texts.iter().flat_map(|text| bits(model.embed(&[text]).unwrap())).collect());
    }
    assert!(all.len() > 3 && all.iter().all(|bits| *bits == all[0]));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = bert::folder();
    works(&mut load(&whole).unwrap());
    for name in ["model.safetensors", "tokenizer.json", "config.json", "modules.json", "1_Pooling/config.json"] {
        let bytes = &whole.iter().find(|(other, _)| other == name).unwrap().1;
        for cut in [0, 1, 7, 8, 9, 100, bytes.len() / 2, bytes.len() - 1] {
            let folder = bert::with(name, Some(bytes[..cut.min(bytes.len() - 1)].to_vec()));
            assert!(load(&folder).is_err(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn numbers_that_are_none_are_refused() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut tensors = bert::tensors();
        let count = tensors.len();
        tensors[count / 2].2[3] = bad;
        let folder = bert::with("model.safetensors", Some(bert::safetensors(&tensors)));
        assert!(load(&folder).is_err_and(|e| e.to_string().contains("not finite")));
    }
    // Finite, and beyond what a block's scale can hold.
    let mut tensors = bert::tensors();
    tensors.iter_mut().for_each(|(_, _, numbers)| numbers.iter_mut().for_each(|v| *v *= 1e37));
    assert!(load(&bert::with("model.safetensors", Some(bert::safetensors(&tensors)))).is_err());
}

#[test]
fn marks_that_are_no_tokens_are_an_error() {
    let mut bytes = bert::folder().into_iter().find(|(name, _)| name == "tokenizer.json").unwrap().1;
    // Found by flipping bits: the tokenizers crate panics on it.
    bytes[1440] ^= 1;
    let refused = load(&bert::with("tokenizer.json", Some(bytes)));
    assert!(refused.is_err_and(|e| e.to_string().contains("do not fit each other")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn flipped_bits_are_errors_or_other_numbers(
        which in prop::sample::select(vec!["model.safetensors", "tokenizer.json", "config.json", "modules.json"]),
        flips in prop::collection::vec((0_usize..12_000, 0_u8..8), 1..4),
    ) {
        let mut bytes = bert::folder().into_iter().find(|(name, _)| name == which).unwrap().1;
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        if let Ok(mut embed) = load(&bert::with(which, Some(bytes))) {
            works(&mut embed);
        }
    }
}
