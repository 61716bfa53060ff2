//! An append-only log of records in segment files: blocks, write-ahead logs, receipts.
//!
//! Records are numbered from 0. [`Log::append`] writes; only [`Log::sync`] makes durable. Reading back after a crash tells
//! two kinds of damage apart:
//! - *A torn tail*: records that were never synced may be missing or half there. They are cut off at open, and the report
//!   says how many bytes went.
//! - *Damage in the middle*: a broken record with a record behind it that was written after a sync. The broken one had
//!   been acknowledged, so [`StoreError::LogDamaged`] names it and nothing is changed.
//!
//! Damage to the very last synced batch looks like a torn tail; whoever needs that batch must notice that it is missing.
//!
//! One owner appends (`&mut self`); reads take `&self`. The folder must be held by one process: it lies in a home that
//! [`crate::Store`] has locked.

mod record;
mod segment;

use std::path::{Path, PathBuf};

use crate::{error::StoreError, files};
use segment::{Scan, Segment};

/// How a log is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Bytes in a segment file before a new one is begun. Smaller ones cost more files, larger ones more at truncation.
    pub segment_bytes: u64,
    /// Bytes in one record. Longer ones are refused, and read back as damage.
    pub record_bytes: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024, record_bytes: 4 * 1024 * 1024 }
    }
}

/// What [`Log::open`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Complete records.
    pub records: u64,
    /// Bytes of a torn tail that were cut off.
    pub cut_bytes: u64,
}

/// What [`Log::look`] found behind the last whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The segment file.
    pub segment: String,
    /// Byte at which it begins.
    pub offset: u64,
    /// Its length, bytes.
    pub bytes: u64,
}

/// An open log. Dropping it does not sync.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    config: LogConfig,
    /// In order; the last one is appended to. Never empty.
    segments: Vec<Segment>,
    /// Nothing was appended since the last sync: the next record may say that everything before it is durable.
    synced: bool,
    /// A write or sync failed, so that what is on disk is unknown (a failed fsync may have dropped dirty pages).
    stopped: bool,
}

impl Log {
    /// Opens or creates the log in the folder `dir`, reads every record once, and cuts off a torn tail. One record (and
    /// while searching behind a broken one, 1 MiB) is in memory at a time; 8 bytes a record stay.
    ///
    /// # Errors
    /// [`StoreError::LogDamaged`] for damage in the middle, [`StoreError::Io`].
    pub fn open(dir: &Path, config: LogConfig) -> Result<(Self, RecoveryReport), StoreError> {
        files::create_dir(dir)?;
        let mut firsts: Vec<u64> = files::names(dir)?.iter().filter_map(|name| segment::parse_name(name)).collect();
        firsts.sort_unstable();
        let mut log = Self { dir: dir.to_path_buf(), config, segments: Vec::new(), synced: true, stopped: false };
        let mut report = RecoveryReport::default();
        for (nth, &first) in firsts.iter().enumerate() {
            // A segment is begun only after everything before it was synced, so only the last may be torn.
            let is_last = nth + 1 == firsts.len();
            if first != log.len() {
                return Err(log.damaged(log.len(), 0, first));
            }
            match Segment::open(dir, first, config.record_bytes)? {
                (segment, Scan::Clean) => log.segments.push(segment),
                (mut segment, Scan::Torn { at, bytes }) if is_last => {
                    segment.cut_to(at)?;
                    report.cut_bytes = bytes;
                    log.segments.push(segment);
                }
                (segment, Scan::Torn { at, .. } | Scan::Damaged { at }) => {
                    return Err(log.damaged(segment.end_index(), at, first));
                }
            }
        }
        if log.segments.is_empty() {
            log.begin_segment()?;
        }
        // What a killed process wrote is complete but perhaps not durable yet; from here on it is.
        log.last()?.sync()?;
        report.records = log.len();
        Ok((log, report))
    }

    /// Opens the log to read it, and changes nothing: a torn tail is told and left where it is, and no record can be
    /// appended. Another process may be appending meanwhile: what it has not finished looks like a torn tail. A folder
    /// that is not there holds no record.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn look(dir: &Path, config: LogConfig) -> Result<(Self, Option<Tail>), StoreError> {
        let mut firsts: Vec<u64> = Vec::new();
        if dir.is_dir() {
            firsts.extend(files::names(dir)?.iter().filter_map(|name| segment::parse_name(name)));
        }
        firsts.sort_unstable();
        let mut log = Self { dir: dir.to_path_buf(), config, segments: Vec::new(), synced: true, stopped: true };
        let mut tail = None;
        for (nth, &first) in firsts.iter().enumerate() {
            if first != log.len() {
                return Err(log.damaged(log.len(), 0, first));
            }
            match Segment::open(dir, first, config.record_bytes)? {
                (segment, Scan::Clean) => log.segments.push(segment),
                (segment, Scan::Torn { at, bytes }) if nth + 1 == firsts.len() => {
                    tail = Some(Tail { segment: segment::name(first), offset: at, bytes });
                    log.segments.push(segment);
                }
                (segment, Scan::Torn { at, .. } | Scan::Damaged { at }) => {
                    return Err(log.damaged(segment.end_index(), at, first));
                }
            }
        }
        Ok((log, tail))
    }

    /// Writes a record and returns its index. It is not durable before [`Log::sync`] returns.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] beyond [`LogConfig::record_bytes`] (nothing changed); [`StoreError::Io`], after which the log
    /// is stopped; [`StoreError::LogStopped`] from then on.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64, StoreError> {
        self.check_running()?;
        if bytes.len() > self.config.record_bytes.min(record::MAX_BYTES) {
            let max = self.config.record_bytes.min(record::MAX_BYTES);
            return Err(StoreError::TooLarge { what: "a log record", len: bytes.len(), max });
        }
        if self.last()?.is_full(self.config.segment_bytes) {
            self.sync()?;
            self.begin_segment().inspect_err(|_| self.stopped = true)?;
        }
        let after_sync = self.synced;
        let index = self.len();
        let written = self.last_mut()?.append(bytes, after_sync);
        self.stopped |= written.is_err();
        written?;
        self.synced = false;
        Ok(index)
    }

    /// Returns when every record appended so far survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Io`], after which the log is stopped: the records may be lost, and a second sync could not tell.
    /// [`StoreError::LogStopped`] from then on.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.check_running()?;
        if !self.synced {
            let synced = self.last()?.sync();
            self.stopped |= synced.is_err();
            synced?;
            self.synced = true;
        }
        Ok(())
    }

    /// The record `index`, its checksum checked again; `None` at or beyond [`Log::len`].
    ///
    /// # Errors
    /// [`StoreError::LogDamaged`] if its bytes have changed since it was written, [`StoreError::Io`].
    pub fn get(&self, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        if index >= self.len() {
            return Ok(None);
        }
        let nth = self.segments.partition_point(|s| s.first_index() <= index).saturating_sub(1);
        let Some(segment) = self.segments.get(nth) else { return Ok(None) };
        match segment.get(index)? {
            Ok(bytes) => Ok(Some(bytes)),
            Err(at) => Err(self.damaged(index, at, segment.first_index())),
        }
    }

    /// Number of records, synced or not.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.segments.last().map_or(0, Segment::end_index)
    }

    /// True if there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records from `index` on, each read when it is asked for.
    pub fn iter_from(&self, index: u64) -> impl Iterator<Item = Result<Vec<u8>, StoreError>> + '_ {
        (index..self.len()).map_while(|i| self.get(i).transpose())
    }

    /// Durably removes every record from `len` on; no error if there are fewer. A crash meanwhile leaves a longer prefix.
    ///
    /// # Errors
    /// [`StoreError::Io`], after which the log is stopped; [`StoreError::LogStopped`].
    pub fn truncate(&mut self, len: u64) -> Result<(), StoreError> {
        self.check_running()?;
        let done = self.try_truncate(len);
        self.stopped |= done.is_err();
        done
    }

    /// Durably removes every record: [`Log::truncate`] to 0, for write-ahead logs whose height is done.
    ///
    /// # Errors
    /// As [`Log::truncate`].
    pub fn reset(&mut self) -> Result<(), StoreError> {
        self.truncate(0)
    }

    fn try_truncate(&mut self, len: u64) -> Result<(), StoreError> {
        // Newest first, each removal durable before the next, so that what is left is always a prefix.
        while self.segments.len() > 1 && self.last()?.first_index() >= len {
            files::remove(self.last()?.path())?;
            self.segments.pop();
        }
        self.last_mut()?.truncate(len)?;
        self.synced = true;
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), StoreError> {
        let segment = Segment::create(&self.dir, self.len())?;
        self.segments.push(segment);
        Ok(())
    }

    fn check_running(&self) -> Result<(), StoreError> {
        if self.stopped { Err(StoreError::LogStopped { dir: self.dir.clone() }) } else { Ok(()) }
    }

    fn last(&self) -> Result<&Segment, StoreError> {
        self.segments.last().ok_or_else(|| StoreError::LogStopped { dir: self.dir.clone() })
    }

    fn last_mut(&mut self) -> Result<&mut Segment, StoreError> {
        self.segments.last_mut().ok_or_else(|| StoreError::LogStopped { dir: self.dir.clone() })
    }

    fn damaged(&self, record: u64, offset: u64, first: u64) -> StoreError {
        StoreError::LogDamaged { dir: self.dir.clone(), segment: segment::name(first), record, offset }
    }
}
