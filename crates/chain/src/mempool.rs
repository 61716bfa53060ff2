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
    config::{MEMPOOL_BYTES, MEMPOOL_TXS, STRANDED_MS},
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

/// Transactions of one account, in nonce order without a gap.
type Run<'a> = Vec<&'a Pending>;

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
        self.accounts.iter().any(|(who, txs)| txs.contains_key(&next_nonce(who, ledger)))
    }

    /// Every account's transactions that can follow each other into blocks now; empty for those whose next one is missing.
    fn runs<'a>(&'a self, ledger: &'a Ledger) -> impl Iterator<Item = Run<'a>> {
        self.accounts.iter().map(|(who, txs)| {
            let next = next_nonce(who, ledger);
            let gapless = txs.range(next..).zip(next..=u64::MAX).take_while(|((nonce, _), wanted)| *nonce == wanted);
            gapless.map(|((_, pending), _)| pending).collect()
        })
    }

    /// When the oldest transaction came that could be in a block.
    pub(crate) fn oldest(&self, ledger: &Ledger) -> Option<u64> {
        self.runs(ledger).flatten().map(|p| p.since).min()
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
        // The costly part, a signature check among others, comes after the cheap ones. It refuses nonces beyond the ledger's
        // window, and with that bounds how many of one account wait.
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

    /// What a proposer tries to put into a block: about a block's worth of what is ready, each account's in nonce order, and
    /// one of each account in turn, those that wait longest first, so that no account's many delay another's few.
    pub(crate) fn candidates(&self, ledger: &Ledger) -> Vec<Signed<Tx>> {
        let mut runs: Vec<Run<'_>> = self.runs(ledger).filter(|run| !run.is_empty()).collect();
        runs.sort_by_key(|run| run.first().map(|p| p.since));
        let (mut picked, mut bytes) = (Vec::new(), 0usize);
        for turn in 0.. {
            // Whose next one does not fit is done: what follows it depends on it. The others may have smaller ones.
            runs.retain(|run| {
                let Some(pending) = run.get(turn) else { return false };
                let fits = picked.len() < BLOCK_TXS && bytes.saturating_add(pending.bytes) <= BLOCK_BYTES;
                if fits {
                    bytes += pending.bytes;
                    picked.push(pending.tx.clone());
                }
                fits
            });
            if runs.is_empty() {
                break;
            }
        }
        picked
    }

    /// Drops what waited too long for a transaction that should come before it, and says so.
    pub(crate) fn drop_stranded(&mut self, ledger: &Ledger, now: u64) -> Vec<(TxId, TxError)> {
        let mut dropped = Vec::new();
        for ((who, txs), run) in self.accounts.iter().zip(self.runs(ledger)) {
            let expected = next_nonce(who, ledger).saturating_add(run.len() as u64);
            let stranded = txs.range(expected..).filter(|(_, p)| now.saturating_sub(p.since) >= STRANDED_MS);
            dropped.extend(stranded.map(|(got, p)| (p.id, TxError::NonceAhead { got: *got, expected })));
        }
        for (id, _) in &dropped {
            self.remove(id);
        }
        dropped
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
    /// number of the repetition. Those that cannot be in a block yet are not repeated: else the nodes of a pool would keep
    /// giving them back to each other.
    pub(crate) fn gossip_due(&mut self, ledger: &Ledger, now: u64, every: u64, max: usize) -> Vec<(u32, Signed<Tx>)> {
        let due = self.runs(ledger).flatten().filter(|p| now.saturating_sub(p.gossiped) >= every);
        let mut due: Vec<(u64, TxId)> = due.map(|p| (p.gossiped, p.id)).collect();
        due.sort_unstable();
        due.truncate(max);
        let mut again = Vec::with_capacity(due.len());
        for (_, id) in due {
            let Some((account, nonce)) = self.ids.get(&id) else { continue };
            let Some(pending) = self.accounts.get_mut(account).and_then(|txs| txs.get_mut(nonce)) else { continue };
            pending.gossiped = now;
            pending.repeat = pending.repeat.saturating_add(1);
            again.push((pending.repeat, pending.tx.clone()));
        }
        again
    }
}

/// The nonce that `who` must use next. Redemptions come from strangers, who have none yet: their first one counts.
fn next_nonce(who: &AccountId, ledger: &Ledger) -> u64 {
    ledger.member(who).map_or(0, |member| member.nonce)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::{
        Digest, NodeId, SealingKey, SecretKey,
        pool::{Genesis, Nonce, Ticket},
        state::{Rights, Signer, SignerSet},
        tx::{Anchor, ClaimHandle, Redeem, TxBody},
    };

    use super::*;

    const WALL: u64 = 1_700_000_000_000;

    fn secret(n: u8) -> SecretKey {
        SecretKey::from_bytes(&[n; 32])
    }

    fn tx(ledger: &Ledger, who: u8, nonce: u64, body: TxBody) -> Signed<Tx> {
        Signed::sign(&Tx { nonce, body }, &ledger.pool(), &secret(who)).unwrap()
    }

    fn claim(ledger: &Ledger, who: u8, nonce: u64) -> Signed<Tx> {
        tx(ledger, who, nonce, TxBody::ClaimHandle(ClaimHandle { handle: format!("h{who}-{nonce}") }))
    }

    /// Nearly as large as a transaction may be.
    fn fat(ledger: &Ledger, who: u8, nonce: u64) -> Signed<Tx> {
        let anchor = Anchor { seq: 1, size: 1, root: Digest([1; 32]), consistency: vec![Digest([2; 32]); 900] };
        tx(ledger, who, nonce, TxBody::Anchor(anchor))
    }

    /// A ledger with the administrator, 1, and member 2.
    fn ledger() -> Ledger {
        let admin: NodeId = secret(1).public();
        let genesis = Genesis {
            version: 1,
            created_ms: WALL,
            nonce: Nonce([7; 16]),
            admin,
            admin_sealing: SealingKey([1; 32]),
            signers: SignerSet::new(vec![Signer { key: admin, power: 1 }]).unwrap(),
            rules_version: 1,
        };
        let mut ledger = Ledger::genesis(&encode(&genesis).unwrap()).unwrap();
        let ticket = Ticket { nonce: Nonce([1; 16]), expires_ms: u64::MAX, uses: 1, rights: Rights::MEMBER };
        let ticket = Signed::sign(&ticket, &ledger.pool(), &secret(1)).unwrap();
        let redeem = tx(&ledger, 2, 0, TxBody::Redeem(Redeem { ticket, sealing_key: SealingKey([2; 32]) }));
        let (block, _) = ledger.build_block(admin, WALL + 1, &[redeem]).unwrap();
        ledger.apply(&block).unwrap();
        ledger
    }

    #[test]
    fn transactions_behind_a_gap_take_no_room_in_a_block_and_want_none() {
        let (ledger, mut pool) = (ledger(), Mempool::default());
        // The first is missing; what is there would fill blocks, is older than all else, and cannot be used.
        for nonce in 1..30 {
            pool.add(&fat(&ledger, 2, nonce), &ledger, WALL + 2, 5).unwrap();
        }
        assert!(!pool.has_ready(&ledger));
        assert_eq!((pool.oldest(&ledger), pool.candidates(&ledger)), (None, vec![]));
        assert_eq!(pool.gossip_due(&ledger, 1_000_000, 1, 64), vec![]);
        let honest = claim(&ledger, 1, 0);
        pool.add(&honest, &ledger, WALL + 2, 9).unwrap();
        assert!(pool.has_ready(&ledger));
        assert_eq!((pool.oldest(&ledger), pool.candidates(&ledger)), (Some(9), vec![honest.clone()]));
        assert_eq!(pool.gossip_due(&ledger, 1_000_000, 1, 64), vec![(1, honest.clone())]);
        // They go when they waited long enough, the others stay.
        assert_eq!(pool.drop_stranded(&ledger, 4 + STRANDED_MS), vec![]);
        let dropped = pool.drop_stranded(&ledger, 5 + STRANDED_MS);
        assert_eq!(dropped.len(), 29);
        assert_eq!(dropped[0].1, TxError::NonceAhead { got: 1, expected: 0 });
        assert_eq!((pool.len(), pool.bytes), (1, encode(&honest).unwrap().len()));
        assert_eq!(pool.drop_stranded(&ledger, u64::MAX), vec![], "what is ready waits as long as it must");
    }

    #[test]
    fn a_burst_of_one_account_does_not_delay_another() {
        let (ledger, mut pool) = (ledger(), Mempool::default());
        for nonce in 0..30 {
            let tx = if nonce == 0 { claim(&ledger, 2, 0) } else { fat(&ledger, 2, nonce) };
            pool.add(&tx, &ledger, WALL + 2, 5).unwrap();
        }
        let late: Vec<_> = (0..20).map(|nonce| claim(&ledger, 1, nonce)).collect();
        for tx in &late {
            pool.add(tx, &ledger, WALL + 2, 9).unwrap();
        }
        let picked = pool.candidates(&ledger);
        assert!(late.iter().all(|tx| picked.contains(tx)), "{} were picked", picked.len());
        let bytes: usize = picked.iter().map(|tx| encode(tx).unwrap().len()).sum();
        assert!(picked.len() > late.len() && bytes <= BLOCK_BYTES);
        for who in [1, 2] {
            let own = picked.iter().filter(|tx| tx.signer() == secret(who).public());
            let nonces: Vec<_> = own.map(|tx| tx.read_unverified().unwrap().nonce).collect();
            assert_eq!(nonces, (0..nonces.len() as u64).collect::<Vec<_>>());
        }
    }
}
