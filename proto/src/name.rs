//! Names of models: `publisher/model`, with `@version` or `:channel` behind it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Text that is not a model name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{text}' is not a model name: {why}; write publisher/model, publisher/model@3 or publisher/model:stable")]
pub struct NameError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// `publisher/model`: each part 1 to 63 of `a–z 0–9 . _ -`, starting and ending with a letter or digit (as host names).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName {
    text: String,
    slash: usize,
}

impl ModelName {
    /// The publisher's handle.
    #[must_use]
    pub fn publisher(&self) -> &str {
        &self.text[..self.slash]
    }

    /// The model's own name.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.text[self.slash + 1..]
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// True for a handle, a model's own name or a channel.
#[must_use]
pub fn is_label(s: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = s.as_bytes();
    (1..=63).contains(&bytes.len())
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(b))
}

impl FromStr for ModelName {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let fail = |why| NameError { text: s.chars().take(140).collect(), why };
        let (publisher, model) = s.split_once('/').ok_or_else(|| fail("it has no '/'"))?;
        if !is_label(publisher) {
            return Err(fail("the publisher must be 1 to 63 of a-z, 0-9, '.', '_', '-'"));
        }
        if !is_label(model) {
            return Err(fail("the model must be 1 to 63 of a-z, 0-9, '.', '_', '-'"));
        }
        Ok(Self { text: s.to_owned(), slash: publisher.len() })
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for ModelName {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ModelName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// Which version of a model is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selector {
    /// The newest published version.
    Latest,
    /// This version.
    Version(u32),
    /// The version this channel points to.
    Channel(String),
}

/// A model name with the version that is meant: what users type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRef {
    /// The model.
    pub name: ModelName,
    /// Which version of it.
    pub selector: Selector,
}

impl FromStr for ModelRef {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let fail = |why| NameError { text: s.chars().take(140).collect(), why };
        if let Some((name, version)) = s.split_once('@') {
            let version = version
                .parse()
                .ok()
                .filter(|v| *v > 0)
                .ok_or_else(|| fail("after '@' comes a version number from 1"))?;
            return Ok(Self { name: name.parse()?, selector: Selector::Version(version) });
        }
        if let Some((name, channel)) = s.split_once(':') {
            if !is_label(channel) {
                return Err(fail("after ':' comes a channel of a-z, 0-9, '.', '_', '-'"));
            }
            return Ok(Self { name: name.parse()?, selector: Selector::Channel(channel.to_owned()) });
        }
        Ok(Self { name: s.parse()?, selector: Selector::Latest })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Latest => write!(f, "{}", self.name),
            Selector::Version(v) => write!(f, "{}@{v}", self.name),
            Selector::Channel(c) => write!(f, "{}:{c}", self.name),
        }
    }
}
