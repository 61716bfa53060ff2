//! Test: texts that run together, are cut anywhere, or begin with what another text left, give what each gives alone.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use candle_core::quantized::GgmlDType;
use rustix::fs::{MemfdFlags, memfd_create};
use zero2ai_kernels::{Path, Pool};
use zero2ai_proto::{
    ByteBuf,
    calls::{GenerateInput, Prompt, Sampling, StopReason},
    worker::GenerateJob,
};

use super::{
    super::{Event, Given, source::Source},
    batch::Batch,
    bits::fixture::{VOCABULARY, tiny},
    cache::{Cache, PAGE, Page, Pages},
    generation::TextGeneration,
    gguf::Gguf,
    linear::Machine,
    model::{Model, Part},
    tokenizer::Tokenizer,
};

struct Machinery {
    model: Model,
    tokenizer: Tokenizer,
}

fn machinery(dtype: GgmlDType) -> Machinery {
    let file = memfd_create("tiny", MemfdFlags::empty()).unwrap();
    rustix::io::pwrite(&file, &tiny(dtype, "llama"), 0).unwrap();
    let source = Source::new("tiny.gguf", file).unwrap();
    let gguf = Gguf::open(&source).unwrap();
    let machine = Machine { pool: Pool::new(2).unwrap(), path: Path::best() };
    let tokenizer = Tokenizer::load(&gguf).unwrap();
    Machinery { model: Model::load(&gguf, VOCABULARY, machine).unwrap(), tokenizer }
}

fn job(job: u64, prompt: &str, max_tokens: u32, caller: &[u8]) -> GenerateJob {
    let sampling = Sampling { max_tokens, temperature_milli: 900, seed: 5, ..Sampling::default() };
    let input = GenerateInput { prompt: Prompt::Text(prompt.to_owned()), sampling, resume: vec![] };
    GenerateJob { job, input, caller: ByteBuf::from(caller) }
}

impl Machinery {
    fn enter(&self, batch: &mut Batch, job: &GenerateJob) {
        let text = TextGeneration::start(&job.input, &self.model.config, &self.tokenizer, None).unwrap();
        batch.enter(job, text).unwrap();
    }

    /// Steps until nothing is left; answers every text's tokens and why it ended, and how many steps that took.
    fn run(&self, batch: &mut Batch) -> (BTreeMap<u64, (Vec<u32>, StopReason)>, usize) {
        let (mut given, mut ended, mut steps) = (BTreeMap::<u64, Vec<u32>>::new(), BTreeMap::new(), 0);
        while batch.has_work() {
            for event in batch.step(&self.model, &self.tokenizer) {
                let Event::Given(Given { job, piece, end }) = event else { panic!("{event:?}") };
                let ids = given.entry(job).or_default();
                ids.extend(piece.map(|piece| piece.id));
                if let Some((reason, _)) = end {
                    ended.insert(job, (ids.clone(), reason));
                }
            }
            steps += 1;
        }
        (ended, steps)
    }
}

/// The bits of the scores after `tokens`, of which `cache` holds the first, read in parts of so many.
fn scores(model: &Model, mut cache: Cache, tokens: &[u32], part: usize) -> (Vec<u32>, Cache) {
    let mut bits = Vec::new();
    for tokens in tokens[cache.len()..].chunks(part) {
        cache.grow(tokens.len(), &model.config, &Pages::default()).unwrap();
        let scores = model.forward(&mut [Part { tokens, cache: &mut cache, scored: true }]).unwrap();
        bits = scores.iter().map(|s| s.to_bits()).collect();
    }
    (bits, cache)
}

#[test]
fn company_and_borrowed_pages_leave_every_bit_as_it_was() {
    for dtype in [GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4_1] {
        let Machinery { model, .. } = machinery(dtype);
        let tokens = |seed: u32| -> Vec<u32> { (0..75).map(|i| (i * 37 + seed) % 256).collect() };
        let (want, first) = scores(&model, Cache::default(), &tokens(11), 75);
        let (want_other, _) = scores(&model, Cache::default(), &tokens(3), 75);
        // From the pages of the first, in parts of any size.
        for (pages, part) in [(1, 59), (2, 5), (4, 1)] {
            let cache = Cache::starting_with(first.pages()[..pages].to_vec());
            assert_eq!(scores(&model, cache, &tokens(11), part).0, want, "{dtype:?} from {pages} pages");
        }
        // Several in one pass: one on borrowed pages, one in the middle of its prompt, one that gives tokens.
        let (_, mut a) = scores(&model, Cache::default(), &tokens(3)[..40], 40);
        let mut b = Cache::starting_with(first.pages()[..4].to_vec());
        let (_, mut c) = scores(&model, Cache::default(), &tokens(11)[..74], 9);
        let (own, other) = (tokens(11), tokens(3));
        for (cache, rows) in [(&mut a, 35), (&mut b, 75 - 4 * PAGE), (&mut c, 1)] {
            cache.grow(rows, &model.config, &Pages::default()).unwrap();
        }
        let mut parts = [
            Part { tokens: &other[40..], cache: &mut a, scored: true },
            Part { tokens: &own[4 * PAGE..], cache: &mut b, scored: true },
            Part { tokens: &own[74..], cache: &mut c, scored: true },
        ];
        let all = model.forward(&mut parts).unwrap();
        let all: Vec<Vec<u32>> =
            all.chunks(model.vocabulary()).map(|row| row.iter().map(|s| s.to_bits()).collect()).collect();
        assert_eq!(all, [want_other, want.clone(), want], "{dtype:?}");
    }
}

#[test]
fn a_shared_page_is_never_written() {
    let Machinery { model, .. } = machinery(GgmlDType::Q8_0);
    let (_, cache) = scores(&model, Cache::default(), &[1; 20], 20);
    // The second page is not full: going on from it would write into it.
    let mut shared = Cache::starting_with(cache.pages().to_vec());
    let half = shared.pages()[1].clone();
    shared = Cache::starting_with(vec![half]);
    assert!(shared.grow(1, &model.config, &Pages::default()).is_ok());
    assert!(shared.store(0, &[0.0; 32], &[0.0; 32], 32).is_ok(), "a page of its own");
    let mut inside = cache;
    assert!(inside.store(0, &[0.0; 32], &[0.0; 32], 32).is_err(), "its last page is held twice");
}

#[test]
fn every_text_gives_the_same_alone_together_and_on_what_others_left() {
    let machinery = machinery(GgmlDType::Q4_1);
    let prompt = |i: usize| format!("{} {i} {}", "a beginning that all of them share, ", "x".repeat(i));
    let alone: Vec<_> = (0..12)
        .map(|i| {
            let mut batch = Batch::new(1_000);
            machinery.enter(&mut batch, &job(i as u64, &prompt(i), 15, b""));
            machinery.run(&mut batch).0.remove(&(i as u64)).unwrap()
        })
        .collect();
    assert_ne!(alone[1], alone[2]);
    // Room for everything; for about three at a time; for one.
    for limit in [1_000, 14, 6] {
        let mut batch = Batch::new(limit);
        for round in 0..3 {
            for i in 0..12 {
                machinery.enter(&mut batch, &job(i as u64, &prompt(i), 15, if round == 2 { b"b" } else { b"a" }));
            }
            let (ended, _) = machinery.run(&mut batch);
            assert_eq!(ended.into_values().collect::<Vec<_>>(), alone, "round {round}, {limit} pages");
            assert!(batch.held() <= limit, "{} of {limit} pages", batch.held());
        }
    }
}

#[test]
fn what_was_read_before_is_not_read_again_but_for_another_caller() {
    let machinery = machinery(GgmlDType::Q8_0);
    let mut batch = Batch::new(1_000);
    let text = "y".repeat(85);
    let rows = |batch: &mut Batch, number: u64, caller: &[u8]| {
        let before = batch.read();
        machinery.enter(batch, &job(number, &text, 1, caller));
        machinery.run(batch);
        batch.read() - before
    };
    assert_eq!(rows(&mut batch, 1, b"a"), 85);
    assert_eq!(rows(&mut batch, 2, b"a"), 85 - 5 * PAGE as u64);
    assert_eq!(rows(&mut batch, 3, b"b"), 85, "another caller must not learn what was asked before");
    assert_eq!(rows(&mut batch, 4, b"b"), 85 - 5 * PAGE as u64);
}

#[test]
fn a_prompt_holds_nobody_up_and_a_text_given_up_is_gone() {
    let machinery = machinery(GgmlDType::Q8_0);
    let mut batch = Batch::new(1_000);
    machinery.enter(&mut batch, &job(1, "short", 60, b"a"));
    let token_of = |events: &[Event], wanted: u64| {
        events.iter().any(|e| matches!(e, Event::Given(Given { job, piece: Some(_), .. }) if *job == wanted))
    };
    let step = |batch: &mut Batch| batch.step(&machinery.model, &machinery.tokenizer);
    assert!(token_of(&step(&mut batch), 1));
    (2..9).for_each(|i| machinery.enter(&mut batch, &job(i, &"z".repeat(80 + i as usize), 5, b"b")));
    let mut steps = 0;
    loop {
        let events = step(&mut batch);
        assert!(token_of(&events, 1), "step {steps}");
        steps += 1;
        if token_of(&events, 8) {
            break;
        }
    }
    assert!(steps > 1, "so many prompts take more than a step");
    batch.leave(1);
    batch.leave(5);
    let (ended, _) = machinery.run(&mut batch);
    assert!(!ended.contains_key(&1) && ended.contains_key(&8));
    assert!(Page::bytes(&machinery.model.config) > 0 && !batch.has_work());
}
