//! 32-byte identifiers and how each is derived. All are BLAKE3; all but [`Cid`] in key-derivation mode with a context
//! string of their own, so that no byte string means two things.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Serialises a fixed-size array as a CBOR byte string.
macro_rules! fixed_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &hex::encode(self.0)[..12])
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(s: &str) -> Result<Self, ParseIdError> {
                let mut out = [0u8; $len];
                hex::decode_to_slice(s, &mut out).map_err(|_| ParseIdError { what: stringify!($name), digits: $len * 2 })?;
                Ok(Self(out))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let bytes = serde_bytes::ByteBuf::deserialize(d)?;
                let array = <[u8; $len]>::try_from(bytes.as_slice())
                    .map_err(|_| D::Error::invalid_length(bytes.len(), &concat!(stringify!($len), " bytes")))?;
                Ok(Self(array))
            }
        }
    };
}
pub(crate) use fixed_bytes;

/// Text that is not the hexadecimal form of an identifier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a {what}: expected {digits} hexadecimal digits")]
pub struct ParseIdError {
    /// The type that was expected.
    pub what: &'static str,
    /// Number of hexadecimal digits it has.
    pub digits: usize,
}

fixed_bytes!(
    /// A pool: the hash of its genesis, stable for ever.
    PoolId,
    32
);
fixed_bytes!(
    /// A sealed chunk or other stored object: plain BLAKE3 of its ciphertext.
    Cid,
    32
);
fixed_bytes!(
    /// One sealing of one version's manifest: hash of the encoded [`crate::manifest::SealedManifest`].
    ManifestId,
    32
);
fixed_bytes!(
    /// A block: the hash of its encoded header.
    BlockId,
    32
);
fixed_bytes!(
    /// A transaction: the hash of its encoded [`crate::Signed`].
    TxId,
    32
);
fixed_bytes!(
    /// Any other 32-byte hash; the field's doc says of what.
    Digest,
    32
);

/// BLAKE3 in key-derivation mode: `context` names what is hashed, so hashes of different things never meet.
#[must_use]
pub fn tagged_hash(context: &str, bytes: &[u8]) -> [u8; 32] {
    blake3::derive_key(context, bytes)
}

impl PoolId {
    /// The id of the pool that starts with this encoded genesis.
    #[must_use]
    pub fn of(genesis: &[u8]) -> Self {
        Self(tagged_hash("zero2ai genesis v1", genesis))
    }
}

impl Cid {
    /// The id of this ciphertext.
    #[must_use]
    pub fn of(ciphertext: &[u8]) -> Self {
        Self(*blake3::hash(ciphertext).as_bytes())
    }
}

impl ManifestId {
    /// The id of this encoded sealed manifest.
    #[must_use]
    pub fn of(sealed_manifest: &[u8]) -> Self {
        Self(tagged_hash("zero2ai manifest v1", sealed_manifest))
    }
}

impl BlockId {
    /// The id of the block with this encoded header.
    #[must_use]
    pub fn of(header: &[u8]) -> Self {
        Self(tagged_hash("zero2ai block header v1", header))
    }
}

impl TxId {
    /// The id of this encoded signed transaction.
    #[must_use]
    pub fn of(signed_tx: &[u8]) -> Self {
        Self(tagged_hash("zero2ai transaction v1", signed_tx))
    }
}

impl Digest {
    /// Plain BLAKE3.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}
