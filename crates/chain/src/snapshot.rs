//! Where the blocks on a disk begin: behind the genesis, or behind a snapshot of the state, which is the file `snapshot` of the
//! chain's folder. It is checked anew at every start, like the blocks.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use zero2ai_ledger::{Ledger, LedgerError};
use zero2ai_proto::{decode, limits::SNAPSHOT_BYTES, proof::Snapshot};
use zero2ai_store::atomic_write;

use crate::error::ChainError;

fn file(dir: &Path) -> PathBuf {
    dir.join("snapshot")
}

fn refused(dir: &Path, why: impl ToString) -> ChainError {
    ChainError::Snapshot { path: file(dir), why: why.to_string() }
}

/// Bytes of blocks below which a folder holds none: a log without records has its opening alone.
const NO_BLOCK: u64 = 64;

/// True if the folder `dir` holds neither a block nor a snapshot, or is not there. Only sizes are looked at.
///
/// # Errors
/// The folder cannot be read.
pub fn is_empty(dir: &Path) -> Result<bool, ChainError> {
    let blocks = match fs::read_dir(dir.join("blocks")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        found => Some(found.map_err(|e| refused(dir, e))?),
    };
    let mut bytes = 0_u64;
    for entry in blocks.into_iter().flatten() {
        bytes = bytes.saturating_add(entry.and_then(|e| e.metadata()).map_err(|e| refused(dir, e))?.len());
    }
    Ok(bytes < NO_BLOCK && !file(dir).exists())
}

/// Lets the chain of the folder `dir`, which must not hold one, begin with the encoded snapshot `bytes`, once that is proved.
/// Gives its height, and how many entries it has.
///
/// # Errors
/// [`ChainError::Snapshot`] says what does not hold, or that there is a chain already; [`ChainError::Genesis`];
/// [`ChainError::Disk`].
pub fn begin_with(dir: &Path, genesis: &[u8], bytes: &[u8]) -> Result<(u64, usize), ChainError> {
    if !is_empty(dir)? {
        return Err(refused(dir, "this node has a ledger already"));
    }
    let snapshot: Snapshot = decode(bytes, SNAPSHOT_BYTES).map_err(|e| refused(dir, e))?;
    let height = begin(dir, genesis, Some(&snapshot))?.height();
    let failed = |source| ChainError::Disk { what: "writing the snapshot", source };
    fs::create_dir_all(dir).map_err(|e| refused(dir, e))?;
    atomic_write(&file(dir), bytes).map_err(failed)?;
    Ok((height, snapshot.entries.len()))
}

/// The snapshot in the folder `dir`, if there is one. Its shape is sure then, and nothing else.
pub(crate) fn read(dir: &Path) -> Result<Option<Snapshot>, ChainError> {
    let path = file(dir);
    let bytes = match fs::metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > SNAPSHOT_BYTES as u64 => return Err(refused(dir, "it is longer than any")),
        _ => fs::read(&path).map_err(|e| refused(dir, e))?,
    };
    decode(&bytes, SNAPSHOT_BYTES).map(Some).map_err(|e| refused(dir, e))
}

/// The ledger that a chain begins with: at the genesis, or at a snapshot that its headers prove.
pub(crate) fn begin(dir: &Path, genesis: &[u8], snapshot: Option<&Snapshot>) -> Result<Ledger, ChainError> {
    let begun = snapshot.map_or_else(|| Ledger::genesis(genesis), |snapshot| Ledger::restore(genesis, snapshot));
    begun.map_err(|error| match error {
        LedgerError::Snapshot(why) => refused(dir, why),
        other => ChainError::Genesis(other),
    })
}
