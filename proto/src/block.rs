//! Blocks: headers, the votes that decide them, and the certificates that prove it.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    codec::{CodecError, decode, encode},
    envelope::Signed,
    ids::{BlockId, Digest, PoolId},
    keys::{NodeId, PublicKey, Signature},
    limits::{GOSSIP_BYTES, SIGNED_BYTES},
    state::SignerSet,
    tx::Tx,
};

/// A block's header. Its encoding's hash is the block's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this shape: 1.
    pub version: u16,
    /// Rules that `apply` follows at this height.
    pub rules_version: u16,
    /// The chain.
    pub pool: PoolId,
    /// Height, from 1.
    pub height: u64,
    /// Milliseconds since 1970 UTC; greater than the parent's.
    pub time_ms: u64,
    /// The block before; for height 1 the id of the genesis as bytes.
    pub parent: BlockId,
    /// RFC 6962 root (SHA-256) over the encoded signed transactions.
    pub txs_root: Digest,
    /// Root of the state after the parent.
    pub app_hash: Digest,
    /// Hash of the set that signs this block.
    pub signers_hash: Digest,
    /// Hash of the set that signs the next one.
    pub next_signers_hash: Digest,
    /// Who proposed it.
    pub proposer: NodeId,
}

/// A header's bytes and its transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The encoded [`Header`], kept as it was hashed.
    pub header: ByteBuf,
    /// The transactions, in order of application.
    pub txs: Vec<Signed<Tx>>,
}

impl Block {
    /// The block's id.
    #[must_use]
    pub fn id(&self) -> BlockId {
        BlockId::of(&self.header)
    }

    /// Reads the header.
    ///
    /// # Errors
    /// Malformed bytes.
    pub fn read_header(&self) -> Result<Header, CodecError> {
        decode(&self.header, SIGNED_BYTES)
    }

    /// Reads an encoded block.
    ///
    /// # Errors
    /// Malformed, or longer than a gossip message may be.
    pub fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        decode(bytes, GOSSIP_BYTES)
    }
}

/// The two votes of Tendermint (arXiv 1807.04938).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VoteKind {
    /// First vote of a round.
    Prevote,
    /// Second vote of a round; more than two thirds of them decide.
    Precommit,
}

/// What a signer signs to vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Height.
    pub height: u64,
    /// Round, from 0.
    pub round: u32,
    /// Which vote.
    pub kind: VoteKind,
    /// The block, or none.
    pub block: Option<BlockId>,
}

impl Vote {
    /// `"zero2ai vote v1" ‖ 0x00 ‖ pool id (32) ‖ encoding`.
    ///
    /// # Errors
    /// Never with values made here.
    pub fn sign_bytes(&self, pool: &PoolId) -> Result<Vec<u8>, CodecError> {
        Ok([b"zero2ai vote v1\0".as_slice(), pool.as_bytes(), &encode(self)?].concat())
    }
}

/// What a proposer signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Height.
    pub height: u64,
    /// Round, from 0.
    pub round: u32,
    /// The round in which more than two thirds prevoted the block, if it is proposed again.
    pub pol_round: Option<u32>,
    /// The block.
    pub block: BlockId,
}

impl Proposal {
    /// `"zero2ai proposal v1" ‖ 0x00 ‖ pool id (32) ‖ encoding`.
    ///
    /// # Errors
    /// Never with values made here.
    pub fn sign_bytes(&self, pool: &PoolId) -> Result<Vec<u8>, CodecError> {
        Ok([b"zero2ai proposal v1\0".as_slice(), pool.as_bytes(), &encode(self)?].concat())
    }
}

/// Precommits of more than two thirds of a height's power: proof that the block is final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Height.
    pub height: u64,
    /// Round.
    pub round: u32,
    /// The block.
    pub block: BlockId,
    /// Who signed, in ascending order of key, and how.
    pub signatures: Vec<(PublicKey, Signature)>,
}

/// Why a certificate proves nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CertificateError {
    /// Signatures are not in ascending order of key, so one may count twice.
    #[error("the certificate's signatures are out of order")]
    Order,
    /// A signature by a key that is not in the set.
    #[error("{0} is not a signer at this height")]
    Stranger(PublicKey),
    /// A signature that does not verify.
    #[error("the signature of {0} does not verify")]
    BadSignature(PublicKey),
    /// Two thirds of the power or less.
    #[error("{signed} of {total} power signed, which is not more than two thirds")]
    Power {
        /// Power that signed.
        signed: u64,
        /// Power of the set.
        total: u64,
    },
    /// Encoding failed.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Certificate {
    /// Checks every signature and that they carry more than two thirds of `signers`' power.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn verify(&self, pool: &PoolId, signers: &SignerSet) -> Result<(), CertificateError> {
        if !self.signatures.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(CertificateError::Order);
        }
        let vote = Vote { height: self.height, round: self.round, kind: VoteKind::Precommit, block: Some(self.block) };
        let bytes = vote.sign_bytes(pool)?;
        let mut signed = 0u64;
        for (key, signature) in &self.signatures {
            let power = signers.power_of(key).ok_or(CertificateError::Stranger(*key))?;
            if !key.verify(&bytes, signature) {
                return Err(CertificateError::BadSignature(*key));
            }
            signed = signed.saturating_add(power);
        }
        let total = signers.total_power();
        if u128::from(signed) * 3 <= u128::from(total) * 2 {
            return Err(CertificateError::Power { signed, total });
        }
        Ok(())
    }
}
