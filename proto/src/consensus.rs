//! What signers and followers gossip: votes, proposals, the certificates that keep rounds together, heads, transactions.
//!
//! Every message carries a counter `repeat`, so that sending one again makes new bytes and no gossip cache swallows it.
//! Messages name their signer and are proven by his signature alone: who relayed them means nothing.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    block::{Proposal, Vote, VoteKind},
    codec::{CodecError, decode},
    envelope::Signed,
    ids::BlockId,
    keys::{NodeId, Signature},
    limits::{GOSSIP_BYTES, SIGNED_BYTES, SIGNERS},
    tx::Tx,
};

/// A vote and who cast it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVote {
    /// The signer.
    pub voter: NodeId,
    /// What was voted.
    pub vote: Vote,
    /// Over [`Vote::sign_bytes`].
    pub signature: Signature,
}

/// A proposal with the block it proposes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedProposal {
    /// The signer whose turn it is.
    pub proposer: NodeId,
    /// What he proposes.
    pub proposal: Proposal,
    /// Over [`Proposal::sign_bytes`].
    pub signature: Signature,
    /// The encoded [`crate::block::Block`]; its id is the proposal's.
    pub block: ByteBuf,
}

/// Prevotes of more than two thirds for one block: lets a peer that missed some of them accept its re-proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Polka {
    /// Height.
    pub height: u64,
    /// Round, from 0.
    pub round: u32,
    /// The block.
    pub block: BlockId,
    /// Who prevoted it, at most [`SIGNERS`], and how they signed.
    pub signatures: Vec<(NodeId, Signature)>,
}

/// One vote inside a [`RoundProof`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundVote {
    /// The signer.
    pub voter: NodeId,
    /// Which vote.
    pub kind: VoteKind,
    /// The block, or none.
    pub block: Option<BlockId>,
    /// Over the [`Vote`] these make.
    pub signature: Signature,
}

/// Why a round may be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoundReason {
    /// More than a third of the power already voted in it.
    Skip,
    /// More than two thirds of the power precommitted in the round before, without deciding.
    Precommit,
}

/// Votes that justify entering a round: brings stragglers along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundProof {
    /// Height.
    pub height: u64,
    /// Round of the votes, from 0.
    pub round: u32,
    /// What they prove.
    pub reason: RoundReason,
    /// The votes, at most [`SIGNERS`], one of each signer.
    pub votes: Vec<RoundVote>,
}

/// One of the consensus messages. The order of the variants is the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsensusMessage {
    /// A vote.
    Vote(SignedVote),
    /// A proposal with its block.
    Proposal(SignedProposal),
    /// More than two thirds prevoted a block.
    Polka(Polka),
    /// A round may be entered.
    Round(RoundProof),
}

/// What the consensus topic carries, at most [`GOSSIP_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsensusGossip {
    /// Counts repetitions, from 0.
    pub repeat: u32,
    /// The message.
    pub message: ConsensusMessage,
}

impl ConsensusGossip {
    /// Reads one; bounds its lists.
    ///
    /// # Errors
    /// Malformed, too long, or a list beyond its bound.
    pub fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        let gossip: Self = decode(bytes, GOSSIP_BYTES)?;
        let (len, max) = match &gossip.message {
            ConsensusMessage::Polka(p) => (p.signatures.len(), SIGNERS),
            ConsensusMessage::Round(r) => (r.votes.len(), SIGNERS),
            ConsensusMessage::Vote(_) | ConsensusMessage::Proposal(_) => (0, 0),
        };
        if len > max {
            return Err(CodecError::Malformed(format!("{len} signatures; at most {max} can be")));
        }
        Ok(gossip)
    }
}

impl ConsensusMessage {
    /// The height it is about.
    #[must_use]
    pub fn height(&self) -> u64 {
        match self {
            Self::Vote(v) => v.vote.height,
            Self::Proposal(p) => p.proposal.height,
            Self::Polka(p) => p.height,
            Self::Round(r) => r.height,
        }
    }
}

/// What the transaction topic carries, at most [`SIGNED_BYTES`] and a little.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxGossip {
    /// Counts repetitions, from 0.
    pub repeat: u32,
    /// The transaction.
    pub tx: Signed<Tx>,
}

impl TxGossip {
    /// Reads one; the signature is not checked.
    ///
    /// # Errors
    /// Malformed or too long.
    pub fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        decode(bytes, SIGNED_BYTES + 1024)
    }
}

/// What the head topic carries: the newest final block its author has. A hint, proven only by fetching the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadGossip {
    /// Counts repetitions, from 0.
    pub repeat: u32,
    /// Its height; 0 before the first block.
    pub height: u64,
    /// Its id; for height 0 the genesis's.
    pub block: BlockId,
}

impl HeadGossip {
    /// Reads one.
    ///
    /// # Errors
    /// Malformed or too long.
    pub fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        decode(bytes, 128)
    }
}
