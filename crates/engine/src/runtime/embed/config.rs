//! What an embedder's settings say of it, held to bounds and to each other. What this version does not compute is refused by
//! name, since it would give other numbers in silence.

use serde::Deserialize;
use zero2ai_kernels::BLOCK;

use super::files::{CONFIG, Folder, LENGTH, MODULES, POOLING, PROMPTS};
use crate::error::EngineError;

/// Bounds of a plausible model: what hostile settings may make us compute with. The largest BERT has 24 layers of 16 heads and
/// 1,024 numbers, 4,096 of them inside, and a multilingual vocabulary has 250,000 tokens.
const MAX_LAYERS: u64 = 128;
const MAX_HEADS: u64 = 256;
const MAX_WIDTH: u64 = 8_192;
const MAX_INSIDE: u64 = 1 << 16;
const MAX_VOCABULARY: u64 = 1 << 20;
const MAX_CONTEXT: u64 = 8_192;
const MAX_TYPES: u64 = 16;

/// How the rows of a text become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooling {
    /// The mean of all rows.
    Mean,
    /// The first row.
    First,
}

/// Sizes of a BERT encoder, and what follows it.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) width: usize,
    pub(super) inside: usize,
    pub(super) vocabulary: usize,
    /// Rows of the table of positions.
    pub(super) positions: usize,
    /// Rows of the table of types.
    pub(super) types: usize,
    pub(super) eps: f32,
    /// The longest text, tokens.
    pub(super) context: usize,
    pub(super) pooling: Pooling,
    /// Whether rows are brought to length 1.
    pub(super) normalise: bool,
    /// Whether the files say how tokens become one row.
    pub(super) told: bool,
}

#[derive(Deserialize)]
struct Bert {
    model_type: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
    hidden_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    intermediate_size: u64,
    hidden_act: String,
    max_position_embeddings: u64,
    type_vocab_size: u64,
    vocab_size: u64,
    layer_norm_eps: f64,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Length {
    max_seq_length: Option<u64>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Deserialize)]
struct Prompts {
    default_prompt_name: Option<String>,
}

fn bad(why: &str) -> EngineError {
    EngineError::model(format!("'{CONFIG}' cannot be used: {why}"))
}

impl Config {
    pub(super) fn load(folder: &Folder) -> Result<Self, EngineError> {
        folder.get(CONFIG)?;
        // The kind first: the settings of other kinds have other fields.
        let kind = folder.settings::<Kind>(CONFIG)?.and_then(|kind| kind.model_type);
        if kind.as_deref() != Some("bert") {
            let kind: String = kind.as_deref().unwrap_or("(none)").chars().take(64).collect();
            return Err(EngineError::model(format!(
                "the architecture '{kind}' is not run from safetensors by this version; bert is, as an embedder"
            )));
        }
        let bert: Bert = folder.settings(CONFIG)?.ok_or_else(|| bad("it is gone"))?;
        bert.check_kind()?;
        let mut config = bert.sizes()?;
        config.read_modules(folder, &bert.architectures)?;
        if folder.settings::<Prompts>(PROMPTS)?.is_some_and(|prompts| prompts.default_prompt_name.is_some()) {
            let why = format!("'{PROMPTS}' puts a prompt before every text, which this version does not do");
            return Err(EngineError::model(why));
        }
        let length = folder.settings::<Length>(LENGTH)?;
        if length.as_ref().is_some_and(|length| length.do_lower_case) {
            let why = format!("'{LENGTH}' makes texts lower case beside the tokenizer, which this version does not do");
            return Err(EngineError::model(why));
        }
        if let Some(most) = length.and_then(|length| length.max_seq_length) {
            let most = usize::try_from(most).ok().filter(|most| (3..=config.positions).contains(most));
            let most =
                most.ok_or_else(|| EngineError::model(format!("'{LENGTH}' has an impossible max_seq_length")))?;
            config.context = most;
        }
        Ok(config)
    }

    /// What follows the network. Without `modules.json` a plain encoder is taken as most embedders of this kind are built: the
    /// mean of its rows, brought to length 1; and told so.
    fn read_modules(&mut self, folder: &Folder, architectures: &[String]) -> Result<(), EngineError> {
        let Some(modules) = folder.settings::<Vec<Module>>(MODULES)? else {
            if folder.find(POOLING).is_some() {
                self.pooling = pooling(folder)?;
                self.told = true;
            } else if architectures.iter().any(|name| name != "BertModel") {
                let names = architectures.join(", ").chars().take(128).collect::<String>();
                return Err(EngineError::model(format!(
                    "'{CONFIG}' names the architecture {names}, whose head is not an embedder's, and there is no '{MODULES}' that \
                     says how its rows become an embedding; publish the folder that sentence-transformers saved"
                )));
            }
            return Ok(());
        };
        (self.normalise, self.told) = (false, true);
        for (index, module) in modules.iter().enumerate() {
            let name = module.kind.rsplit('.').next().unwrap_or_default();
            match (index, name) {
                (0, "Transformer") if module.path.is_empty() => {}
                (1, "Pooling") if format!("{}/config.json", module.path) == POOLING => self.pooling = pooling(folder)?,
                (2, "Normalize") => self.normalise = true,
                _ => {
                    let name: String = name.chars().take(64).collect();
                    return Err(EngineError::model(format!(
                        "'{MODULES}' has the module {name} at place {index}, which this version does not compute: Transformer, \
                         Pooling and Normalize, in this order, are"
                    )));
                }
            }
        }
        if modules.len() < 2 {
            return Err(EngineError::model(format!("'{MODULES}' has no Pooling: the model gives no embeddings")));
        }
        Ok(())
    }
}

impl Bert {
    fn check_kind(&self) -> Result<(), EngineError> {
        if self.model_type.as_deref() != Some("bert") {
            return Err(bad("it changed while it was read"));
        }
        if self.is_decoder {
            return Err(bad("it is a decoder, and encoders are run by this version"));
        }
        if self.hidden_act != "gelu" {
            let name: String = self.hidden_act.chars().take(64).collect();
            return Err(bad(&format!("the activation '{name}' is not computed by this version, gelu is")));
        }
        match self.position_embedding_type.as_deref() {
            None | Some("absolute") => Ok(()),
            Some(other) => {
                let other: String = other.chars().take(64).collect();
                Err(bad(&format!(
                    "positions of the type '{other}' are not computed by this version, absolute ones are"
                )))
            }
        }
    }

    fn sizes(&self) -> Result<Config, EngineError> {
        let bounded = |name: &str, value: u64, max: u64| {
            let fits = usize::try_from(value).ok().filter(|_| (1..=max).contains(&value));
            fits.ok_or_else(|| bad(&format!("its {name} is {value}; 1 to {max} are run")))
        };
        let positions = bounded("max_position_embeddings", self.max_position_embeddings, MAX_CONTEXT)?;
        let config = Config {
            layers: bounded("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS)?,
            heads: bounded("num_attention_heads", self.num_attention_heads, MAX_HEADS)?,
            width: bounded("hidden_size", self.hidden_size, MAX_WIDTH)?,
            inside: bounded("intermediate_size", self.intermediate_size, MAX_INSIDE)?,
            vocabulary: bounded("vocab_size", self.vocab_size, MAX_VOCABULARY)?,
            positions,
            types: bounded("type_vocab_size", self.type_vocab_size, MAX_TYPES)?,
            eps: self.layer_norm_eps as f32,
            context: positions,
            pooling: Pooling::Mean,
            normalise: true,
            told: false,
        };
        if !config.width.is_multiple_of(config.heads) {
            return Err(bad("its hidden_size is no multiple of its num_attention_heads"));
        }
        if !config.width.is_multiple_of(BLOCK) || !config.inside.is_multiple_of(BLOCK) {
            return Err(bad(&format!("its hidden_size and intermediate_size must be multiples of {BLOCK} to be run")));
        }
        if !(config.eps.is_finite() && config.eps > 0.0) {
            return Err(bad("its layer_norm_eps is no positive number"));
        }
        if positions < 3 {
            return Err(bad("its positions hold no text between the two marks"));
        }
        Ok(config)
    }
}

/// The one way of pooling that is switched on.
fn pooling(folder: &Folder) -> Result<Pooling, EngineError> {
    type Modes = serde_json::Map<String, serde_json::Value>;
    let modes: Modes = folder
        .settings(POOLING)?
        .ok_or_else(|| EngineError::model(format!("the model has no '{POOLING}'; publish the whole folder")))?;
    let on =
        modes.iter().filter(|(name, on)| name.starts_with("pooling_mode_") && **on == serde_json::Value::Bool(true));
    let on: Vec<&str> = on.map(|(name, _)| name.as_str()).collect();
    match on.as_slice() {
        ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token"] => Ok(Pooling::First),
        other => {
            let names: String = other.join(", ").chars().take(256).collect();
            let names = if names.is_empty() { "no mode".to_owned() } else { names };
            Err(EngineError::model(format!(
                "'{POOLING}' asks for {names}, which this version does not compute: pooling_mode_mean_tokens or \
                 pooling_mode_cls_token, one of them, is"
            )))
        }
    }
}
