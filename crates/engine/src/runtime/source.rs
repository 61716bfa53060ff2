//! Reading a memory file that came over the socket. Its descriptor shares one cursor with every other holder, so reads
//! name their position.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::{fd::OwnedFd, unix::fs::FileExt},
};

use crate::error::EngineError;

/// A sealed file of known size.
pub(super) struct Source {
    name: String,
    file: File,
    size: u64,
}

impl Source {
    pub(super) fn new(name: &str, fd: OwnedFd) -> Result<Self, EngineError> {
        let stat = rustix::fs::fstat(&fd).map_err(|e| EngineError::Socket(e.into()))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Ok(Self { name: name.to_owned(), file: File::from(fd), size })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` with what lies at `offset`.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// A reader with a cursor of its own.
    pub(super) const fn reader(&self) -> Cursor<'_> {
        Cursor { source: self, at: 0 }
    }
}

/// See [`Source::reader`].
pub(super) struct Cursor<'a> {
    source: &'a Source,
    at: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.source.file.read_at(buffer, self.at)?;
        self.at = self.at.saturating_add(got as u64);
        Ok(got)
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.source.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
