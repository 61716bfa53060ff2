//! A disk that may lose its power at any write. What was synced stays; of what was written since, some part of the
//! beginning does. Owns the order of writes that the real files have.

use zero2ai_proto::calls::SealedBlock;
use zero2ai_store::StoreError;

use crate::{error::ChainError, machine::Files, signer::Signed, wal::WalEntry};

/// One node's disk.
#[derive(Debug, Default)]
pub(super) struct SimDisk {
    pub(super) blocks: Vec<SealedBlock>,
    pub(super) wal: Vec<WalEntry>,
    pub(super) mark: Option<Signed>,
    waiting: Vec<WalEntry>,
    /// Entries at the end of `wal` that were written and not synced.
    unsynced: usize,
    /// Writes until the power goes.
    pub(super) writes_left: Option<u64>,
    /// The power is gone: nothing is written any more.
    pub(super) dead: bool,
}

impl SimDisk {
    /// One write. Fails from the one on at which the power goes: that one did not happen.
    fn write(&mut self) -> Result<(), ChainError> {
        match &mut self.writes_left {
            Some(0) => self.dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        if !self.dead {
            return Ok(());
        }
        let source = StoreError::LogStopped { dir: "simulated".into() };
        Err(ChainError::Disk { what: "a simulated write", source })
    }

    /// What a restart finds: `kept` of the unsynced entries at most.
    pub(super) fn power_on(&mut self, kept: usize) {
        let lost = self.unsynced.saturating_sub(kept);
        self.wal.truncate(self.wal.len().saturating_sub(lost));
        self.waiting.clear();
        (self.unsynced, self.writes_left, self.dead) = (0, None, false);
    }
}

impl Files for SimDisk {
    fn remember(&mut self, entries: Vec<WalEntry>) {
        self.waiting.extend(entries);
    }

    fn flush(&mut self, mark: Option<Signed>) -> Result<(), ChainError> {
        if !self.waiting.is_empty() {
            for entry in std::mem::take(&mut self.waiting) {
                self.write()?;
                self.wal.push(entry);
                self.unsynced += 1;
            }
            self.write()?;
            self.unsynced = 0;
        }
        if mark.is_some() {
            self.write()?;
            self.mark = mark;
        }
        Ok(())
    }

    fn append_block(&mut self, sealed: &SealedBlock) -> Result<(), ChainError> {
        self.write()?;
        self.blocks.push(sealed.clone());
        self.waiting.clear();
        if !self.wal.is_empty() {
            self.write()?;
            self.wal.clear();
            self.unsynced = 0;
        }
        Ok(())
    }
}
