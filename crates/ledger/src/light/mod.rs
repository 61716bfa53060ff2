//! What a client checks that holds nothing but the genesis: which signers are right at a height, whether a header is
//! final, and what stands in the state under it. Owns no transport and keeps no state but [`TrustedChain`].
//!
//! | file | owns |
//! |---|---|
//! | [`chain`] | trust: from the genesis over every change of the signer set to a certified header |
//! | [`state`] | state proofs, with the recipe in full |
//! | [`name`] | name records |

pub mod chain;
pub mod name;
pub mod state;

use zero2ai_proto::{ByteBuf, CodecError, PoolId, block::CertificateError};

pub use crate::receipt_log::{verify_consistency, verify_inclusion as verify_log};
pub use chain::{TrustedChain, check_certificate, verify_path};
pub use name::verify_name_record;
pub use state::{StateProofError, verify_state};

/// Why something is not proven. Each names the part that failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    /// The genesis.
    #[error("the genesis cannot be used: {0}")]
    Genesis(String),
    /// Another pool's.
    #[error("this belongs to pool {got}, and pool {expected} was asked for")]
    OtherPool {
        /// The pool it belongs to.
        got: PoolId,
        /// The pool asked for.
        expected: PoolId,
    },
    /// The header's bytes.
    #[error("the header cannot be read: {0}")]
    Header(CodecError),
    /// A shape or rules of a newer program.
    #[error("the {what} has version {got}, and this program knows {known}: update it")]
    Unknown {
        /// What.
        what: &'static str,
        /// Its version.
        got: u16,
        /// Ours.
        known: u16,
    },
    /// The certificate is of another block, or of another height.
    #[error("the certificate at height {height} is of another block than the header: one of them was altered")]
    OtherBlock {
        /// Height of the header.
        height: u64,
    },
    /// The certificate proves nothing.
    #[error("the certificate of height {height} does not hold: {why}")]
    Certificate {
        /// Height of the header.
        height: u64,
        /// What failed.
        why: String,
    },
    /// The header names another signer set than is known for its height.
    #[error(
        "the header of height {height} names another signer set than is trusted there: a change of signers is missing \
         from the path, or the header is of another chain"
    )]
    OtherSigners {
        /// Height of the header.
        height: u64,
    },
    /// A step that changes no signers, goes back, or carries a set that its header does not name.
    #[error("step {index} (height {height}) does not lead on: {why}")]
    Step {
        /// Its place in the path.
        index: usize,
        /// Height of its header; 0 if unreadable.
        height: u64,
        /// What failed.
        why: String,
    },
    /// A state proof.
    #[error("the proof of {key} does not hold: {source}")]
    State {
        /// The entry.
        key: String,
        /// What failed.
        source: StateProofError,
    },
    /// The proof is of another entry.
    #[error("a proof of {expected} was asked for, and this is one of {got}")]
    OtherKey {
        /// Entry asked for.
        expected: String,
        /// Entry proved.
        got: String,
    },
    /// Proven not to exist.
    #[error("{0} does not exist in this pool")]
    Missing(String),
    /// A proven value of an unknown shape.
    #[error("the value of {key} is proven, but cannot be read: {source}; this program may be too old")]
    Value {
        /// The entry.
        key: String,
        /// What failed.
        source: CodecError,
    },
}

impl LightError {
    fn certificate(height: u64, why: &CertificateError) -> Self {
        Self::Certificate { height, why: why.to_string() }
    }
}

/// A state key for people, cut to a length that cannot flood a log.
pub(crate) fn show(key: &[u8]) -> String {
    String::from_utf8_lossy(&key[..key.len().min(256)]).into_owned()
}

pub(crate) fn show_buf(key: &ByteBuf) -> String {
    show(key.as_slice())
}
