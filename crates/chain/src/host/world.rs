//! What the consensus core asks of its host while it handles one input: signatures made and checked, timers, messages,
//! log entries, the decision. Nothing here touches a disk, a socket or a clock: everything becomes part of [`Output`].

use std::collections::{BTreeMap, BTreeSet};

use arc_malachitebft_core_consensus::{Effect, Input, Resumable, Resume, SignedConsensusMsg, ThresholdParams};
use arc_malachitebft_core_types::{LinearTimeouts, Proposal as _, Round, SignedMessage, Timeout, Vote as _, VoteType};
use zero2ai_proto::{
    BlockId, ByteBuf, Digest, NodeId, PoolId, Signature, TxId,
    block::Certificate,
    calls::SealedBlock,
    consensus::{ConsensusGossip, ConsensusMessage},
    encode,
    evidence::Evidence,
};

use crate::{
    ChainTopic,
    context::{Validators, Zero},
    convert,
    error::ChainError,
    signer::{Signed, Signer},
    verify,
    wal::WalEntry,
};
use zero2ai_ledger::TxError;

/// Stands where a signature was refused: it verifies under no key, so the core drops the message and counts this node
/// out, and it is never sent.
const WITHHELD: Signature = Signature([0; 64]);

/// What the host wants done, in this order: entries and mark to disk; then messages out.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// For the write-ahead log.
    pub(crate) wal: Vec<WalEntry>,
    /// Messages, each to one topic.
    pub(crate) sends: Vec<(ChainTopic, Vec<u8>)>,
    /// Transactions that are final (with their height) or refused for good.
    pub(crate) settled: Vec<(TxId, Result<u64, TxError>)>,
    /// Signers that contradicted themselves at the height that was decided, one proof each.
    pub(crate) evidence: Vec<Evidence>,
}

/// A block proposed at the height being decided.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) bytes: ByteBuf,
    pub(crate) valid: bool,
}

/// The core's surroundings at one height.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) pool: PoolId,
    pub(crate) me: NodeId,
    pub(crate) signer: Signer,
    pub(crate) thresholds: ThresholdParams,
    pub(crate) timeouts: LinearTimeouts,
    /// Steady milliseconds of the event being handled.
    pub(crate) up: u64,
    /// Running timers and when they are due. A timeout names no height, hence they are cleared with it.
    pub(crate) timers: Vec<(Timeout, u64)>,
    pub(crate) candidates: BTreeMap<BlockId, Candidate>,
    /// Hashes of logged entries, while they are replayed: they are not logged again.
    pub(crate) replayed: Option<BTreeSet<Digest>>,
    /// A round for which the core wants a block of ours.
    pub(crate) wanted: Option<Round>,
    pub(crate) decided: Option<SealedBlock>,
    /// Our newest proposal, sent again with our votes.
    proposal: Option<(u64, Round, ConsensusMessage)>,
    repeat: u32,
    pub(crate) out: Output,
}

impl World {
    pub(crate) fn new(pool: PoolId, me: NodeId, signer: Signer, timeouts: LinearTimeouts) -> Self {
        Self {
            pool,
            me,
            signer,
            thresholds: ThresholdParams::default(),
            timeouts,
            up: 0,
            timers: Vec::new(),
            candidates: BTreeMap::new(),
            replayed: None,
            wanted: None,
            decided: None,
            proposal: None,
            repeat: 0,
            out: Output::default(),
        }
    }

    /// Forgets everything about the height that was decided.
    pub(crate) fn clear(&mut self) {
        self.timers.clear();
        self.candidates.clear();
        self.wanted = None;
        self.proposal = None;
    }

    fn block_bytes(&self, id: &BlockId) -> Option<ByteBuf> {
        self.candidates.get(id).map(|c| c.bytes.clone())
    }

    /// Queues a message; each gets a number of its own, so that one that is sent again is not taken for a copy.
    fn send(&mut self, message: ConsensusMessage) -> Result<(), ChainError> {
        self.repeat = self.repeat.wrapping_add(1);
        let bytes = encode(&ConsensusGossip { repeat: self.repeat, message })?;
        self.out.sends.push((ChainTopic::Consensus, bytes));
        Ok(())
    }

    /// Carries out one effect. Errors are fatal: the core must not go on.
    pub(crate) fn effect(&mut self, effect: Effect<Zero>) -> Result<Resume<Zero>, ChainError> {
        Ok(match effect {
            Effect::CancelAllTimeouts(r) => {
                self.timers.clear();
                r.resume_with(())
            }
            Effect::CancelTimeout(timeout, r) => {
                self.timers.retain(|(t, _)| *t != timeout);
                r.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, r) => {
                let ms = u64::try_from(self.timeouts.duration_for(timeout).as_millis()).unwrap_or(u64::MAX);
                self.timers.retain(|(t, _)| *t != timeout);
                self.timers.push((timeout, self.up.saturating_add(ms)));
                r.resume_with(())
            }
            Effect::StartRound(height, round, proposer, _, r) => {
                tracing::debug!(%height, %round, %proposer, "round");
                r.resume_with(())
            }
            Effect::PublishConsensusMsg(message, r) => {
                self.publish(&message)?;
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(message, r) => {
                if let Some(message) = convert::liveness_out(&message).filter(is_signed) {
                    self.send(message)?;
                }
                r.resume_with(())
            }
            Effect::RepublishVote(vote, r) => {
                self.republish(&vote)?;
                r.resume_with(())
            }
            Effect::RepublishRoundCertificate(certificate, r) => {
                if let Some(proof) = convert::round_out(&certificate) {
                    self.send(ConsensusMessage::Round(proof))?;
                }
                r.resume_with(())
            }
            Effect::GetValue(_, round, _, r) => {
                self.wanted = Some(round);
                r.resume_with(())
            }
            Effect::SignVote(vote, r) => {
                let signature = vote.signed_part().map_or(Ok(None), |v| self.signer.sign(Signed::Vote(v)))?;
                r.resume_with(SignedMessage::new(vote, signature.unwrap_or(WITHHELD)))
            }
            Effect::SignProposal(proposal, r) => {
                let part = proposal.signed_part();
                let signature = part.map_or(Ok(None), |p| self.signer.sign(Signed::Proposal(p)))?;
                r.resume_with(SignedMessage::new(proposal, signature.unwrap_or(WITHHELD)))
            }
            Effect::VerifySignature(signed, _, r) => {
                use arc_malachitebft_core_consensus::ConsensusMsg;
                let holds = match &signed.message {
                    ConsensusMsg::Vote(v) => verify::vote(&self.pool, v, &signed.signature),
                    ConsensusMsg::Proposal(p) => verify::proposal(&self.pool, p, &signed.signature),
                };
                r.resume_with(holds)
            }
            Effect::VerifyCommitCertificate(c, set, t, r) => {
                r.resume_with(verify::commit(&self.pool, &c, &set, &t).map_err(|e| *e))
            }
            Effect::VerifyPolkaCertificate(c, set, t, r) => {
                r.resume_with(verify::polka(&self.pool, &c, &set, &t).map_err(|e| *e))
            }
            Effect::VerifyRoundCertificate(c, set, t, r) => {
                r.resume_with(verify::round(&self.pool, &c, &set, &t).map_err(|e| *e))
            }
            Effect::WalAppend(height, input, r) => {
                self.log(height.0, &input)?;
                r.resume_with(())
            }
            Effect::Decide(certificate, _, r) => {
                self.decide(certificate.height.0, convert::certificate_out(&certificate))?;
                r.resume_with(())
            }
            Effect::Finalize(certificate, _, evidence, r) => {
                for found in convert::evidence_out(&evidence) {
                    tracing::warn!(height = %certificate.height, signer = %found.signer.short(), step = found.place().2.name(), "signed two different things");
                    self.out.evidence.push(found);
                }
                r.resume_with(())
            }
            // A block travels with its proposal, so there is nothing to stream again.
            Effect::RestreamProposal(.., r) => r.resume_with(()),
            // Never asked for: synced blocks do not pass through the core, and vote extensions are off.
            Effect::CertVerifiedSyncValue(_, _, r) => r.resume_with(()),
            Effect::CertRejectedSyncValue(_, _, _, r) => r.resume_with(()),
            Effect::VerifyExtendedCommitCertificate(c, set, t, _, r) => {
                r.resume_with(verify::commit(&self.pool, &c.trim_vote_extensions(), &set, &t).map_err(|e| *e))
            }
            Effect::ExtendVote(_, _, _, _, r) => r.resume_with(None),
            Effect::VerifyVoteExtension(_, _, _, _, _, _, r) => r.resume_with(Ok(())),
        })
    }

    fn publish(&mut self, message: &SignedConsensusMsg<Zero>) -> Result<(), ChainError> {
        let wire = convert::consensus_out(message, |id| self.block_bytes(id));
        let Some(wire) = wire.filter(is_signed) else { return Ok(()) };
        if let SignedConsensusMsg::Proposal(p) = message {
            self.proposal = Some((p.height().0, p.round(), wire.clone()));
        }
        self.send(wire)
    }

    /// Sends a vote again, and with the first vote of a round our proposal of that round: a peer that came late needs both.
    fn republish(&mut self, vote: &SignedMessage<Zero, crate::context::Vote>) -> Result<(), ChainError> {
        let proposal = self.proposal.as_ref().filter(|(height, round, _)| {
            vote.vote_type() == VoteType::Prevote && *height == vote.height().0 && *round == vote.round()
        });
        if let Some(proposal) = proposal.map(|(_, _, message)| message.clone()) {
            self.send(proposal)?;
        }
        if let Some(message) = convert::vote_out(vote).map(ConsensusMessage::Vote).filter(is_signed) {
            self.send(message)?;
        }
        Ok(())
    }

    fn log(&mut self, height: u64, input: &Input<Zero>) -> Result<(), ChainError> {
        // Peers send votes back in certificates, this node's own too. In the log they would look at the next start as if
        // nothing of it were lost. Nothing is signed at such a height, so nothing needs to be logged.
        if self.signer.lost().is_some_and(|lost| height <= lost) {
            return Ok(());
        }
        let Some(entry) = WalEntry::of(height, input, |id| self.block_bytes(id)) else { return Ok(()) };
        let known = match &self.replayed {
            Some(known) => known.contains(&Digest::of(&entry.bytes()?)),
            None => false,
        };
        if !known {
            self.out.wal.push(entry);
        }
        Ok(())
    }

    fn decide(&mut self, height: u64, certificate: Option<Certificate>) -> Result<(), ChainError> {
        let sealed = certificate.and_then(|certificate| {
            let block = self.block_bytes(&certificate.block)?;
            Some(SealedBlock { block, certificate })
        });
        let Some(sealed) = sealed else {
            return Err(ChainError::Core { height, why: "it decided on a block that it was never given".into() });
        };
        self.decided = Some(sealed);
        Ok(())
    }

    /// The next timer that is due, taken out.
    pub(crate) fn take_due(&mut self) -> Option<Timeout> {
        let (nth, _) = self.timers.iter().enumerate().filter(|(_, t)| t.1 <= self.up).min_by_key(|(_, t)| t.1)?;
        Some(self.timers.swap_remove(nth).0)
    }

    /// When the next timer is due.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.timers.iter().map(|t| t.1).min()
    }
}

/// The set the core works with.
pub(crate) fn validators(set: &zero2ai_proto::state::SignerSet) -> Validators {
    Validators::from(set)
}

/// False for what the signer refused to sign.
fn is_signed(message: &ConsensusMessage) -> bool {
    match message {
        ConsensusMessage::Vote(v) => v.signature != WITHHELD,
        ConsensusMessage::Proposal(p) => p.signature != WITHHELD,
        ConsensusMessage::Polka(_) | ConsensusMessage::Round(_) => true,
    }
}
