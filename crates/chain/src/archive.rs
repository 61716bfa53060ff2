//! The blocks on a disk, read and replayed without a chain that runs. Changes nothing and locks nothing, so a node may be
//! running on the folder: a block that it is just writing is not seen.

use std::path::{Path, PathBuf};

use zero2ai_ledger::{Applied, Ledger};
use zero2ai_proto::{NodeId, block::Block, calls::SealedBlock, evidence::Statement, proof::Snapshot};

pub use zero2ai_store::Tail;

use crate::{
    disk::{Blocks, Looked, look_at_guards},
    error::ChainError,
    snapshot,
    wal::WalEntry,
};

/// The stored blocks of one chain folder.
#[derive(Debug)]
pub struct Archive {
    dir: PathBuf,
    snapshot: Option<Snapshot>,
    blocks: Blocks,
    tail: Option<Tail>,
}

/// What a chain folder holds beside blocks, to keep a signer from signing twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guards {
    /// Height of the last signature; `None` if nothing was ever signed.
    pub signed: Option<u64>,
    /// Entries of the write-ahead log: what happened at the height that is not decided yet.
    pub entries: u64,
    /// Who said what, by those entries: this node and the peers it heard.
    pub said: Vec<(NodeId, Statement)>,
    /// What is behind the last whole entry.
    pub tail: Option<Tail>,
}

impl Archive {
    /// Reads every record of the folder `chain` once, and keeps the places.
    ///
    /// # Errors
    /// [`ChainError::StoredBlock`] names the height of a record that does not hold; [`ChainError::Snapshot`];
    /// [`ChainError::Disk`].
    pub fn open(chain: &Path) -> Result<Self, ChainError> {
        let snapshot = snapshot::read(chain)?;
        let base = snapshot.as_ref().map_or(0, |s| s.header.certificate.height);
        let (blocks, tail) = Blocks::look(chain.join("blocks"), base)?;
        Ok(Self { dir: chain.to_owned(), snapshot, blocks, tail })
    }

    /// The height behind which the blocks begin: 0, or that of the snapshot which stands for the blocks before.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.blocks.base()
    }

    /// Height of the last block, or of the snapshot; 0 if there is neither.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.blocks.height()
    }

    /// What is behind the last whole block: a block that is being written, one that a crash cut off, or the last block
    /// damaged. The bytes alone do not say which.
    #[must_use]
    pub const fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }

    /// The block of `height` with its certificate, its checksum checked; `None` if there is none.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn block(&self, height: u64) -> Result<Option<SealedBlock>, ChainError> {
        self.blocks.get(height)
    }

    /// The ledger that the blocks begin with: at the genesis, or at the snapshot, which is checked.
    ///
    /// # Errors
    /// [`ChainError::Snapshot`]; [`ChainError::Genesis`].
    pub fn begin(&self, genesis: &[u8]) -> Result<Ledger, ChainError> {
        snapshot::begin(&self.dir, genesis, self.snapshot.as_ref())
    }

    /// Applies every block to the ledger that [`Archive::begin`] gave, checking each certificate, header and transaction as on
    /// the day it came, the state root in every header among them. `see` is told of each block after it was applied. The last
    /// block's state root is in no header yet.
    ///
    /// # Errors
    /// [`ChainError::StoredBlock`] names the first height that does not hold.
    pub fn replay(
        &self,
        mut ledger: Ledger,
        mut see: impl FnMut(&Ledger, &SealedBlock, &Block, &Applied),
    ) -> Result<Ledger, ChainError> {
        for height in self.base().saturating_add(1)..=self.height() {
            let damaged = |why: String| self.blocks.damaged(height, why);
            let sealed = self.block(height)?.ok_or_else(|| damaged("it is missing".into()))?;
            let block = check_final(&ledger, height, &sealed).map_err(damaged)?;
            let applied = ledger.apply(&block).map_err(|e| damaged(e.to_string()))?;
            see(&ledger, &sealed, &block, &applied);
        }
        Ok(ledger)
    }
}

impl Guards {
    /// Reads them from the folder `chain`.
    ///
    /// # Errors
    /// [`ChainError::Guard`] names the file that does not hold; [`ChainError::Disk`].
    pub fn look(chain: &Path) -> Result<Self, ChainError> {
        let Looked { signed, entries, tail } = look_at_guards(chain)?;
        let said = entries.iter().filter_map(WalEntry::said).collect();
        Ok(Self { signed, entries: entries.len() as u64, said, tail })
    }
}

/// The block, if its certificate makes it the final one of `height`; else why not.
pub(crate) fn check_final(ledger: &Ledger, height: u64, sealed: &SealedBlock) -> Result<Block, String> {
    let block = Block::read(&sealed.block).map_err(|e| e.to_string())?;
    if sealed.certificate.height != height || sealed.certificate.block != block.id() {
        return Err("its certificate is for another block".into());
    }
    sealed.certificate.verify(&ledger.pool(), ledger.signers()).map_err(|e| e.to_string())?;
    Ok(block)
}
