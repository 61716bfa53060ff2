//! What peers send. A message for the height being decided goes to the core once it is known to be a signer's; one for
//! the height after that is kept; anything later, or a higher head, is a hint that blocks are missing here.

use std::collections::BTreeSet;

use arc_malachitebft_core_consensus::{Input, ProposedValue};
use arc_malachitebft_core_types::{Context as _, Round, Validator as _, Validity, ValueOrigin};
use zero2ai_ledger::BlockError;
use zero2ai_proto::{
    BlockId, NodeId, Signed,
    block::Block,
    consensus::{ConsensusMessage, SignedProposal},
    limits::CLOCK_SKEW_MS,
    tx::Tx,
};

use super::{
    Host, Now,
    world::{Candidate, validators},
};
use crate::{
    config::{BLOCKS_PER_ROUND, CANDIDATE_BYTES, EARLY_BYTES, EARLY_MESSAGES, ROUND_LIMIT, ROUND_LOOKAHEAD},
    context::{Address, Height, Validators, Value, Zero},
    convert,
    error::ChainError,
    verify,
};

/// Messages for the height after the one being decided, each proven to be of one of its signers, bounded per signer.
#[derive(Debug, Default)]
pub(super) struct Early {
    height: u64,
    messages: Vec<(NodeId, ConsensusMessage)>,
    bytes: usize,
    /// Proposals taken at the current height, by round and block: a repeated one is not looked at again.
    seen: BTreeSet<(u32, BlockId)>,
}

impl Early {
    /// Keeps a message, unless there is no room. All that are kept are of one height.
    fn push(&mut self, from: NodeId, message: ConsensusMessage) {
        if self.height != message.height() {
            self.clear();
        }
        let bytes = if let ConsensusMessage::Proposal(p) = &message { p.block.len() } else { 256 };
        let of_signer = self.messages.iter().filter(|(who, _)| *who == from).count();
        let known = self.messages.iter().any(|(_, m)| *m == message);
        if of_signer < EARLY_MESSAGES && self.bytes.saturating_add(bytes) <= EARLY_BYTES && !known {
            self.bytes += bytes;
            self.height = message.height();
            self.messages.push((from, message));
        }
    }

    /// True if there are messages of `height`.
    pub(super) fn is_of(&self, height: u64) -> bool {
        self.height == height && !self.messages.is_empty()
    }

    /// The messages of `height`; those of another stay.
    pub(super) fn take(&mut self, height: u64) -> Vec<ConsensusMessage> {
        if self.height != height {
            return Vec::new();
        }
        self.bytes = 0;
        std::mem::take(&mut self.messages).into_iter().map(|(_, m)| m).collect()
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }

    /// Drops what is for a height before `height`.
    pub(super) fn keep_from(&mut self, height: u64) {
        self.seen.clear();
        if self.height < height {
            self.clear();
        }
    }
}

/// The signer who made a vote or proposal, if its signature holds and he is in `set`; for a certificate, anyone in it.
fn author(message: &ConsensusMessage, host: &Host, set: &Validators) -> Option<NodeId> {
    let (pool, thresholds) = (&host.world.pool, &host.world.thresholds);
    let (who, holds) = match convert::input(message) {
        Input::Vote(v) => (v.message.voter, verify::vote(pool, &v.message, &v.signature)),
        Input::Proposal(p) => (p.message.proposer, verify::proposal(pool, &p.message, &p.signature)),
        Input::PolkaCertificate(c) => {
            (c.polka_signatures.first()?.address, verify::polka(pool, &c, set, thresholds).is_ok())
        }
        Input::RoundCertificate(c) => {
            (c.round_signatures.first()?.address, verify::round(pool, &c, set, thresholds).is_ok())
        }
        _ => return None,
    };
    use arc_malachitebft_core_types::ValidatorSet as _;
    (set.get_by_address(&who).is_some() && holds).then_some(who.0)
}

fn round_of(message: &ConsensusMessage) -> u32 {
    match message {
        ConsensusMessage::Vote(v) => v.vote.round,
        ConsensusMessage::Proposal(p) => p.proposal.round,
        ConsensusMessage::Polka(p) => p.round,
        ConsensusMessage::Round(r) => r.round,
    }
}

impl Host {
    /// A consensus message from a peer.
    pub(crate) fn message(&mut self, from: NodeId, message: ConsensusMessage, now: Now) -> Result<(), ChainError> {
        let next = self.next_height();
        let height = message.height();
        if height < next || round_of(&message) > ROUND_LIMIT || self.world.decided.is_some() {
            return Ok(());
        }
        if height > next {
            self.pacing.heard_of(height - 1, from, next - 1, now);
            if height == next + 1 {
                let set = self.shared.read().ledger.signers_state().next.clone();
                if let Some(author) = author(&message, self, &validators(&set)) {
                    self.early.push(author, message);
                }
            }
            return Ok(());
        }
        if !self.started {
            let set = validators(self.shared.read().ledger.signers());
            if author(&message, self, &set).is_none() {
                return Ok(());
            }
            self.start(now)?;
        }
        self.deliver(message, now)
    }

    /// Gives the core a message for the height it works on. The core checks signatures; proposals are looked at here first.
    pub(super) fn deliver(&mut self, message: ConsensusMessage, now: Now) -> Result<(), ChainError> {
        match &message {
            ConsensusMessage::Proposal(proposal) => self.proposal(proposal, now),
            _ => self.feed(convert::input(&message), now),
        }
    }

    /// A proposal: believed only if its signer's turn it is, and then judged by its block.
    fn proposal(&mut self, p: &SignedProposal, now: Now) -> Result<(), ChainError> {
        let round = Round::new(p.proposal.round);
        let turn = Zero.select_proposer(self.core.validator_set(), Height(p.proposal.height), round).address().0;
        let far = self.core.round().as_u32().unwrap_or(0).saturating_add(ROUND_LOOKAHEAD);
        let key = (p.proposal.round, p.proposal.block);
        let of_round = self.early.seen.iter().filter(|(round, _)| *round == key.0).count();
        let known = self.early.seen.contains(&key) || of_round >= BLOCKS_PER_ROUND;
        if p.proposer != turn || p.proposal.round > far || known || p.proposer == self.me() {
            return Ok(());
        }
        let signed = convert::proposal_in(p.proposer, &p.proposal, p.signature);
        if !verify::proposal(&self.world.pool, &signed.message, &signed.signature) {
            return Ok(());
        }
        let Some(valid) = self.judge(p, now) else { return Ok(()) };
        self.early.seen.insert(key);
        let value = ProposedValue {
            height: Height(p.proposal.height),
            round,
            valid_round: signed.message.pol_round,
            proposer: Address(p.proposer),
            value: Value(p.proposal.block),
            validity: Validity::from_bool(valid),
        };
        self.feed(Input::Proposal(signed), now)?;
        self.feed(Input::ProposedValue(value, ValueOrigin::Consensus), now)
    }

    /// Whether a proposed block is valid. `None` if the bytes are not the block's at all, so that they say nothing about it
    /// and nothing is remembered. Of its time only that it is not too far ahead of this clock is asked: see the ledger.
    fn judge(&mut self, p: &SignedProposal, now: Now) -> Option<bool> {
        if self.world.candidates.get(&p.proposal.block).is_some_and(|c| c.valid) {
            return Some(true);
        }
        let block = Block::read(&p.block).ok().filter(|b| b.id() == p.proposal.block)?;
        let held: usize = self.world.candidates.values().map(|c| c.bytes.len()).sum();
        if held.saturating_add(p.block.len()) > CANDIDATE_BYTES {
            return None;
        }
        let checked = self.shared.read().ledger.check_block(&block);
        let valid = match checked {
            Ok(header) if header.time_ms > now.wall.saturating_add(CLOCK_SKEW_MS) => {
                tracing::warn!(proposer = %p.proposer.short(), ahead_ms = header.time_ms - now.wall, "a proposed block's time is too far ahead of this clock");
                false
            }
            Ok(_) => true,
            Err(BlockError::TxsRoot { .. }) => return None,
            Err(error) => {
                tracing::warn!(proposer = %p.proposer.short(), %error, "a proposed block is invalid");
                false
            }
        };
        self.world.candidates.insert(p.proposal.block, Candidate { bytes: p.block.clone(), valid });
        Some(valid)
    }

    /// A transaction that a peer gossiped. Refused ones are forgotten: gossip says nothing back.
    pub(crate) fn gossiped_tx(&mut self, tx: &Signed<Tx>, now: Now) -> Result<(), ChainError> {
        if let Err(error) = self.add(tx, now) {
            tracing::trace!(%error, "gossiped transaction not taken");
            return Ok(());
        }
        self.go_on(now)
    }

    /// A peer's head: a hint, followed by fetching. Another block than ours at our own height is a lie, or a fork: worth a
    /// word in the log, one a height.
    pub(crate) fn head(&mut self, from: NodeId, height: u64, block: BlockId, now: Now) {
        let (own, head) = {
            let view = self.shared.read();
            (view.ledger.height(), view.ledger.head_id())
        };
        if height == own && block != head && self.contradicted_at != Some(own) {
            self.contradicted_at = Some(own);
            tracing::error!(
                height,
                peer = %from.short(),
                theirs = %block,
                ours = %head,
                "a peer says that another block is final at the height of this node's head: it lies, or the chain has \
                 forked; compare with other members before you trust what follows"
            );
        }
        self.pacing.heard_of(height, from, own, now);
    }
}
