//! Proven values: one entry under a header, and the name record made of two.

use serde::{Serialize, de::DeserializeOwned};
use zero2ai_proto::{
    Digest, ModelName,
    block::Header,
    decode,
    proof::StateProof,
    record::NameRecord,
    state::{Model, Version, key},
};

use super::{LightError, TrustedChain, show, show_buf, verify_state};
use crate::draft::VALUE_BYTES;

/// Checks that `proof` is one of `key` under `root`, and reads the value; `None` is proven absence.
///
/// # Errors
/// [`LightError::OtherKey`], [`LightError::State`] or [`LightError::Value`].
pub fn proven<T: Serialize + DeserializeOwned>(
    root: &Digest,
    proof: &StateProof,
    key: &[u8],
) -> Result<Option<T>, LightError> {
    if proof.key.as_slice() != key {
        return Err(LightError::OtherKey { expected: show(key), got: show_buf(&proof.key) });
    }
    let value = verify_state(root, proof).map_err(|source| LightError::State { key: show(key), source })?;
    value.map(|v| decode(v, VALUE_BYTES).map_err(|source| LightError::Value { key: show(key), source })).transpose()
}

/// Checks a name record whole: header, both proofs, and that they are of `name` and its newest version. Returns the model,
/// the newest version with its number, and the header they stand under.
///
/// # Errors
/// See [`LightError`]; [`LightError::Missing`] if the name is proven not to exist.
pub fn verify_name_record(
    chain: &TrustedChain,
    record: &NameRecord,
    name: &ModelName,
) -> Result<(Model, u32, Version, Header), LightError> {
    if record.version != 1 {
        return Err(LightError::Unknown { what: "name record", got: record.version, known: 1 });
    }
    let header = chain.verify_header(&record.header)?;
    let missing = |what: String| LightError::Missing(what);
    let model: Model = proven(&header.app_hash, &record.model, &key::model(name))?
        .ok_or_else(|| missing(format!("the model {name}")))?;
    let number = model.latest;
    let version: Version = proven(&header.app_hash, &record.latest, &key::version(name, number))?
        .ok_or_else(|| missing(format!("the version {name}@{number}")))?;
    Ok((model, number, version, header))
}
