//! What must hold in every run: honest nodes have one chain, no honest signer contradicts itself, no honest one is
//! convicted, and what was acknowledged as final is in everybody's chain.

use std::collections::{BTreeMap, BTreeSet};

use zero2ai_proto::{
    BlockId, Digest, NodeId, PoolId, TxId,
    block::{Block, VoteKind},
    consensus::{ConsensusGossip, ConsensusMessage},
    evidence::{Evidence, Step},
};

use super::node::Node;
use crate::ChainTopic;

/// See the module.
pub(super) struct Checks {
    pool: PoolId,
    honest: usize,
    /// The block of each height that an honest node stored first.
    chain: Vec<BlockId>,
    said: BTreeMap<(NodeId, u64, u32, Step), Option<BlockId>>,
    honest_keys: BTreeSet<NodeId>,
    acknowledged: Vec<(TxId, u64)>,
    proofs: Vec<Evidence>,
    forked: bool,
    failures: Vec<String>,
    trace: Digest,
}

impl Checks {
    pub(super) fn new(pool: PoolId, honest: usize) -> Self {
        Self {
            pool,
            honest,
            chain: Vec::new(),
            said: BTreeMap::new(),
            honest_keys: BTreeSet::new(),
            acknowledged: Vec::new(),
            proofs: Vec::new(),
            forked: false,
            failures: Vec::new(),
            trace: Digest::of(b"trace"),
        }
    }

    pub(super) const fn pool(&self) -> PoolId {
        self.pool
    }

    pub(super) fn failed(&self) -> bool {
        self.forked || !self.failures.is_empty()
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failures.push(why);
    }

    pub(super) const fn forked(&self) -> bool {
        self.forked
    }

    pub(super) fn take_failures(&mut self) -> Vec<String> {
        std::mem::take(&mut self.failures)
    }

    /// The highest block of an honest node.
    pub(super) fn top(&self) -> usize {
        self.chain.len()
    }

    pub(super) const fn trace(&self) -> Digest {
        self.trace
    }

    pub(super) fn trace_add(&mut self, bytes: &[u8]) {
        self.trace = Digest::of(&[self.trace.as_bytes().as_slice(), bytes].concat());
    }

    /// A message leaves. An honest author must not contradict what it said before, in any of its lives.
    pub(super) fn said(&mut self, honest: Option<NodeId>, data: &[u8], topic: ChainTopic) {
        self.trace_add(data);
        let Some(author) = honest.filter(|_| topic == ChainTopic::Consensus) else { return };
        self.honest_keys.insert(author);
        let (place, block) = match ConsensusGossip::read(data).map(|g| g.message) {
            Ok(ConsensusMessage::Vote(v)) if v.voter == author => {
                let step = if v.vote.kind == VoteKind::Prevote { Step::Prevote } else { Step::Precommit };
                ((author, v.vote.height, v.vote.round, step), v.vote.block)
            }
            Ok(ConsensusMessage::Proposal(p)) if p.proposer == author => {
                ((author, p.proposal.height, p.proposal.round, Step::Proposal), Some(p.proposal.block))
            }
            _ => return,
        };
        if *self.said.entry(place).or_insert(block) != block {
            self.fail(format!("an honest signer contradicted itself at {place:?}"));
        }
    }

    /// A node may have stored blocks.
    pub(super) fn blocks(&mut self, node: &mut Node) {
        for (nth, sealed) in node.blocks().iter().enumerate().skip(node.checked) {
            let block = sealed.certificate.block;
            self.trace_add(block.as_bytes());
            match self.chain.get(nth) {
                None => self.chain.push(block),
                Some(known) if *known != block => self.forked = true,
                Some(_) => {}
            }
        }
        node.checked = node.height();
    }

    /// Callers of a node may have been told.
    pub(super) fn acknowledged(&mut self, node: &mut Node) {
        let mut settled = Vec::new();
        node.waiting.retain_mut(|(id, outcome)| match outcome.try_recv() {
            Ok(Ok(height)) => {
                settled.push((*id, height));
                false
            }
            Err(tokio::sync::oneshot::error::TryRecvError::Empty) => true,
            _ => false,
        });
        self.acknowledged.extend(settled);
    }

    /// The highest block that an acknowledged transaction is in; 0 if there is none.
    pub(super) fn last_acknowledged(&self) -> usize {
        self.acknowledged.iter().map(|(_, height)| usize::try_from(*height).unwrap_or(usize::MAX)).max().unwrap_or(0)
    }

    /// A proof was found: it must hold, and not be against an honest signer.
    pub(super) fn evidence(&mut self, proof: &Evidence) {
        if let Err(error) = proof.check(&self.pool) {
            self.fail(format!("evidence that does not hold: {error}"));
        }
        if self.honest_keys.contains(&proof.signer) {
            self.fail(format!("evidence against an honest signer at {:?}", proof.place()));
        }
        self.proofs.push(*proof);
    }

    /// At the end: how many transactions were acknowledged, all of them in every honest chain; how many proofs are on every
    /// honest ledger. After a fork only the numbers mean something.
    pub(super) fn end(&mut self, honest: &[&Node], control: bool) -> (u64, u64) {
        let acknowledged = self.acknowledged.len() as u64;
        let recorded = self.proofs.iter().filter(|p| honest.iter().all(|n| n.has_evidence(p))).count() as u64;
        if control || self.failed() {
            return (acknowledged, recorded);
        }
        if honest.len() != self.honest {
            self.fail("an honest node is missing".into());
        }
        for (id, height) in self.acknowledged.clone() {
            for (nth, node) in honest.iter().enumerate() {
                let sealed = usize::try_from(height).ok().and_then(|h| node.blocks().get(h.checked_sub(1)?));
                let block = sealed.and_then(|s| Block::read(&s.block).ok());
                if !block.is_some_and(|b| b.txs.iter().any(|tx| tx.tx_id() == Ok(id))) {
                    self.failures
                        .push(format!("{id} was acknowledged at {height} and is not in the chain of node {nth}"));
                }
            }
        }
        for node in honest {
            for (signer, height, _) in node.shared.read().ledger.equivocations() {
                if self.honest_keys.contains(&signer) {
                    self.failures.push(format!("the ledger convicts an honest signer at height {height}"));
                }
            }
        }
        (acknowledged, recorded)
    }
}
