//! The worker's end of the socket: blocking reads that also collect descriptors, and writes shared between threads.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Mutex, PoisonError},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use zero2ai_proto::worker::{FromWorker, ToWorker};

use crate::{
    error::EngineError,
    frame::{HEADER, MODEL_FILES, body_len, from_body, to_bytes},
};

/// Bytes asked of one read. Also bounds what a claimed length makes us set aside before any byte of it came.
const READ_BYTES: usize = 64 * 1024;

/// Reads frames and the descriptors that came beside them.
pub(super) struct Reader {
    socket: UnixStream,
    fds: VecDeque<OwnedFd>,
}

impl Reader {
    pub(super) const fn new(socket: UnixStream) -> Self {
        Self { socket, fds: VecDeque::new() }
    }

    /// The next frame; `None` when the node closed the socket between two frames.
    pub(super) fn next(&mut self) -> Result<Option<ToWorker>, EngineError> {
        let mut header = [0; HEADER];
        if !self.fill(&mut header)? {
            return Ok(None);
        }
        let len = body_len(header)?;
        let mut body = Vec::new();
        while body.len() < len {
            let start = body.len();
            body.resize(len.min(start.saturating_add(READ_BYTES)), 0);
            let part = body.get_mut(start..).unwrap_or_default();
            if !self.fill(part)? {
                return Err(EngineError::Socket(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(Some(from_body(&body)?))
    }

    /// Takes the oldest `count` descriptors that came in.
    pub(super) fn take_fds(&mut self, count: usize) -> Option<Vec<OwnedFd>> {
        (count <= self.fds.len()).then(|| self.fds.drain(..count).collect())
    }

    /// Fills `buffer`; `false` when the socket ended before its first byte.
    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<bool, EngineError> {
        let mut any = false;
        while !buffer.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MODEL_FILES))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(buffer)];
            let got = match recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => message.bytes,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(EngineError::Socket(error.into())),
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    self.fds.extend(fds);
                }
            }
            if got == 0 {
                return if any { Err(EngineError::Socket(io::ErrorKind::UnexpectedEof.into())) } else { Ok(false) };
            }
            any = true;
            buffer = buffer.get_mut(got..).unwrap_or_default();
        }
        Ok(true)
    }
}

/// Writes whole frames. Blocks while the node does not read: that is what slows a worker down.
pub(super) struct Writer(Mutex<UnixStream>);

impl Writer {
    pub(super) const fn new(socket: UnixStream) -> Self {
        Self(Mutex::new(socket))
    }

    pub(super) fn send(&self, frame: &FromWorker) -> Result<(), EngineError> {
        self.send_all(std::slice::from_ref(frame))
    }

    /// Several frames by one system call; none if one is too large.
    pub(super) fn send_all(&self, frames: &[FromWorker]) -> Result<(), EngineError> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.append(&mut to_bytes(frame)?);
        }
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        socket.write_all(&bytes).map_err(EngineError::Socket)
    }
}
