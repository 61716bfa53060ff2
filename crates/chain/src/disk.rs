//! The chain's files: blocks with their certificates, the write-ahead log, the signer's mark. Everything here blocks; a
//! write has either lasted when it returns, or is an error after which nothing may be signed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use zero2ai_proto::{
    calls::SealedBlock,
    decode, encode,
    limits::{GOSSIP_BYTES, SIGNERS},
};
use zero2ai_store::{Log, LogConfig, StoreError, Tail, atomic_write};

use crate::{error::ChainError, machine::Files, signer::Signed, wal::WalEntry};

/// Bytes of one stored block: the block and a certificate of the largest set.
pub(crate) const SEALED_BYTES: usize = GOSSIP_BYTES + SIGNERS * 128 + 4_096;
/// Bytes in the signer's mark: a proposal or vote.
const MARK_BYTES: u64 = 256;
/// Bytes in a segment of the write-ahead log: a height's entries, so that a reset is one truncation.
const WAL_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Turns a store's error into a chain's.
fn failed(what: &'static str) -> impl Fn(StoreError) -> ChainError {
    move |source| ChainError::Disk { what, source }
}

/// Height of the block in a record.
const fn height_of(base: u64, record: u64) -> u64 {
    base.saturating_add(record).saturating_add(1)
}

/// The blocks, shared with those who read them. Record `i` is the block of height `base + 1 + i`.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    dir: PathBuf,
    log: Arc<RwLock<Log>>,
    /// 0, or the height of the snapshot that stands for the blocks before.
    base: u64,
}

impl Blocks {
    fn open(dir: PathBuf, base: u64) -> Result<Self, ChainError> {
        let config = LogConfig { record_bytes: SEALED_BYTES, ..LogConfig::default() };
        let (log, report) = match Log::open(&dir, config) {
            Err(StoreError::LogDamaged { record, offset, segment, .. }) => {
                let why = format!("{segment} does not hold at byte {offset}");
                return Err(ChainError::StoredBlock { height: height_of(base, record), why, dir });
            }
            opened => opened.map_err(failed("opening the stored blocks"))?,
        };
        if report.cut_bytes > 0 {
            tracing::warn!(bytes = report.cut_bytes, "cut an unfinished block off the end of the stored blocks");
        }
        Ok(Self { dir, log: Arc::new(RwLock::new(log)), base })
    }

    /// Opens the blocks to read them; see [`Log::look`].
    pub(crate) fn look(dir: PathBuf, base: u64) -> Result<(Self, Option<Tail>), ChainError> {
        let config = LogConfig { record_bytes: SEALED_BYTES, ..LogConfig::default() };
        match Log::look(&dir, config) {
            Err(StoreError::LogDamaged { record, offset, segment, .. }) => {
                let why = format!("{segment} does not hold at byte {offset}");
                Err(ChainError::StoredBlock { height: height_of(base, record), why, dir })
            }
            looked => {
                let (log, tail) = looked.map_err(failed("reading the stored blocks"))?;
                Ok((Self { dir, log: Arc::new(RwLock::new(log)), base }, tail))
            }
        }
    }

    /// The height of the last stored block; of the snapshot, if there is none behind it.
    pub(crate) fn height(&self) -> u64 {
        self.base.saturating_add(self.log.read().unwrap_or_else(PoisonError::into_inner).len())
    }

    /// The height behind which the stored blocks begin.
    pub(crate) const fn base(&self) -> u64 {
        self.base
    }

    /// The stored block of `height`, its checksum checked, or `None` if there is none.
    pub(crate) fn get(&self, height: u64) -> Result<Option<SealedBlock>, ChainError> {
        let Some(index) = height.checked_sub(1).and_then(|i| i.checked_sub(self.base)) else { return Ok(None) };
        let read = self.log.read().unwrap_or_else(PoisonError::into_inner).get(index);
        let bytes = match read {
            Err(StoreError::LogDamaged { segment, offset, .. }) => {
                return Err(self.damaged(height, format!("{segment} does not hold at byte {offset}")));
            }
            other => other.map_err(failed("reading a stored block"))?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        decode(&bytes, SEALED_BYTES).map(Some).map_err(|e| self.damaged(height, e.to_string()))
    }

    /// The error that names a stored block which does not hold.
    pub(crate) fn damaged(&self, height: u64, why: String) -> ChainError {
        ChainError::StoredBlock { height, why, dir: self.dir.clone() }
    }

    fn append(&self, sealed: &SealedBlock) -> Result<(), ChainError> {
        let bytes = encode(sealed)?;
        let mut log = self.log.write().unwrap_or_else(PoisonError::into_inner);
        log.append(&bytes).and_then(|_| log.sync()).map_err(failed("writing a final block"))
    }
}

/// All of the chain's files.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) blocks: Blocks,
    wal: Log,
    mark: PathBuf,
    /// Entries that need not last yet: they go to disk with the next thing that must.
    waiting: Vec<WalEntry>,
}

/// What [`Disk::open`] found beside the blocks.
#[derive(Debug)]
pub(crate) struct Found {
    /// The write-ahead log's entries, oldest first.
    pub(crate) wal: Vec<WalEntry>,
    /// What was signed last.
    pub(crate) mark: Option<Signed>,
}

impl Disk {
    /// Opens the files of the folder `dir`, whose blocks begin behind `base`.
    pub(crate) fn open(dir: &Path, base: u64) -> Result<(Self, Found), ChainError> {
        let blocks = Blocks::open(dir.join("blocks"), base)?;
        let wal_dir = dir.join("wal");
        let guard = |why: String| ChainError::Guard { path: wal_dir.clone(), why };
        let config = LogConfig { segment_bytes: WAL_SEGMENT_BYTES, record_bytes: SEALED_BYTES };
        let (wal, _) = match Log::open(&wal_dir, config) {
            Err(damaged @ StoreError::LogDamaged { .. }) => return Err(guard(damaged.to_string())),
            opened => opened.map_err(failed("opening the write-ahead log"))?,
        };
        let entries = read_entries(&wal, &wal_dir)?;
        let path = dir.join("signed");
        let mark = read_mark(&path)?;
        Ok((Self { blocks, wal, mark: path, waiting: Vec::new() }, Found { wal: entries, mark }))
    }
}

impl Files for Disk {
    fn remember(&mut self, entries: Vec<WalEntry>) {
        self.waiting.extend(entries);
    }

    fn flush(&mut self, mark: Option<Signed>) -> Result<(), ChainError> {
        let what = "writing the write-ahead log";
        if !self.waiting.is_empty() {
            for entry in self.waiting.drain(..) {
                self.wal.append(&entry.bytes()?).map_err(failed(what))?;
            }
            self.wal.sync().map_err(failed(what))?;
        }
        if let Some(mark) = mark {
            atomic_write(&self.mark, &encode(&mark)?).map_err(failed("writing what was signed last"))?;
        }
        Ok(())
    }

    fn append_block(&mut self, sealed: &SealedBlock) -> Result<(), ChainError> {
        self.blocks.append(sealed)?;
        self.waiting.clear();
        if !self.wal.is_empty() {
            self.wal.reset().map_err(failed("emptying the write-ahead log"))?;
        }
        Ok(())
    }
}

fn read_entries(wal: &Log, dir: &Path) -> Result<Vec<WalEntry>, ChainError> {
    let guard = |why: String| ChainError::Guard { path: dir.to_path_buf(), why };
    let read = |bytes: Result<Vec<u8>, StoreError>| {
        let bytes = bytes.map_err(failed("reading the write-ahead log"))?;
        WalEntry::read(&bytes).map_err(|e| guard(e.to_string()))
    };
    wal.iter_from(0).map(read).collect()
}

/// What [`look_at_guards`] found.
pub(crate) struct Looked {
    pub(crate) signed: Option<u64>,
    pub(crate) entries: Vec<WalEntry>,
    pub(crate) tail: Option<Tail>,
}

/// Reads the files that guard against signing twice, and changes nothing: at which height something
/// was signed last; the entries of the write-ahead log, and what is behind them.
pub(crate) fn look_at_guards(dir: &Path) -> Result<Looked, ChainError> {
    let wal_dir = dir.join("wal");
    let config = LogConfig { segment_bytes: WAL_SEGMENT_BYTES, record_bytes: SEALED_BYTES };
    let (wal, tail) = match Log::look(&wal_dir, config) {
        Err(damaged @ StoreError::LogDamaged { .. }) => {
            return Err(ChainError::Guard { path: wal_dir, why: damaged.to_string() });
        }
        looked => looked.map_err(failed("reading the write-ahead log"))?,
    };
    let entries = read_entries(&wal, &wal_dir)?;
    let signed = read_mark(&dir.join("signed"))?.map(|m| m.height());
    Ok(Looked { signed, entries, tail })
}

fn read_mark(path: &Path) -> Result<Option<Signed>, ChainError> {
    let guard = |why: String| ChainError::Guard { path: path.to_path_buf(), why };
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(guard(e.to_string())),
        Ok(meta) if meta.len() > MARK_BYTES => return Err(guard(format!("it has {} bytes", meta.len()))),
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(|e| guard(e.to_string()))?;
    decode(&bytes, bytes.len()).map(Some).map_err(|e| guard(e.to_string()))
}
