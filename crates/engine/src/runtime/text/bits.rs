//! Test: a whole model gives the same bits on every instruction set, number of threads and cut of its prompt.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/common/gguf.rs"]
pub(super) mod fixture;

use candle_core::quantized::GgmlDType;
use fixture::{VOCABULARY, tiny, tiny_sliding};
use rustix::fs::{MemfdFlags, memfd_create};
use zero2ai_kernels::{Path, Pool};

use super::{
    super::source::Source,
    cache::{Cache, Pages},
    gguf::Gguf,
    linear::Machine,
    model::{Model, Part},
};

/// Forty tokens.
fn ids() -> Vec<u32> {
    (0..40).map(|i| (i * 37 + 11) % 256).collect()
}

fn source(bytes: &[u8]) -> Source {
    let file = memfd_create("tiny", MemfdFlags::empty()).unwrap();
    rustix::io::pwrite(&file, bytes, 0).unwrap();
    Source::new("tiny.gguf", file).unwrap()
}

/// The bits of the scores after tokens that are read in parts of so many.
fn scores(source: &Source, ids: &[u32], path: Path, threads: usize, part: usize) -> Vec<u32> {
    let gguf = Gguf::open(source).unwrap();
    let machine = Machine { pool: Pool::new(threads).unwrap(), path };
    let model = Model::load(&gguf, VOCABULARY, machine).unwrap();
    assert_eq!(model.computed_by(), (path.name(), true));
    let mut cache = Cache::default();
    let parts = ids.chunks(part).map(|tokens| {
        cache.grow(tokens.len(), &model.config, &Pages::default()).unwrap();
        model.forward(&mut [Part { tokens, cache: &mut cache, scored: 1 }]).unwrap()
    });
    parts.last().unwrap().iter().map(|score| score.to_bits()).collect()
}

#[test]
fn scores_are_the_same_bits_on_every_instruction_set() {
    let whole = [GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q5_0].map(|t| (t, tiny(t, "llama")));
    let sliding = [3, 8, 21].map(|window| (GgmlDType::Q8_0, tiny_sliding(GgmlDType::Q8_0, window)));
    for (dtype, bytes) in whole.into_iter().chain(sliding) {
        let source = source(&bytes);
        let want = scores(&source, &ids(), Path::best(), 1, 40);
        for path in Path::available() {
            for (threads, part) in [(1, 40), (3, 40), (2, 17), (1, 1)] {
                let got = scores(&source, &ids(), path, threads, part);
                assert_eq!(got, want, "{dtype:?} by {} on {threads} threads in parts of {part}", path.name());
            }
        }
    }
}

#[test]
fn a_sliding_window_ends_where_the_file_says() {
    let after = |bytes: &[u8], ids: &[u32]| scores(&source(bytes), ids, Path::best(), 2, 16);
    let sliding = tiny_sliding(GgmlDType::Q8_0, 8);
    let want = after(&sliding, &ids());
    assert_ne!(want, after(&tiny(GgmlDType::Q8_0, "llama"), &ids()));
    assert_eq!(after(&tiny_sliding(GgmlDType::Q8_0, 40), &ids()), after(&tiny(GgmlDType::Q8_0, "llama"), &ids()));
    // Through two layers the last token sees itself and twice seven tokens before it.
    let changed = |at: usize| {
        let mut ids = ids();
        ids[at] ^= 1;
        ids
    };
    assert_eq!(after(&sliding, &changed(39 - 15)), want, "out of sight");
    assert_ne!(after(&sliding, &changed(39 - 14)), want, "just in sight");
}
