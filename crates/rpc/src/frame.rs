//! Length-framed messages: a big-endian `u32` and that many bytes of canonical CBOR.

use std::{io, time::Duration};

use bytes::{Buf, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt};
use zero2ai_proto::{CodecError, decode, encode_onto, rpc::ReplyFrame};

use crate::connection::SendHalf;

const PREFIX: usize = 4;
/// Bytes asked from the stream at a time.
const READ: usize = 64 * 1024;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The stream failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The stream ended inside a frame, or where one was due.
    #[error("the stream ended too early")]
    Ended,
    /// The other side took none of it for too long.
    #[error("a frame was not taken within {0:?}")]
    Slow(Duration),
    /// Too long, malformed, or not canonical.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Reads frames. Memory grows with what arrives, never with what a length promises, and a dropped [`FrameReader::next`]
/// loses nothing.
pub(crate) struct FrameReader {
    stream: Box<dyn AsyncRead + Send + Unpin>,
    buffer: BytesMut,
}

impl FrameReader {
    pub(crate) fn new(stream: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next frame's value; `max` bounds its bytes.
    pub(crate) async fn next<T: Serialize + DeserializeOwned>(&mut self, max: usize) -> Result<T, FrameError> {
        Ok(decode(&self.next_frame(max).await?, max)?)
    }

    /// The next frame's bytes, at most `max`.
    pub(crate) async fn next_frame(&mut self, max: usize) -> Result<BytesMut, FrameError> {
        let len = loop {
            if let Some((prefix, _)) = self.buffer.split_first_chunk::<PREFIX>() {
                break u32::from_be_bytes(*prefix) as usize;
            }
            self.fill(PREFIX).await?;
        };
        if len > max {
            return Err(CodecError::TooLong { len, max }.into());
        }
        while self.buffer.len() < PREFIX + len {
            self.fill(PREFIX + len - self.buffer.len()).await?;
        }
        self.buffer.advance(PREFIX);
        Ok(self.buffer.split_to(len))
    }

    async fn fill(&mut self, missing: usize) -> Result<(), FrameError> {
        // As much again as came so far: a large frame is seldom moved to a larger buffer.
        self.buffer.reserve(missing.min(self.buffer.len().max(READ)));
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(FrameError::Ended),
            _ => Ok(()),
        }
    }
}

/// `value` as a frame of at most `max` bytes.
pub(crate) fn frame<T: Serialize>(value: &T, max: usize) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![0; PREFIX];
    encode_onto(value, &mut bytes)?;
    with_length(bytes, max)
}

/// Fills in the prefix of a frame.
fn with_length(mut bytes: Vec<u8>, max: usize) -> Result<Vec<u8>, CodecError> {
    let (prefix, body) = bytes.split_at_mut(PREFIX);
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= max);
    prefix.copy_from_slice(&len.ok_or(CodecError::TooLong { len: body.len(), max })?.to_be_bytes());
    Ok(bytes)
}

/// A frame of at most `max` bytes that carries `item` in an answer.
pub(crate) fn item_frame<T: Serialize>(item: &T, max: usize) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![0; PREFIX];
    ReplyFrame::encode_item_onto(item, &mut bytes)?;
    with_length(bytes, max)
}

/// Writes `value` as one frame.
pub(crate) async fn write<T: Serialize>(stream: &mut dyn SendHalf, value: &T, max: usize) -> Result<(), FrameError> {
    Ok(stream.send(frame(value, max)?.into()).await?)
}
