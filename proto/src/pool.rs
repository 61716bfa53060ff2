//! Pools: the genesis that gives one its id, the key that every connection proves, tickets and invites.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::Zeroize;

use crate::{
    codec::{CodecError, decode, encode},
    envelope::{Message, Signed},
    ids::{Digest, ParseIdError, PoolId, fixed_bytes},
    keys::{AccountId, NodeId, SealingKey, random_bytes},
    limits::{ADDRESSES, OLD_POOL_KEYS, SIGNED_BYTES},
    record::Address,
    state::{Rights, SignerSet},
};

/// The first state of a pool. Its hash is the pool's id; nobody signs it, since the id pins it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Version of this shape: 1.
    pub version: u16,
    /// When the pool was made, milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// Randomness that keeps two pools of one maker apart.
    pub nonce: Nonce,
    /// The first administrator: the maker's node key.
    pub admin: AccountId,
    /// The maker's sealing key.
    pub admin_sealing: SealingKey,
    /// The signers of block 1.
    pub signers: SignerSet,
    /// Rules in force from block 1.
    pub rules_version: u16,
}

impl Genesis {
    /// Reads an encoded genesis and derives the pool's id from its bytes.
    ///
    /// # Errors
    /// Malformed, or of a version this program does not know.
    pub fn read(bytes: &[u8]) -> Result<(Self, PoolId), CodecError> {
        let genesis: Self = decode(bytes, SIGNED_BYTES)?;
        if genesis.version != 1 {
            return Err(CodecError::Malformed(format!("genesis version {} is not known", genesis.version)));
        }
        Ok((genesis, PoolId::of(bytes)))
    }
}

fixed_bytes!(
    /// Sixteen random bytes: never the same twice.
    Nonce,
    16
);

impl Nonce {
    /// A fresh nonce.
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        random_bytes().map(Self)
    }
}

/// The secret that every connection of a pool proves: 256 random bits and the epoch they belong to. Zeroized when
/// dropped; its `Debug` shows the epoch only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolKey {
    /// Counts rotations, from 0.
    pub epoch: u32,
    #[serde(with = "serde_bytes")]
    secret: [u8; 32],
}

impl PoolKey {
    /// A fresh key of epoch 0.
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self { epoch: 0, secret: random_bytes()? })
    }

    /// The key of the next epoch: other randomness, nothing derived from this one.
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn next(&self) -> Result<Self, getrandom::Error> {
        Ok(Self { epoch: self.epoch.saturating_add(1), secret: random_bytes()? })
    }

    /// Tells this key from others without giving it away: BLAKE3 in its mode for derived keys, context `zero2ai pool key id v1`,
    /// over the secret and the epoch (4 bytes, big-endian).
    #[must_use]
    pub fn id(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("zero2ai pool key id v1");
        hasher.update(&self.secret).update(&self.epoch.to_be_bytes());
        Digest(*hasher.finalize().as_bytes())
    }

    /// The proof that `prover` holds this key, made for `verifier` alone on one connection: BLAKE3, keyed with a key
    /// derived from the secret, over pool id, epoch, transport, the prover's role, both identities and both nonces.
    #[must_use]
    pub fn proof(&self, p: &ProofInput<'_>) -> [u8; 32] {
        let mut key = blake3::derive_key("zero2ai pool proof v1", &self.secret);
        let mut mac = blake3::Hasher::new_keyed(&key);
        key.zeroize();
        mac.update(p.pool.as_bytes()).update(&self.epoch.to_be_bytes());
        mac.update(&[p.transport as u8, p.role as u8]);
        mac.update(p.dialer.as_bytes()).update(p.listener.as_bytes());
        mac.update(p.dialer_nonce).update(p.listener_nonce);
        *mac.finalize().as_bytes()
    }

    /// Checks a proof in constant time.
    #[must_use]
    pub fn check(&self, p: &ProofInput<'_>, proof: &[u8; 32]) -> bool {
        blake3::Hash::from_bytes(self.proof(p)) == blake3::Hash::from_bytes(*proof)
    }
}

impl Drop for PoolKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolKey(epoch {})", self.epoch)
    }
}

/// A key that was the pool's, and until when it still opens everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldKey {
    /// The key.
    pub key: PoolKey,
    /// Until then, milliseconds since 1970 UTC, whoever proves it is served as one with today's key; afterwards a member who
    /// does may only get the newer one.
    pub until_ms: u64,
}

/// The keys of one pool as one node knows them: today's, and those before it, to know members who were away. Clones share them.
#[derive(Clone, Debug)]
pub struct Keyring(Arc<RwLock<Keys>>);

#[derive(Debug)]
struct Keys {
    current: PoolKey,
    /// Newest first, at most [`OLD_POOL_KEYS`].
    older: Vec<OldKey>,
}

impl From<PoolKey> for Keyring {
    fn from(key: PoolKey) -> Self {
        Self::new(key, Vec::new())
    }
}

impl Keyring {
    /// Today's key and those before it.
    #[must_use]
    pub fn new(current: PoolKey, mut older: Vec<OldKey>) -> Self {
        older.retain(|old| old.key.epoch < current.epoch);
        older.sort_by_key(|old| std::cmp::Reverse(old.key.epoch));
        older.truncate(OLD_POOL_KEYS);
        Self(Arc::new(RwLock::new(Keys { current, older })))
    }

    fn read(&self) -> RwLockReadGuard<'_, Keys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Today's key.
    #[must_use]
    pub fn current(&self) -> PoolKey {
        self.read().current.clone()
    }

    /// Epoch of today's key.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.read().current.epoch
    }

    /// Those before it, newest first.
    #[must_use]
    pub fn older(&self) -> Vec<OldKey> {
        self.read().older.clone()
    }

    /// The key of the older of two epochs, ours and a peer's, and until when it is good for everything (milliseconds since 1970
    /// UTC); `None` if it is not known here.
    #[must_use]
    pub fn shared(&self, theirs: u32) -> Option<OldKey> {
        let keys = self.read();
        if theirs >= keys.current.epoch {
            return Some(OldKey { key: keys.current.clone(), until_ms: u64::MAX });
        }
        keys.older.iter().find(|old| old.key.epoch == theirs).cloned()
    }

    /// Takes a newer key; the one before it is good for everything until `until_ms`. False if it is not newer.
    pub fn renew(&self, key: PoolKey, until_ms: u64) -> bool {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if key.epoch <= keys.current.epoch {
            return false;
        }
        let before = std::mem::replace(&mut keys.current, key);
        keys.older.insert(0, OldKey { key: before, until_ms });
        keys.older.truncate(OLD_POOL_KEYS);
        true
    }
}

/// Which end of a connection proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// The end that dialled.
    Dialer = 0,
    /// The end that listened.
    Listener = 1,
}

/// Which transport the proof is made on, so that it cannot be carried from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TransportLabel {
    /// libp2p over QUIC.
    Swarm = 0,
    /// Peer RPC over QUIC.
    Rpc = 1,
}

/// Everything a pool proof binds.
#[derive(Clone, Copy, Debug)]
pub struct ProofInput<'a> {
    /// The pool.
    pub pool: &'a PoolId,
    /// The transport.
    pub transport: TransportLabel,
    /// Whose proof it is.
    pub role: Role,
    /// Identity of the dialling end, as TLS authenticated it.
    pub dialer: &'a NodeId,
    /// Identity of the listening end.
    pub listener: &'a NodeId,
    /// The dialler's nonce of this connection.
    pub dialer_nonce: &'a [u8; 32],
    /// The listener's nonce of this connection.
    pub listener_nonce: &'a [u8; 32],
}

/// An administrator's promise to admit whoever redeems it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Tells tickets apart; the ledger counts redemptions under it.
    pub nonce: Nonce,
    /// Not redeemable after this, milliseconds since 1970 UTC.
    pub expires_ms: u64,
    /// How many identities it admits.
    pub uses: u32,
    /// What they may do.
    pub rights: Rights,
}

impl Message for Ticket {
    const KIND: u16 = 1;
}

/// All that a newcomer needs, as one line of text: treat it like a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Version of this shape: 1.
    pub version: u16,
    /// The pool.
    pub pool: PoolId,
    /// Its key.
    pub key: PoolKey,
    /// The ticket.
    pub ticket: Signed<Ticket>,
    /// Where to knock: at least one peer RPC address.
    pub bootstrap: Vec<Bootstrap>,
}

/// A node that admits newcomers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Its identity.
    pub node: NodeId,
    /// Where it listens.
    pub addresses: Vec<Address>,
}

const INVITE_PREFIX: &str = "z2a1-";

/// Why a line is not an invite.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InviteError {
    /// It does not start as invites do.
    #[error("not an invite: it should start with '{INVITE_PREFIX}'")]
    Prefix,
    /// A character is wrong or missing.
    #[error("the invite is damaged (wrong checksum): copy the whole line again")]
    Damaged,
    /// Well-formed text with impossible content.
    #[error("the invite cannot be read: {0}")]
    Content(String),
}

impl Invite {
    /// The invite as one line: prefix and base64url of the encoding with a four-byte checksum behind it.
    ///
    /// # Errors
    /// It cannot be encoded (never with values made here).
    pub fn to_line(&self) -> Result<String, CodecError> {
        let mut bytes = encode(self)?;
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(&sum.as_bytes()[..4]);
        let line = format!("{INVITE_PREFIX}{}", BASE64URL_NOPAD.encode(&bytes));
        bytes.zeroize();
        Ok(line)
    }
}

impl FromStr for Invite {
    type Err = InviteError;
    fn from_str(s: &str) -> Result<Self, InviteError> {
        let text = s.trim().strip_prefix(INVITE_PREFIX).ok_or(InviteError::Prefix)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| InviteError::Damaged)?;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(InviteError::Damaged)?;
        if &blake3::hash(body).as_bytes()[..4] != sum {
            return Err(InviteError::Damaged);
        }
        let invite: Self = decode(body, SIGNED_BYTES).map_err(|e| InviteError::Content(e.to_string()))?;
        let addresses: usize = invite.bootstrap.iter().map(|b| b.addresses.len()).sum();
        if invite.version != 1 {
            return Err(InviteError::Content(format!("version {} is newer than this program", invite.version)));
        }
        if !invite.bootstrap.iter().flat_map(|b| &b.addresses).all(Address::is_valid) {
            return Err(InviteError::Content("an address in it is not valid".to_owned()));
        }
        if addresses == 0 || addresses > ADDRESSES {
            return Err(InviteError::Content(format!("{addresses} addresses; 1 to {ADDRESSES} are allowed")));
        }
        Ok(invite)
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invite(pool {})", self.pool)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_goes_forwards_and_knows_those_who_were_away() {
        let first = PoolKey::generate().unwrap();
        let ring = Keyring::from(first.clone());
        let shared = ring.clone();
        let mut keys = vec![first];
        for n in 0..12_u64 {
            let next = ring.current().next().unwrap();
            assert!(ring.renew(next.clone(), n) && !ring.renew(next.clone(), n));
            keys.push(next);
        }
        assert_eq!((shared.epoch(), shared.older().len()), (12, OLD_POOL_KEYS));
        assert_eq!(shared.shared(13).unwrap().key, keys[12]);
        let old = shared.shared(11).unwrap();
        assert_eq!((old.key, old.until_ms), (keys[11].clone(), 11));
        assert!(shared.shared(3).is_none(), "too long ago");
        let again = Keyring::new(ring.current(), ring.older());
        assert_eq!((again.epoch(), again.older()), (12, ring.older()));
        let ids: std::collections::BTreeSet<_> = keys.iter().map(|k| k.id().0).collect();
        assert_eq!(ids.len(), keys.len());
    }
}
