//! Entries of the write-ahead log: what the consensus core was told at a height, so that a restarted node takes the same
//! decisions and signs nothing twice. Blocks are kept here whole, once; the other entries name them.

use arc_malachitebft_core_consensus::{Input, ProposedValue};
use arc_malachitebft_core_types::{Round, Timeout, TimeoutKind, Validity, ValueOrigin};
use serde::{Deserialize, Serialize};
use zero2ai_proto::{
    ByteBuf, CodecError, NodeId, PoolId, Signature,
    block::{self, Block},
    consensus::{Polka, SignedVote},
    decode, encode,
    evidence::Statement,
    limits::GOSSIP_BYTES,
};

use crate::{
    context::{Address, Height, Value, Zero},
    convert,
    signer::Signed,
};

/// Longest entry: a block with its framing.
const ENTRY_BYTES: usize = GOSSIP_BYTES + 4_096;

/// Timeouts that change the core's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    Propose,
    Prevote,
    Precommit,
}

/// One thing the core was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Told {
    /// A vote, of a peer or the node's own.
    Vote(SignedVote),
    /// A proposal; its block is an entry of its own.
    Proposal { proposer: NodeId, proposal: block::Proposal, signature: Signature },
    /// A proposed block and whether this node found it valid.
    Block { round: u32, pol_round: Option<u32>, proposer: NodeId, valid: bool, block: ByteBuf },
    /// A timeout.
    Timeout { step: Step, round: u32 },
    /// A polka certificate.
    Polka(Polka),
}

/// An entry with the height it belongs to: entries of other heights are left over and skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WalEntry {
    pub(crate) height: u64,
    pub(crate) told: Told,
}

impl WalEntry {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        decode(bytes, ENTRY_BYTES)
    }

    pub(crate) fn bytes(&self) -> Result<Vec<u8>, CodecError> {
        encode(self)
    }

    /// The entry for an input that the core wants logged; `block` finds a block's bytes. `None` for inputs that are never
    /// logged.
    pub(crate) fn of(
        height: u64,
        input: &Input<Zero>,
        block: impl Fn(&zero2ai_proto::BlockId) -> Option<ByteBuf>,
    ) -> Option<Self> {
        let told = match input {
            Input::Vote(v) => Told::Vote(convert::vote_out(v)?),
            Input::Proposal(p) => Told::Proposal {
                proposer: p.message.proposer.0,
                proposal: p.message.signed_part()?,
                signature: p.signature,
            },
            Input::ProposedValue(v, _) => Told::Block {
                round: v.round.as_u32()?,
                pol_round: v.valid_round.as_u32(),
                proposer: v.proposer.0,
                valid: v.validity.is_valid(),
                block: block(&v.value.0)?,
            },
            Input::TimeoutElapsed(t) => {
                let step = match t.kind {
                    TimeoutKind::Propose => Step::Propose,
                    TimeoutKind::Prevote => Step::Prevote,
                    TimeoutKind::Precommit => Step::Precommit,
                    TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => return None,
                };
                Told::Timeout { step, round: t.round.as_u32()? }
            }
            Input::PolkaCertificate(p) => Told::Polka(convert::polka_out(p)?),
            Input::StartHeight(..) | Input::RoundCertificate(_) | Input::Propose(_) | Input::SyncValueResponse(_) => {
                return None;
            }
        };
        Some(Self { height, told })
    }

    /// The vote or proposal it tells of, and whose it is.
    pub(crate) fn said(&self) -> Option<(NodeId, Statement)> {
        match &self.told {
            Told::Vote(v) => Some((v.voter, Statement::Vote(v.vote))),
            Told::Proposal { proposer, proposal, .. } => Some((*proposer, Statement::Proposal(*proposal))),
            Told::Block { .. } | Told::Timeout { .. } | Told::Polka(_) => None,
        }
    }

    /// True if the log holds what the mark says was signed last by `me`, and so all that led to it. The signature counts
    /// too: only what was really signed is in the log for certain.
    pub(crate) fn any_tells(entries: &[Self], mark: &Signed, me: &NodeId, pool: &PoolId) -> bool {
        let Ok(bytes) = mark.sign_bytes(pool) else { return false };
        entries.iter().any(|entry| {
            let (author, told, signature) = match &entry.told {
                Told::Vote(v) => (v.voter, Signed::Vote(v.vote), &v.signature),
                Told::Proposal { proposer, proposal, signature } => (*proposer, Signed::Proposal(*proposal), signature),
                Told::Block { .. } | Told::Timeout { .. } | Told::Polka(_) => return false,
            };
            author == *me && told == *mark && me.verify(&bytes, signature)
        })
    }

    /// The core's input, and the block it brings along.
    pub(crate) fn input(&self) -> Result<(Input<Zero>, Option<Block>), CodecError> {
        let input = match &self.told {
            Told::Vote(v) => Input::Vote(convert::vote_in(v)),
            Told::Proposal { proposer, proposal, signature } => {
                Input::Proposal(convert::proposal_in(*proposer, proposal, *signature))
            }
            Told::Timeout { step, round } => Input::TimeoutElapsed(Timeout::new(
                Round::new(*round),
                match step {
                    Step::Propose => TimeoutKind::Propose,
                    Step::Prevote => TimeoutKind::Prevote,
                    Step::Precommit => TimeoutKind::Precommit,
                },
            )),
            Told::Polka(p) => Input::PolkaCertificate(convert::polka_in(p)),
            Told::Block { round, pol_round, proposer, valid, block } => {
                let block = Block::read(block)?;
                let value = ProposedValue {
                    height: Height(self.height),
                    round: Round::new(*round),
                    valid_round: pol_round.map_or(Round::Nil, Round::new),
                    proposer: Address(*proposer),
                    value: Value(block.id()),
                    validity: Validity::from_bool(*valid),
                };
                return Ok((Input::ProposedValue(value, ValueOrigin::Consensus), Some(block)));
            }
        };
        Ok((input, None))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::{
        BlockId, SecretKey,
        block::{Vote, VoteKind},
    };

    use super::*;

    #[test]
    fn entries_come_back_as_the_same_inputs() {
        let key = SecretKey::from_bytes(&[3; 32]);
        let block = Block { header: ByteBuf::from(vec![1, 2, 3]), txs: vec![] };
        let id = block.id();
        let vote = Vote { height: 7, round: 2, kind: VoteKind::Precommit, block: Some(id) };
        let signature = key.sign(b"anything");
        let inputs = [
            Told::Vote(SignedVote { voter: key.public(), vote, signature }),
            Told::Vote(SignedVote { voter: key.public(), vote: Vote { block: None, ..vote }, signature }),
            Told::Proposal {
                proposer: key.public(),
                proposal: block::Proposal { height: 7, round: 2, pol_round: Some(1), block: id },
                signature,
            },
            Told::Block {
                round: 2,
                pol_round: None,
                proposer: key.public(),
                valid: false,
                block: ByteBuf::from(encode(&block).unwrap()),
            },
            Told::Timeout { step: Step::Prevote, round: 9 },
            Told::Polka(Polka { height: 7, round: 2, block: id, signatures: vec![(key.public(), signature)] }),
        ];
        let bytes_of = |wanted: &BlockId| (*wanted == id).then(|| ByteBuf::from(encode(&block).unwrap()));
        for told in inputs {
            let entry = WalEntry { height: 7, told };
            let read = WalEntry::read(&entry.bytes().unwrap()).unwrap();
            let (input, _) = read.input().unwrap();
            assert_eq!(WalEntry::of(7, &input, bytes_of), Some(entry));
        }
    }
}
