//! Test: a whole model gives the same bits on every instruction set, number of threads and cut of its prompt.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/common/gguf.rs"]
pub(super) mod fixture;

use candle_core::quantized::GgmlDType;
use fixture::{VOCABULARY, tiny};
use rustix::fs::{MemfdFlags, memfd_create};
use zero2ai_kernels::{Path, Pool};

use super::{
    super::source::Source,
    cache::{Cache, Pages},
    gguf::Gguf,
    linear::Machine,
    model::{Model, Part},
};

/// The bits of the scores after 40 tokens, read in parts of so many.
fn scores(source: &Source, path: Path, threads: usize, part: usize) -> Vec<u32> {
    let gguf = Gguf::open(source).unwrap();
    let machine = Machine { pool: Pool::new(threads).unwrap(), path };
    let model = Model::load(&gguf, VOCABULARY, machine).unwrap();
    assert_eq!(model.computed_by(), (path.name(), true));
    let ids: Vec<u32> = (0..40).map(|i| (i * 37 + 11) % 256).collect();
    let mut cache = Cache::default();
    let parts = ids.chunks(part).map(|tokens| {
        cache.grow(tokens.len(), &model.config, &Pages::default()).unwrap();
        model.forward(&mut [Part { tokens, cache: &mut cache, scored: 1 }]).unwrap()
    });
    parts.last().unwrap().iter().map(|score| score.to_bits()).collect()
}

#[test]
fn scores_are_the_same_bits_on_every_instruction_set() {
    for dtype in [GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q5_0] {
        let file = memfd_create("tiny", MemfdFlags::empty()).unwrap();
        rustix::io::pwrite(&file, &tiny(dtype, "llama"), 0).unwrap();
        let source = Source::new("tiny.gguf", file).unwrap();
        let want = scores(&source, Path::best(), 1, 40);
        for path in Path::available() {
            for (threads, part) in [(1, 40), (3, 40), (2, 17), (1, 1)] {
                let got = scores(&source, path, threads, part);
                assert_eq!(got, want, "{dtype:?} by {} on {threads} threads in parts of {part}", path.name());
            }
        }
    }
}
