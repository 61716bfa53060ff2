//! Chat and completion requests, turned into the network's own. Numbers become thousandths, so that the same request has
//! the same bytes everywhere.

use serde::Deserialize;
use serde_json::{Value, json};
use zero2ai_proto::{
    ModelRef,
    calls::{ChatMessage, ChatRole, GenerateInput, Prompt, Sampling},
    keys::random_bytes,
    limits::{NEW_TOKENS, PROMPT_BYTES, TOP_SCORES},
};

use super::{answer::Kind, fields::Fields};
use crate::fault::Fault;

/// New tokens of a chat where the caller names no limit: OpenAI's is the context, which a small model that does not end by
/// itself would fill at the pool's cost.
const CHAT_TOKENS: u32 = 1_024;
/// New tokens of a completion where the caller names no limit, as OpenAI's.
const TEXT_TOKENS: u32 = 16;

/// Likeliest tokens of a completion, at most: as OpenAI's.
const TEXT_SCORES: u8 = 5;

/// A request, read.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) name: ModelRef,
    /// The name as the caller wrote it.
    pub(super) model: String,
    pub(super) input: GenerateInput,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

/// One string or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Vec<String> {
    fn from(given: OneOrMany) -> Self {
        match given {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

/// Reads a body.
pub(super) fn parse(body: &[u8], kind: Kind) -> Result<Wish, Fault> {
    let mut fields = Fields::parse(body)?;
    let model: String = fields.take("model")?.ok_or_else(|| missing("model"))?;
    let name: ModelRef =
        model.parse().map_err(|e: zero2ai_proto::name::NameError| Fault::no_model(e.to_string()).of("model"))?;
    let stream = fields.take("stream")?.unwrap_or(false);
    let include_usage = stream_options(&mut fields, stream)?;
    let prompt = match kind {
        Kind::Chat => Prompt::Chat(messages(&mut fields)?),
        Kind::Text => Prompt::Text(prompt(&mut fields)?),
    };
    let sampling = sampling(&mut fields, kind)?;
    refuse(&mut fields, kind)?;
    fields.ignore(&[
        "user",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "parallel_tool_calls",
    ]);
    fields.finish()?;
    let input = GenerateInput { prompt, sampling, resume: Vec::new() };
    Ok(Wish { name, model, input, stream, include_usage })
}

fn missing(name: &str) -> Fault {
    Fault::invalid(format!("you must provide '{name}'")).of(name)
}

fn stream_options(fields: &mut Fields, stream: bool) -> Result<bool, Fault> {
    let Some(options) = fields.take::<serde_json::Map<String, Value>>("stream_options")? else { return Ok(false) };
    let fail = |why: &str| Err(Fault::invalid(format!("'stream_options' {why}")).of("stream_options"));
    if !stream {
        return fail("is only allowed with 'stream': true");
    }
    if options.keys().any(|name| !["include_usage", "include_obfuscation"].contains(&name.as_str())) {
        return fail("knows include_usage only");
    }
    match options.get("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(wanted)) => Ok(*wanted),
        Some(_) => fail("has an include_usage that is neither true nor false"),
    }
}

fn sampling(fields: &mut Fields, kind: Kind) -> Result<Sampling, Fault> {
    let (old, new) = (fields.take::<u64>("max_tokens")?, fields.take::<u64>("max_completion_tokens")?);
    let param = if new.is_some() { "max_completion_tokens" } else { "max_tokens" };
    let default = if kind == Kind::Chat { CHAT_TOKENS } else { TEXT_TOKENS };
    let wanted = new.or(old).unwrap_or(u64::from(default));
    let max_tokens = u32::try_from(wanted)
        .ok()
        .filter(|n| (1..=NEW_TOKENS).contains(n))
        .ok_or_else(|| Fault::invalid(format!("'{param}' is {wanted}; 1 to {NEW_TOKENS} are allowed")).of(param))?;
    let temperature = fields.number("temperature", 0.0, 2.0)?.unwrap_or(1.0);
    let top_p = fields.number("top_p", 0.0, 1.0)?.unwrap_or(1.0);
    let seed = match fields.take::<i64>("seed")? {
        Some(seed) => seed.cast_unsigned(),
        // As OpenAI: without a seed, every answer is another one.
        None => u64::from_le_bytes(random_bytes().map_err(Fault::internal)?),
    };
    let stop = fields.take::<OneOrMany>("stop")?.map(Vec::from).unwrap_or_default();
    // Below zero they would ask for repetition: the network has no such thing.
    let frequency = fields.number("frequency_penalty", 0.0, 2.0)?.unwrap_or(0.0);
    let presence = fields.number("presence_penalty", 0.0, 2.0)?.unwrap_or(0.0);
    // Not OpenAI's: named as other servers of its routes have them.
    let min_p = fields.number("min_p", 0.0, 1.0)?.unwrap_or(0.0);
    let repetition = fields.number("repetition_penalty", 0.1, 10.0)?.unwrap_or(1.0);
    let logprobs = logprobs(fields, kind)?;
    // The likeliest token stays however little is left.
    Ok(Sampling {
        max_tokens,
        temperature_milli: milli(temperature),
        top_k: 0,
        top_p_milli: milli(top_p).max(1),
        seed,
        stop,
        min_p_milli: milli(min_p),
        repetition_milli: milli(repetition),
        frequency_milli: milli(frequency),
        presence_milli: milli(presence),
        logprobs,
    })
}

/// How many likeliest tokens are told beside each: chats say whether and how many apart.
fn logprobs(fields: &mut Fields, kind: Kind) -> Result<Option<u8>, Fault> {
    let count = |fields: &mut Fields, name: &str, most: u8| -> Result<Option<u8>, Fault> {
        let given: Option<u64> = fields.take(name)?;
        given.map_or(Ok(None), |n| match u8::try_from(n) {
            Ok(n) if n <= most => Ok(Some(n)),
            _ => Err(Fault::invalid(format!("'{name}' is {n}; 0 to {most} are allowed")).of(name)),
        })
    };
    if kind == Kind::Text {
        return count(fields, "logprobs", TEXT_SCORES);
    }
    let wanted = fields.take::<bool>("logprobs")?.unwrap_or(false);
    match count(fields, "top_logprobs", TOP_SCORES)? {
        Some(1..) if !wanted => {
            Err(Fault::invalid("'top_logprobs' is only allowed with 'logprobs': true").of("top_logprobs"))
        }
        top => Ok(wanted.then(|| top.unwrap_or(0))),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 10000
fn milli(x: f64) -> u32 {
    (x * 1_000.0).round() as u32
}

/// What the network does not do. A value that asks for nothing is no reason to refuse.
fn refuse(fields: &mut Fields, kind: Kind) -> Result<(), Fault> {
    let (no, one, none) = (json!(false), [json!(1)], [json!([]), json!({})]);
    fields.refuse("n", &one)?;
    fields.refuse("logit_bias", &none)?;
    if kind == Kind::Text {
        fields.refuse("best_of", &one)?;
        fields.refuse("echo", &[no])?;
        return fields.refuse("suffix", &[json!("")]);
    }
    fields.refuse("tools", &none)?;
    fields.refuse("tool_choice", &[json!("none"), json!("auto")])?;
    fields.refuse("functions", &none)?;
    fields.refuse("function_call", &[json!("none"), json!("auto")])?;
    fields.refuse("response_format", &[json!({ "type": "text" })])?;
    fields.refuse("modalities", &[json!(["text"])])?;
    fields.refuse("store", &[no])?;
    ["audio", "prediction", "reasoning_effort", "verbosity", "web_search_options"]
        .iter()
        .try_for_each(|name| fields.refuse(name, &[]))
}

fn prompt(fields: &mut Fields) -> Result<String, Fault> {
    let several =
        |n: usize| Fault::invalid(format!("{n} prompts in one request are not supported: send one")).of("prompt");
    let text = match fields.take::<Value>("prompt")?.ok_or_else(|| missing("prompt"))? {
        Value::String(text) => text,
        Value::Array(mut list) if list.len() == 1 => match list.pop() {
            Some(Value::String(text)) => text,
            _ => return Err(Fault::invalid("a prompt of token ids is not supported: send text").of("prompt")),
        },
        Value::Array(list) => return Err(several(list.len())),
        _ => return Err(Fault::invalid("the prompt is no text").of("prompt")),
    };
    within_bounds(text.len(), "prompt")?;
    Ok(text)
}

fn within_bounds(bytes: usize, param: &str) -> Result<(), Fault> {
    if bytes == 0 || bytes > PROMPT_BYTES {
        return Err(Fault::invalid(format!("the prompt has {bytes} bytes; 1 to {PROMPT_BYTES} are allowed")).of(param));
    }
    Ok(())
}

fn messages(fields: &mut Fields) -> Result<Vec<ChatMessage>, Fault> {
    let given: Vec<Value> = fields.take("messages")?.ok_or_else(|| missing("messages"))?;
    let read = |(i, value): (usize, Value)| {
        message(value)
            .map_err(|fault| Fault { message: format!("messages[{i}]: {}", fault.message), ..fault }.of("messages"))
    };
    let messages: Vec<ChatMessage> = given.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
    within_bounds(messages.iter().map(|m| m.content.len()).sum(), "messages")?;
    Ok(messages)
}

fn message(value: Value) -> Result<ChatMessage, Fault> {
    let Value::Object(map) = value else { return Err(Fault::invalid("it is no object")) };
    let mut fields = Fields::from(map);
    let role: String = fields.take("role")?.ok_or_else(|| Fault::invalid("it has no role"))?;
    let role = match role.as_str() {
        "system" | "developer" => ChatRole::System,
        "user" => ChatRole::User,
        "assistant" => ChatRole::Assistant,
        _ => {
            return Err(Fault::invalid(
                "its role is none of system, developer, user and assistant; tools are not supported",
            ));
        }
    };
    let content = match fields.take::<Value>("content")? {
        None => String::new(),
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => parts.into_iter().map(part).collect::<Result<_, _>>()?,
        Some(_) => return Err(Fault::invalid("its content is neither text nor a list of parts")),
    };
    // What the official client sends back of an earlier answer says nothing more.
    for name in ["tool_calls", "function_call", "audio", "refusal", "annotations"] {
        fields.refuse(name, &[json!([])])?;
    }
    fields.ignore(&["name"]);
    fields.finish()?;
    Ok(ChatMessage { role, content })
}

fn part(value: Value) -> Result<String, Fault> {
    match (value.get("type").and_then(Value::as_str), value.get("text")) {
        (Some("text"), Some(Value::String(text))) => Ok(text.clone()),
        _ => Err(Fault::invalid("a part of its content is not text; images, audio and files are not supported")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chat(change: &Value) -> Result<Wish, Fault> {
        let mut body = json!({ "model": "lab/chat", "messages": [{ "role": "user", "content": "hi" }] });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        parse(body.to_string().as_bytes(), Kind::Chat)
    }

    #[test]
    fn fields_become_the_networks_own() {
        let wish = chat(&json!({
            "model": "lab/chat:stable", "temperature": 0.7, "top_p": 0.9, "seed": -1, "stop": "END", "max_completion_tokens": 5,
            "max_tokens": 9, "stream": true, "stream_options": { "include_usage": true }, "n": 1, "logprobs": false, "tools": [],
            "messages": [
                { "role": "developer", "content": "be brief" },
                { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
                { "role": "assistant", "content": null, "tool_calls": null, "refusal": null },
            ],
        }))
        .unwrap();
        assert!(wish.stream && wish.include_usage);
        let Sampling { max_tokens, temperature_milli, top_p_milli, seed, stop, .. } = wish.input.sampling;
        assert_eq!((max_tokens, temperature_milli, top_p_milli, seed), (5, 700, 900, u64::MAX));
        assert_eq!(stop, ["END"]);
        let Prompt::Chat(messages) = wish.input.prompt else { unreachable!() };
        assert_eq!(
            (messages[0].role, messages[1].content.as_str(), messages[2].content.as_str()),
            (ChatRole::System, "ab", "")
        );
    }

    #[test]
    fn penalties_and_probabilities_are_passed_on() {
        let wish = chat(&json!({
            "frequency_penalty": 0.5, "presence_penalty": 2, "repetition_penalty": 1.1, "min_p": 0.05, "logprobs": true, "top_logprobs": 20,
        }));
        let sampling = wish.unwrap().input.sampling;
        let milli =
            (sampling.frequency_milli, sampling.presence_milli, sampling.repetition_milli, sampling.min_p_milli);
        assert_eq!((milli, sampling.logprobs), ((500, 2_000, 1_100, 50), Some(20)));
        assert_eq!(chat(&json!({ "logprobs": true })).unwrap().input.sampling.logprobs, Some(0));
        assert_eq!(chat(&json!({ "logprobs": false, "top_logprobs": 0 })).unwrap().input.sampling.logprobs, None);
        let text =
            |n: u32| parse(format!("{{\"model\":\"a/b\",\"prompt\":\"x\",\"logprobs\":{n}}}").as_bytes(), Kind::Text);
        assert_eq!(text(5).unwrap().input.sampling.logprobs, Some(5));
        assert_eq!(text(6).unwrap_err().param.as_deref(), Some("logprobs"));
    }

    #[test]
    fn without_a_seed_answers_differ_and_defaults_are_openais() {
        let [a, b] = [(); 2].map(|()| chat(&json!({})).unwrap().input.sampling);
        assert_ne!(a.seed, b.seed);
        assert_eq!((a.max_tokens, a.temperature_milli, a.top_p_milli), (CHAT_TOKENS, 1_000, 1_000));
        let text = parse(br#"{"model": "a/b", "prompt": ["x"]}"#, Kind::Text).unwrap();
        assert_eq!((text.input.sampling.max_tokens, text.input.prompt), (TEXT_TOKENS, Prompt::Text("x".into())));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (name, value) in [
            ("n", json!(2)),
            ("n", json!(1_000_000)),
            ("n", json!(-1)),
            ("tools", json!([{ "type": "function" }])),
            ("logprobs", json!(3)),
            ("top_logprobs", json!(3)),
            ("top_logprobs", json!(21)),
            ("presence_penalty", json!(2.5)),
            ("repetition_penalty", json!(0)),
            ("min_p", json!(-1)),
            ("max_tokens", json!(1_000_000_000)),
            ("max_tokens", json!(0)),
            ("max_tokens", json!(-5)),
            ("max_tokens", json!(1.5)),
            ("temperature", json!(2.1)),
            ("temperature", json!(-0.1)),
            ("top_p", json!(1.5)),
            ("seed", json!("x")),
            ("stop", json!([1])),
            ("response_format", json!({ "type": "json_object" })),
            ("stream", json!("yes")),
            ("stream_options", json!({ "include_usage": true })),
            ("unheard_of", json!(1)),
            ("messages", json!([])),
            ("messages", json!([{ "role": "tool", "content": "x" }])),
            ("messages", json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }])),
            ("messages", json!([{ "role": "user", "content": "x".repeat(PROMPT_BYTES + 1) }])),
            ("messages", json!("hi")),
            ("model", json!("no-slash")),
            ("model", Value::Null),
            ("frequency_penalty", json!(-0.5)),
            ("logit_bias", json!({ "1": 2 })),
        ] {
            let fault = chat(&json!({ name: value })).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(name), "{value}: {fault:?}");
        }
        for body in ["", "[]", "{", "\"x\"", "{\"model\": \"a/b\"}", "{\"model\":\"a/b\",\"prompt\":[1,2]}", "\u{0}"] {
            assert!(parse(body.as_bytes(), Kind::Text).is_err(), "{body}");
        }
        let bomb = format!("{{\"model\":{}", "[".repeat(1_000_000));
        assert!(parse(bomb.as_bytes(), Kind::Chat).unwrap_err().message.contains("recursion"));
    }
}
