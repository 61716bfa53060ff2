//! State proofs: what a key is, or that it is not, under a state root. The whole recipe, for other implementations:
//!
//! A header of height `h` carries in `app_hash` the root of the state after block `h − 1` (the genesis state is that after
//! "block 0"). The state is a sparse Merkle tree of 256 levels over key hashes, in which a subtree with one entry is that
//! entry's leaf and a subtree with none is [`EMPTY`].
//!
//! - `key_hash = BLAKE3(key)` and `value_hash = BLAKE3(value)`: plain 32-byte BLAKE3 of the bytes in the proof's `key` and
//!   `value` (the value is the encoded struct).
//! - Leaf hash `= BLAKE3("JMT::LeafNode" ‖ key_hash ‖ value_hash)`.
//! - Inner hash `= BLAKE3("JMT::IntrnalNode" ‖ left ‖ right)`. (16 letters: one vowel is left out on purpose.)
//! - Empty `= ` the 32 ASCII bytes `SPARSE_MERKLE_PLACEHOLDER_HASH__`.
//!
//! Let `n` be the number of `siblings` (at most 256); they are ordered from the leaf's level up to the root's. Bits of
//! `key_hash` are numbered from 0, most significant bit of the first byte first: bit `i` is
//! `(key_hash[i / 8] >> (7 - i % 8)) & 1`; bit 0 chooses at the root, 0 is left.
//!
//! 1. Start: `hash =` the leaf hash of the proof's `leaf = (key_hash, value_hash)` as it stands there, or Empty if it is
//!    null.
//! 2. For `i = 0 .. n-1`: let `b` be bit `n - 1 - i` of the *asked* key's hash; if `b` is 0, `hash = inner(hash,
//!    siblings[i])`, else `hash = inner(siblings[i], hash)`.
//! 3. `hash` must equal the root.
//! 4. Presence (`value` given): `leaf` must be `(BLAKE3(key), BLAKE3(value))`.
//! 5. Absence (`value` null): either `leaf` is null, or `leaf`'s key hash differs from `BLAKE3(key)` and the two agree in
//!    their first `n` bits.

use zero2ai_proto::{Digest, limits::PROOF_DIGESTS, proof::StateProof};

/// The hash of a subtree without entries.
pub const EMPTY: Digest = Digest(*b"SPARSE_MERKLE_PLACEHOLDER_HASH__");

/// Why a state proof does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateProofError {
    /// More siblings than the tree has levels.
    #[error("it has {0} siblings, more than the tree has levels")]
    TooLong(usize),
    /// The path belongs to another value, or to none.
    #[error("its path ends in another value than the one it shows")]
    OtherValue,
    /// It claims absence, and its path ends in the key, or outside of where the key would be.
    #[error("it claims that the entry is absent, and its path does not show that")]
    NotAbsent,
    /// The path leads to another root.
    #[error("its path leads to root {got}, and the header has {expected}")]
    OtherRoot {
        /// Where the path leads.
        got: Digest,
        /// The root asked for.
        expected: Digest,
    },
}

/// Checks `proof` against `root` and returns the value it proves, or `None` for proven absence. Compare `proof.key` with
/// the key you asked for: this function proves what the proof itself names.
///
/// # Errors
/// See [`StateProofError`].
pub fn verify_state<'a>(root: &Digest, proof: &'a StateProof) -> Result<Option<&'a [u8]>, StateProofError> {
    let levels = proof.siblings.len();
    if levels > PROOF_DIGESTS {
        return Err(StateProofError::TooLong(levels));
    }
    let key_hash = Digest::of(&proof.key);
    match (&proof.value, &proof.leaf) {
        (Some(value), Some(leaf)) if *leaf == (key_hash, Digest::of(value)) => {}
        (Some(_), _) => return Err(StateProofError::OtherValue),
        (None, None) => {}
        (None, Some((other, _))) if *other != key_hash && (0..levels).all(|i| bit(other, i) == bit(&key_hash, i)) => {}
        (None, Some(_)) => return Err(StateProofError::NotAbsent),
    }
    let start = proof.leaf.map_or(EMPTY, |(key, value)| leaf_hash(&key, &value));
    let got = proof.siblings.iter().zip((0..levels).rev()).fold(start, |hash, (sibling, level)| {
        if bit(&key_hash, level) { inner_hash(sibling, &hash) } else { inner_hash(&hash, sibling) }
    });
    if got != *root {
        return Err(StateProofError::OtherRoot { got, expected: *root });
    }
    Ok(proof.value.as_ref().map(|v| v.as_slice()))
}

/// Hash of an entry.
pub(crate) fn leaf_hash(key_hash: &Digest, value_hash: &Digest) -> Digest {
    Digest::of(&[b"JMT::LeafNode".as_slice(), key_hash.as_bytes(), value_hash.as_bytes()].concat())
}

/// Hash of two subtrees.
pub(crate) fn inner_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of(&[b"JMT::IntrnalNode".as_slice(), left.as_bytes(), right.as_bytes()].concat())
}

/// Bit `i`, most significant first; `i` is below 256.
const fn bit(hash: &Digest, i: usize) -> bool {
    hash.0[i / 8] >> (7 - i % 8) & 1 == 1
}
