//! Decides whether a DHT value is valid at its key: the same function guards the record store against peers and the
//! resolver against the record store. Pure: time comes in.

use zero2ai_ledger::light::verify_state;
use zero2ai_proto::{
    CodecError, NodeId, PoolId, Signed, VerifyError,
    block::Header,
    decode,
    limits::{ADDRESSES, RECORD_BYTES},
    name::ModelName,
    proof::SignedHeader,
    record::{DhtValue, EndpointRecord, NameRecord, dht_key, is_region},
    state::{Model, Version, key},
};

/// How long after its header's time a name record may still be given out, milliseconds. A week: long enough to outlive a
/// halted chain over holidays, short enough that a node which was cut off for longer asks for a fresh one.
pub const NAME_AGE_MS: u64 = 7 * 24 * 3600 * 1000;
/// The farthest ahead an endpoint record may claim to be valid, milliseconds: a dead node is forgotten within the hour.
pub const ENDPOINT_AGE_MS: u64 = 3600 * 1000;

/// Decides whether a header is final. Implemented over the node's own chain, or over a light client's trusted signers.
pub trait HeaderTrust: Send + Sync + 'static {
    /// The header's content, if its certificate proves it final on this chain.
    ///
    /// # Errors
    /// In words: not certified, of another chain, or contradicting a header already known at that height.
    fn verify_header(&self, header: &SignedHeader) -> Result<Header, String>;
}

/// Why a value is not valid at its key.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Not decodable.
    #[error("malformed record: {0}")]
    Codec(#[from] CodecError),
    /// The signature or the envelope.
    #[error("endpoint record: {0}")]
    Signature(#[from] VerifyError),
    /// The header is not final.
    #[error("the record's header is not final: {0}")]
    Header(String),
    /// A state proof does not lead to the header's root, or proves something else.
    #[error("the record's proof fails: {0}")]
    Proof(String),
    /// Filed under a key that is not its own.
    #[error("the record stands under a key that is not its own")]
    WrongKey,
    /// Too old, or valid for too long.
    #[error("the record's time is out of bounds: {0}")]
    Time(&'static str),
    /// A bound is broken.
    #[error("the record is out of bounds: {0}")]
    Bounds(&'static str),
}

/// What the store needs to know about a valid value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// A lower one never replaces a higher one: header height, or the endpoint's own counter.
    pub seq: u64,
    /// Not to be kept after this, milliseconds since 1970 UTC.
    pub expires_ms: u64,
}

/// A name record's content, all of it proved.
#[derive(Clone, Debug)]
pub struct CheckedName {
    /// The model's name.
    pub name: ModelName,
    /// Its entry on the ledger.
    pub model: Model,
    /// The newest version's entry.
    pub latest: Version,
    /// The header under which both are proved.
    pub header: Header,
}

/// Checks any DHT value at `dht`, one of the places of its key, at `now_ms`.
///
/// # Errors
/// See [`CheckError`].
pub fn check_value(
    dht: &[u8; 32],
    value: &[u8],
    pool: &PoolId,
    trust: &dyn HeaderTrust,
    now_ms: u64,
) -> Result<Facts, CheckError> {
    match decode::<DhtValue>(value, RECORD_BYTES)? {
        DhtValue::Name(record) => {
            let checked = check_name(&record, trust, now_ms)?;
            if !dht_key::places(&dht_key::name(pool, &checked.name)).contains(dht) {
                return Err(CheckError::WrongKey);
            }
            let expires_ms = checked.header.time_ms.saturating_add(NAME_AGE_MS);
            Ok(Facts { seq: checked.header.height, expires_ms })
        }
        DhtValue::Endpoint(signed) => {
            let (node, record) = check_endpoint(&signed, pool, now_ms)?;
            if !dht_key::places(&dht_key::endpoint(pool, &record.name, &node)).contains(dht) {
                return Err(CheckError::WrongKey);
            }
            Ok(Facts { seq: record.seq, expires_ms: record.expires_ms })
        }
    }
}

/// Checks a name record's header, both proofs, and that they speak of one model.
///
/// # Errors
/// See [`CheckError`].
pub fn check_name(record: &NameRecord, trust: &dyn HeaderTrust, now_ms: u64) -> Result<CheckedName, CheckError> {
    if record.version != 1 {
        return Err(CheckError::Bounds("a version this program does not know"));
    }
    let header = trust.verify_header(&record.header).map_err(CheckError::Header)?;
    if header.time_ms.saturating_add(NAME_AGE_MS) < now_ms {
        return Err(CheckError::Time("its header is older than a week"));
    }
    let model: Model = proved(&header, &record.model)?;
    let name = name_of(&record.model.key)?;
    if record.latest.key.as_slice() != key::version(&name, model.latest) {
        return Err(CheckError::Proof("the version proved is not the model's newest".into()));
    }
    let latest = proved(&header, &record.latest)?;
    Ok(CheckedName { name, model, latest, header })
}

/// Checks an endpoint record's signature, times and addresses.
///
/// # Errors
/// See [`CheckError`].
pub fn check_endpoint(
    signed: &Signed<EndpointRecord>,
    pool: &PoolId,
    now_ms: u64,
) -> Result<(NodeId, EndpointRecord), CheckError> {
    let record = signed.verify(pool)?;
    if record.expires_ms <= now_ms {
        return Err(CheckError::Time("it has expired"));
    }
    if record.expires_ms > now_ms.saturating_add(ENDPOINT_AGE_MS) {
        return Err(CheckError::Time("it claims to be valid for more than an hour"));
    }
    if record.addresses.is_empty() || record.addresses.len() > ADDRESSES {
        return Err(CheckError::Bounds("no address, or too many"));
    }
    if !record.addresses.iter().all(zero2ai_proto::record::Address::is_valid) {
        return Err(CheckError::Bounds("an address is not valid"));
    }
    if !record.region.as_deref().is_none_or(is_region) {
        return Err(CheckError::Bounds("its region is not 1 to 32 of a-z, 0-9 and -"));
    }
    Ok((signed.signer(), record))
}

fn proved<T: serde::Serialize + serde::de::DeserializeOwned>(
    header: &Header,
    proof: &zero2ai_proto::proof::StateProof,
) -> Result<T, CheckError> {
    let value = verify_state(&header.app_hash, proof).map_err(|e| CheckError::Proof(e.to_string()))?;
    let value = value.ok_or_else(|| CheckError::Proof("the ledger has no such entry".into()))?;
    Ok(decode(value, RECORD_BYTES)?)
}

fn name_of(entry: &[u8]) -> Result<ModelName, CheckError> {
    std::str::from_utf8(entry)
        .ok()
        .and_then(|text| text.strip_prefix("model/"))
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| CheckError::Proof("the entry proved is not a model's".into()))
}
