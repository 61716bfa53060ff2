//! Makes records out of the ledger's state. Pure.

use zero2ai_ledger::{Ledger, LedgerError};
use zero2ai_proto::{CodecError, name::ModelName, proof::SignedHeader, record::NameRecord, state::key};

/// Why no record could be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The ledger has no such model.
    #[error("no model '{0}' is on the ledger")]
    Unknown(ModelName),
    /// The proof could not be made.
    #[error("the proof for '{name}' could not be made: {source}")]
    Proof {
        /// The model.
        name: ModelName,
        /// Why.
        source: LedgerError,
    },
    /// The header cannot be read.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// The name record of `name` under `header`, whose `app_hash` is the state after `header`'s parent.
///
/// # Errors
/// See [`MakeError`]; in particular the model may be newer than that state: ask again after the next block.
pub fn name_record(ledger: &Ledger, header: SignedHeader, name: &ModelName) -> Result<NameRecord, MakeError> {
    let height =
        zero2ai_proto::decode::<zero2ai_proto::block::Header>(&header.header, zero2ai_proto::limits::SIGNED_BYTES)?
            .height;
    let state = height.saturating_sub(1);
    let fail = |source| MakeError::Proof { name: name.clone(), source };
    let model = ledger.prove(&key::model(name), state).map_err(fail)?;
    let value = model.value.as_ref().ok_or_else(|| MakeError::Unknown(name.clone()))?;
    let entry: zero2ai_proto::state::Model = zero2ai_proto::decode(value, zero2ai_proto::limits::SIGNED_BYTES)?;
    let latest = ledger.prove(&key::version(name, entry.latest), state).map_err(fail)?;
    Ok(NameRecord { version: 1, model, latest, header })
}
