//! The one codec: canonical CBOR (RFC 8949) with integer keys, bounded before it is decoded.
//!
//! Structs are maps with ascending integer keys (the field's index), enums are their variant's index, or a pair
//! `[index, content]`. This is `serde_cbor`'s packed form with its "legacy" enums (the others would write variant names,
//! so that renaming one in the source would change the wire). `serde_cbor` is archived (RUSTSEC-2021-0127), hence the
//! belt and braces: input is capped before it is touched, trailing bytes are refused, and whatever was decoded is encoded
//! again and compared, so exactly one byte string stands for one value. Depth needs no scan of its own: no type here is
//! recursive, and the library stops ignored content at 128 levels. Nothing outside this module names the library.

use serde::{Serialize, de::DeserializeOwned};
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
    let mut writer = Serializer::new(IoWrite::new(&mut bytes)).packed_format().legacy_enums();
    value.serialize(&mut writer).map_err(|e| CodecError::Unencodable(e.to_string()))?;
    Ok(bytes)
}

/// Decodes one value that fills `bytes` exactly and is in canonical form.
///
/// # Errors
/// `bytes` longer than `max`, malformed, followed by more bytes, or not canonical.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, CodecError> {
    if bytes.len() > max {
        return Err(CodecError::TooLong { len: bytes.len(), max });
    }
    let value: T = serde_cbor::from_slice(bytes).map_err(|e| CodecError::Malformed(e.to_string()))?;
    if encode(&value)? != bytes {
        return Err(CodecError::NotCanonical);
    }
    Ok(value)
}
