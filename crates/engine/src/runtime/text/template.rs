//! A model's own chat template, from its file: hostile like the rest, so bounded in steps and in length.

use minijinja::{Environment, ErrorKind, Value, context};
use zero2ai_proto::{
    calls::{ChatMessage, ChatRole},
    limits::PROMPT_BYTES,
};

use crate::error::EngineError;

/// Steps a template may take. Real ones take some hundred a message.
const STEPS: u64 = 1_000_000;
/// Messages of one conversation.
const MESSAGES: usize = 1_024;

/// A template that parses.
pub(super) struct Template {
    environment: Environment<'static>,
    begin: String,
    end: String,
}

impl Template {
    /// `begin` and `end` are the spellings of the tokens that templates call `bos_token` and `eos_token`.
    pub(super) fn new(source: &str, begin: String, end: String) -> Result<Self, EngineError> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(STEPS));
        // As Hugging Face renders them.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.set_unknown_method_callback(|_, value, method, _| match (method, value.as_str()) {
            ("strip", Some(text)) => Ok(text.trim().into()),
            ("lstrip", Some(text)) => Ok(text.trim_start().into()),
            ("rstrip", Some(text)) => Ok(text.trim_end().into()),
            ("upper", Some(text)) => Ok(text.to_uppercase().into()),
            ("lower", Some(text)) => Ok(text.to_lowercase().into()),
            _ => Err(minijinja::Error::new(ErrorKind::UnknownMethod, format!("no method '{method}'"))),
        });
        environment
            .add_template_owned("chat", source.to_owned())
            .map_err(|e| EngineError::model(format!("the model's chat template cannot be used: {e}")))?;
        Ok(Self { environment, begin, end })
    }

    /// The conversation as the model wants to read it, up to where its answer starts.
    pub(super) fn render(&self, messages: &[ChatMessage]) -> Result<String, EngineError> {
        if messages.is_empty() || messages.len() > MESSAGES {
            return Err(EngineError::input(format!(
                "{} messages were sent; 1 to {MESSAGES} are taken",
                messages.len()
            )));
        }
        let role = |r: ChatRole| match r {
            ChatRole::System => "system",
            ChatRole::User => "user",
            ChatRole::Assistant => "assistant",
        };
        let messages: Vec<Value> =
            messages.iter().map(|m| context! { role => role(m.role), content => m.content.as_str() }).collect();
        let context = context! {
            messages, add_generation_prompt => true, bos_token => self.begin.as_str(), eos_token => self.end.as_str(),
        };
        let text =
            self.environment.get_template("chat").and_then(|t| t.render(context)).map_err(|e| match e.kind() {
                ErrorKind::OutOfFuel => EngineError::model("the model's chat template does not come to an end"),
                _ => EngineError::input(format!("the model's chat template does not take this conversation: {e}")),
            })?;
        if text.len() > PROMPT_BYTES.saturating_mul(2) {
            return Err(EngineError::input("the conversation is too long once it is in the model's chat template"));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(role: ChatRole, content: &str) -> ChatMessage {
        ChatMessage { role, content: content.to_owned() }
    }

    #[test]
    fn renders_what_models_ship() {
        let source = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'].strip() + eos_token }}{% endfor %}\
                      {% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
        let template = Template::new(source, String::new(), "</s>".to_owned()).unwrap();
        let text = template.render(&[message(ChatRole::User, " hi ")]).unwrap();
        assert_eq!(text, "<|user|>hi</s><|assistant|>");
    }

    #[test]
    fn hostile_templates_end() {
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        let template = Template::new(endless, String::new(), String::new()).unwrap();
        let error = template.render(&[message(ChatRole::User, "hi")]).unwrap_err();
        assert_eq!(error.fault(), zero2ai_proto::worker::Fault::Model);
        assert!(Template::new("{% if", String::new(), String::new()).is_err());
        let picky = Template::new("{{ raise_exception('no') }}", String::new(), String::new()).unwrap();
        let error = picky.render(&[message(ChatRole::User, "hi")]).unwrap_err();
        assert_eq!(error.fault(), zero2ai_proto::worker::Fault::Input);
    }
}
