//! A request's fields: each is taken by name and type, and what is left over at the end is refused by name, as OpenAI does.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::fault::Fault;

/// See the module.
#[derive(Debug)]
pub(super) struct Fields(Map<String, Value>);

impl From<Map<String, Value>> for Fields {
    fn from(map: Map<String, Value>) -> Self {
        Self(map)
    }
}

impl Fields {
    /// Reads a body. The JSON reader bounds its depth, the body's limit its size.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        let fields = serde_json::from_slice(body);
        Ok(Self(fields.map_err(|e| Fault::invalid(format!("the body is not a JSON object that can be read: {e}")))?))
    }

    /// Takes a field; absent and `null` are the same.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Fault> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                serde_json::from_value(value).map(Some).map_err(|e| Fault::invalid(format!("'{name}': {e}")).of(name))
            }
        }
    }

    /// Takes a number within bounds.
    pub(super) fn number(&mut self, name: &str, low: f64, high: f64) -> Result<Option<f64>, Fault> {
        let number: Option<f64> = self.take(name)?;
        match number {
            Some(n) if !(low..=high).contains(&n) => {
                Err(Fault::invalid(format!("'{name}' is {n}; {low} to {high} are allowed")).of(name))
            }
            other => Ok(other),
        }
    }

    /// Drops fields that may be said, but change nothing here.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.0.remove(*name);
        }
    }

    /// Refuses a field unless it is absent or says what holds anyway.
    pub(super) fn refuse(&mut self, name: &str, neutral: &[Value]) -> Result<(), Fault> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(()),
            Some(value) if neutral.contains(&value) => Ok(()),
            Some(_) => Err(Fault::invalid(format!("'{name}' is not supported: leave it out")).of(name)),
        }
    }

    /// Refuses what is left.
    pub(super) fn finish(self) -> Result<(), Fault> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(64).collect();
                Err(Fault::invalid(format!("unrecognized request argument supplied: {name}")).of(&name))
            }
        }
    }
}
