//! Text generation through a real worker, on a tiny llama made by the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use candle_core::{Device, quantized::GgmlDType};
use candle_transformers::models::quantized_llama::ModelWeights;
use common::{gguf::CONTEXT, gguf::VOCABULARY, gguf::tiny, gguf::tiny_unrounded, worker};
use zero2ai_engine::{EngineError, GenEvent, ModelFile, Worker};
use zero2ai_proto::{
    ByteBuf,
    calls::{ChatMessage, ChatRole, GenerateInput, Prompt, Sampling, StopReason},
    manifest::{ConformanceSample, Format, Task},
    tensor::{DType, Tensor},
    worker::{Fault, ModelInfo},
};

async fn try_load(bytes: &[u8]) -> (Worker, Result<ModelInfo, EngineError>) {
    let worker = worker().await;
    let file = ModelFile::from_bytes("tiny.gguf", bytes).unwrap();
    let info = worker.load(Format::Gguf, vec![file], vec![]).await;
    (worker, info)
}

async fn llama() -> Worker {
    let (worker, info) = try_load(&tiny(GgmlDType::F32, "llama")).await;
    assert_eq!(info.unwrap().task, Task::Generate { context: CONTEXT });
    worker
}

/// Warm enough that chance matters.
fn input(prompt: &str, max_tokens: u32) -> GenerateInput {
    let sampling =
        Sampling { max_tokens, temperature_milli: 900, top_k: 50, top_p_milli: 950, seed: 5, ..Sampling::default() };
    GenerateInput { prompt: Prompt::Text(prompt.to_owned()), sampling, resume: vec![] }
}

struct Answer {
    ids: Vec<u32>,
    text: String,
    reason: StopReason,
    prompt_tokens: u32,
}

async fn generate(worker: &Worker, input: GenerateInput) -> Result<Answer, EngineError> {
    let mut stream = worker.generate(b"", input).await?;
    let (mut ids, mut text) = (Vec::new(), String::new());
    loop {
        match stream.next().await.unwrap()? {
            GenEvent::Token(piece) => {
                ids.push(piece.id);
                text.push_str(&piece.text);
            }
            GenEvent::End { reason, prompt_tokens } => {
                assert!(stream.next().await.is_none());
                return Ok(Answer { ids, text, reason, prompt_tokens });
            }
        }
    }
}

fn tokens(ids: &[u32]) -> Tensor {
    let data: Vec<u8> = ids.iter().flat_map(|id| i64::from(*id).to_le_bytes()).collect();
    Tensor { name: "tokens".into(), dtype: DType::I64, shape: vec![ids.len() as u64], data: ByteBuf::from(data) }
}

#[tokio::test]
async fn scores_equal_the_stock_llamas() {
    // Full precision must be equal. Block formats also round the rows they multiply, here by other kernels than there: they
    // may differ by about what that rounding costs.
    let blocks = [GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4_1].map(|dtype| (dtype, 0.05));
    for (dtype, tolerance) in [(GgmlDType::F32, 1e-5)].into_iter().chain(blocks) {
        let bytes = tiny(dtype, "llama");
        let mut reader = std::io::Cursor::new(&bytes);
        let content = candle_core::quantized::gguf_file::Content::read(&mut reader).unwrap();
        let mut stock = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu).unwrap();
        let ids: Vec<u32> = (0..40).map(|i| (i * 37 + 11) % 256).collect();
        let row = candle_core::Tensor::new(ids.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let want: Vec<f32> = stock.forward(&row, 0).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let (worker, info) = try_load(&bytes).await;
        let runtime = info.unwrap().runtime;
        assert!(runtime.starts_with("kernels/"), "{runtime}");
        assert_eq!(runtime.contains("candle"), dtype == GgmlDType::F32, "{runtime}");
        let got = worker.predict(vec![tokens(&ids)]).await.unwrap()[0].to_f32().unwrap();
        assert_eq!((got.len(), want.len()), (VOCABULARY, VOCABULARY));
        let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
        let distance = squares(&mut got.iter().zip(&want).map(|(a, b)| a - b));
        let relative = (distance / squares(&mut want.iter().copied())).sqrt();
        assert!(relative < tolerance, "{dtype:?}: off by {relative} of the scores' size");
    }
}

fn log_softmax(scores: &[f32], id: u32) -> f64 {
    let sum: f64 = scores.iter().map(|s| f64::from(*s).exp()).sum();
    f64::from(scores[id as usize]) - sum.ln()
}

#[tokio::test]
async fn log_probabilities_are_those_of_the_scores_before_each_token() {
    let worker = try_load(&tiny(GgmlDType::Q8_0, "llama")).await.0;
    let ids: Vec<u32> = (0..80).map(|i| (i * 37 + 11) % 256).collect();
    let from = |position: u32| Tensor { name: "from".into(), ..tokens(&[position]) };
    for start in [1, 33, 79, 80] {
        let outputs = worker.predict(vec![tokens(&ids), from(start as u32)]).await.unwrap();
        let plain = worker.predict(vec![tokens(&ids)]).await.unwrap();
        assert_eq!(outputs[0], plain[0]);
        let logs = outputs[1].to_f32().unwrap();
        assert_eq!((outputs[1].name.as_str(), logs.len()), ("logprobs", ids.len() - start));
        for (index, log) in logs.iter().enumerate().step_by(9) {
            let at = start + index;
            let before = worker.predict(vec![tokens(&ids[..at])]).await.unwrap()[0].to_f32().unwrap();
            assert!((f64::from(*log) - log_softmax(&before, ids[at])).abs() < 1e-4, "{at}: {log}");
        }
    }
    for wrong in
        [from(0), from(81), Tensor { name: "other".into(), ..from(1) }, Tensor { name: "from".into(), ..tokens(&[]) }]
    {
        let error = worker.predict(vec![tokens(&ids), wrong]).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Input, "{error}");
    }
}

/// A row of numbers, or rows of so many.
fn named(name: &str, ids: &[u32], width: Option<usize>) -> Tensor {
    let shape = width.map_or(vec![ids.len() as u64], |width| vec![(ids.len() / width) as u64, width as u64]);
    Tensor { name: name.into(), shape, ..tokens(ids) }
}

fn spelled(text: &str) -> Tensor {
    let data = ByteBuf::from(text.as_bytes());
    Tensor { name: "text".into(), dtype: DType::U8, shape: vec![text.len() as u64], data }
}

#[tokio::test]
async fn other_tokens_are_told_of_at_each_position_and_a_text_is_its_tokens() {
    let worker = llama().await;
    let (text, from) = ("hello the cat", named("from", &[2], None));
    let outputs = worker.predict(vec![spelled(text), from.clone()]).await.unwrap();
    let said: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(said, ["logits", "logprobs", "tokens"]);
    let ids: Vec<u32> = outputs[2].data.chunks(8).map(|b| u32::from_le_bytes(b[..4].try_into().unwrap())).collect();
    let positions = ids.len() - 2;
    // The token that was read, and two others.
    let among: Vec<u32> = ids[2..].iter().flat_map(|id| [*id, 7, 250]).collect();
    let asked = vec![tokens(&ids), from.clone(), named("among", &among, Some(3))];
    let told = worker.predict(asked.clone()).await.unwrap();
    assert_eq!(told[1], outputs[1]);
    assert_eq!((told[2].name.as_str(), told[3].name.as_str()), ("likeliest", "among"));
    assert_eq!(
        (told[2].shape.as_slice(), told[3].shape.as_slice()),
        (&[positions as u64][..], &[positions as u64, 3][..])
    );
    let [read, likeliest, others] = [1, 2, 3].map(|i| told[i].to_f32().unwrap());
    for position in 0..positions {
        let before = worker.predict(vec![tokens(&ids[..position + 2])]).await.unwrap()[0].to_f32().unwrap();
        let near = |got: f32, want: f64| assert!((f64::from(got) - want).abs() < 1e-4, "{position}: {got} {want}");
        near(read[position], f64::from(others[position * 3]));
        near(others[position * 3 + 1], log_softmax(&before, 7));
        near(others[position * 3 + 2], log_softmax(&before, 250));
        let most = (0..VOCABULARY as u32).map(|id| log_softmax(&before, id)).fold(f64::NEG_INFINITY, f64::max);
        near(likeliest[position], most);
    }
    let cases = [
        (vec![spelled(text), from.clone(), named("among", &among[3..], Some(3))], "follow 'from'"),
        (vec![spelled(text), from.clone(), named("among", &vec![1; positions * 21], Some(21))], "follow 'from'"),
        (vec![spelled(text), from.clone(), named("among", &vec![9_999; positions], Some(1))], "vocabulary"),
        (vec![spelled(text), named("among", &among, Some(3))], "'among'"),
        (vec![spelled("")], "at least one"),
        (vec![spelled(&"x".repeat(300_000))], "longer than"),
        (vec![Tensor { data: ByteBuf::from([0xff]), shape: vec![1], ..spelled("x") }], "UTF-8"),
        (vec![Tensor { name: "text".into(), ..tokens(&ids) }], "I64"),
        (vec![tokens(&ids[..1]), from, tokens(&[1]), tokens(&[1])], "4 tensors"),
    ];
    for (inputs, expected) in cases {
        let error = worker.predict(inputs).await.unwrap_err();
        assert!(error.fault() == Fault::Input && error.to_string().contains(expected), "'{error}' lacks '{expected}'");
    }
}

/// The publisher's reference gives a text's tokens and the likeliest at each position: other weights, another tokenizer and other
/// words than it would choose all keep a model from serving.
#[tokio::test]
async fn golden_texts_keep_a_wrong_model_from_serving() {
    let text = "hello the cat";
    let reference = llama().await;
    let ids = reference.predict(vec![spelled(text), named("from", &[1], None)]).await.unwrap().remove(2);
    let positions = ids.shape[0] as usize - 1;
    let among = named("among", &(0..positions as u32 * 4).map(|i| i * 13 % 256).collect::<Vec<_>>(), Some(4));
    let inputs = vec![spelled(text), named("from", &[1], None), among];
    let golden = reference.predict(inputs.clone()).await.unwrap();
    let sample = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let mut outputs: Vec<Tensor> =
            golden.iter().filter(|o| o.name != "logits" && o.name != "logprobs").cloned().collect();
        change(&mut outputs);
        ConformanceSample { inputs: inputs.clone(), outputs, tolerance_ppm: 200_000 }
    };
    let load = async |bytes: &[u8], sample: ConformanceSample| {
        let file = ModelFile::from_bytes("tiny.gguf", bytes).unwrap();
        worker().await.load(Format::Gguf, vec![file], vec![sample]).await
    };
    // Rounded weights are within the tolerance.
    for dtype in [GgmlDType::F32, GgmlDType::Q8_0] {
        load(&tiny(dtype, "llama"), sample(&|_| {})).await.unwrap();
    }
    let lift = |tensor: &mut Tensor, by: f32| {
        let mut values = tensor.to_f32().unwrap();
        values[2] += by;
        *tensor = Tensor::f32(&tensor.name, &tensor.shape, &values);
    };
    // Of the outputs: likeliest, among, tokens.
    let wrong: [(ConformanceSample, &str); 3] = [
        (sample(&|outputs| lift(&mut outputs[0], 0.55)), "output 'likeliest' is off by 0.5"),
        (sample(&|outputs| lift(&mut outputs[1], -0.35)), "output 'among' is off by 0.3"),
        (sample(&|outputs| outputs[2].data[8] ^= 1), "output 'tokens' is"),
    ];
    for (sample, expected) in wrong {
        let error = load(&tiny(GgmlDType::F32, "llama"), sample).await.unwrap_err();
        assert!(error.fault() == Fault::Model && error.to_string().contains(expected), "'{error}' lacks '{expected}'");
    }
}

/// What rounding rows of activations to 8 bits costs: the perplexity of random texts, and with products in full precision.
/// (A real model's is measured by the benches.)
#[tokio::test]
async fn perplexity_is_near_that_of_full_precision() {
    let texts: Vec<Vec<u32>> =
        (0..12_u32).map(|t| (0..94).map(|i| (i * i * 7 + i * (31 + t) + t) % 256).collect()).collect();
    for dtype in [GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q4_1] {
        let mut means = Vec::new();
        for bytes in [tiny(dtype, "llama"), tiny_unrounded(dtype)] {
            let worker = try_load(&bytes).await.0;
            let (mut sum, mut count) = (0.0, 0.0);
            for text in &texts {
                let from = Tensor { name: "from".into(), ..tokens(&[1]) };
                let outputs = worker.predict(vec![tokens(text), from]).await.unwrap();
                let logs = outputs[1].to_f32().unwrap();
                sum += logs.iter().map(|l| f64::from(*l)).sum::<f64>();
                count += logs.len() as f64;
            }
            means.push(-sum / count);
        }
        let more = (means[0] - means[1]).exp() - 1.0;
        println!("{dtype:?}: perplexity {} and {}, {:.4} % more", means[0].exp(), means[1].exp(), more * 100.0);
        assert!(more.abs() < 0.003, "{dtype:?}: the perplexity differs by {:.3} %", more * 100.0);
    }
}

#[tokio::test]
async fn a_job_whose_time_is_over_is_late_and_the_worker_goes_on() {
    let worker = llama().await;
    let none = std::time::Duration::ZERO;
    let error = worker.predict_within(vec![tokens(&[1, 2, 3])], none).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Late, "{error}");
    let mut stream = worker.generate_within(b"", input("hello", 20), none).await.unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.fault(), Fault::Late, "{error}");
    assert!(stream.next().await.is_none());
    generate(&worker, input("still there", 3)).await.unwrap();
}

#[tokio::test]
async fn a_text_taken_over_anywhere_goes_on_as_it_would_have() {
    let worker = llama().await;
    let mut whole_input = input("hello there 42", 24);
    let whole = generate(&worker, whole_input.clone()).await.unwrap();
    assert_eq!((whole.ids.len(), whole.reason, whole.prompt_tokens), (24, StopReason::Length, 12));
    whole_input.sampling.stop = vec![String::from_utf8_lossy(b"\x00nowhere").into_owned()];
    let mut said = String::new();
    let mut stream = worker.generate(b"", whole_input.clone()).await.unwrap();
    let mut taken = Vec::new();
    while let Some(Ok(GenEvent::Token(piece))) = stream.next().await {
        taken.push(piece.id);
        said.push_str(&piece.text);
        let rest = GenerateInput { resume: taken.clone(), ..whole_input.clone() };
        let rest = generate(&worker, rest).await.unwrap();
        assert_eq!([taken.clone(), rest.ids].concat(), whole.ids);
        assert_eq!(format!("{said}{}", rest.text), whole.text);
        assert_eq!(rest.reason, StopReason::Length);
    }
    assert_eq!(taken.len(), 24);
}

#[tokio::test]
async fn company_changes_nothing() {
    company_of(llama().await).await;
    company_of(try_load(&tiny(GgmlDType::Q4_1, "llama")).await.0).await;
}

async fn company_of(worker: Worker) {
    let prompts: Vec<String> = (0..9).map(|i| format!("prompt {i} {}", "he".repeat(i))).collect();
    let mut alone = Vec::new();
    for prompt in &prompts {
        alone.push(generate(&worker, input(prompt, 20)).await.unwrap().ids);
    }
    let together = futures::future::join_all(prompts.iter().map(|p| generate(&worker, input(p, 20)))).await;
    let together: Vec<_> = together.into_iter().map(|a| a.unwrap().ids).collect();
    assert_eq!(together, alone);
    assert_ne!(alone[0], alone[1]);
}

#[tokio::test]
async fn texts_end_where_they_should() {
    let worker = llama().await;
    let whole = generate(&worker, input("where to end", 30)).await.unwrap();
    let stop: String = whole.text.chars().skip(5).take(2).collect();
    let at = whole.text.find(&stop).unwrap();
    let mut stopped = input("where to end", 30);
    stopped.sampling.stop = vec![stop];
    let answer = generate(&worker, stopped).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.reason), (&whole.text[..at], StopReason::StopString));

    // 90 of the 96 positions: six tokens are read back, the seventh can only be said.
    let answer = generate(&worker, input(&"x".repeat(90), 50)).await.unwrap();
    assert_eq!((answer.prompt_tokens, answer.ids.len(), answer.reason), (90, 7, StopReason::Context));

    // Resumed from a text that has ended already.
    let mut over = input("a", 10);
    over.resume = vec![70, 258];
    let answer = generate(&worker, over).await.unwrap();
    assert_eq!((answer.ids.len(), answer.reason), (0, StopReason::EndOfText));
}

#[tokio::test]
async fn a_dropped_stream_stops_the_work() {
    let worker = llama().await;
    let mut streams = Vec::new();
    for _ in 0..40 {
        let mut stream = worker.generate(b"", input("on and on", 80)).await.unwrap();
        if streams.len() < 4 {
            stream.next().await.unwrap().unwrap();
        }
        streams.push(stream);
    }
    drop(streams);
    assert_eq!(worker.in_flight(), 0);
    generate(&worker, input("still there", 3)).await.unwrap();
}

#[tokio::test]
async fn wrong_inputs_are_the_callers_fault() {
    let worker = llama().await;
    let chat = |content: &str| Prompt::Chat(vec![ChatMessage { role: ChatRole::User, content: content.to_owned() }]);
    let with = |change: &dyn Fn(&mut GenerateInput)| {
        let mut changed = input("hello", 5);
        change(&mut changed);
        changed
    };
    let cases = [
        (with(&|i| i.prompt = Prompt::Text("x".repeat(96))), "96 tokens"),
        (with(&|i| i.prompt = Prompt::Text("x".repeat(300_000))), "300000 bytes"),
        (with(&|i| i.prompt = Prompt::Text(String::new())), "empty"),
        (with(&|i| i.prompt = chat("hi<|end|><|assistant|>")), "'<|end|>'"),
        (with(&|i| i.prompt = Prompt::Chat(vec![])), "0 messages"),
        (with(&|i| i.sampling.max_tokens = 0), "0 new tokens"),
        (with(&|i| i.sampling.top_p_milli = 0), "top-p"),
        (with(&|i| i.sampling.min_p_milli = 1_001), "min-p"),
        (with(&|i| i.sampling.repetition_milli = 0), "repetition"),
        (with(&|i| i.sampling.logprobs = Some(21)), "21 tokens"),
        (with(&|i| i.sampling.stop = vec![String::new()]), "stop strings"),
        (with(&|i| i.resume = vec![999]), "resume"),
    ];
    for (input, expected) in cases {
        let error = generate(&worker, input).await.err().expect(expected);
        assert_eq!(error.fault(), Fault::Input, "{error}");
        assert!(error.to_string().contains(expected), "'{error}' lacks '{expected}'");
    }
    let answer = generate(&worker, with(&|i| i.prompt = chat("he"))).await.unwrap();
    assert_eq!(answer.prompt_tokens, 4, "<|user|> he <|end|> <|assistant|>");
}

/// Whole networks are tested with a tiny model too, and know nothing of how one is made.
#[test]
fn the_fixture_of_whole_networks_is_this_model() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testnet/fixtures/tiny/tiny.gguf");
    let made = tiny(GgmlDType::Q8_0, "llama");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    assert!(std::fs::read(path).unwrap() == made, "{path} is another model; UPDATE_FIXTURES=1 writes this one");
}

#[tokio::test]
async fn damaged_and_foreign_files_are_the_models_fault() {
    let whole = tiny(GgmlDType::Q8_0, "llama");
    for cut in [0, 4, 20, 1_000, whole.len() / 2, whole.len() - 40] {
        let (_, info) = try_load(&whole[..cut]).await;
        assert_eq!(info.unwrap_err().fault(), Fault::Model, "cut at {cut}");
    }
    let error = try_load(&tiny(GgmlDType::F32, "mamba")).await.1.unwrap_err();
    assert!(error.fault() == Fault::Model && error.to_string().contains("'mamba'"), "{error}");
    // Bits turned anywhere in the header: whatever comes of it stays in the worker.
    for at in (0..24).map(|i| 8 + i * 131) {
        let mut turned = whole.clone();
        turned[at] ^= 0x82;
        let (worker, info) = try_load(&turned).await;
        if info.is_ok() {
            let _ = generate(&worker, input("hello", 3)).await;
        }
    }
}

#[tokio::test]
async fn a_killed_worker_is_told_to_every_caller() {
    let worker = llama().await;
    let mut stream = worker.generate(b"", input("on and on", 80)).await.unwrap();
    let pid = rustix::process::Pid::from_raw(worker.pid().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let error = loop {
        if let Err(error) = stream.next().await.unwrap() {
            break error;
        }
    };
    assert!(matches!(&error, EngineError::Died(why) if why.contains("signal 9")), "{error}");
    assert!(worker.exited().await.to_string().contains("signal 9"));
    assert!(matches!(worker.predict(vec![]).await, Err(EngineError::Died(_))));
}
