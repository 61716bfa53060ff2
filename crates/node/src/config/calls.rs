//! What a node says of itself to those who look for endpoints (`[offer]`), and which endpoints the calls of this home go to (`[calls]`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use zero2ai_client::Wishes;
use zero2ai_proto::{NodeId, record::is_region};

/// Nodes or regions in one list.
const LISTED: usize = 256;

/// See [`super::Config::offer`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfferSettings {
    /// Where this machine stands: 1 to 32 of `a-z 0-9 -`. Nobody checks it.
    pub region: Option<String>,
    /// What a prediction here is to cost, in the pool's smallest unit. Callers may choose by it; nothing is billed yet.
    pub price: Option<u64>,
}

/// See [`super::Config::calls`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallSettings {
    /// Endpoints in these regions alone; in all, if the list is empty.
    pub regions: Vec<String>,
    /// Rather endpoints in this region: others count as 50 ms farther away.
    pub near: Option<String>,
    /// No endpoint that asks more.
    pub price_cap: Option<u64>,
    /// Microseconds of waiting that one unit of price is worth.
    pub unit_us: u64,
    /// None of these nodes, by their keys.
    pub avoid: Vec<String>,
    /// Rather these nodes: others count as 50 ms farther away.
    pub prefer: Vec<String>,
}

impl OfferSettings {
    /// # Errors
    /// In words: the region is no name of one.
    pub(super) fn check(&self) -> Result<(), String> {
        self.region.as_deref().map_or(Ok(()), |text| region("offer.region", text).map(drop))
    }
}

impl CallSettings {
    /// The same, as the client library takes it.
    ///
    /// # Errors
    /// In words: which setting names no node or region, or too many.
    pub fn wishes(&self) -> Result<Wishes, String> {
        let regions = bounded("calls.regions", &self.regions)?;
        Ok(Wishes {
            regions: regions.iter().map(|text| region("calls.regions", text)).collect::<Result<_, _>>()?,
            near: self.near.as_deref().map(|text| region("calls.near", text)).transpose()?,
            price_cap: self.price_cap,
            unit_us: self.unit_us,
            avoid: nodes("calls.avoid", &self.avoid)?,
            prefer: nodes("calls.prefer", &self.prefer)?,
        })
    }
}

fn nodes(setting: &str, keys: &[String]) -> Result<BTreeSet<NodeId>, String> {
    bounded(setting, keys)?.iter().map(|key| node(setting, key)).collect()
}

fn bounded<'a>(setting: &str, list: &'a [String]) -> Result<&'a [String], String> {
    if list.len() > LISTED { Err(format!("{setting} lists more than {LISTED}")) } else { Ok(list) }
}

fn region(setting: &str, text: &str) -> Result<String, String> {
    if is_region(text) {
        Ok(text.to_owned())
    } else {
        let shown: String = text.chars().take(64).collect();
        Err(format!("{setting} is \"{shown}\"; a region is 1 to 32 of a-z, 0-9 and -"))
    }
}

fn node(setting: &str, text: &str) -> Result<NodeId, String> {
    let shown: String = text.chars().take(64).collect();
    text.parse().map_err(|error| format!("{setting} has \"{shown}\", which is no node's key: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::SecretKey;

    use super::*;

    #[test]
    fn what_is_written_is_what_is_wished_and_nonsense_is_named() {
        let key = SecretKey::from_bytes(&[1; 32]).public();
        let text = format!("regions = [\"eu\"]\nnear = \"eu-west\"\nprice_cap = 7\nunit_us = 3\navoid = [\"{key}\"]");
        let wishes = toml::from_str::<CallSettings>(&text).unwrap().wishes().unwrap();
        assert_eq!((wishes.price_cap, wishes.unit_us, wishes.near.as_deref()), (Some(7), 3, Some("eu-west")));
        assert!(wishes.regions.contains("eu") && wishes.avoid.contains(&key) && wishes.prefer.is_empty());
        assert_eq!(CallSettings::default().wishes().unwrap(), Wishes::default());
        for (bad, named) in [
            ("regions = [\"EU\"]", "calls.regions"),
            ("near = \"\"", "calls.near"),
            ("avoid = [\"me\"]", "calls.avoid"),
            ("prefer = [\"\"]", "calls.prefer"),
        ] {
            let error = toml::from_str::<CallSettings>(bad).unwrap().wishes().unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        let many = CallSettings { avoid: vec![key.to_string(); LISTED + 1], ..CallSettings::default() };
        assert!(many.wishes().is_err());
        let offer = |region: &str| OfferSettings { region: Some(region.into()), price: None };
        assert!(offer("eu-west").check().is_ok() && offer("Europe").check().is_err());
    }
}
