//! Disputes over what a model really said, and the pot that an epoch's work is paid from.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::OpenedLeaf;
use crate::{keys::NodeId, name::ModelName};

/// Which opened leaf a dispute is about. Written `NAME@V/R/KEY/LEAF`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disputed {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
    /// The round, from 1.
    pub round: u64,
    /// Who opened the leaf.
    pub validator: NodeId,
    /// Its place among the samples.
    pub leaf: u32,
}

impl fmt::Display for Disputed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, round, validator, leaf } = self;
        write!(f, "{name}@{version}/{round}/{validator}/{leaf}")
    }
}

impl std::str::FromStr for Disputed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let mut parts = text.rsplitn(4, '/');
            let (leaf, validator, round) = (parts.next()?, parts.next()?, parts.next()?);
            let (name, version) = parts.next()?.rsplit_once('@')?;
            let (name, version, round) = (name.parse().ok()?, version.parse().ok()?, round.parse().ok()?);
            let disputed = Self { name, version, round, validator: validator.parse().ok()?, leaf: leaf.parse().ok()? };
            // One spelling: no plus signs, no leading zeros.
            (disputed.to_string() == text).then_some(disputed)
        };
        read().ok_or_else(|| format!("'{text}' names no leaf: it is written publisher/model@VERSION/ROUND/KEY/LEAF"))
    }
}

/// See [`TxBody::Dispute`](super::TxBody::Dispute).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
    /// The round, from 1.
    pub round: u64,
    /// Who opened the leaf; not the signer.
    pub validator: NodeId,
    /// The leaf, one of those that the validator was asked for and opened, with its proof.
    pub leaf: OpenedLeaf,
}

impl Dispute {
    /// Which leaf it is about.
    #[must_use]
    pub fn disputed(&self) -> Disputed {
        let Self { name, version, round, validator, leaf } = self;
        Disputed { name: name.clone(), version: *version, round: *round, validator: *validator, leaf: leaf.index }
    }
}

/// See [`TxBody::Ballot`](super::TxBody::Ballot).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The leaf.
    pub disputed: Disputed,
    /// True for "the model does not say that".
    pub refuted: bool,
}

/// See [`TxBody::SetPot`](super::TxBody::SetPot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPot {
    /// What the pot holds from now on, in the units of stake.
    pub amount: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_has_one_name() {
        let key = crate::keys::PublicKey([7; 32]);
        let text = format!("acme/digits@2/1/{key}/9");
        assert_eq!(text.parse::<Disputed>().map(|d| d.to_string()), Ok(text.clone()));
        for wrong in [
            "",
            "acme/digits@2/1",
            &text.replace("/9", "/+9"),
            &text.replace("@2", "@02"),
            &text.replace('@', "/"),
            &text[1..].replace("cme", ""),
            &format!("{text}/"),
        ] {
            assert!(wrong.parse::<Disputed>().is_err(), "{wrong}");
        }
    }
}
