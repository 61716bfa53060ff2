//! Between the wire's messages and the core's. Neither side's invariants are checked here: signatures are the core's
//! business, bounds the wire's.

use std::collections::BTreeMap;

use arc_malachitebft_core_consensus::{Input, LivenessMsg, MisbehaviorEvidence, SignedConsensusMsg};
use arc_malachitebft_core_types::{
    CommitCertificate, NilOrVal, PolkaCertificate, PolkaSignature, Round, RoundCertificate, RoundCertificateType,
    RoundSignature, SignedMessage, VoteType,
};
use zero2ai_proto::{
    BlockId, ByteBuf, NodeId, Signature,
    block::{self, Certificate, VoteKind},
    consensus::{ConsensusMessage, Polka, RoundProof, RoundReason, RoundVote, SignedProposal, SignedVote},
    evidence::{Evidence, SignedStatement, Statement},
};

use crate::context::{Address, Height, Proposal, Value, Vote, Zero};

fn vote_type(kind: VoteKind) -> VoteType {
    match kind {
        VoteKind::Prevote => VoteType::Prevote,
        VoteKind::Precommit => VoteType::Precommit,
    }
}

fn vote_kind(kind: VoteType) -> VoteKind {
    match kind {
        VoteType::Prevote => VoteKind::Prevote,
        VoteType::Precommit => VoteKind::Precommit,
    }
}

fn nil_or(block: Option<BlockId>) -> NilOrVal<BlockId> {
    block.map_or(NilOrVal::Nil, NilOrVal::Val)
}

pub(crate) fn vote_in(v: &SignedVote) -> SignedMessage<Zero, Vote> {
    let vote = Vote {
        height: Height(v.vote.height),
        round: Round::new(v.vote.round),
        kind: vote_type(v.vote.kind),
        value: nil_or(v.vote.block),
        voter: Address(v.voter),
    };
    SignedMessage::new(vote, v.signature)
}

pub(crate) fn vote_out(v: &SignedMessage<Zero, Vote>) -> Option<SignedVote> {
    Some(SignedVote { voter: v.message.voter.0, vote: v.message.signed_part()?, signature: v.signature })
}

pub(crate) fn proposal_in(
    proposer: NodeId,
    proposal: &block::Proposal,
    signature: Signature,
) -> SignedMessage<Zero, Proposal> {
    let proposal = Proposal {
        height: Height(proposal.height),
        round: Round::new(proposal.round),
        value: Value(proposal.block),
        pol_round: proposal.pol_round.map_or(Round::Nil, Round::new),
        proposer: Address(proposer),
    };
    SignedMessage::new(proposal, signature)
}

/// A proposal for the wire, with the block's bytes where `block` has them.
pub(crate) fn consensus_out(
    message: &SignedConsensusMsg<Zero>,
    block: impl Fn(&BlockId) -> Option<ByteBuf>,
) -> Option<ConsensusMessage> {
    match message {
        SignedConsensusMsg::Vote(vote) => vote_out(vote).map(ConsensusMessage::Vote),
        SignedConsensusMsg::Proposal(p) => Some(ConsensusMessage::Proposal(SignedProposal {
            proposer: p.message.proposer.0,
            proposal: p.message.signed_part()?,
            signature: p.signature,
            block: block(&p.message.value.0)?,
        })),
    }
}

pub(crate) fn polka_out(c: &PolkaCertificate<Zero>) -> Option<Polka> {
    let signatures = c.polka_signatures.iter().map(|s| (s.address.0, s.signature)).collect();
    Some(Polka { height: c.height.0, round: c.round.as_u32()?, block: c.value_id, signatures })
}

pub(crate) fn polka_in(p: &Polka) -> PolkaCertificate<Zero> {
    PolkaCertificate {
        height: Height(p.height),
        round: Round::new(p.round),
        value_id: p.block,
        polka_signatures: p.signatures.iter().map(|(k, s)| PolkaSignature::new(Address(*k), *s)).collect(),
    }
}

pub(crate) fn round_out(c: &RoundCertificate<Zero>) -> Option<RoundProof> {
    let votes = c.round_signatures.iter().map(|s| RoundVote {
        voter: s.address.0,
        kind: vote_kind(s.vote_type),
        block: match s.value_id {
            NilOrVal::Nil => None,
            NilOrVal::Val(id) => Some(id),
        },
        signature: s.signature,
    });
    let reason = match c.cert_type {
        RoundCertificateType::Skip => RoundReason::Skip,
        RoundCertificateType::Precommit => RoundReason::Precommit,
    };
    Some(RoundProof { height: c.height.0, round: c.round.as_u32()?, reason, votes: votes.collect() })
}

fn round_in(r: &RoundProof) -> RoundCertificate<Zero> {
    let votes =
        r.votes.iter().map(|v| RoundSignature::new(vote_type(v.kind), nil_or(v.block), Address(v.voter), v.signature));
    RoundCertificate {
        height: Height(r.height),
        round: Round::new(r.round),
        cert_type: match r.reason {
            RoundReason::Skip => RoundCertificateType::Skip,
            RoundReason::Precommit => RoundCertificateType::Precommit,
        },
        round_signatures: votes.collect(),
    }
}

pub(crate) fn liveness_out(message: &LivenessMsg<Zero>) -> Option<ConsensusMessage> {
    match message {
        LivenessMsg::Vote(vote) => vote_out(vote).map(ConsensusMessage::Vote),
        LivenessMsg::PolkaCertificate(c) => polka_out(c).map(ConsensusMessage::Polka),
        LivenessMsg::SkipRoundCertificate(c) => round_out(c).map(ConsensusMessage::Round),
    }
}

/// The core's input for a message.
pub(crate) fn input(message: &ConsensusMessage) -> Input<Zero> {
    match message {
        ConsensusMessage::Vote(v) => Input::Vote(vote_in(v)),
        ConsensusMessage::Proposal(p) => Input::Proposal(proposal_in(p.proposer, &p.proposal, p.signature)),
        ConsensusMessage::Polka(p) => Input::PolkaCertificate(polka_in(p)),
        ConsensusMessage::Round(r) => Input::RoundCertificate(round_in(r)),
    }
}

/// What the core found against signers at a height, as the ledger takes it: one proof for each signer. Two proposals of the
/// same block, which differ in the round they refer to alone, prove nothing and are left out.
pub(crate) fn evidence_out(found: &MisbehaviorEvidence<Zero>) -> Vec<Evidence> {
    let vote = |v: &SignedMessage<Zero, Vote>| {
        Some(SignedStatement { statement: Statement::Vote(v.message.signed_part()?), signature: v.signature })
    };
    let proposal = |p: &SignedMessage<Zero, Proposal>| {
        Some(SignedStatement { statement: Statement::Proposal(p.message.signed_part()?), signature: p.signature })
    };
    let votes = found.votes.iter().flat_map(|(who, pairs)| pairs.iter().map(move |(a, b)| (who.0, vote(a), vote(b))));
    let proposals = found
        .proposals
        .iter()
        .flat_map(|(who, pairs)| pairs.iter().map(move |(a, b)| (who.0, proposal(a), proposal(b))));
    let mut one_each = BTreeMap::new();
    for (signer, a, b) in votes.chain(proposals) {
        let (Some(a), Some(b)) = (a, b) else { continue };
        if a.statement.block() != b.statement.block() {
            one_each.entry(signer).or_insert_with(|| Evidence::new(signer, a, b));
        }
    }
    one_each.into_values().collect()
}

/// The certificate as blocks carry it: signatures ascending by key.
pub(crate) fn certificate_out(c: &CommitCertificate<Zero>) -> Option<Certificate> {
    let mut signatures: Vec<_> = c.commit_signatures.iter().map(|s| (s.address.0, s.signature)).collect();
    signatures.sort_by_key(|s| s.0);
    signatures.dedup_by_key(|s| s.0);
    Some(Certificate { height: c.height.0, round: c.round.as_u32()?, block: c.value_id, signatures })
}
