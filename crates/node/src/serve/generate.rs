//! Text, token by token: signed checkpoints on the way, a receipt at the end, and a partial receipt when the caller goes
//! away.

use zero2ai_engine::GenEvent;
use zero2ai_proto::{
    Signed,
    calls::{ChatMessage, Generate, GenerateInput, Generated, GenerationEnd, Prompt},
    encode,
    limits::{CHECKPOINT_TOKENS, NEW_TOKENS, PROMPT_BYTES},
    receipt::{Response, Status},
    rpc::RpcError,
};
use zero2ai_rpc::{IncomingCall, ReplySink};

use super::{
    inference::{Admitted, admit},
    spent::Spent,
};
use crate::{
    core::Core,
    serve::errors::{internal, invalid},
};

/// Stop strings of one request.
const STOPS: usize = 16;

pub(crate) fn check(input: &GenerateInput) -> Result<(), RpcError> {
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
    let admitted = admit(core, spent, request.request, &request.salt, &input, true).await?;
    let caller = admitted.signed.signer();
    let stream = admitted.serving().worker.generate_within(caller.as_bytes(), request.input, admitted.left).await;
    let mut stream = stream.map_err(|e| admitted.failed(core, e))?;
    let mut tokens: Vec<u32> = Vec::new();
    let stopped = loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = call.cancelled.cancelled() => break None,
        };
        match event {
            None => break Some(internal("the worker ended a stream without a word")),
            Some(Ok(GenEvent::Token(piece))) => {
                tokens.push(piece.id);
                let point = (tokens.len() as u64).is_multiple_of(CHECKPOINT_TOKENS);
                let point = point.then(|| sign(core, &admitted, &tokens, Status::Checkpoint)).transpose()?;
                let tell = async {
                    reply.item::<Generate>(&Generated::Token(piece)).await?;
                    match point {
                        Some(point) => reply.item::<Generate>(&Generated::Checkpoint(point)).await,
                        None => Ok(()),
                    }
                };
                // A caller that does not read is waited for until its time is over.
                let told = tokio::select! {
                    told = tell => told,
                    () = call.cancelled.cancelled() => break None,
                };
                if told.is_err() {
                    break None;
                }
            }
            Some(Ok(GenEvent::End { reason, prompt_tokens })) => {
                let response = sign(core, &admitted, &tokens, Status::Complete)?;
                admitted.keep(core, &response).await?;
                let end = GenerationEnd { response, reason, prompt_tokens };
                return reply.item::<Generate>(&Generated::Done(end)).await;
            }
            Some(Err(error)) => break Some(admitted.failed(core, error)),
        }
    };
    // What was given up to here is on record, whoever ended it.
    if stopped.is_none() || !tokens.is_empty() {
        admitted.keep(core, &sign(core, &admitted, &tokens, Status::Cancelled)?).await?;
    }
    stopped.map_or(Ok(()), Err)
}

/// The provider's half over the tokens given so far.
fn sign(core: &Core, admitted: &Admitted, tokens: &Vec<u32>, status: Status) -> Result<Signed<Response>, RpcError> {
    admitted.respond(core, &encode(tokens).map_err(internal)?, tokens.len() as u64, status)
}
