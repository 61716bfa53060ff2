//! A model's bytes as a memory file that is sealed before it is handed to a worker: never a plaintext file on a disk.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    thread,
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
    io::Errno,
};
use zero2ai_proto::limits::LABEL_BYTES;

use crate::error::EngineError;

/// How often, and how far apart, sealing is tried again while the kernel has a page of the file in hand.
const BUSY_TRIES: u32 = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// One file of a model, in memory. Written by parts, then sealed: after that nobody, not even its maker, can change it.
#[derive(Debug)]
pub struct ModelFile {
    name: String,
    file: File,
    size: u64,
    next: u64,
    sealed: bool,
}

impl ModelFile {
    /// An empty memory file of `size` bytes; memory is taken as it is written.
    ///
    /// # Errors
    /// [`EngineError::File`] if the system has no memory file to give; an input error for a name over 256 bytes.
    pub fn create(name: &str, size: u64) -> Result<Self, EngineError> {
        if name.is_empty() || name.len() > LABEL_BYTES {
            return Err(EngineError::input(format!("a model file's name must have 1 to {LABEL_BYTES} bytes")));
        }
        let make = || -> io::Result<File> {
            // The name shows up in /proc only; it is the same for all, so that it cannot tell what a node runs.
            let fd = memfd_create("zero2ai-model", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
            ftruncate(&fd, size)?;
            Ok(File::from(fd))
        };
        let file = make().map_err(|source| EngineError::File { name: name.to_owned(), what: "had", source })?;
        Ok(Self { name: name.to_owned(), file, size, next: 0, sealed: false })
    }

    /// A sealed file of these bytes.
    ///
    /// # Errors
    /// As [`Self::create`] and [`Self::append`].
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, EngineError> {
        let mut file = Self::create(name, bytes.len() as u64)?;
        file.append(bytes)?;
        file.seal()?;
        Ok(file)
    }

    /// Writes `bytes` after what was appended before.
    ///
    /// # Errors
    /// As [`Self::write_at`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        self.write_at(self.next, bytes)?;
        self.next = self.next.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Writes `bytes` at `offset`, in any order.
    ///
    /// # Errors
    /// [`EngineError::File`] if they do not fit the size, if the file is sealed, or if memory is short.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), EngineError> {
        let failed = |source| EngineError::File { name: self.name.clone(), what: "written", source };
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "beyond the size that was declared")));
        }
        self.file.write_all_at(bytes, offset).map_err(failed)
    }

    /// Forbids every further change. Done by [`crate::Worker::load`] too, if it was not done before.
    ///
    /// # Errors
    /// [`EngineError::File`] if the kernel refuses.
    pub fn seal(&mut self) -> Result<(), EngineError> {
        if !self.sealed {
            let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
            // The kernel says that a page is busy while it looks at or moves it for its own ends: that passes.
            let mut tries = 0;
            let mut sealed = fcntl_add_seals(&self.file, seals);
            while sealed == Err(Errno::BUSY) && tries < BUSY_TRIES {
                tries += 1;
                thread::sleep(BUSY_PAUSE);
                sealed = fcntl_add_seals(&self.file, seals);
            }
            let fail = |e: Errno| EngineError::File { name: self.name.clone(), what: "sealed", source: e.into() };
            sealed.map_err(fail)?;
            self.sealed = true;
        }
        Ok(())
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_sealed_cannot_be_changed() {
        let mut file = ModelFile::create("a", 6).unwrap();
        file.append(b"abc").unwrap();
        file.append(b"def").unwrap();
        assert!(file.append(b"g").is_err(), "beyond its size");
        assert!(file.write_at(u64::MAX, b"g").is_err(), "offset overflows");
        file.seal().unwrap();
        assert!(file.write_at(0, b"x").is_err(), "sealed");
        let mut read = [0; 6];
        file.file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"abcdef");
    }
}
