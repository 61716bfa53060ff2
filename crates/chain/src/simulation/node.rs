//! One simulated node: a machine while it is up, a disk always.

use std::sync::Arc;

use tokio::sync::oneshot;
use zero2ai_ledger::Ledger;
use zero2ai_proto::{NodeId, SecretKey, Signed, TxId, block::Block, calls::SealedBlock, evidence::Evidence, tx::Tx};

use super::{WALL, byzantine::Mischief, disk::SimDisk};
use crate::{
    config::{ChainConfig, Pace},
    error::{ChainError, SubmitError},
    host::{Host, Now},
    machine::{Done, Event, Machine},
    shared::Shared,
};

/// What a caller waits for.
pub(super) type Waiting = (TxId, oneshot::Receiver<Result<u64, SubmitError>>);

/// See the module.
pub(super) struct Node {
    pub(super) key: SecretKey,
    pub(super) honest: bool,
    /// 0, or 1 for the second copy of a hostile signer.
    pub(super) copy: u8,
    /// Nodes of one side reach each other.
    pub(super) side: u8,
    pub(super) shared: Arc<Shared>,
    pub(super) mischief: Mischief,
    /// How often it was started.
    pub(super) starts: u64,
    /// Callers whose transactions are not settled.
    pub(super) waiting: Vec<Waiting>,
    /// Blocks that the checks have seen.
    pub(super) checked: usize,
    config: ChainConfig,
    machine: Option<Machine<SimDisk>>,
    /// Its disk while it is down.
    disk: SimDisk,
    deadline: u64,
    /// How far its wall clock is ahead, milliseconds.
    ahead: u64,
}

impl Node {
    pub(super) fn new(
        key: SecretKey,
        genesis: Vec<u8>,
        honest: bool,
        copy: u8,
        ahead: u64,
    ) -> Result<Self, ChainError> {
        let pace = Pace { heartbeat: std::time::Duration::from_secs(2), ..Pace::default() };
        let config = ChainConfig { pace, ..ChainConfig::new("", key.clone(), genesis) };
        let shared = Arc::new(Shared::new(Ledger::genesis(&config.genesis).map_err(ChainError::Genesis)?));
        let mut node = Self {
            key,
            honest,
            copy,
            side: 0,
            shared,
            mischief: Mischief::default(),
            starts: 0,
            waiting: Vec::new(),
            checked: 0,
            config,
            machine: None,
            disk: SimDisk::default(),
            deadline: 0,
            // The copies of a hostile signer must not happen to say the same.
            ahead: ahead + u64::from(copy) * 7,
        };
        node.start(0, 0)?;
        Ok(node)
    }

    const fn now(&self, up: u64) -> Now {
        Now { up, wall: WALL + up + self.ahead }
    }

    pub(super) const fn is_up(&self) -> bool {
        self.machine.is_some()
    }

    /// When it has something to do: its deadline, or its next start.
    pub(super) const fn due(&self) -> u64 {
        self.deadline
    }

    pub(super) fn height(&self) -> usize {
        self.blocks().len()
    }

    fn files(&self) -> &SimDisk {
        self.machine.as_ref().map_or(&self.disk, Machine::files)
    }

    pub(super) fn blocks(&self) -> &[SealedBlock] {
        &self.files().blocks
    }

    /// Starts from what the disk holds; of unsynced log entries `kept` at most.
    pub(super) fn start(&mut self, kept: usize, up: u64) -> Result<(), ChainError> {
        let mut disk = std::mem::take(&mut self.disk);
        disk.power_on(kept);
        let shared = Arc::new(Shared::new(Ledger::genesis(&self.config.genesis).map_err(ChainError::Genesis)?));
        for (height, sealed) in (1..).zip(&disk.blocks) {
            let block = Block::read(&sealed.block)?;
            let applied = shared.apply(&block, &sealed.certificate);
            applied.map_err(|source| ChainError::Apply { height, source })?;
        }
        let host = Host::new(&self.config, Arc::clone(&shared), disk.mark, &disk.wal, self.now(up));
        let wal = disk.wal.clone();
        self.machine = Some(Machine::new(host, disk, wal));
        (self.shared, self.starts, self.deadline) = (shared, self.starts + 1, up);
        Ok(())
    }

    /// One step; `crash_after` so many writes the power goes.
    pub(super) fn step(&mut self, events: Vec<Event>, crash_after: Option<u64>, up: u64) -> Result<Done, ChainError> {
        let now = self.now(up);
        let Some(machine) = &mut self.machine else { return Err(ChainError::Worker("it is down".into())) };
        machine.files_mut().writes_left = crash_after;
        let done = machine.step(events, &self.shared, now);
        let files = machine.files_mut();
        files.writes_left = None;
        if let Ok(done) = &done {
            self.deadline = done.deadline.max(up.saturating_add(1));
        }
        done
    }

    pub(super) fn lost_power(&self) -> bool {
        self.files().dead
    }

    /// Memory is lost; it starts again at `until`.
    pub(super) fn stop(&mut self, until: u64) {
        if let Some(machine) = self.machine.take() {
            self.disk = machine.into_files();
        }
        self.deadline = until;
        // Whoever waited hears nothing: his transaction may be final or not.
        self.waiting.clear();
    }

    /// It is up again at `until` at the latest.
    pub(super) fn start_by(&mut self, until: u64) {
        if !self.is_up() {
            self.deadline = self.deadline.min(until);
        }
    }

    /// The event of a client that submits and waits.
    pub(super) fn submission(&mut self, tx: Signed<Tx>) -> Event {
        let ((answer, _), (waiter, outcome)) = (oneshot::channel(), oneshot::channel());
        if let Ok(id) = tx.tx_id() {
            self.waiting.push((id, outcome));
        }
        Event::Submit { tx: Box::new(tx), answer, waiter: Some(waiter) }
    }

    pub(super) fn next_nonce(&self, who: &NodeId) -> u64 {
        self.shared.read().ledger.member(who).map_or(0, |m| m.nonce)
    }

    pub(super) fn has_evidence(&self, evidence: &Evidence) -> bool {
        self.shared.read().ledger.equivocation(&evidence.signer, evidence.place().0).is_some()
    }
}
