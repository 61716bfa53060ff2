//! What is signed: an envelope `{kind, version, body}`, its exact bytes kept as they came and bound to one pool.
//!
//! Sign-bytes are `"zero2ai signature v1" ‖ 0x00 ‖ pool id (32) ‖ envelope bytes`. Bytes are never re-encoded to be
//! verified, and an envelope of an unknown kind or version can be stored and relayed, but not read.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

use crate::{
    codec::{CodecError, decode, encode},
    ids::{PoolId, TxId, tagged_hash},
    keys::{PublicKey, SecretKey, Signature},
    limits::SIGNED_BYTES,
};

const TAG: &[u8] = b"zero2ai signature v1\0";

/// A body that can be signed. Kinds are part of the protocol and never reused.
pub trait Message: Serialize + DeserializeOwned {
    /// The number that stands for this type inside an envelope.
    const KIND: u16;
    /// The version of the body's shape that this program writes and reads.
    const VERSION: u16 = 1;
}

/// Why a signed message was not accepted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VerifyError {
    /// The bytes are not a well-formed envelope or body.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The signature is not the signer's over these bytes in this pool.
    #[error("the signature does not verify")]
    BadSignature,
    /// Another type of message was expected.
    #[error("kind {got} where kind {want} was expected")]
    WrongKind {
        /// Kind in the envelope.
        got: u16,
        /// Kind expected.
        want: u16,
    },
    /// A version of the body that this program does not know; it may be relayed, not read.
    #[error("version {got} of kind {kind} is newer than this program")]
    UnknownVersion {
        /// Kind in the envelope.
        kind: u16,
        /// Version in the envelope.
        got: u16,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    kind: u16,
    version: u16,
    body: ByteBuf,
}

/// A message of type `T` with its signer and signature. Holds the signed bytes themselves.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Signed<T> {
    envelope: ByteBuf,
    signer: PublicKey,
    signature: Signature,
    #[serde(skip)]
    message: PhantomData<fn() -> T>,
}

impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self { envelope: self.envelope.clone(), signer: self.signer, signature: self.signature, message: PhantomData }
    }
}

impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.envelope == other.envelope && self.signer == other.signer && self.signature == other.signature
    }
}
impl<T> Eq for Signed<T> {}

impl<T> std::fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signed({} bytes by {})", self.envelope.len(), self.signer.short())
    }
}

fn sign_bytes(pool: &PoolId, envelope: &[u8]) -> Vec<u8> {
    [TAG, pool.as_bytes(), envelope].concat()
}

impl<T> Signed<T> {
    /// Who claims to have signed; proven only by [`Signed::verify`].
    #[must_use]
    pub fn signer(&self) -> PublicKey {
        self.signer
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> Signature {
        self.signature
    }

    /// True if the signature is the signer's in this pool. The body may still be unreadable.
    #[must_use]
    pub fn signature_is_valid(&self, pool: &PoolId) -> bool {
        self.envelope.len() <= SIGNED_BYTES && self.signer.verify(&sign_bytes(pool, &self.envelope), &self.signature)
    }
}

impl<T: Message> Signed<T> {
    /// Signs `body` for `pool`.
    ///
    /// # Errors
    /// The body cannot be encoded, or is over [`SIGNED_BYTES`].
    pub fn sign(body: &T, pool: &PoolId, key: &SecretKey) -> Result<Self, CodecError> {
        let body = ByteBuf::from(encode(body)?);
        let envelope = encode(&Envelope { kind: T::KIND, version: T::VERSION, body })?;
        if envelope.len() > SIGNED_BYTES {
            return Err(CodecError::TooLong { len: envelope.len(), max: SIGNED_BYTES });
        }
        let signature = key.sign(&sign_bytes(pool, &envelope));
        Ok(Self { envelope: ByteBuf::from(envelope), signer: key.public(), signature, message: PhantomData })
    }

    /// Checks the signature and reads the body.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub fn verify(&self, pool: &PoolId) -> Result<T, VerifyError> {
        if !self.signature_is_valid(pool) {
            return Err(VerifyError::BadSignature);
        }
        self.read_unverified()
    }

    /// Reads the body without checking the signature: for bytes that were verified before they were stored.
    ///
    /// # Errors
    /// Any of [`VerifyError`] but a bad signature.
    pub fn read_unverified(&self) -> Result<T, VerifyError> {
        let envelope: Envelope = decode(&self.envelope, SIGNED_BYTES)?;
        if envelope.kind != T::KIND {
            return Err(VerifyError::WrongKind { got: envelope.kind, want: T::KIND });
        }
        if envelope.version != T::VERSION {
            return Err(VerifyError::UnknownVersion { kind: envelope.kind, got: envelope.version });
        }
        Ok(decode(&envelope.body, SIGNED_BYTES)?)
    }

    /// Hash of the whole signed message: transactions and receipts are named by it.
    ///
    /// # Errors
    /// Never with values that were decoded or signed here.
    pub fn id(&self, context: &str) -> Result<[u8; 32], CodecError> {
        Ok(tagged_hash(context, &encode(self)?))
    }
}

impl Signed<crate::tx::Tx> {
    /// The transaction's id.
    ///
    /// # Errors
    /// Never with values that were decoded or signed here.
    pub fn tx_id(&self) -> Result<TxId, CodecError> {
        Ok(TxId::of(&encode(self)?))
    }
}
