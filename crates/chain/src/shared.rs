//! What readers see of the chain: the ledger after the last final block, the headers with their certificates, the steps
//! of trust. Written by the host alone, when a block is final and on disk.

use std::{
    collections::{HashMap, VecDeque},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use zero2ai_ledger::{BlockError, Ledger, LedgerError};
use zero2ai_proto::{
    TxId,
    block::{Block, Certificate, Header},
    proof::{SignedHeader, Snapshot, TrustStep},
};

/// Final transactions whose height is remembered, so that one that is sent again is answered at once.
const RECENT_TXS: usize = 10_000;

/// Ledger, headers and steps, always of the same height.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) ledger: Ledger,
    /// Header of the snapshot's height, if the ledger began with one.
    base: Option<SignedHeader>,
    /// Header of height `i + 1` behind the genesis or the snapshot. All are kept, about a kilobyte each.
    headers: Vec<SignedHeader>,
    steps: Vec<TrustStep>,
    recent: HashMap<TxId, u64>,
    recent_order: VecDeque<TxId>,
}

impl View {
    fn new(ledger: Ledger, base: Option<SignedHeader>, steps: Vec<TrustStep>) -> Self {
        Self { ledger, base, headers: Vec::new(), steps, recent: HashMap::new(), recent_order: VecDeque::new() }
    }

    /// Applies a block that its certificate makes final. Nothing changes on an error.
    pub(crate) fn apply(
        &mut self,
        block: &Block,
        certificate: &Certificate,
    ) -> Result<(Header, Vec<TxId>), BlockError> {
        let applied = self.ledger.apply(block)?;
        let header = SignedHeader { header: block.header.clone(), certificate: certificate.clone() };
        if applied.header.next_signers_hash != applied.header.signers_hash {
            let next_signers = self.ledger.signers().clone();
            self.steps.push(TrustStep { header: header.clone(), next_signers });
        }
        self.headers.push(header);
        for id in &applied.tx_ids {
            if self.recent_order.len() >= RECENT_TXS
                && let Some(old) = self.recent_order.pop_front()
            {
                self.recent.remove(&old);
            }
            self.recent.insert(*id, applied.header.height);
            self.recent_order.push_back(*id);
        }
        Ok((applied.header, applied.tx_ids))
    }

    pub(crate) fn header(&self, height: u64) -> Option<&SignedHeader> {
        let base = self.ledger.base();
        if height == base {
            return self.base.as_ref();
        }
        self.headers.get(usize::try_from(height.checked_sub(base)?.checked_sub(1)?).ok()?)
    }

    /// The newest header under whose state something can be proved: none at the genesis, or at a snapshot.
    pub(crate) fn head(&self) -> Option<&SignedHeader> {
        self.headers.last()
    }

    pub(crate) fn steps(&self) -> &[TrustStep] {
        &self.steps
    }

    /// The state that the newest header proves, if its parent is no genesis.
    pub(crate) fn snapshot(&self) -> Result<Option<Snapshot>, LedgerError> {
        let Some(next) = self.head() else { return Ok(None) };
        let height = self.ledger.height().saturating_sub(1);
        let Some(header) = self.header(height) else { return Ok(None) };
        let steps = self.steps.iter().take_while(|s| s.header.certificate.height <= height).cloned().collect();
        self.ledger.snapshot(header.clone(), next.clone(), steps).map(Some)
    }

    /// The height at which a transaction became final, if that is not long ago.
    pub(crate) fn recent(&self, id: &TxId) -> Option<u64> {
        self.recent.get(id).copied()
    }
}

/// The view behind its lock. A reader that panicked cannot have left it half-changed, so a poisoned lock is used on.
#[derive(Debug)]
pub(crate) struct Shared(RwLock<View>);

impl Shared {
    /// At the genesis.
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self(RwLock::new(View::new(ledger, None, Vec::new())))
    }

    /// At a snapshot: its header, and the steps up to there.
    pub(crate) fn at_snapshot(ledger: Ledger, header: SignedHeader, steps: Vec<TrustStep>) -> Self {
        Self(RwLock::new(View::new(ledger, Some(header), steps)))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, View> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn apply(&self, block: &Block, certificate: &Certificate) -> Result<(Header, Vec<TxId>), BlockError> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).apply(block, certificate)
    }
}
