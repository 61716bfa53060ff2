//! Generates text from a GGUF file through a sandboxed worker and says how fast it went:
//! `generate WORKER_PROGRAM FILE.gguf "PROMPT" [TOKENS] [THREADS]`.

use std::{
    error::Error,
    io::{Read as _, Write as _},
    time::Instant,
};

use zero2ai_engine::{GenEvent, ModelFile, Worker, WorkerConfig};
use zero2ai_proto::{
    calls::{ChatMessage, ChatRole, GenerateInput, Prompt, Sampling},
    manifest::Format,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| args.next().ok_or_else(|| format!("{what} is missing: WORKER FILE.gguf PROMPT"));
    let (program, path, prompt) = (next("the worker program")?, next("the model")?, next("the prompt")?);
    let max_tokens = next("").ok().and_then(|n| n.parse().ok()).unwrap_or(64);
    let threads = next("").ok().and_then(|n| n.parse().ok()).unwrap_or(2);

    let start = Instant::now();
    let memory_bytes = 4 << 30;
    let worker = Worker::spawn(WorkerConfig {
        program: program.into(),
        args: vec![],
        threads,
        memory_bytes,
        allow_unsandboxed: false,
    })
    .await?;
    println!("sandbox: {} after {:?}", worker.sandbox().join(", "), start.elapsed());
    let mut source = std::fs::File::open(&path)?;
    let mut file = ModelFile::create("model.gguf", source.metadata()?.len())?;
    let mut buffer = vec![0; 1 << 20];
    while let count @ 1.. = source.read(&mut buffer)? {
        file.append(buffer.get(..count).unwrap_or_default())?;
    }
    let start = Instant::now();
    let info = worker.load(Format::Gguf, vec![file], vec![]).await?;
    println!("{} parameters, {:?}, loaded in {:?}", info.parameters, info.task, start.elapsed());

    let prompt = Prompt::Chat(vec![ChatMessage { role: ChatRole::User, content: prompt }]);
    let sampling = Sampling { max_tokens, ..Sampling::default() };
    let start = Instant::now();
    let mut stream = worker.generate(b"", GenerateInput { prompt, sampling, resume: vec![] }).await?;
    let (mut first, mut tokens) = (None, 0_u32);
    while let Some(event) = stream.next().await {
        match event? {
            GenEvent::Token(piece) => {
                tokens += 1;
                first.get_or_insert_with(|| start.elapsed());
                print!("{}", piece.text);
                std::io::stdout().flush()?;
            }
            GenEvent::End { reason, prompt_tokens } => {
                let (first, whole) = (first.unwrap_or_default(), start.elapsed());
                let rate = f64::from(tokens.saturating_sub(1)) / (whole - first).as_secs_f64();
                println!(
                    "\n[{reason:?}: {prompt_tokens} prompt tokens, first token after {first:?}, {tokens} tokens, {rate:.1}/s]"
                );
            }
        }
    }
    Ok(())
}
