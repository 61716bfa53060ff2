//! Frames on the socket between a node and its worker: a big-endian `u32` length, then canonical CBOR. Both sides hold
//! the other to the same bound.

use serde::{Serialize, de::DeserializeOwned};
use zero2ai_proto::{CodecError, decode, encode, limits::MANIFEST_BYTES};

/// Bytes in one frame: all conformance samples of a manifest, or the outputs of a model, with room to spare. A larger
/// frame fails its job; a larger length seen ends the connection.
pub(crate) const FRAME_BYTES: usize = 2 * MANIFEST_BYTES;

/// Files of one model, so that their descriptors fit one message of the socket (the kernel's bound is 253).
pub(crate) const MODEL_FILES: usize = 64;

/// Bytes of the length before each frame.
pub(crate) const HEADER: usize = 4;

/// The frame of `value`, length included.
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let body = encode(value)?;
    let too_long = CodecError::TooLong { len: body.len(), max: FRAME_BYTES };
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= FRAME_BYTES).ok_or(too_long)?;
    let mut frame = Vec::with_capacity(HEADER.saturating_add(body.len()));
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The length that a header announces.
pub(crate) fn body_len(header: [u8; HEADER]) -> Result<usize, CodecError> {
    let len = u32::from_be_bytes(header) as usize;
    if len > FRAME_BYTES { Err(CodecError::TooLong { len, max: FRAME_BYTES }) } else { Ok(len) }
}

/// The value in a frame's body.
pub(crate) fn from_body<T: Serialize + DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    decode(body, FRAME_BYTES)
}
