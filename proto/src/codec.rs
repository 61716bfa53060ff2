//! The one codec: canonical CBOR (RFC 8949) with integer keys, bounded before it is decoded.
//!
//! Structs are maps with ascending integer keys (the field's index), enums are their variant's index, or a pair
//! `[index, content]`. This is `serde_cbor`'s packed form with its "legacy" enums (the others would write variant names,
//! so that renaming one in the source would change the wire). `serde_cbor` is archived (RUSTSEC-2021-0127), hence the
//! belt and braces: input is capped before it is touched, trailing bytes are refused, and whatever was decoded is encoded
//! again and compared, so exactly one byte string stands for one value. Depth needs no scan of its own: no type here is
//! recursive, and the library stops ignored content at 128 levels. Nothing outside this module names the library.

use std::io;

use serde::{Deserialize, Serialize};
use serde_cbor::ser::{IoWrite, Serializer};

/// Why bytes could not be encoded or decoded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    /// The input is longer than the bound for this kind of message.
    #[error("{len} bytes are more than the {max} allowed here")]
    TooLong {
        /// Length seen, bytes.
        len: usize,
        /// Length allowed, bytes.
        max: usize,
    },
    /// Not CBOR of the expected shape, or cut short, or followed by more bytes.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A second spelling of a value that has only one: refused, since bytes are signed and hashed.
    #[error("not in canonical form")]
    NotCanonical,
    /// A value that the format cannot carry (never seen with this crate's own types).
    #[error("cannot encode: {0}")]
    Unencodable(String),
}

/// Encodes `value` canonically.
///
/// # Errors
/// [`CodecError::Unencodable`] if the type's own `Serialize` fails.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    encode_onto(value, &mut bytes)?;
    Ok(bytes)
}

/// Appends the canonical encoding of `value` to `bytes`. On an error, a part of it may have been appended.
///
/// # Errors
/// [`CodecError::Unencodable`] if the type's own `Serialize` fails.
pub fn encode_onto<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    write(value, bytes).map_err(|e| CodecError::Unencodable(e.to_string()))
}

fn write<T: Serialize + ?Sized>(value: &T, to: &mut impl io::Write) -> Result<(), serde_cbor::Error> {
    value.serialize(&mut Serializer::new(IoWrite::new(to)).packed_format().legacy_enums())
}

/// Appends the encoding of `value` as a byte string (RFC 8949, 3.1): as an encoded item is carried in a frame, without a copy
/// of it in between.
///
/// # Errors
/// [`CodecError::Unencodable`] if the type's own `Serialize` fails, or is not the same twice.
pub(crate) fn encode_string_onto<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    let unencodable = |e: &dyn std::fmt::Display| CodecError::Unencodable(e.to_string());
    let mut counted = Counted(0);
    write(value, &mut counted).map_err(|e| unencodable(&e))?;
    let len = u32::try_from(counted.0).map_err(|e| unencodable(&e))?;
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..24), _) => bytes.push(0x40 | len),
        (Ok(len), _) => bytes.extend([0x58, len]),
        (_, Ok(len)) => bytes.extend([&[0x59][..], &len.to_be_bytes()].concat()),
        _ => bytes.extend([&[0x5a][..], &len.to_be_bytes()].concat()),
    }
    bytes.reserve(counted.0);
    let end = bytes.len().saturating_add(counted.0);
    encode_onto(value, bytes)?;
    if bytes.len() == end { Ok(()) } else { Err(unencodable(&"its length changed meanwhile")) }
}

/// Counts what is written.
struct Counted(usize);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compares what is written with `rest` instead of keeping it: a chunk is checked without a copy of it.
struct Same<'a> {
    rest: &'a [u8],
    differs: bool,
}

impl io::Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.rest.split_at_checked(bytes.len()) {
            Some((now, rest)) if now == bytes => self.rest = rest,
            _ => self.differs = true,
        }
        if self.differs { Err(io::ErrorKind::InvalidData.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decodes one value that fills `bytes` exactly and is in canonical form. It may borrow from them.
///
/// # Errors
/// `bytes` longer than `max`, malformed, followed by more bytes, or not canonical.
pub fn decode<'a, T: Serialize + Deserialize<'a>>(bytes: &'a [u8], max: usize) -> Result<T, CodecError> {
    if bytes.len() > max {
        return Err(CodecError::TooLong { len: bytes.len(), max });
    }
    let value: T = serde_cbor::from_slice(bytes).map_err(|e| CodecError::Malformed(e.to_string()))?;
    let mut same = Same { rest: bytes, differs: false };
    match write(&value, &mut same) {
        Ok(()) if same.rest.is_empty() => Ok(value),
        Err(e) if !same.differs => Err(CodecError::Unencodable(e.to_string())),
        _ => Err(CodecError::NotCanonical),
    }
}
