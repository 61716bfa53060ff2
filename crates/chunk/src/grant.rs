//! A manifest key or the pool's content secret, wrapped to one node's sealing key: HPKE base mode (RFC 9180) with DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256 and AES-256-GCM. `info` is the encoding of [`GrantInfo`], so a wrapped secret opens for one pool, one subject,
//! one grantee and one epoch. Other bytes are sealed the same way under an `info` of their own.

use std::fmt;

use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable,
    aead::AesGcm256,
    kdf::HkdfSha256,
    kem::X25519HkdfSha256,
    rand_core::{CryptoRng, RngCore},
};
use zero2ai_proto::{
    ByteBuf, CodecError, SealingKey, encode,
    keys::random_bytes,
    manifest::{GrantInfo, WrappedKey},
};
use zeroize::Zeroizing;

type PrivateKey = <X25519HkdfSha256 as hpke::Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as hpke::Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as hpke::Kem>::EncappedKey;

/// Why a key could not be wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The wrapped key is bound to something else than was expected.
    #[error(
        "the wrapped key is for another pool, version, node or epoch than expected. Ask the publisher for a new grant"
    )]
    BoundElsewhere,
    /// It does not open with this secret, or was changed on the way.
    #[error(
        "the wrapped key does not open with this node's sealing secret. If the sealing key was rotated, register the new one \
         and ask for the grant again"
    )]
    DoesNotOpen,
    /// A public or secret key that X25519 cannot use.
    #[error("the sealing key is not usable. Ask its node to register a new one")]
    BadKey,
    /// The binding could not be encoded.
    #[error("the grant could not be encoded: {0}")]
    Codec(#[from] CodecError),
    /// The operating system gave no randomness.
    #[error("nothing was wrapped, since the operating system gave no randomness: {0}. Try again later")]
    Randomness(#[from] getrandom::Error),
}

/// A node's X25519 secret, to which manifest keys are wrapped. Separate from its identity, so that it can be rotated.
/// Zeroized when dropped; never printed.
#[derive(Clone)]
pub struct SealingSecret(Zeroizing<[u8; 32]>);

impl SealingSecret {
    /// A fresh secret.
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self(Zeroizing::new(random_bytes()?)))
    }

    /// The secret with these bytes. X25519 accepts every 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes: for the key file alone.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// The public half, as it is registered on the ledger.
    ///
    /// # Errors
    /// [`GrantError::BadKey`], never seen.
    pub fn public(&self) -> Result<SealingKey, GrantError> {
        let public = X25519HkdfSha256::sk_to_pk(&self.private()?).to_bytes();
        <[u8; 32]>::try_from(public.as_slice()).map(SealingKey).map_err(|_| GrantError::BadKey)
    }

    fn private(&self) -> Result<PrivateKey, GrantError> {
        PrivateKey::from_bytes(self.0.as_slice()).map_err(|_| GrantError::BadKey)
    }
}

impl fmt::Debug for SealingSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingSecret(..)")
    }
}

/// Bytes sealed to one sealing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// HPKE's encapsulated key, 32 bytes.
    pub encapsulated: ByteBuf,
    /// The ciphertext, 16 bytes longer than what was sealed.
    pub ciphertext: ByteBuf,
}

/// Seals bytes of any length to the node whose sealing key is `to`, bound to `info`.
///
/// # Errors
/// [`GrantError::BadKey`] for a sealing key of small order; no randomness.
pub fn seal_to(bytes: &[u8], to: &SealingKey, info: &[u8]) -> Result<Sealed, GrantError> {
    let to = PublicKey::from_bytes(to.as_bytes()).map_err(|_| GrantError::BadKey)?;
    let (encapsulated, ciphertext) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256, _>(
        &OpModeS::Base,
        &to,
        info,
        bytes,
        &[],
        &mut Random::new()?,
    )
    .map_err(|_| GrantError::BadKey)?;
    let encapsulated = ByteBuf::from(encapsulated.to_bytes().to_vec());
    Ok(Sealed { encapsulated, ciphertext: ByteBuf::from(ciphertext) })
}

/// Opens what was sealed to this secret, if it is bound to exactly `info`. What comes out is zeroized when dropped.
///
/// # Errors
/// [`GrantError::DoesNotOpen`].
pub fn open_sealed(
    encapsulated: &[u8],
    ciphertext: &[u8],
    secret: &SealingSecret,
    info: &[u8],
) -> Result<Zeroizing<Vec<u8>>, GrantError> {
    let encapsulated = EncappedKey::from_bytes(encapsulated).map_err(|_| GrantError::DoesNotOpen)?;
    hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &secret.private()?,
        &encapsulated,
        info,
        ciphertext,
        &[],
    )
    .map(Zeroizing::new)
    .map_err(|_| GrantError::DoesNotOpen)
}

/// Wraps a secret to the node whose sealing key is `to`, bound to `info`.
///
/// # Errors
/// [`GrantError::BadKey`] for a sealing key of small order; no randomness.
pub fn wrap_secret(secret: &[u8; 32], to: &SealingKey, info: GrantInfo) -> Result<WrappedKey, GrantError> {
    let Sealed { encapsulated, ciphertext } = seal_to(secret, to, &encode(&info)?)?;
    Ok(WrappedKey { info, encapsulated, ciphertext })
}

/// Unwraps a secret, if it is bound to exactly `expected`.
///
/// # Errors
/// [`GrantError::BoundElsewhere`], [`GrantError::DoesNotOpen`].
pub fn unwrap_secret(
    wrapped: &WrappedKey,
    secret: &SealingSecret,
    expected: &GrantInfo,
) -> Result<Zeroizing<[u8; 32]>, GrantError> {
    if wrapped.info != *expected {
        return Err(GrantError::BoundElsewhere);
    }
    let key = open_sealed(&wrapped.encapsulated, &wrapped.ciphertext, secret, &encode(expected)?)?;
    <[u8; 32]>::try_from(key.as_slice()).map(Zeroizing::new).map_err(|_| GrantError::DoesNotOpen)
}

/// Randomness in the shape the library wants, which cannot fail: drawn from the operating system once, up front, and
/// stretched by BLAKE3's output stream.
struct Random(blake3::OutputReader);

impl Random {
    fn new() -> Result<Self, getrandom::Error> {
        let seed = Zeroizing::new(random_bytes::<32>()?);
        Ok(Self(blake3::Hasher::new_keyed(&seed).finalize_xof()))
    }
}

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.0.fill(dest);
    }
}

impl CryptoRng for Random {}
