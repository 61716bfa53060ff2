//! Trust in headers: from the genesis, over each header that names a new signer set, to any header those sets certified.
//!
//! Every step is signed by more than two thirds of the set known so far, so a client that starts at the genesis needs
//! only the headers at which the set changed. What genesis-rooted trust cannot exclude: signers of long ago, whose keys
//! leaked since, could sign another past. A client that keeps its [`TrustedChain`] is safe from that up to where it was.

use zero2ai_proto::{
    BlockId, PoolId,
    block::{Certificate, Header},
    decode,
    limits::SIGNED_BYTES,
    pool::Genesis,
    proof::{SignedHeader, TrustStep},
    state::SignerSet,
};

use super::LightError;
use crate::RULES_VERSION;

/// The signer sets of a pool, as far as they were proved.
#[derive(Clone, Debug)]
pub struct TrustedChain {
    pool: PoolId,
    genesis: Vec<u8>,
    steps: Vec<TrustStep>,
    /// From which height each set signs, ascending; the first is the genesis' from height 1.
    sets: Vec<(u64, SignerSet)>,
}

impl TrustedChain {
    /// Trust in a genesis. Compare [`TrustedChain::pool`] with the pool you mean.
    ///
    /// # Errors
    /// [`LightError::Genesis`].
    pub fn new(genesis: &[u8]) -> Result<Self, LightError> {
        let (first, pool) = Genesis::read(genesis).map_err(|e| LightError::Genesis(e.to_string()))?;
        if !first.signers.is_valid() {
            return Err(LightError::Genesis("its signers are out of order, of bounds, or none".into()));
        }
        Ok(Self { pool, genesis: genesis.to_vec(), steps: Vec::new(), sets: vec![(1, first.signers)] })
    }

    /// Trust in a genesis and a path from it.
    ///
    /// # Errors
    /// As [`TrustedChain::new`] and [`TrustedChain::extend`].
    pub fn with_steps(genesis: &[u8], steps: &[TrustStep]) -> Result<Self, LightError> {
        let mut chain = Self::new(genesis)?;
        for (index, step) in steps.iter().enumerate() {
            chain.follow(index, step)?;
        }
        Ok(chain)
    }

    /// Follows a path from the genesis on, passing over the steps that are known already. Steps before a wrong one stay.
    ///
    /// # Errors
    /// The first step that does not hold: see [`LightError`].
    pub fn extend(&mut self, steps: &[TrustStep]) -> Result<(), LightError> {
        let known = self.newest().0;
        for (index, step) in steps.iter().enumerate() {
            // A step at height h makes a set that signs from h + 1 on.
            if step.header.certificate.height >= known {
                self.follow(index, step)?;
            }
        }
        Ok(())
    }

    fn follow(&mut self, index: usize, step: &TrustStep) -> Result<(), LightError> {
        let at = step.header.certificate.height;
        let fail = |why: String| LightError::Step { index, height: at, why };
        if at < self.newest().0 {
            return Err(fail("it goes back: steps come in ascending order of height".into()));
        }
        let header = self.verify_header(&step.header).map_err(|e| fail(e.to_string()))?;
        let from = header.height.checked_add(1).ok_or_else(|| fail("its height is the last there is".into()))?;
        let next = &step.next_signers;
        let named = next.is_valid() && next.hash().is_ok_and(|hash| hash == header.next_signers_hash);
        if !named {
            return Err(fail("the set it carries is not the one its header names".into()));
        }
        if header.next_signers_hash == header.signers_hash {
            return Err(fail("its header changes no signers".into()));
        }
        self.sets.push((from, next.clone()));
        self.steps.push(step.clone());
        Ok(())
    }

    /// The pool.
    #[must_use]
    pub const fn pool(&self) -> PoolId {
        self.pool
    }

    /// The encoded genesis, to be kept together with [`TrustedChain::steps`].
    #[must_use]
    pub fn genesis_bytes(&self) -> &[u8] {
        &self.genesis
    }

    /// The steps followed so far.
    #[must_use]
    pub fn steps(&self) -> &[TrustStep] {
        &self.steps
    }

    /// The set trusted to sign `height`. Beyond the newest known change this is a guess that the header must confirm.
    #[must_use]
    pub fn signers_at(&self, height: u64) -> &SignerSet {
        let later = self.sets.partition_point(|(from, _)| *from <= height);
        &self.sets[later.saturating_sub(1)].1
    }

    /// From which height each set signs, ascending; the first is the genesis' from height 1.
    pub(crate) fn sets(&self) -> &[(u64, SignerSet)] {
        &self.sets
    }

    fn newest(&self) -> &(u64, SignerSet) {
        &self.sets[self.sets.len() - 1]
    }

    /// Checks that a header is final: this pool's, of known shape and rules, and certified by more than two thirds of the
    /// set that is trusted at its height.
    ///
    /// # Errors
    /// [`LightError::OtherSigners`] if steps are missing; others name what is wrong.
    pub fn verify_header(&self, signed: &SignedHeader) -> Result<Header, LightError> {
        let header: Header = decode(&signed.header, SIGNED_BYTES).map_err(LightError::Header)?;
        // Proofs are the same under all rules known so far; what newer ones change, nobody knows here.
        for (what, got, known) in [("header", header.version, 1), ("rules", header.rules_version, RULES_VERSION)] {
            if !(1..=known).contains(&got) {
                return Err(LightError::Unknown { what, got, known });
            }
        }
        if header.pool != self.pool {
            return Err(LightError::OtherPool { got: header.pool, expected: self.pool });
        }
        let signers = self.signers_at(header.height);
        if header.height == 0 || !signers.hash().is_ok_and(|hash| hash == header.signers_hash) {
            return Err(LightError::OtherSigners { height: header.height });
        }
        check_certificate(&self.pool, signers, header.height, BlockId::of(&signed.header), &signed.certificate)?;
        Ok(header)
    }
}

/// Checks that `certificate` makes `block` final at `height`.
///
/// # Errors
/// [`LightError::OtherBlock`] or [`LightError::Certificate`].
pub fn check_certificate(
    pool: &PoolId,
    signers: &SignerSet,
    height: u64,
    block: BlockId,
    certificate: &Certificate,
) -> Result<(), LightError> {
    if certificate.height != height || certificate.block != block {
        return Err(LightError::OtherBlock { height });
    }
    certificate.verify(pool, signers).map_err(|e| LightError::certificate(height, &e))
}

/// Checks `header` from the genesis alone, over the changes of the signer set before it.
///
/// # Errors
/// See [`LightError`].
pub fn verify_path(genesis: &[u8], steps: &[TrustStep], header: &SignedHeader) -> Result<Header, LightError> {
    TrustedChain::with_steps(genesis, steps)?.verify_header(header)
}
