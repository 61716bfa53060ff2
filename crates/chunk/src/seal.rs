//! One chunk: its key is derived from its plaintext and a domain's secret, so identical plaintext in one domain is one
//! ciphertext.
//!
//! `key = keyed_hash(derive_key("zero2ai chunk key v1", domain secret), BLAKE3(plaintext))`, then AES-256-GCM. The nonce is
//! zero. That is safe for one reason only: a key belongs to one plaintext, so no nonce is ever used for two messages. Three
//! things keep it so: the context string (no other key is derived this way), the associated data `{domain, length}`, and
//! the check at opening that the plaintext has the hash its key was derived from.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zero2ai_proto::{
    Cid, Digest,
    keys::random_bytes,
    limits::{CHUNK_BYTES, SEAL_OVERHEAD},
    manifest::{ChunkRef, Domain},
};
use zeroize::Zeroizing;

/// Key-derivation context of chunk keys.
const CHUNK_KEY_CONTEXT: &str = "zero2ai chunk key v1";
/// Key-derivation context of the public domain's secret, which is no secret.
const PUBLIC_SECRET_CONTEXT: &str = "zero2ai public content secret v1";

/// The secret of a domain, from which chunk keys are derived. Zeroized when dropped; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentSecret(Zeroizing<[u8; 32]>);

impl ContentSecret {
    /// A fresh secret, for a private domain or a new pool.
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self(Zeroizing::new(random_bytes()?)))
    }

    /// The secret with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The public domain's constant: it gives deduplication between all publishers, and no secrecy at all.
    #[must_use]
    pub fn public() -> Self {
        Self::from_bytes(blake3::derive_key(PUBLIC_SECRET_CONTEXT, &[]))
    }

    /// The bytes: for a manifest and a key file alone.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ContentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentSecret(..)")
    }
}

/// Why a chunk could not be sealed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealChunkError {
    /// Empty, or longer than a chunk may be.
    #[error("a chunk of {0} bytes cannot be sealed: 1 to {CHUNK_BYTES} are allowed. Cut the file into smaller pieces")]
    Length(usize),
    /// The cipher refused. Never seen.
    #[error("the cipher refused to seal a chunk: the program's cryptography is not working. Nothing was written")]
    Cipher,
}

/// Why a chunk could not be opened. Nothing of its plaintext is returned.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    /// The ciphertext is not the one that the manifest names.
    #[error("the bytes given for chunk {cid} are not that chunk: {why}. Fetch it again from another peer")]
    NotThisChunk {
        /// The chunk wanted.
        cid: Cid,
        /// What differs.
        why: &'static str,
    },
    /// The ciphertext is the right one but the key is not.
    #[error(
        "chunk {cid} does not open: the manifest's secret, domain or plaintext hash is not the one it was sealed with. \
         The manifest was made wrongly; ask its publisher to publish again"
    )]
    WrongKey {
        /// The chunk.
        cid: Cid,
    },
}

/// Seals chunks of one domain.
#[derive(Clone, Debug)]
pub struct Sealer {
    domain: Domain,
    secret: ContentSecret,
}

impl Sealer {
    /// A sealer for `domain`. In the public domain `secret` is ignored: the constant is used.
    #[must_use]
    pub fn new(domain: Domain, secret: ContentSecret) -> Self {
        let secret = if domain == Domain::Public { ContentSecret::public() } else { secret };
        Self { domain, secret }
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> Domain {
        self.domain
    }

    /// The secret, as it goes into the manifest.
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        self.secret.as_bytes()
    }

    /// Seals 1 to [`CHUNK_BYTES`] bytes. The same bytes give the same ciphertext.
    ///
    /// # Errors
    /// [`SealChunkError`].
    pub fn seal_chunk(&self, plain: &[u8]) -> Result<(ChunkRef, Vec<u8>), SealChunkError> {
        let len = u32::try_from(plain.len()).map_err(|_| SealChunkError::Length(plain.len()))?;
        if plain.is_empty() || plain.len() > CHUNK_BYTES {
            return Err(SealChunkError::Length(plain.len()));
        }
        let hash = Digest::of(plain);
        let mut sealed = Vec::with_capacity(plain.len() + SEAL_OVERHEAD);
        sealed.extend_from_slice(plain);
        let key = cipher(&chunk_key(self.secret(), &hash)).ok_or(SealChunkError::Cipher)?;
        key.seal_in_place_append_tag(zero_nonce(), Aad::from(associated_data(self.domain, len)), &mut sealed)
            .map_err(|_| SealChunkError::Cipher)?;
        Ok((ChunkRef { cid: Cid::of(&sealed), plain: hash, len, delta: None }, sealed))
    }
}

/// Opens a chunk and checks everything that its reference says: the ciphertext's hash, the length, the plaintext's hash
/// (and with it that the key was derived from this plaintext).
///
/// # Errors
/// [`OpenError`].
pub fn open_chunk(
    domain: Domain,
    secret: &[u8; 32],
    chunk: &ChunkRef,
    mut ciphertext: Vec<u8>,
) -> Result<Vec<u8>, OpenError> {
    let cid = chunk.cid;
    if ciphertext.len() != chunk.len as usize + SEAL_OVERHEAD {
        return Err(OpenError::NotThisChunk { cid, why: "their length differs" });
    }
    if Cid::of(&ciphertext) != cid {
        return Err(OpenError::NotThisChunk { cid, why: "their hash differs" });
    }
    let key = cipher(&chunk_key(secret, &chunk.plain)).ok_or(OpenError::WrongKey { cid })?;
    key.open_in_place(zero_nonce(), Aad::from(associated_data(domain, chunk.len)), &mut ciphertext)
        .map_err(|_| OpenError::WrongKey { cid })?;
    ciphertext.truncate(chunk.len as usize);
    // Recomputing the key from the plaintext comes down to this comparison: the key is a function of this hash.
    if Digest::of(&ciphertext) != chunk.plain {
        return Err(OpenError::WrongKey { cid });
    }
    Ok(ciphertext)
}

fn chunk_key(secret: &[u8; 32], plain: &Digest) -> Zeroizing<[u8; 32]> {
    let domain_key = Zeroizing::new(blake3::derive_key(CHUNK_KEY_CONTEXT, secret));
    Zeroizing::new(*blake3::keyed_hash(&domain_key, plain.as_bytes()).as_bytes())
}

/// `None` only if the library does not know its own key length.
pub(crate) fn cipher(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new)
}

/// For keys that seal one message in their life; see the module's doc.
pub(crate) fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn associated_data(domain: Domain, len: u32) -> [u8; 5] {
    let domain = match domain {
        Domain::Public => 0,
        Domain::Pool => 1,
        Domain::Private => 2,
    };
    let [a, b, c, d] = len.to_le_bytes();
    [domain, a, b, c, d]
}
