//! A state being changed: entries of the last final state, with a block's and then one transaction's writes over them.
//! Owns "a refused transaction leaves no trace"; knows nothing of rules.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};
use zero2ai_proto::{AccountId, decode, encode, limits::SIGNED_BYTES, state::Handle};

use crate::error::TxError;

/// Entries by key, in order: whatever walks them does so alike everywhere.
pub(crate) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a block or a transaction does to entries: the new value of each, or that it is gone.
pub(crate) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Where every claimed handle stands.
pub(crate) const HANDLES: &[u8] = b"handle/";

/// A state value is one encoded struct, and none is larger than the transaction that it came from plus a few figures.
pub(crate) const VALUE_BYTES: usize = 2 * SIGNED_BYTES;

/// Entries whose key starts with `prefix`.
pub(crate) fn with_prefix<'a>(entries: &'a Entries, prefix: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    range(entries, prefix).map(|(key, value)| (key, value.as_slice()))
}

/// Those of them that were written and are not gone.
pub(crate) fn written_under<'a>(writes: &'a Writes, prefix: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    range(writes, prefix).filter_map(|(key, value)| Some((key, value.as_deref()?)))
}

fn range<'a, V>(map: &'a BTreeMap<Vec<u8>, V>, prefix: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a V)> {
    map.range::<[u8], _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
        .map(|(key, value)| (key.as_slice(), value))
}

/// Reads and writes of a block under construction.
pub(crate) struct Draft<'a> {
    base: &'a Entries,
    /// How many handles each account holds in `base`: derived, so that a claim does not walk all handles.
    handles: &'a BTreeMap<AccountId, u32>,
    /// The same of `block`.
    claimed: BTreeMap<AccountId, u32>,
    block: Writes,
    tx: Writes,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(base: &'a Entries, handles: &'a BTreeMap<AccountId, u32>) -> Self {
        Self { base, handles, claimed: BTreeMap::new(), block: Writes::new(), tx: Writes::new() }
    }

    /// The value of `key` as this transaction sees it.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        match self.tx.get(key).or_else(|| self.block.get(key)) {
            Some(written) => written.as_deref(),
            None => self.base.get(key).map(Vec::as_slice),
        }
    }

    /// The decoded value of `key`.
    pub(crate) fn read<T: Serialize + DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, TxError> {
        self.get(key).map(|bytes| decode(bytes, VALUE_BYTES).map_err(|e| broken(key, &e))).transpose()
    }

    /// Sets `key`.
    pub(crate) fn write<T: Serialize>(&mut self, key: Vec<u8>, value: &T) -> Result<(), TxError> {
        let bytes = encode(value).map_err(|e| broken(&key, &e))?;
        self.tx.insert(key, Some(bytes));
        Ok(())
    }

    /// Takes `key` out of the state, if it is there: what was due and is done, say. Proofs at earlier heights still show it. Handles,
    /// which are counted as they are claimed, are never taken out.
    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        debug_assert!(!key.starts_with(HANDLES), "handles are never given back");
        self.tx.insert(key, None);
    }

    /// Entries whose key starts with `prefix`, in order of key.
    pub(crate) fn scan<'s>(&'s self, prefix: &'s [u8]) -> BTreeMap<&'s [u8], &'s [u8]> {
        let mut found: BTreeMap<&[u8], &[u8]> = with_prefix(self.base, prefix).collect();
        for (key, value) in range(&self.block, prefix).chain(range(&self.tx, prefix)) {
            match value {
                Some(value) => found.insert(key, value),
                None => found.remove(key),
            };
        }
        found
    }

    /// How many handles `owner` holds. Handles are never given back, so the layers add up.
    pub(crate) fn handles_of(&self, owner: &AccountId) -> Result<u32, TxError> {
        let held = |of: &BTreeMap<AccountId, u32>| of.get(owner).copied().unwrap_or(0);
        let mut count = held(self.handles).saturating_add(held(&self.claimed));
        for (key, value) in written_under(&self.tx, HANDLES) {
            let handle: Handle = decode(value, VALUE_BYTES).map_err(|e| broken(key, &e))?;
            count = count.saturating_add(u32::from(handle.owner == *owner));
        }
        Ok(count)
    }

    /// Keeps what the transaction wrote.
    pub(crate) fn keep(&mut self) {
        for (_, value) in written_under(&self.tx, HANDLES) {
            // Written a moment ago, by the rule for claims alone: it can be read.
            if let Ok(handle) = decode::<Handle>(value, VALUE_BYTES) {
                let count = self.claimed.entry(handle.owner).or_default();
                *count = count.saturating_add(1);
            }
        }
        self.block.append(&mut self.tx);
    }

    /// Forgets what the transaction wrote.
    pub(crate) fn discard(&mut self) {
        self.tx.clear();
    }

    /// What the block has written so far.
    pub(crate) const fn written(&self) -> &Writes {
        &self.block
    }

    /// The block's writes.
    pub(crate) fn into_writes(self) -> Writes {
        self.block
    }
}

/// An entry that should be readable and is not.
pub(crate) fn broken(key: &[u8], why: &dyn std::fmt::Display) -> TxError {
    TxError::State { key: String::from_utf8_lossy(key).into_owned(), why: why.to_string() }
}
