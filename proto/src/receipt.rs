//! Receipts: the caller signs the request first, the provider signs what it answered; together they prove a prediction.
//!
//! Inputs and outputs are committed under a salt that both parties know and nobody else (prompts are short enough to be
//! guessed): `commitment = keyed BLAKE3(salt, bytes)`. Destroying the salt erases the link for good. The output's salt follows from the
//! call's by a hash ([`output_salt`]): who is shown an output with its salt cannot try out what the input was.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    codec::{CodecError, encode},
    envelope::{Message, Signed},
    ids::{Digest, ManifestId, PoolId, tagged_hash},
    keys::{AccountId, NodeId},
    name::ModelName,
    pool::Nonce,
    proof::{LogProof, SignedHeader, StateProof, TrustStep},
};

/// What a caller asks, signed by its account before anything runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Who is to answer: no other provider can use this request.
    pub provider: NodeId,
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: u32,
    /// Its sealed manifest.
    pub manifest: ManifestId,
    /// Salted commitment to the input's encoding.
    pub commitment: Digest,
    /// Never the same twice from one account.
    pub nonce: Nonce,
    /// When it was signed, milliseconds since 1970 UTC.
    pub time_ms: u64,
    /// Not to be started after this, milliseconds since 1970 UTC.
    pub deadline_ms: u64,
    /// Most the caller will owe, in the pool's smallest unit; 0 while nothing is priced.
    pub price_cap: u64,
    /// Receipt of the prediction this one continues or was fed by.
    pub parent: Option<Digest>,
}

impl Message for Request {
    const KIND: u16 = 4;
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// The whole answer was given.
    Complete,
    /// A stream goes on: a checkpoint.
    Checkpoint,
    /// The caller went away or the deadline passed; what was given up to then is billed.
    Cancelled,
}

/// What a provider answered, signed by its node key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// Hash of the signed request.
    pub request: Digest,
    /// Salted commitment to the output given so far.
    pub commitment: Digest,
    /// Rows predicted ([`crate::tensor::units`]) or tokens generated so far.
    pub units: u64,
    /// How it ended.
    pub status: Status,
    /// When it was signed, milliseconds since 1970 UTC.
    pub time_ms: u64,
}

impl Message for Response {
    const KIND: u16 = 5;
}

/// A request and its response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The caller's half.
    pub request: Signed<Request>,
    /// The provider's half.
    pub response: Signed<Response>,
}

/// Why two halves are no receipt.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReceiptError {
    /// The caller's half.
    #[error("the request: {0}")]
    Request(crate::VerifyError),
    /// The provider's half.
    #[error("the response: {0}")]
    Response(crate::VerifyError),
    /// The response answers another request.
    #[error("the response answers another request")]
    OtherRequest,
    /// The response is signed by another provider than the request names.
    #[error("the response is signed by another provider than was asked")]
    OtherProvider,
    /// Encoding failed.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// The hash by which a response names its request.
///
/// # Errors
/// Never with values that were decoded or signed.
pub fn request_hash(request: &Signed<Request>) -> Result<Digest, CodecError> {
    request.id("zero2ai request v1").map(Digest)
}

/// The salt of the output's commitment: a hash of the call's salt, which is that of the input's. It does not lead back.
#[must_use]
pub fn output_salt(salt: &[u8; 32]) -> [u8; 32] {
    tagged_hash("zero2ai output salt v1", salt)
}

/// The commitment to an output, under the call's salt.
#[must_use]
pub fn commit_output(salt: &[u8; 32], bytes: &[u8]) -> Digest {
    commit(&output_salt(salt), bytes)
}

/// `keyed BLAKE3(salt, bytes)`. To an input the salt is the call's; to an output see [`commit_output`].
#[must_use]
pub fn commit(salt: &[u8; 32], bytes: &[u8]) -> Digest {
    Digest(*blake3::keyed_hash(salt, bytes).as_bytes())
}

impl Receipt {
    /// The receipt's id: the leaf of the provider's log is the receipt's encoding, this is its name.
    ///
    /// # Errors
    /// Never with values that were decoded or signed.
    pub fn id(&self) -> Result<Digest, CodecError> {
        Ok(Digest(tagged_hash("zero2ai receipt v1", &encode(self)?)))
    }

    /// Checks both signatures and that the halves belong together.
    ///
    /// # Errors
    /// See [`ReceiptError`].
    pub fn verify(&self, pool: &PoolId) -> Result<(AccountId, Request, Response), ReceiptError> {
        let request = self.request.verify(pool).map_err(ReceiptError::Request)?;
        let response = self.response.verify(pool).map_err(ReceiptError::Response)?;
        if response.request != request_hash(&self.request)? {
            return Err(ReceiptError::OtherRequest);
        }
        if self.response.signer() != request.provider {
            return Err(ReceiptError::OtherProvider);
        }
        Ok((self.request.signer(), request, response))
    }
}

/// A receipt with its place in the provider's log, under an anchored root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenReceipt {
    /// The receipt.
    pub receipt: Receipt,
    /// Its place in the log of the anchored size.
    pub proof: LogProof,
}

/// One provider's part of an audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderReceipts {
    /// The provider.
    pub provider: NodeId,
    /// Entry `anchor/KEY`, proved under the audit's header.
    pub anchor: StateProof,
    /// Its receipts for the model.
    pub receipts: Vec<ProvenReceipt>,
}

/// An answer to "who published, graded and used this model", with everything needed to check it offline from the
/// genesis: steps → header → state proofs → log proofs → receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditExport {
    /// Version of this shape: 1.
    pub version: u16,
    /// The encoded genesis.
    pub genesis: ByteBuf,
    /// The model asked about.
    pub name: ModelName,
    /// Changes of the signer set, from genesis on.
    pub steps: Vec<TrustStep>,
    /// The header all state proofs stand under.
    pub header: SignedHeader,
    /// Entries of the model: `model/NAME`, then each `event/NAME/I`, each `version/NAME@V` with its `score` and
    /// `endorsement`s, in this order.
    pub entries: Vec<StateProof>,
    /// Uses of it, by provider.
    pub providers: Vec<ProviderReceipts>,
}
