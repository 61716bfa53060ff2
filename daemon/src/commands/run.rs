//! `run`: text from a language model, token by token; if its node dies the next one goes on from the same word.

use std::time::{Duration, Instant};

use serde_json::json;
use zero2ai_client::{Resolution, TextEvent};
use zero2ai_proto::{
    NodeId,
    calls::{ChatMessage, ChatRole, GenerateInput, Prompt, Sampling, StopReason},
    kept::KeptCall,
    limits::PROMPT_BYTES,
};

use super::{keep, resolve::lookup_served};
use crate::{
    cli::RunArgs,
    exit::{Exit, Failure, Outcome},
    output::{Output, millis, print_line, print_piece},
    session::Session,
};

/// What a generation came to.
pub(crate) struct Generation {
    pub(crate) text: String,
    pub(crate) tokens: u64,
    pub(crate) prompt_tokens: u32,
    /// Until the first token; `None` if there was none.
    pub(crate) first: Option<Duration>,
    pub(crate) took: Duration,
    /// Who ended it.
    pub(crate) node: NodeId,
    pub(crate) reason: StopReason,
    /// The call at each provider, to be kept.
    pub(crate) calls: Vec<KeptCall>,
}

impl Generation {
    /// Tokens a second after the first token.
    pub(crate) fn tokens_per_s(&self) -> f64 {
        let rest = self.took.saturating_sub(self.first.unwrap_or_default()).as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // tokens are few
        let more = self.tokens.saturating_sub(1) as f64;
        if rest > 0.0 { more / rest } else { 0.0 }
    }
}

/// A conversation of one message, with instructions before it if there are any.
pub(crate) fn chat(system: Option<String>, prompt: &str, sampling: Sampling) -> GenerateInput {
    let message = |role, content: String| ChatMessage { role, content };
    let system = system.map(|text| message(ChatRole::System, text));
    let user = message(ChatRole::User, prompt.to_owned());
    let prompt = Prompt::Chat(system.into_iter().chain([user]).collect());
    GenerateInput { prompt, sampling, resume: Vec::new() }
}

/// Generates at the nearest endpoint and hands each piece of text to `show` as it comes.
pub(crate) async fn generate(
    session: &Session,
    found: &Resolution,
    input: GenerateInput,
    patience: Duration,
    mut show: impl FnMut(&str),
) -> Outcome<Generation> {
    let start = Instant::now();
    let mut stream = session.client.generate(found, input, patience).await?;
    let (mut text, mut tokens, mut first) = (String::new(), 0, None);
    while let Some(event) = stream.next().await {
        match event? {
            TextEvent::Token(piece) => {
                first.get_or_insert_with(|| start.elapsed());
                tokens += 1;
                show(&piece.text);
                text += &piece.text;
            }
            TextEvent::Done(end) => {
                let took = start.elapsed();
                let (node, reason, prompt_tokens, calls) = (end.node, end.reason, end.prompt_tokens, end.calls);
                return Ok(Generation { text, tokens, prompt_tokens, first, took, node, reason, calls });
            }
        }
    }
    Err(Failure::new(
        Exit::Internal,
        "The text ended without its provider's signature; nothing of it is billed. Try again.",
    ))
}

/// Why a text ended, as one word.
fn reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::EndOfText => "end_of_text",
        StopReason::StopString => "stop_string",
        StopReason::Length => "length",
        StopReason::Context => "context_full",
    }
}

/// The command.
pub(crate) async fn run(session: &Session, args: RunArgs, out: Output) -> Outcome {
    let bytes = args.prompt.len() + args.system.as_ref().map_or(0, String::len);
    if bytes > PROMPT_BYTES {
        return Err(Failure::new(
            Exit::Invalid,
            format!("The prompt has {bytes} bytes; at most {PROMPT_BYTES} are sent. Shorten it."),
        ));
    }
    let sampling = Sampling {
        max_tokens: args.max_tokens,
        temperature_milli: args.temperature,
        top_k: args.top_k,
        top_p_milli: args.top_p.min(1000),
        seed: args.seed,
        stop: args.stop,
        min_p_milli: args.min_p,
        repetition_milli: args.repetition_penalty,
        frequency_milli: args.frequency_penalty,
        presence_milli: args.presence_penalty,
        logprobs: None,
    };
    let input = if args.raw {
        GenerateInput { prompt: Prompt::Text(args.prompt), sampling, resume: Vec::new() }
    } else {
        chat(args.system, &args.prompt, sampling)
    };
    let found = lookup_served(session, &args.name).await?;
    let show = |piece: &str| {
        if !out.json {
            print_piece(piece);
        }
    };
    let done = generate(session, &found, input, args.timeout, show).await?;
    let (first, rate) = (done.first.map(millis), done.tokens_per_s());
    let runtime = keep::runtime_of(session, &found, done.node).await;
    let receipt = done.calls.last().map(|call| call.receipt.id()).transpose()?.map(|id| id.to_string());
    let kept = keep::save(args.save_call.as_deref(), || done.calls, runtime.as_deref());
    if out.json {
        let json = json!({
            "name": found.name.to_string(), "version": found.version, "text": done.text, "tokens": done.tokens,
            "prompt_tokens": done.prompt_tokens, "ttft_ms": first, "tokens_per_s": rate, "reason": reason(done.reason),
            "node": done.node.to_string(), "runtime": runtime, "receipt": receipt,
        });
        print_line(&json.to_string());
    } else {
        print_line("");
        let (n, node) = (done.tokens, done.node.short());
        let first = first.unwrap_or(0.0);
        eprintln!(
            "{n} tokens from {node}{}: first after {first:.0} ms, then {rate:.1} tokens/s; ended by {}{}",
            keep::by(runtime.as_deref()),
            reason(done.reason),
            keep::kept_at(args.save_call.as_deref().filter(|_| kept.is_ok()))
        );
    }
    kept
}
