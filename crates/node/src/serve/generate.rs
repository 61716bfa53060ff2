//! Text, token by token: signed checkpoints on the way, a receipt at the end, and a partial receipt when the caller goes
//! away.

use zero2ai_engine::GenEvent;
use zero2ai_proto::{
    calls::{ChatMessage, Generate, GenerateInput, Generated, GenerationEnd, Prompt},
    encode,
    limits::{CHECKPOINT_TOKENS, NEW_TOKENS, PROMPT_BYTES},
    receipt::Status,
    rpc::RpcError,
};
use zero2ai_rpc::{IncomingCall, ReplySink};

use super::inference::{Spent, admit};
use crate::{
    core::Core,
    serve::errors::{internal, invalid},
};

/// Stop strings of one request.
const STOPS: usize = 16;

fn check(input: &GenerateInput) -> Result<(), RpcError> {
    let bytes = match &input.prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Chat(messages) => messages.iter().map(|m: &ChatMessage| m.content.len()).sum(),
    };
    if bytes == 0 || bytes > PROMPT_BYTES {
        return Err(invalid(format!("the prompt has {bytes} bytes; 1 to {PROMPT_BYTES} are allowed")));
    }
    if input.sampling.max_tokens == 0 || input.sampling.max_tokens > NEW_TOKENS {
        return Err(invalid(format!("max_tokens is {}; 1 to {NEW_TOKENS} are allowed", input.sampling.max_tokens)));
    }
    if input.sampling.stop.len() > STOPS || input.resume.len() > NEW_TOKENS as usize {
        return Err(invalid("too many stop strings, or too many tokens to resume from"));
    }
    Ok(())
}

pub(super) async fn generate(
    core: &Core,
    spent: &Spent,
    call: &IncomingCall,
    reply: &mut ReplySink,
) -> Result<(), RpcError> {
    let request = call.request::<Generate>()?;
    check(&request.input)?;
    let input = encode(&request.input).map_err(internal)?;
    let admitted = admit(core, spent, request.request, &request.salt, &input, true)?;
    let mut stream = admitted.serving.worker.generate(request.input).await.map_err(|e| admitted.failed(core, e))?;
    let mut tokens: Vec<u32> = Vec::new();
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = call.cancelled.cancelled() => {
                let said = encode(&tokens).map_err(internal)?;
                let partial = admitted.respond(core, &said, tokens.len() as u64, Status::Cancelled)?;
                return admitted.keep(core, &partial).await;
            }
        };
        let event = event.ok_or_else(|| internal("the worker ended a stream without a word"))?;
        match event.map_err(|e| admitted.failed(core, e))? {
            GenEvent::Token(piece) => {
                tokens.push(piece.id);
                let sent = reply.item::<Generate>(&Generated::Token(piece)).await;
                if sent.is_err() {
                    continue; // the caller is gone: `cancelled` says so in a moment, and the partial receipt is kept
                }
                if (tokens.len() as u64).is_multiple_of(CHECKPOINT_TOKENS) {
                    let said = encode(&tokens).map_err(internal)?;
                    let point = admitted.respond(core, &said, tokens.len() as u64, Status::Checkpoint)?;
                    let _ = reply.item::<Generate>(&Generated::Checkpoint(point)).await;
                }
            }
            GenEvent::End { reason, prompt_tokens } => {
                let said = encode(&tokens).map_err(internal)?;
                let response = admitted.respond(core, &said, tokens.len() as u64, Status::Complete)?;
                admitted.keep(core, &response).await?;
                let end = GenerationEnd { response, reason, prompt_tokens };
                return reply.item::<Generate>(&Generated::Done(end)).await;
            }
        }
    }
}
