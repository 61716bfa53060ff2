//! RFC 6962 Merkle logs over SHA-256: what a provider keeps of its receipts, and what everyone checks of them. Owns the
//! roots and proofs at every earlier size; keeps no leaf, only hashes.
//!
//! The proving side is ours because anchors need roots and proofs *at an older size* while the log grows, which
//! `ct-merkle`'s in-memory tree does not offer; the verifying side is `ct-merkle`'s, and tests hold the two together.
//!
//! Leaf hash = SHA-256(0x00 ‖ leaf), inner = SHA-256(0x01 ‖ left ‖ right), a tree of n > 1 leaves splits at the largest
//! power of two below n, the empty tree is SHA-256 of nothing.

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use sha2::{Digest as _, Sha256};
use zero2ai_proto::{Digest, limits::PROOF_DIGESTS, proof::LogProof};

/// Leaves of one log: 2^40 receipts are a thousand a second for thirty years. Claims of larger logs are refused before
/// any arithmetic is done with them.
pub const LOG_LEAVES: u64 = 1 << 40;

/// Why a log cannot prove something, or a proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Index or size outside of the log, or beyond [`LOG_LEAVES`].
    #[error("leaf {index} of {size} is outside of the log")]
    OutOfRange {
        /// The leaf, or the older size.
        index: u64,
        /// The size.
        size: u64,
    },
    /// The leaf is not at that place under that root.
    #[error("leaf {index} of {size} does not stand under the anchored root: {why}")]
    Inclusion {
        /// The leaf.
        index: u64,
        /// The size.
        size: u64,
        /// What failed.
        why: String,
    },
    /// The newer log does not start with the older one.
    #[error("the log of {to} leaves does not continue the one of {from}: {why}")]
    Consistency {
        /// The older size.
        from: u64,
        /// The newer size.
        to: u64,
        /// What failed.
        why: String,
    },
}

/// A growing log. 64 bytes a leaf in memory.
#[derive(Clone, Debug, Default)]
pub struct ReceiptLog {
    /// `levels[k][i]` is the hash of the complete subtree over leaves `i·2^k .. (i+1)·2^k`.
    levels: Vec<Vec<[u8; 32]>>,
}

impl ReceiptLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a leaf (a receipt's encoding) and returns its index.
    pub fn push(&mut self, leaf: &[u8]) -> u64 {
        let index = self.size();
        let mut hash: [u8; 32] = Sha256::new().chain_update([0]).chain_update(leaf).finalize().into();
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
            match self.levels[level].as_slice() {
                [.., left, right] if self.levels[level].len().is_multiple_of(2) => hash = inner(left, right),
                _ => break,
            }
        }
        index
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// The root over all leaves.
    #[must_use]
    pub fn root(&self) -> Digest {
        Digest(self.subtree(0, self.size()))
    }

    /// The root when the log had `size` leaves.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] beyond the present size.
    pub fn root_at(&self, size: u64) -> Result<Digest, LogError> {
        self.within(size, size)?;
        Ok(Digest(self.subtree(0, size)))
    }

    /// Proves leaf `index` under the root at `size` (RFC 6962 section 2.1.1).
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] unless `index < size` and `size` is at most the present size.
    pub fn prove(&self, index: u64, size: u64) -> Result<LogProof, LogError> {
        self.within(index, size)?;
        if index == size {
            return Err(LogError::OutOfRange { index, size });
        }
        let (mut siblings, mut start, mut end) = (Vec::new(), 0, size);
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                siblings.push(Digest(self.subtree(middle, end)));
                end = middle;
            } else {
                siblings.push(Digest(self.subtree(start, middle)));
                start = middle;
            }
        }
        siblings.reverse();
        Ok(LogProof { index, size, siblings })
    }

    /// Proves that the log of `to` leaves continues the log of `from` (RFC 6962 section 2.1.2). Empty for `from == 0`,
    /// as the first anchor carries it.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] unless `from <= to` and `to` is at most the present size.
    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<Digest>, LogError> {
        self.within(from, to)?;
        if from == 0 {
            return Ok(Vec::new());
        }
        // The RFC's SUBPROOF, walked down: the older log ends at leaf `from`; its last, maybe incomplete part is found
        // where the walk ends.
        let (mut digests, mut start, mut end, mut whole) = (Vec::new(), 0, to, true);
        while from != end {
            let middle = start + split(end - start);
            if from <= middle {
                digests.push(Digest(self.subtree(middle, end)));
                end = middle;
            } else {
                digests.push(Digest(self.subtree(start, middle)));
                start = middle;
                whole = false;
            }
        }
        if !whole {
            digests.push(Digest(self.subtree(start, end)));
        }
        digests.reverse();
        Ok(digests)
    }

    fn within(&self, index: u64, size: u64) -> Result<(), LogError> {
        if index > size || size > self.size() { Err(LogError::OutOfRange { index, size }) } else { Ok(()) }
    }

    /// Hash of leaves `start..end`; `start` is a multiple of a power of two that is at least their number.
    fn subtree(&self, start: u64, end: u64) -> [u8; 32] {
        let len = end - start;
        if len == 0 {
            return Sha256::digest(b"").into();
        }
        if len.is_power_of_two() {
            let (level, place) = (len.trailing_zeros(), start / len);
            let known = usize::try_from(place).ok().and_then(|i| self.levels.get(level as usize)?.get(i));
            debug_assert!(known.is_some(), "complete subtrees are kept");
            return known.copied().unwrap_or_default();
        }
        let middle = start + split(len);
        inner(&self.subtree(start, middle), &self.subtree(middle, end))
    }
}

/// The root over `leaves`, such as a block's encoded transactions.
pub fn root_of<T: AsRef<[u8]>>(leaves: impl IntoIterator<Item = T>) -> Digest {
    let mut log = ReceiptLog::new();
    for leaf in leaves {
        log.push(leaf.as_ref());
    }
    log.root()
}

/// Checks that `leaf` stands where `proof` says, under the root of the log of `proof.size` leaves.
///
/// # Errors
/// [`LogError::Inclusion`], or [`LogError::OutOfRange`] for impossible places.
pub fn verify_inclusion(root: &Digest, proof: &LogProof, leaf: &[u8]) -> Result<(), LogError> {
    let (index, size) = (proof.index, proof.size);
    if index >= size || size > LOG_LEAVES {
        return Err(LogError::OutOfRange { index, size });
    }
    let fail = |why: String| LogError::Inclusion { index, size, why };
    let path = InclusionProof::<Sha256>::try_from_bytes(join(&proof.siblings).map_err(fail)?)
        .map_err(|e| fail(e.to_string()))?;
    RootHash::<Sha256>::new(root.0.into(), size).verify_inclusion(&leaf, index, &path).map_err(|e| fail(e.to_string()))
}

/// Checks that the log `to = (size, root)` continues the log `from`. A log continues the empty one by an empty proof.
///
/// # Errors
/// [`LogError::Consistency`], or [`LogError::OutOfRange`] for impossible sizes.
pub fn verify_consistency(from: (u64, &Digest), to: (u64, &Digest), proof: &[Digest]) -> Result<(), LogError> {
    if from.0 > to.0 || to.0 > LOG_LEAVES {
        return Err(LogError::OutOfRange { index: from.0, size: to.0 });
    }
    let fail = |why: String| LogError::Consistency { from: from.0, to: to.0, why };
    if from.0 == 0 {
        return if proof.is_empty() { Ok(()) } else { Err(fail("the first proof must be empty".into())) };
    }
    let path =
        ConsistencyProof::<Sha256>::try_from_bytes(join(proof).map_err(fail)?).map_err(|e| fail(e.to_string()))?;
    RootHash::<Sha256>::new(to.1.0.into(), to.0)
        .verify_consistency(&RootHash::new(from.1.0.into(), from.0), &path)
        .map_err(|e| fail(e.to_string()))
}

fn join(digests: &[Digest]) -> Result<Vec<u8>, String> {
    if digests.len() > PROOF_DIGESTS {
        return Err(format!("{} digests; a proof has at most {PROOF_DIGESTS}", digests.len()));
    }
    Ok(digests.iter().flat_map(|d| d.0).collect())
}

/// The largest power of two below `len`, which is at least 2.
const fn split(len: u64) -> u64 {
    1 << (63 - (len - 1).leading_zeros())
}

fn inner(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}
