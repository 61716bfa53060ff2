//! Sealing a manifest under a key made for that sealing alone, and opening it.

use std::{collections::BTreeMap, fmt};

use ring::aead::Aad;
use zero2ai_proto::{
    ByteBuf, Cid, CodecError, ManifestId, decode, encode,
    keys::random_bytes,
    limits::{MANIFEST_BYTES, SEAL_OVERHEAD},
    manifest::{Manifest, ManifestError, SealedChunk, SealedManifest},
};
use zeroize::Zeroizing;

use crate::seal::{cipher, zero_nonce};

/// The key of one sealing of one manifest: whoever holds it can open the model. Zeroized when dropped; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ManifestKey(Zeroizing<[u8; 32]>);

impl ManifestKey {
    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes: for a key file and for wrapping alone.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ManifestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ManifestKey(..)")
    }
}

/// Why a manifest could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum ManifestSealError {
    /// Its numbers are out of bounds or contradict each other.
    #[error("{0}. Publish the model again, in more than one part if it is too large")]
    Unusable(#[from] ManifestError),
    /// Not the encoding of a manifest, or too long for one.
    #[error("the manifest's bytes cannot be read or written: {0}. Fetch it again from another peer")]
    Codec(#[from] CodecError),
    /// Not the manifest that was asked for.
    #[error("the bytes given for manifest {0} hash to something else. Fetch it again from another peer")]
    WrongId(ManifestId),
    /// The key does not open it.
    #[error(
        "the key does not open this manifest: it belongs to another version or sealing. Ask the publisher for a grant"
    )]
    WrongKey,
    /// The open list of ciphertexts and the sealed body name different chunks, or the version is not the body's.
    #[error(
        "the manifest's list of chunks and its sealed body contradict each other. Its publisher made it wrongly: do not use it"
    )]
    Contradiction,
    /// The operating system gave no randomness.
    #[error("no key could be made, since the operating system gave no randomness: {0}. Try again later")]
    Randomness(#[from] getrandom::Error),
}

/// Seals `manifest` under a fresh key. Returns the bytes to store and send, their id, and the key.
///
/// # Errors
/// Out of bounds, too long, or no randomness.
pub fn seal_manifest(manifest: &Manifest) -> Result<(Vec<u8>, ManifestId, ManifestKey), ManifestSealError> {
    manifest.check()?;
    let key = ManifestKey::from_bytes(random_bytes()?);
    // The plain encoding holds the content secret: it is wiped here, and its copy is encrypted in place. What the encoder
    // left behind while its buffer grew is out of reach.
    let plain = Zeroizing::new(encode(manifest)?);
    let mut body = Vec::with_capacity(plain.len() + SEAL_OVERHEAD);
    body.extend_from_slice(&plain);
    cipher(key.as_bytes())
        .and_then(|c| c.seal_in_place_append_tag(zero_nonce(), Aad::empty(), &mut body).ok())
        .ok_or(ManifestSealError::WrongKey)?;
    let sealed =
        SealedManifest { version: version_of(manifest), chunks: chunk_list(manifest)?, body: ByteBuf::from(body) };
    sealed.check()?;
    let bytes = encode(&sealed)?;
    if bytes.len() > MANIFEST_BYTES {
        return Err(CodecError::TooLong { len: bytes.len(), max: MANIFEST_BYTES }.into());
    }
    let id = ManifestId::of(&bytes);
    Ok((bytes, id, key))
}

/// Opens a sealed manifest, and checks its id, every bound, and that its two halves name the same chunks.
///
/// # Errors
/// [`ManifestSealError`]; nothing of the content is returned.
pub fn open_manifest(bytes: &[u8], id: &ManifestId, key: &ManifestKey) -> Result<Manifest, ManifestSealError> {
    let sealed = read_sealed(bytes, id)?;
    let mut body = Zeroizing::new(sealed.body.to_vec());
    let plain = cipher(key.as_bytes())
        .and_then(|c| c.open_in_place(zero_nonce(), Aad::empty(), &mut body).ok())
        .ok_or(ManifestSealError::WrongKey)?;
    let manifest: Manifest = decode(plain, MANIFEST_BYTES)?;
    manifest.check()?;
    if version_of(&manifest) != sealed.version || chunk_list(&manifest)? != sealed.chunks {
        return Err(ManifestSealError::Contradiction);
    }
    Ok(manifest)
}

/// Reads the open half of a sealed manifest, for those without its key.
///
/// # Errors
/// Wrong id, malformed, or out of bounds.
pub fn read_sealed(bytes: &[u8], id: &ManifestId) -> Result<SealedManifest, ManifestSealError> {
    if bytes.len() > MANIFEST_BYTES {
        return Err(CodecError::TooLong { len: bytes.len(), max: MANIFEST_BYTES }.into());
    }
    if ManifestId::of(bytes) != *id {
        return Err(ManifestSealError::WrongId(*id));
    }
    let sealed: SealedManifest = decode(bytes, MANIFEST_BYTES)?;
    sealed.check()?;
    Ok(sealed)
}

/// A program that knows no deltas must refuse a manifest that has some; one that has none stays readable to it.
fn version_of(manifest: &Manifest) -> u16 {
    manifest.sealed_version()
}

/// Every distinct ciphertext, in first-use order, the bases of deltas among them: whoever holds all that is listed can open
/// every file. One name with two lengths is a contradiction.
fn chunk_list(manifest: &Manifest) -> Result<Vec<SealedChunk>, ManifestSealError> {
    let mut lens: BTreeMap<Cid, u32> = BTreeMap::new();
    let mut list = Vec::new();
    for chunk in manifest.chunks() {
        let base = chunk.delta.as_ref().map(|d| (d.base.cid, d.base.len));
        for (cid, len) in base.into_iter().chain([(chunk.cid, chunk.len)]) {
            let len = len.saturating_add(SEAL_OVERHEAD as u32);
            match lens.insert(cid, len) {
                None => list.push(SealedChunk { cid, len }),
                Some(before) if before != len => return Err(ManifestSealError::Contradiction),
                Some(_) => {}
            }
        }
    }
    Ok(list)
}
