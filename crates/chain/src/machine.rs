//! The host and its files together: takes a batch of events, carries them through, and lets nothing out before the disk
//! holds what it must. Synchronous: the task runs each step on a thread that may block.

use std::collections::HashMap;

use tokio::sync::oneshot;
use zero2ai_ledger::BlockError;
use zero2ai_proto::{
    NodeId, Signed, TxId,
    calls::SealedBlock,
    consensus::{ConsensusGossip, HeadGossip, TxGossip},
    evidence::Evidence,
    tx::Tx,
};

use crate::{
    ChainStatus, ChainTopic,
    disk::Disk,
    error::{ChainError, SubmitError, SyncError},
    host::{Host, Now, Wish},
    mempool::Added,
    shared::Shared,
    signer::Signed as Mark,
    wal::WalEntry,
};

/// Callers that wait for one transaction; more are told that the chain is busy.
const WAITERS_PER_TX: usize = 64;

/// Who is told what becomes of a transaction.
pub(crate) type Waiter = oneshot::Sender<Result<u64, SubmitError>>;

/// What happens to a chain.
#[derive(Debug)]
pub(crate) enum Event {
    /// A gossip message.
    Gossip { topic: ChainTopic, from: NodeId, data: Vec<u8> },
    /// A transaction of the node's own clients: the first answer says whether it was taken, the waiter when it is final.
    Submit { tx: Box<Signed<Tx>>, answer: oneshot::Sender<Result<TxId, SubmitError>>, waiter: Option<Waiter> },
    /// What came of a [`Wish`].
    Fetched(Result<Vec<SealedBlock>, String>),
}

/// What is left to do after a step.
#[derive(Debug)]
pub(crate) struct Done {
    /// Messages to gossip, in order.
    pub(crate) sends: Vec<(ChainTopic, Vec<u8>)>,
    /// Blocks to fetch.
    pub(crate) wish: Option<Wish>,
    /// Signers that contradicted themselves.
    pub(crate) evidence: Vec<Evidence>,
    /// When the next step is due without an event, steady milliseconds.
    pub(crate) deadline: u64,
    /// How the chain stands.
    pub(crate) status: ChainStatus,
}

/// What lasts. [`Disk`] in a node; in a simulation something that may stop at any write.
pub(crate) trait Files {
    /// Keeps entries of the write-ahead log for the next [`Files::flush`].
    fn remember(&mut self, entries: Vec<WalEntry>);
    /// Makes all remembered entries last, then the mark. Signatures may leave after it.
    fn flush(&mut self, mark: Option<Mark>) -> Result<(), ChainError>;
    /// Makes a final block last; the log of its height is then no longer needed.
    fn append_block(&mut self, sealed: &SealedBlock) -> Result<(), ChainError>;
}

/// See the file's head.
pub(crate) struct Machine<F = Disk> {
    host: Host,
    disk: F,
    /// What the write-ahead log held at the start, until the first step.
    found: Vec<WalEntry>,
    waiters: HashMap<TxId, Vec<Waiter>>,
    sends: Vec<(ChainTopic, Vec<u8>)>,
    evidence: Vec<Evidence>,
}

impl<F: Files> Machine<F> {
    pub(crate) fn new(host: Host, disk: F, found: Vec<WalEntry>) -> Self {
        Self { host, disk, found, waiters: HashMap::new(), sends: Vec::new(), evidence: Vec::new() }
    }

    /// Its files, for a simulation.
    pub(crate) const fn files(&self) -> &F {
        &self.disk
    }

    /// Its files, for a simulation to break.
    pub(crate) const fn files_mut(&mut self) -> &mut F {
        &mut self.disk
    }

    /// What is left of it when its process ends.
    pub(crate) fn into_files(self) -> F {
        self.disk
    }

    /// Handles `events` in order, then the clock. After an error the machine is not to be used again, and nothing that it
    /// signed in this step has left.
    pub(crate) fn step(&mut self, events: Vec<Event>, shared: &Shared, now: Now) -> Result<Done, ChainError> {
        // What the last step had to say has left: the others have this node's part in the last block of the old rules.
        if let Some(error) = self.host.lacks_rules() {
            return Err(error);
        }
        if !self.found.is_empty() {
            let found = std::mem::take(&mut self.found);
            self.host.resume(&found, now)?;
            self.settle(now)?;
        }
        for event in events {
            self.event(event, now)?;
            self.settle(now)?;
        }
        self.host.tick(now)?;
        self.settle(now)?;
        // Nothing of ours is out yet. Peers' messages alone may wait for the next flush: losing them is as if they had
        // not arrived.
        let mark = self.host.take_mark();
        if mark.is_some() || self.sends.iter().any(|(topic, _)| *topic == ChainTopic::Consensus) {
            self.disk.flush(mark)?;
        }
        let mut sends = std::mem::take(&mut self.sends);
        let last_head = sends.iter().rposition(|(topic, _)| *topic == ChainTopic::Head);
        let mut nth = 0;
        sends.retain(|(topic, _)| {
            nth += 1;
            *topic != ChainTopic::Head || Some(nth - 1) == last_head
        });
        let view = shared.read();
        let status = ChainStatus {
            height: view.ledger.height(),
            head_time_ms: view.ledger.head_time_ms(),
            halted: self.host.halted(now),
            mempool: self.host.waiting(),
            signing: view.ledger.signers().power_of(&self.host.me()).is_some(),
        };
        drop(view);
        let (wish, evidence) = (self.host.take_wish(now), std::mem::take(&mut self.evidence));
        Ok(Done { sends, wish, evidence, deadline: self.host.deadline(), status })
    }

    /// Stores and applies what was decided, as often as that decides more.
    fn settle(&mut self, now: Now) -> Result<(), ChainError> {
        loop {
            self.collect();
            let Some(sealed) = self.host.decided() else { return Ok(()) };
            self.finalise(&sealed, now)?;
            self.host.go_on(now)?;
        }
    }

    fn finalise(&mut self, sealed: &SealedBlock, now: Now) -> Result<(), ChainError> {
        self.disk.append_block(sealed)?;
        self.host.apply(sealed, now)?;
        self.collect();
        Ok(())
    }

    /// Takes over the host's output, and answers those who wait for transactions.
    fn collect(&mut self) {
        let output = self.host.take_output();
        self.disk.remember(output.wal);
        self.sends.extend(output.sends);
        self.evidence.extend(output.evidence);
        for (id, result) in output.settled {
            let result = result.map_err(SubmitError::from);
            for waiter in self.waiters.remove(&id).unwrap_or_default() {
                // A caller that gave up is no concern.
                let _ = waiter.send(result.clone());
            }
        }
    }

    fn event(&mut self, event: Event, now: Now) -> Result<(), ChainError> {
        match event {
            Event::Gossip { topic, from, data } => self.gossip(topic, from, &data, now),
            Event::Submit { tx, answer, waiter } => {
                let result = self.submit(&tx, waiter, now)?;
                let _ = answer.send(result);
                Ok(())
            }
            Event::Fetched(result) => self.fetched(result, now),
        }
    }

    /// Malformed gossip is dropped in silence: the network layer has judged its sender by `check_gossip` already.
    fn gossip(&mut self, topic: ChainTopic, from: NodeId, data: &[u8], now: Now) -> Result<(), ChainError> {
        match topic {
            ChainTopic::Consensus => match ConsensusGossip::read(data) {
                Ok(gossip) => self.host.message(from, gossip.message, now),
                Err(_) => Ok(()),
            },
            ChainTopic::Tx => match TxGossip::read(data) {
                Ok(gossip) => self.host.gossiped_tx(&gossip.tx, now),
                Err(_) => Ok(()),
            },
            ChainTopic::Head => {
                if let Ok(head) = HeadGossip::read(data) {
                    self.host.head(from, head.height, head.block, now);
                }
                Ok(())
            }
        }
    }

    fn submit(
        &mut self,
        tx: &Signed<Tx>,
        waiter: Option<Waiter>,
        now: Now,
    ) -> Result<Result<TxId, SubmitError>, ChainError> {
        let id = tx.tx_id()?;
        if let Some(height) = self.host.recent(&id) {
            if let Some(waiter) = waiter {
                let _ = waiter.send(Ok(height));
            }
            return Ok(Ok(id));
        }
        // The waiter is in place before the host may decide a block with the transaction in it.
        if let Some(waiter) = waiter {
            let waiters = self.waiters.entry(id).or_default();
            waiters.retain(|w| !w.is_closed());
            if waiters.len() >= WAITERS_PER_TX {
                return Ok(Err(SubmitError::Busy));
            }
            waiters.push(waiter);
        }
        let added = self.host.submit(tx, now)?;
        if added.is_err() {
            self.waiters.remove(&id);
        }
        Ok(added.map(|(Added::New(id) | Added::Known(id))| id))
    }

    fn fetched(&mut self, result: Result<Vec<SealedBlock>, String>, now: Now) -> Result<(), ChainError> {
        let mut useful = 0;
        match result {
            Err(error) => tracing::debug!(error, "blocks could not be fetched"),
            Ok(blocks) => {
                for sealed in blocks {
                    if self.host.lacks_rules().is_some() {
                        break;
                    }
                    match self.host.check_sealed(&sealed) {
                        Ok(()) => {
                            self.finalise(&sealed, now)?;
                            useful += 1;
                        }
                        // Consensus was faster than the fetch: not the sender's fault.
                        Err(SyncError::Height { got, want }) if got < want => useful += 1,
                        // The certificate holds, so the signers made this very block final. It is not the sender's fault
                        // that it does not fit here, unless he put other transactions under its header.
                        Err(SyncError::Block(source)) if !matches!(source, BlockError::TxsRoot { .. }) => {
                            return Err(ChainError::Apply { height: sealed.certificate.height, source });
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a fetched block was refused");
                            break;
                        }
                    }
                }
            }
        }
        self.host.fetched(useful, now);
        self.host.go_on(now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::Arc;

    use zero2ai_ledger::Ledger;
    use zero2ai_proto::{
        ByteBuf, SealingKey, SecretKey,
        block::{Block, Certificate, Header, Vote, VoteKind},
        encode,
        pool::{Genesis, Nonce},
        state::{Signer, SignerSet},
    };

    use super::*;
    use crate::ChainConfig;

    const NOW: Now = Now { up: 5, wall: 1_700_000_000_005 };

    /// What a node that does not sign makes of a block of its pool's one signer, certified by him; `alter` changes the
    /// header before, and `spoil` the transactions after he signed.
    fn fetched(alter: fn(&mut Header), spoil: bool) -> Result<Done, ChainError> {
        let (dir, signer) = (tempfile::TempDir::new().unwrap(), SecretKey::from_bytes(&[1; 32]));
        let genesis = Genesis {
            version: 1,
            created_ms: NOW.wall - 5,
            nonce: Nonce([7; 16]),
            admin: signer.public(),
            admin_sealing: SealingKey([1; 32]),
            signers: SignerSet::new(vec![Signer { key: signer.public(), power: 1 }]).unwrap(),
            rules_version: 1,
        };
        let genesis = encode(&genesis).unwrap();
        let ledger = Ledger::genesis(&genesis).unwrap();
        let (mut block, _) = ledger.build_block(signer.public(), NOW.wall, &[]).unwrap();
        let mut header = block.read_header().unwrap();
        alter(&mut header);
        block.header = ByteBuf::from(encode(&header).unwrap());
        let vote = Vote { height: 1, round: 0, kind: VoteKind::Precommit, block: Some(block.id()) };
        let signature = signer.sign(&vote.sign_bytes(&ledger.pool()).unwrap());
        if spoil {
            let body = zero2ai_proto::tx::TxBody::ClaimHandle(zero2ai_proto::tx::ClaimHandle { handle: "lab".into() });
            block.txs.push(Signed::sign(&Tx { nonce: 0, body }, &ledger.pool(), &signer).unwrap());
        }
        let certificate =
            Certificate { height: 1, round: 0, block: block.id(), signatures: vec![(signer.public(), signature)] };
        let sealed = SealedBlock { block: ByteBuf::from(encode::<Block>(&block).unwrap()), certificate };

        let config = ChainConfig::new(dir.path(), SecretKey::from_bytes(&[2; 32]), genesis);
        let (disk, _) = Disk::open(dir.path(), 0).unwrap();
        let shared = Arc::new(Shared::new(ledger));
        let host = Host::new(&config, shared.clone(), None, &[], NOW);
        Machine::new(host, disk, Vec::new()).step(vec![Event::Fetched(Ok(vec![sealed]))], &shared, NOW)
    }

    #[test]
    fn a_certified_block_that_does_not_fit_ends_the_chain_unless_its_transactions_were_swapped() {
        assert_eq!(fetched(|_| {}, false).unwrap().status.height, 1);
        let alterations: [fn(&mut Header); 3] =
            [|h| h.app_hash.0[0] ^= 1, |h| h.rules_version += 1, |h| h.next_signers_hash.0[0] ^= 1];
        for alter in alterations {
            match fetched(alter, false) {
                Err(ChainError::Apply { height: 1, .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(fetched(|_| {}, true).unwrap().status.height, 0, "the sender's fault: others are asked");
    }
}
