//! Transactions that wait for a block: bounded, in nonce order per account, checked against the newest state. Knows
//! nothing of gossip or time, but what it is told.

use std::collections::{BTreeMap, HashMap};

use zero2ai_ledger::{Admission, Ledger, TxError};
use zero2ai_proto::{
    AccountId, Signed, TxId, encode,
    limits::{BLOCK_BYTES, BLOCK_TXS},
    tx::Tx,
};

use crate::{
    config::{MEMPOOL_ACCOUNT_TXS, MEMPOOL_BYTES, MEMPOOL_TXS},
    error::SubmitError,
};

/// One waiting transaction.
#[derive(Clone, Debug)]
struct Pending {
    id: TxId,
    tx: Signed<Tx>,
    bytes: usize,
    /// When it came, milliseconds of the caller's steady clock.
    since: u64,
    /// When it was last gossiped from here.
    gossiped: u64,
    repeat: u32,
}

/// The waiting transactions. An account's are keyed by nonce: the first that came with a nonce stays until it is final or
/// refused.
#[derive(Debug, Default)]
pub(crate) struct Mempool {
    accounts: BTreeMap<AccountId, BTreeMap<u64, Pending>>,
    ids: HashMap<TxId, (AccountId, u64)>,
    bytes: usize,
}

/// What became of an offered transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    New(TxId),
    Known(TxId),
}

impl Mempool {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// True if some account's next transaction is here, so that a block would have content.
    pub(crate) fn has_ready(&self, ledger: &Ledger) -> bool {
        // Redemptions come from strangers, who have no nonce yet: their first one counts.
        self.accounts.iter().any(|(who, txs)| txs.contains_key(&ledger.member(who).map_or(0, |member| member.nonce)))
    }

    /// When the oldest waiting transaction came.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.accounts.values().flat_map(BTreeMap::values).map(|p| p.since).min()
    }

    /// Takes in a transaction if the ledger admits it and there is room.
    pub(crate) fn add(
        &mut self,
        tx: &Signed<Tx>,
        ledger: &Ledger,
        wall_ms: u64,
        now: u64,
    ) -> Result<Added, SubmitError> {
        let encoded = encode(tx).map_err(|e| TxError::Envelope(e.into()))?;
        let id = TxId::of(&encoded);
        if self.ids.contains_key(&id) {
            return Ok(Added::Known(id));
        }
        if self.ids.len() >= MEMPOOL_TXS || self.bytes.saturating_add(encoded.len()) > MEMPOOL_BYTES {
            return Err(SubmitError::Full("too many transactions are waiting"));
        }
        if self.accounts.get(&tx.signer()).is_some_and(|txs| txs.len() >= MEMPOOL_ACCOUNT_TXS) {
            return Err(SubmitError::Full("too many transactions of this account are waiting"));
        }
        // The costly part, a signature check among others, comes after the cheap ones.
        let (Admission::Ready | Admission::Later) = ledger.check_tx(tx, wall_ms)?;
        let nonce = tx.read_unverified().map_err(TxError::Envelope)?.nonce;
        let waiting = self.accounts.entry(tx.signer()).or_default();
        if let Some(other) = waiting.get(&nonce) {
            return Err(SubmitError::NonceTaken(other.id));
        }
        let pending = Pending { id, tx: tx.clone(), bytes: encoded.len(), since: now, gossiped: now, repeat: 0 };
        waiting.insert(nonce, pending);
        self.ids.insert(id, (tx.signer(), nonce));
        self.bytes += encoded.len();
        Ok(Added::New(id))
    }

    /// What a proposer tries to put into a block: oldest accounts first, each account's in nonce order, about a block's
    /// worth.
    pub(crate) fn candidates(&self) -> Vec<Signed<Tx>> {
        let mut queues: Vec<_> =
            self.accounts.values().filter_map(|txs| Some((txs.values().next()?.since, txs))).collect();
        queues.sort_by_key(|(since, _)| *since);
        let mut bytes = 0usize;
        queues
            .iter()
            .flat_map(|(_, txs)| txs.values())
            .take(BLOCK_TXS)
            .take_while(|p| {
                bytes = bytes.saturating_add(p.bytes);
                bytes <= BLOCK_BYTES
            })
            .map(|p| p.tx.clone())
            .collect()
    }

    /// Drops one transaction, if it is here.
    pub(crate) fn remove(&mut self, id: &TxId) {
        let Some((account, nonce)) = self.ids.remove(id) else { return };
        if let Some(txs) = self.accounts.get_mut(&account) {
            if let Some(pending) = txs.remove(&nonce) {
                self.bytes = self.bytes.saturating_sub(pending.bytes);
            }
            if txs.is_empty() {
                self.accounts.remove(&account);
            }
        }
    }

    /// After a block: drops what is final, and what the new state refuses for good. Returns the refused ones.
    pub(crate) fn settle(&mut self, included: &[TxId], ledger: &Ledger, wall_ms: u64) -> Vec<(TxId, TxError)> {
        for id in included {
            self.remove(id);
        }
        let mut refused = Vec::new();
        // Only an account's first can be judged; those behind it are when their turn comes.
        for txs in self.accounts.values() {
            for pending in txs.values() {
                match ledger.check_tx(&pending.tx, wall_ms) {
                    Ok(_) => break,
                    Err(error) => refused.push((pending.id, error)),
                }
            }
        }
        for (id, _) in &refused {
            self.remove(id);
        }
        refused
    }

    /// Up to `max` transactions that were not gossiped from here for `every` milliseconds, longest silent first, with the
    /// number of the repetition.
    pub(crate) fn gossip_due(&mut self, now: u64, every: u64, max: usize) -> Vec<(u32, Signed<Tx>)> {
        let mut due: Vec<&mut Pending> = self
            .accounts
            .values_mut()
            .flat_map(BTreeMap::values_mut)
            .filter(|p| now.saturating_sub(p.gossiped) >= every)
            .collect();
        due.sort_by_key(|p| p.gossiped);
        due.truncate(max);
        due.into_iter()
            .map(|p| {
                p.gossiped = now;
                p.repeat = p.repeat.saturating_add(1);
                (p.repeat, p.tx.clone())
            })
            .collect()
    }
}
