//! One segment file: a 16-byte opening, then records. Named by the index of its first record, so that names sort.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::record::{self, HEAD_BYTES, Head};
use crate::{error::StoreError, files};

/// What every segment file starts with: the format and its version; then the first index, 8 bytes little-endian.
const MAGIC: [u8; 8] = *b"z2ailog1";
/// Bytes before the first record.
const OPENING: u64 = 16;
/// Bytes read in one go while searching for records: more than a head.
const WINDOW: usize = 1024 * 1024;
/// Ending of a segment file's name.
const SUFFIX: &str = ".log";

/// What reading a segment from start to end found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// Records up to the end of the file.
    Clean,
    /// From byte `at` on there are `bytes` that are no complete record, and nothing behind them says they were synced.
    Torn { at: u64, bytes: u64 },
    /// The record at byte `at` is broken though it had been synced.
    Damaged { at: u64 },
}

#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    first: u64,
    key: [u8; 32],
    /// Byte at which each record starts.
    starts: Vec<u64>,
    /// Byte behind the last record.
    end: u64,
}

/// The file name of the segment that starts with record `first`.
pub(super) fn name(first: u64) -> String {
    format!("{first:020}{SUFFIX}")
}

/// The first index that a segment's file name says; `None` for other files.
pub(super) fn parse_name(file_name: &str) -> Option<u64> {
    file_name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 20)?.parse().ok()
}

impl Segment {
    /// Creates an empty segment, durably.
    pub(super) fn create(dir: &Path, first: u64) -> Result<Self, StoreError> {
        let path = dir.join(name(first));
        files::write_whole(dir, &path, &opening(first))?;
        let file = open_file(&path)?;
        Ok(Self { path, file, first, key: record::segment_key(first), starts: Vec::new(), end: OPENING })
    }

    /// Opens a segment and reads all of it, changing nothing.
    pub(super) fn open(dir: &Path, first: u64, max_record: usize) -> Result<(Self, Scan), StoreError> {
        let path = dir.join(name(first));
        let file = open_file(&path)?;
        let len = file.metadata().map_err(StoreError::io("read", &path))?.len();
        let mut segment = Self { path, file, first, key: record::segment_key(first), starts: Vec::new(), end: OPENING };
        // The opening is written whole or not at all, so a wrong one is damage.
        if len < OPENING || segment.read(0, OPENING as usize)? != opening(first) {
            return Ok((segment, Scan::Damaged { at: 0 }));
        }
        while segment.end < len {
            let at = segment.end;
            match segment.record_at(at, len, max_record)? {
                Some(head) => {
                    segment.starts.push(at);
                    segment.end = at + (HEAD_BYTES + head.len) as u64;
                }
                None => {
                    let synced = segment.finds_synced_after(at, len, max_record)?;
                    return Ok((
                        segment,
                        if synced { Scan::Damaged { at } } else { Scan::Torn { at, bytes: len - at } },
                    ));
                }
            }
        }
        Ok((segment, Scan::Clean))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn first_index(&self) -> u64 {
        self.first
    }

    /// Index of the record that would come next.
    pub(super) fn end_index(&self) -> u64 {
        self.first.saturating_add(self.starts.len() as u64)
    }

    pub(super) fn is_full(&self, segment_bytes: u64) -> bool {
        !self.starts.is_empty() && self.end >= segment_bytes
    }

    pub(super) fn append(&mut self, payload: &[u8], after_sync: bool) -> Result<(), StoreError> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
        bytes.extend_from_slice(&record::encode_head(&self.key, self.end, payload, after_sync));
        bytes.extend_from_slice(payload);
        self.file.write_all_at(&bytes, self.end).map_err(StoreError::io("append to", &self.path))?;
        self.starts.push(self.end);
        self.end += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_all().map_err(StoreError::io("sync", &self.path))
    }

    /// The record `index`, or the byte at which it turned out to be broken.
    pub(super) fn get(&self, index: u64) -> Result<Result<Vec<u8>, u64>, StoreError> {
        let nth = usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let Some(&start) = self.starts.get(nth) else { return Ok(Err(self.end)) };
        let end = self.starts.get(nth + 1).copied().unwrap_or(self.end);
        let len = usize::try_from(end - start).unwrap_or(0).saturating_sub(HEAD_BYTES);
        let file_len = self.file.metadata().map_err(StoreError::io("read", &self.path))?.len();
        if file_len < end {
            return Ok(Err(start));
        }
        let Some(head) = self.head_at(start, len)? else { return Ok(Err(start)) };
        let payload = self.read(start + HEAD_BYTES as u64, len)?;
        Ok(if record::holds(&self.key, start, head, &payload) { Ok(payload) } else { Err(start) })
    }

    /// Cuts the file off at byte `at`, durably.
    pub(super) fn cut_to(&mut self, at: u64) -> Result<(), StoreError> {
        self.file.set_len(at).and_then(|()| self.file.sync_all()).map_err(StoreError::io("shorten", &self.path))?;
        self.end = at;
        Ok(())
    }

    /// Removes the records from index `len` on, durably.
    pub(super) fn truncate(&mut self, len: u64) -> Result<(), StoreError> {
        let keep = usize::try_from(len.saturating_sub(self.first)).unwrap_or(usize::MAX);
        if let Some(&at) = self.starts.get(keep) {
            self.cut_to(at)?;
            self.starts.truncate(keep);
        }
        Ok(())
    }

    fn record_at(&self, at: u64, file_len: u64, max_record: usize) -> Result<Option<Head>, StoreError> {
        let Some(room) = file_len.checked_sub(at + HEAD_BYTES as u64) else { return Ok(None) };
        let Some(head) = self.head_at(at, max_record)? else { return Ok(None) };
        if head.len as u64 > room {
            return Ok(None);
        }
        let payload = self.read(at + HEAD_BYTES as u64, head.len)?;
        Ok(record::holds(&self.key, at, head, &payload).then_some(head))
    }

    fn head_at(&self, at: u64, max_record: usize) -> Result<Option<Head>, StoreError> {
        let mut head = [0; HEAD_BYTES];
        self.file.read_exact_at(&mut head, at).map_err(StoreError::io("read", &self.path))?;
        Ok(record::decode_head(&self.key, at, &head, max_record))
    }

    /// True if a record behind the broken one at `broken` was written after a sync: then the broken one had been synced.
    /// Reads a window at a time, and a payload only where the check of its length holds.
    fn finds_synced_after(&self, broken: u64, file_len: u64, max_record: usize) -> Result<bool, StoreError> {
        let mut from = broken.saturating_add(1);
        while file_len.saturating_sub(from) >= HEAD_BYTES as u64 {
            let len = usize::try_from(file_len - from).unwrap_or(usize::MAX).min(WINDOW);
            let window = self.read(from, len)?;
            for (at, head) in (from..).zip(window.windows(HEAD_BYTES)) {
                let Ok(head) = head.try_into() else { continue };
                let Some(head) = record::decode_head(&self.key, at, head, max_record) else { continue };
                if head.after_sync && self.record_at(at, file_len, max_record)?.is_some() {
                    return Ok(true);
                }
            }
            // The next window begins with the first place that was not looked at.
            from = from.saturating_add((len - (HEAD_BYTES - 1)) as u64);
        }
        Ok(false)
    }

    /// Reads `len` bytes; callers have checked that they are there.
    fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at).map_err(StoreError::io("read", &self.path))?;
        Ok(bytes)
    }
}

fn open_file(path: &Path) -> Result<File, StoreError> {
    files::private_options().read(true).write(true).open(path).map_err(StoreError::io("open", path))
}

fn opening(first: u64) -> [u8; OPENING as usize] {
    let mut bytes = [0; OPENING as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&first.to_le_bytes());
    bytes
}
