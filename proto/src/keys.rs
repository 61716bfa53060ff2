//! Ed25519 identity keys (RFC 8032) and X25519 sealing keys. Signing lives here so that every signature in the system
//! goes through one strict verification.

use std::{fmt, str::FromStr};

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::ids::{ParseIdError, fixed_bytes};

fixed_bytes!(
    /// An Ed25519 public key: a node, an account, a signer.
    PublicKey,
    32
);
fixed_bytes!(
    /// An Ed25519 signature.
    Signature,
    64
);
fixed_bytes!(
    /// An X25519 public key, to which manifest keys are wrapped (HPKE, RFC 9180). Separate from the identity, so that it
    /// can be rotated.
    SealingKey,
    32
);

/// A node's identity: its PeerId, its TLS certificate key and its signature on the ledger.
pub type NodeId = PublicKey;
/// An account's identity: a publisher, user, validator or administrator.
pub type AccountId = PublicKey;

impl PublicKey {
    /// True if `signature` over `message` was made by this key. Strict: small-order keys and malleable signatures fail.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        VerifyingKey::from_bytes(&self.0)
            .and_then(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)))
            .is_ok()
    }

    /// The first eight hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

/// An Ed25519 secret key. Zeroized when dropped; never printed.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A fresh key from the operating system's randomness.
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self::from_bytes(&random_bytes()?))
    }

    /// The key with this seed.
    #[must_use]
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed: for the key file and the TLS stack alone.
    #[must_use]
    pub fn to_bytes(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` as it stands: callers put a domain tag and the pool id in front.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public().short())
    }
}

/// `N` bytes of the operating system's randomness.
///
/// # Errors
/// The operating system gave no randomness.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut out = [0u8; N];
    getrandom::fill(&mut out)?;
    Ok(out)
}
