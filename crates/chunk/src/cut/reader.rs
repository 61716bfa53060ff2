//! Reading a header that may lie: never past the file's end or the header's bound, never more memory than was read.

use std::io::{self, BufReader, Read};

use zero2ai_proto::manifest::Format;

use super::{CutError, malformed};

/// A bounded, buffered reader that counts.
pub(super) struct HeaderReader<R> {
    inner: BufReader<R>,
    format: Format,
    position: u64,
    size: u64,
    bound: u64,
}

impl<R: Read> HeaderReader<R> {
    /// Reads `reader` from its start; the file has `size` bytes and the header may have `bound`.
    pub(super) fn new(reader: R, format: Format, size: u64, bound: u64) -> Self {
        Self { inner: BufReader::with_capacity(64 * 1024, reader), format, position: 0, size, bound }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Fails unless `len` more bytes are there and within the header's bound.
    pub(super) fn need(&self, len: u64) -> Result<(), CutError> {
        match self.position.checked_add(len) {
            Some(end) if end <= self.size.min(self.bound) => Ok(()),
            Some(end) if end <= self.size => {
                Err(malformed(self.format, format!("its header is longer than {} bytes", self.bound)))
            }
            _ => Err(malformed(
                self.format,
                format!(
                    "its header wants {len} bytes at {} but the file has {}, so it is cut short",
                    self.position, self.size
                ),
            )),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CutError> {
        self.need(N as u64)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.position += N as u64;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CutError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, CutError> {
        self.array().map(u64::from_le_bytes)
    }

    /// `len` bytes, which the caller has bounded.
    pub(super) fn bytes(&mut self, len: u64) -> Result<Vec<u8>, CutError> {
        self.need(len)?;
        let mut bytes = Vec::new();
        (&mut self.inner).take(len).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != len {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.position += len;
        Ok(bytes)
    }

    pub(super) fn skip(&mut self, len: u64) -> Result<(), CutError> {
        self.need(len)?;
        if io::copy(&mut (&mut self.inner).take(len), &mut io::sink())? != len {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.position += len;
        Ok(())
    }
}
