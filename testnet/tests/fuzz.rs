//! Every fuzz target over its corpus and over some thousand mutations of it, the same in every run: a reader that panics on
//! bytes which others choose, or accepts what it must not, fails here without a nightly compiler.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use targets::{TARGETS, Target};
use zero2ai_testnet::faults::rng::Rng;

/// Mutations tried of each target.
const MUTATIONS: usize = 3_000;
/// The same for targets that check many signatures of each input.
const SIGNED_MUTATIONS: usize = if cfg!(debug_assertions) { 100 } else { 1_000 };
/// Bytes of a mutated input; one that grew beyond is cut.
const LENGTH: usize = 16 * 1024;
/// Bytes of all committed inputs.
const CORPUS: u64 = 1 << 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// The inputs of one target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder().join(target)).unwrap_or_else(|e| panic!("{target} has no corpus: {e}"));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Numbers at which readers go wrong, as they stand in files and frames.
const EDGES: [u64; 10] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX - 7, u64::MAX];

fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], rng: &mut Rng) {
    for _ in 0..=rng.index(4) {
        let at = rng.index(bytes.len());
        match rng.index(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.index(8),
            1 if !bytes.is_empty() => bytes[at] = rng.draw() as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, rng.draw() as u8),
            4 => {
                let end = (at + 1 + rng.index(16)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            5 => {
                let width = [1, 2, 4, 8][rng.index(4)];
                let edge = EDGES[rng.index(EDGES.len())].wrapping_add(rng.draw() % 3);
                let little = rng.index(2) == 0;
                let number = if little { edge.to_le_bytes() } else { edge.to_be_bytes() };
                let number = if little { &number[..width] } else { &number[8 - width..] };
                bytes.iter_mut().skip(at).zip(number).for_each(|(b, n)| *b = *n);
            }
            _ => {
                let other = &others[rng.index(others.len())];
                let from = rng.index(other.len());
                let piece: Vec<u8> = other.iter().skip(from).take(1 + rng.index(64)).copied().collect();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes.truncate(LENGTH);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn try_out(name: &str, target: Target, bytes: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
        panic!("{name} fails on {} bytes: {}", bytes.len(), hex(bytes));
    }
}

#[test]
fn no_target_fails_on_its_corpus_or_on_mutations_of_it() {
    std::thread::scope(|scope| {
        for (seed, (name, target)) in TARGETS.iter().enumerate() {
            scope.spawn(move || {
                let inputs = corpus(name);
                assert!(!inputs.is_empty(), "{name} has no corpus");
                for bytes in &inputs {
                    try_out(name, *target, bytes);
                }
                let mut rng = Rng::new(seed as u64, 0);
                let signs = ["ledger", "block", "snapshot", "light", "outcome"].contains(name);
                for _ in 0..if signs { SIGNED_MUTATIONS } else { MUTATIONS } {
                    let mut bytes = inputs[rng.index(inputs.len())].clone();
                    mutate(&mut bytes, &inputs, &mut rng);
                    try_out(name, *target, &bytes);
                }
            });
        }
    });
}

/// With `UPDATE_CORPUS` in the environment they are written first.
#[test]
fn inputs_with_signatures_are_those_that_fit_their_pool() {
    for (target, name, bytes) in targets::chain::seeds().into_iter().chain(targets::outcomes::seeds()) {
        let path = folder().join(target).join(name);
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            fs::create_dir_all(folder().join(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).is_ok_and(|held| held == bytes), "{target}/{name} is another: see fuzz/README.md");
    }
}

/// Every kind of transaction is in the corpus: as it is signed, and where a ledger takes it.
#[test]
fn the_corpus_has_every_kind_of_transaction() {
    use std::mem::{Discriminant, discriminant};
    use zero2ai_proto::{
        block::Block,
        decode,
        limits::SIGNED_BYTES,
        tx::{Tx, TxBody},
    };
    let alone = corpus("transaction");
    let alone =
        alone.iter().filter_map(|bytes| decode::<Tx>(bytes, SIGNED_BYTES).ok()).map(|tx| discriminant(&tx.body));
    let alone: Vec<_> = alone.collect();
    let read = |name: &str| Block::read(&fs::read(folder().join("block").join(name)).unwrap()).unwrap().txs;
    let txs: Vec<_> = ["all", "rounds"].into_iter().flat_map(read).collect();
    let taken: Vec<_> = txs.iter().map(|tx| discriminant(&tx.read_unverified().unwrap().body)).collect();
    assert!(taken.iter().all(|kind| alone.contains(kind)));
    let distinct =
        |kinds: &[Discriminant<TxBody>]| kinds.iter().enumerate().filter(|(i, k)| !kinds[..*i].contains(k)).count();
    assert_eq!((distinct(&taken), distinct(&alone)), (34, 34), "a new kind of transaction needs an input of its own");
}

#[test]
fn every_target_has_a_way_in_and_a_small_corpus() {
    let mut bytes = 0;
    for (name, _) in TARGETS {
        let way_in = folder().join(format!("../fuzz_targets/{name}.rs"));
        let text = fs::read_to_string(&way_in).unwrap_or_else(|e| panic!("{}: {e}", way_in.display()));
        assert!(text.contains(&format!("::{name}(bytes)")), "{name}.rs runs another target");
        bytes += corpus(name).iter().map(|b| b.len() as u64).sum::<u64>();
    }
    let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name.as_str()), "corpus/{name} is of no target");
    }
    assert!(bytes <= CORPUS, "the corpus has {bytes} bytes; {CORPUS} are allowed");
}

/// What is accepted at all: a target that refuses its whole corpus tests nothing but the first check.
#[test]
fn the_corpus_holds_inputs_that_are_accepted() {
    use zero2ai_proto::{decode, limits::*, manifest::*, record::DhtValue};
    let some = |target: &str, accepts: &dyn Fn(&[u8]) -> bool| {
        assert!(corpus(target).iter().any(|bytes| accepts(bytes)), "no input of {target} is accepted");
    };
    let cut = |bytes: &[u8], format| {
        zero2ai_chunk::cut::cuts(&mut std::io::Cursor::new(bytes), format).is_ok_and(|c| c.is_some_and(|c| c.len() > 2))
    };
    some("gguf", &|bytes| cut(bytes, Format::Gguf));
    some("safetensors", &|bytes| cut(bytes, Format::Safetensors));
    // One tensor, behind a vocabulary.
    some("vocabulary", &|bytes| {
        let cuts = zero2ai_chunk::cut::cuts(&mut std::io::Cursor::new(bytes), Format::Gguf);
        cuts.is_ok_and(|cuts| cuts.is_some_and(|cuts| cuts.len() == 2))
    });
    some("samples", &|bytes| {
        decode::<Vec<ConformanceSample>>(bytes, MANIFEST_BYTES)
            .is_ok_and(|samples| samples.len() > 1 && ConformanceSample::check_all(&samples).is_ok())
    });
    some("manifest", &|bytes| decode::<Manifest>(bytes, MANIFEST_BYTES).is_ok_and(|m| m.check().is_ok()));
    some("outcome", &|bytes| {
        decode::<zero2ai_proto::outcome::OutcomeReport>(bytes, OUTCOME_BYTES)
            .is_ok_and(|report| report.check(&targets::outcomes::POOL).is_ok_and(|checked| checked.rows.len() == 2))
    });
    some("record", &|bytes| matches!(decode(bytes, RECORD_BYTES), Ok(DhtValue::Name(_))));
    some("transaction", &|bytes| {
        decode::<zero2ai_proto::Signed<zero2ai_proto::tx::Tx>>(bytes, SIGNED_BYTES).is_ok_and(|tx| tx.tx_id().is_ok())
    });
}
