//! Evidence that a signer contradicted itself: two signed statements for one height, round and step, which an honest
//! signer never makes. It proves itself: whoever submits it means nothing.

use serde::{Deserialize, Serialize};

use crate::{
    block::{Proposal, Vote, VoteKind},
    codec::CodecError,
    ids::{BlockId, PoolId},
    keys::{NodeId, Signature},
};

/// What a signer says at a step of a round. The order of the variants is the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statement {
    /// It proposed a block.
    Proposal(Proposal),
    /// It voted.
    Vote(Vote),
}

/// One of the three steps of a round, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// The proposal.
    Proposal,
    /// The first vote.
    Prevote,
    /// The second vote.
    Precommit,
}

impl Step {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proposal => "proposal",
            Self::Prevote => "prevote",
            Self::Precommit => "precommit",
        }
    }
}

impl Statement {
    /// Height, round and step: an honest signer says one thing at each, and says them in this order.
    #[must_use]
    pub const fn place(&self) -> (u64, u32, Step) {
        match self {
            Self::Proposal(p) => (p.height, p.round, Step::Proposal),
            Self::Vote(v) => match v.kind {
                VoteKind::Prevote => (v.height, v.round, Step::Prevote),
                VoteKind::Precommit => (v.height, v.round, Step::Precommit),
            },
        }
    }

    /// The block it is for; none for a vote against every block.
    #[must_use]
    pub const fn block(&self) -> Option<BlockId> {
        match self {
            Self::Proposal(p) => Some(p.block),
            Self::Vote(v) => v.block,
        }
    }

    /// The bytes that are signed.
    ///
    /// # Errors
    /// Never with values made here.
    pub fn sign_bytes(&self, pool: &PoolId) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::Proposal(p) => p.sign_bytes(pool),
            Self::Vote(v) => v.sign_bytes(pool),
        }
    }
}

/// A statement with its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedStatement {
    /// What was said.
    pub statement: Statement,
    /// Over [`Statement::sign_bytes`].
    pub signature: Signature,
}

/// Two statements of one signer for the same height, round and step, for different blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Whose they are.
    pub signer: NodeId,
    /// The one for the lower block id (no block is lowest), so that one pair has one encoding.
    pub first: SignedStatement,
    /// The other one.
    pub second: SignedStatement,
}

/// Why evidence proves nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// They were said at different places: both may be honest.
    #[error("the two statements are of different heights, rounds or steps, so they do not contradict each other")]
    Places,
    /// They are for the same block, or stand in the wrong order.
    #[error("the two statements must be for two different blocks, the lower id first")]
    Order,
    /// A signature does not verify.
    #[error("a signature of {0} does not verify, so nothing is proved against it")]
    BadSignature(NodeId),
    /// Encoding failed.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Evidence {
    /// Evidence of two statements in any order.
    #[must_use]
    pub fn new(signer: NodeId, one: SignedStatement, other: SignedStatement) -> Self {
        let ordered = one.statement.block() <= other.statement.block();
        let (first, second) = if ordered { (one, other) } else { (other, one) };
        Self { signer, first, second }
    }

    /// Height, round and step of the contradiction.
    #[must_use]
    pub const fn place(&self) -> (u64, u32, Step) {
        self.first.statement.place()
    }

    /// Checks all that needs no ledger: that the statements contradict each other, and both signatures in this pool.
    /// Whether the key was a signer's at that height is the ledger's to say.
    ///
    /// # Errors
    /// See [`EvidenceError`].
    pub fn check(&self, pool: &PoolId) -> Result<(), EvidenceError> {
        if self.first.statement.place() != self.second.statement.place() {
            return Err(EvidenceError::Places);
        }
        if self.first.statement.block() >= self.second.statement.block() {
            return Err(EvidenceError::Order);
        }
        for said in [&self.first, &self.second] {
            if !self.signer.verify(&said.statement.sign_bytes(pool)?, &said.signature) {
                return Err(EvidenceError::BadSignature(self.signer));
            }
        }
        Ok(())
    }
}
