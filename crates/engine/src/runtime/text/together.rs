//! Test: texts that run together, are cut anywhere, or begin with what another text left, give what each gives alone.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use candle_core::quantized::GgmlDType;
use rustix::fs::{MemfdFlags, memfd_create};
use zero2ai_kernels::{Path, Pool};
use zero2ai_proto::{
    ByteBuf,
    calls::{GenerateInput, Prompt, Sampling, StopReason},
    tensor::{DType, Tensor},
    worker::{Fault, GenerateJob},
};

use super::{
    super::{Event, Given, Meanwhile, Runtime as _, source::Source},
    Text,
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
    GenerateJob { job, input, caller: ByteBuf::from(caller), within_ms: 0 }
}

/// Later than any test ends.
fn never() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

impl Machinery {
    fn enter(&self, batch: &mut Batch, job: &GenerateJob) {
        let text = TextGeneration::start(&job.input, &self.model.config, &self.tokenizer, None).unwrap();
        batch.enter(job, text, never()).unwrap();
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
        let scores = model.forward(&mut [Part { tokens, cache: &mut cache, scored: 1 }]).unwrap();
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
            Part { tokens: &other[40..], cache: &mut a, scored: 1 },
            Part { tokens: &own[4 * PAGE..], cache: &mut b, scored: 1 },
            Part { tokens: &own[74..], cache: &mut c, scored: 1 },
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
            let mut batch = Batch::new(1_000, true);
            machinery.enter(&mut batch, &job(i as u64, &prompt(i), 15, b""));
            machinery.run(&mut batch).0.remove(&(i as u64)).unwrap()
        })
        .collect();
    assert_ne!(alone[1], alone[2]);
    // Room for everything; for about three at a time; for one.
    for limit in [1_000, 14, 6] {
        let mut batch = Batch::new(limit, true);
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
    let mut batch = Batch::new(1_000, true);
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
    let mut batch = Batch::new(1_000, true);
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

#[test]
fn guesses_change_how_many_passes_it_takes_and_nothing_else() {
    for dtype in [GgmlDType::Q8_0, GgmlDType::Q4_1] {
        let machinery = machinery(dtype);
        let texts: Vec<GenerateJob> = (0..10)
            .map(|i| {
                let prompt = if i % 2 == 0 { "ab ab ab ab".repeat(1 + i / 2) } else { format!("number {i} of them") };
                let mut job = job(i as u64, &prompt, 20 + i as u32 * 3, b"a");
                let sampling = &mut job.input.sampling;
                // The likeliest token mostly: such small models soon repeat themselves.
                sampling.temperature_milli = if i % 4 == 3 { 700 } else { 0 };
                sampling.logprobs = (i % 3 == 0).then_some(2);
                sampling.frequency_milli = if i % 5 == 4 { 300 } else { 0 };
                sampling.stop = if i == 6 { vec!["ab".to_owned()] } else { vec![] };
                job
            })
            .collect();
        let run = |batch: &mut Batch, texts: &[GenerateJob]| {
            texts.iter().for_each(|job| machinery.enter(batch, job));
            machinery.run(batch)
        };
        let mut plain = Batch::new(1_000, false);
        let (want, _) = run(&mut plain, &texts);
        assert_eq!(plain.guessed(), 0);
        let mut together = Batch::new(1_000, true);
        assert_eq!(run(&mut together, &texts).0, want, "{dtype:?}");
        // Again, on pages that were kept; each alone; and where there is hardly any room.
        assert_eq!(run(&mut together, &texts).0, want, "{dtype:?}");
        let (mut alone, mut guessed) = (BTreeMap::new(), 0);
        for text in &texts {
            let mut batch = Batch::new(8, true);
            alone.extend(run(&mut batch, std::slice::from_ref(text)).0);
            guessed += batch.guessed();
            assert!(batch.held() <= 8);
        }
        assert_eq!(alone, want, "{dtype:?}");
        assert!(guessed > 20, "{guessed} guesses were right: these texts do not test much");
        let (_, slow) = run(&mut Batch::new(8, false), &texts[..1]);
        let (_, fast) = run(&mut Batch::new(8, true), &texts[..1]);
        assert!(fast <= slow, "{fast} steps with guesses, {slow} without");
    }
}

#[test]
fn penalties_and_probabilities_are_the_same_alone_and_taken_over() {
    let machinery = machinery(GgmlDType::Q8_0);
    let mut whole = job(1, "say it again, say it again", 24, b"");
    let sampling = &mut whole.input.sampling;
    (sampling.repetition_milli, sampling.presence_milli, sampling.min_p_milli) = (1300, 400, 50);
    sampling.logprobs = Some(3);
    let pieces = |job: &GenerateJob| {
        let mut batch = Batch::new(1_000, true);
        machinery.enter(&mut batch, job);
        let mut pieces = Vec::new();
        while batch.has_work() {
            for event in batch.step(&machinery.model, &machinery.tokenizer) {
                let Event::Given(Given { piece, .. }) = event else { panic!("{event:?}") };
                pieces.extend(piece);
            }
        }
        pieces
    };
    let said = pieces(&whole);
    assert!(said.len() > 8);
    for piece in &said {
        let (own, others) = piece.scores.split_first().unwrap();
        assert_eq!((own.id, others.len()), (piece.id, 3));
        assert!(others.is_sorted_by_key(|score| score.minus_log_micro));
        assert!(others.iter().all(|other| other.id != own.id || other == own));
        assert!(own.minus_log_micro >= others[0].minus_log_micro);
    }
    let mut rest = whole.clone();
    rest.input.resume = said[..5].iter().map(|piece| piece.id).collect();
    assert_eq!(pieces(&rest), said[5..]);
    whole.input.sampling.repetition_milli = 1000;
    assert_ne!(pieces(&whole), said, "the penalty changes something here");
}

#[test]
fn a_text_whose_time_is_over_ends_as_late_and_the_others_go_on() {
    let machinery = machinery(GgmlDType::Q8_0);
    let mut batch = Batch::new(1_000, true);
    for (number, until) in [(1, Instant::now()), (2, never())] {
        let job = job(number, "whatever", 4, b"a");
        let text = TextGeneration::start(&job.input, &machinery.model.config, &machinery.tokenizer, None).unwrap();
        batch.enter(&job, text, until).unwrap();
    }
    let events = batch.step(&machinery.model, &machinery.tokenizer);
    let late = |event: &Event| matches!(event, Event::Failed { job: 1, error } if error.fault() == Fault::Late);
    assert_eq!(events.iter().filter(|event| late(event)).count(), 1, "{events:?}");
    let (ended, _) = machinery.run(&mut batch);
    assert_eq!(ended.keys().copied().collect::<Vec<_>>(), [2]);
}

#[test]
fn a_long_prediction_holds_no_text_up() {
    let file = memfd_create("tiny", MemfdFlags::empty()).unwrap();
    rustix::io::pwrite(&file, &tiny(GgmlDType::Q8_0, "llama"), 0).unwrap();
    let mut text = Text::load(&Source::new("tiny.gguf", file).unwrap(), None, true).unwrap();
    text.enter(&job(1, "short", 60, b"a"), never()).unwrap();
    let ids: Vec<u8> = (0..90_i64).flat_map(|i| (i % 256).to_le_bytes()).collect();
    let mut inputs = [("tokens", 90, ids), ("from", 1, 1_i64.to_le_bytes().to_vec())].map(|(name, len, data)| Tensor {
        name: name.to_owned(),
        dtype: DType::I64,
        shape: vec![len],
        data: ByteBuf::from(data),
    });
    let mut tokens = 0;
    let mut count = |events: Vec<Event>| tokens += events.len();
    let outputs = text.predict(&inputs, &mut Meanwhile { until: None, tell: &mut count }).unwrap();
    assert_eq!(outputs.len(), 2);
    assert!(tokens >= 3, "{tokens} tokens came while 90 tokens were read in parts of 32");
    // And one that has no time left does not begin.
    inputs[1].data = ByteBuf::from(2_i64.to_le_bytes());
    let late = text.predict(&inputs, &mut Meanwhile { until: Some(Instant::now()), tell: &mut |_| {} });
    assert_eq!(late.unwrap_err().fault(), Fault::Late);
}

#[test]
fn one_text_too_many_is_told_that_we_are_busy() {
    let machinery = machinery(GgmlDType::Q8_0);
    let mut batch = Batch::new(1_000, true);
    let refused = (0..1_000).find_map(|number| {
        let job = job(number, "whatever", 4, b"a");
        let text = TextGeneration::start(&job.input, &machinery.model.config, &machinery.tokenizer, None).unwrap();
        batch.enter(&job, text, never()).err()
    });
    assert_eq!(refused.unwrap().fault(), Fault::Busy);
}
