//! Checks of the core's certificates against a signer set: every signature, nobody twice, enough power.

use std::collections::BTreeSet;

use arc_malachitebft_core_consensus::ThresholdParams;
use arc_malachitebft_core_types::{
    CertificateError, CommitCertificate, CommitSignature, NilOrVal, PolkaCertificate, RoundCertificate,
    RoundCertificateType, ThresholdParam, Validator as _, ValidatorSet as _, VoteType,
};
use zero2ai_proto::{PoolId, Signature};

use crate::context::{Address, Proposal, Validators, Vote, Zero};

/// Boxed, since the core's error holds whole signatures.
type Verdict = Result<(), Box<CertificateError<Zero>>>;

/// True if `signature` is the voter's over `vote`.
pub(crate) fn vote(pool: &PoolId, vote: &Vote, signature: &Signature) -> bool {
    let bytes = vote.signed_part().and_then(|v| v.sign_bytes(pool).ok());
    bytes.is_some_and(|b| vote.voter.0.verify(&b, signature))
}

/// True if `signature` is the proposer's over `proposal`.
pub(crate) fn proposal(pool: &PoolId, proposal: &Proposal, signature: &Signature) -> bool {
    let bytes = proposal.signed_part().and_then(|p| p.sign_bytes(pool).ok());
    bytes.is_some_and(|b| proposal.proposer.0.verify(&b, signature))
}

/// Adds up power, each signer once.
struct Tally<'a> {
    signers: &'a Validators,
    seen: BTreeSet<Address>,
    power: u64,
}

impl<'a> Tally<'a> {
    fn new(signers: &'a Validators) -> Self {
        Self { signers, seen: BTreeSet::new(), power: 0 }
    }

    fn count(&mut self, who: Address) -> Verdict {
        let signer = self.signers.get_by_address(&who).ok_or(CertificateError::UnknownValidator(who))?;
        if !self.seen.insert(who) {
            return Err(Box::new(CertificateError::DuplicateVote(who)));
        }
        self.power = self.power.saturating_add(signer.voting_power());
        Ok(())
    }

    fn reaches(&self, threshold: ThresholdParam) -> Verdict {
        let total = self.signers.total_voting_power();
        if threshold.is_met(self.power, total) {
            return Ok(());
        }
        let expected = threshold.min_expected(total);
        Err(Box::new(CertificateError::NotEnoughVotingPower { signed: self.power, total, expected }))
    }
}

/// Precommits of more than two thirds.
pub(crate) fn commit(pool: &PoolId, c: &CommitCertificate<Zero>, set: &Validators, t: &ThresholdParams) -> Verdict {
    let mut tally = Tally::new(set);
    for s in &c.commit_signatures {
        tally.count(s.address)?;
        let value = NilOrVal::Val(c.value_id);
        let precommit = Vote { height: c.height, round: c.round, kind: VoteType::Precommit, value, voter: s.address };
        if !vote(pool, &precommit, &s.signature) {
            let bad = CommitSignature::new(s.address, s.signature);
            return Err(Box::new(CertificateError::InvalidCommitSignature(bad)));
        }
    }
    tally.reaches(t.quorum)
}

/// Prevotes of more than two thirds for one block.
pub(crate) fn polka(pool: &PoolId, c: &PolkaCertificate<Zero>, set: &Validators, t: &ThresholdParams) -> Verdict {
    let mut tally = Tally::new(set);
    for (signed, s) in c.votes(&Zero).zip(&c.polka_signatures) {
        tally.count(s.address)?;
        if !vote(pool, &signed.message, &signed.signature) {
            return Err(Box::new(CertificateError::InvalidPolkaSignature(s.clone())));
        }
    }
    tally.reaches(t.quorum)
}

/// Votes that justify entering a round: any votes of more than a third, or precommits of more than two thirds.
pub(crate) fn round(pool: &PoolId, c: &RoundCertificate<Zero>, set: &Validators, t: &ThresholdParams) -> Verdict {
    let mut tally = Tally::new(set);
    for (signed, s) in c.votes(&Zero).zip(&c.round_signatures) {
        if c.cert_type == RoundCertificateType::Precommit && s.vote_type != VoteType::Precommit {
            return Err(Box::new(CertificateError::InvalidVoteType(s.address)));
        }
        tally.count(s.address)?;
        if !vote(pool, &signed.message, &signed.signature) {
            return Err(Box::new(CertificateError::InvalidRoundSignature(s.clone())));
        }
    }
    tally.reaches(match c.cert_type {
        RoundCertificateType::Skip => t.honest,
        RoundCertificateType::Precommit => t.quorum,
    })
}
