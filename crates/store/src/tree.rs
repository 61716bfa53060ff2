//! A small ordered map of byte strings. What is in it must be rebuildable: the database below it has been seen to fail.

use std::sync::Arc;

use crate::{error::StoreError, index::Index};

/// Bytes in one value. Larger ones would become blob files that the database never syncs; they belong in files or logs.
pub const VALUE_BYTES: usize = 128 * 1024;
/// Bytes in one key: a path of a state tree fits; a larger one is a mistake.
pub const KEY_BYTES: usize = 1024;

/// One step of an atomic batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a key, whether or not it was there.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key, whether or not it was there.
    Delete(Vec<u8>),
}

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// What other crates may assume of an index: an ordered map, durable after [`KeyValue::flush`].
pub trait KeyValue: Send + Sync {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`StoreError::Index`] if the database fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets `key`.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] beyond [`KEY_BYTES`] or [`VALUE_BYTES`]; [`StoreError::Index`].
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.apply(vec![Change::Put(key.to_vec(), value.to_vec())])
    }

    /// Removes `key`; no error if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn delete(&self, key: &[u8]) -> Result<(), StoreError> {
        self.apply(vec![Change::Delete(key.to_vec())])
    }

    /// Makes all changes or, after a crash or an error, none.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] beyond [`KEY_BYTES`] or [`VALUE_BYTES`]; [`StoreError::Index`].
    fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError>;

    /// At most `limit` rows whose key starts with `prefix` and is not below `from`, in key order. Page on with the last
    /// key and a zero byte behind it.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError>;

    /// Every row whose key starts with `prefix`, in key order: for maps that the caller bounds himself.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn scan_prefix(&self, prefix: &[u8]) -> Result<Vec<Row>, StoreError> {
        self.scan(prefix, prefix, usize::MAX)
    }

    /// The last row whose key starts with `prefix` and is not above `to`.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn last(&self, prefix: &[u8], to: &[u8]) -> Result<Option<Row>, StoreError>;

    /// Removes every row.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    fn clear(&self) -> Result<(), StoreError>;

    /// Returns when everything written so far survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Index`] or [`StoreError::Io`]: then it may not survive.
    fn flush(&self) -> Result<(), StoreError>;
}

/// One named map of a [`crate::Store`]. Keeps the store's home locked while it lives.
#[derive(Clone)]
pub struct Tree {
    tree: sled::Tree,
    index: Arc<Index>,
}

impl Tree {
    pub(crate) fn new(tree: sled::Tree, index: Arc<Index>) -> Self {
        Self { tree, index }
    }

    /// Sets or removes a key and says what was there, in one step: of two threads, one alone sees `None`.
    pub(crate) fn replace(&self, key: &[u8], value: Option<&[u8]>) -> Result<Option<Vec<u8>>, StoreError> {
        let old = match value {
            Some(value) => self.tree.insert(key, value),
            None => self.tree.remove(key),
        };
        Ok(old.map_err(self.index.failed("write a row"))?.map(|v| v.to_vec()))
    }
}

impl KeyValue for Tree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tree.get(key).map_err(self.index.failed("read a row"))?.map(|v| v.to_vec()))
    }

    fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for change in changes {
            match change {
                Change::Put(key, value) => {
                    check_len("an index key", key.len(), KEY_BYTES)?;
                    check_len("an index value", value.len(), VALUE_BYTES)?;
                    batch.insert(key, value);
                }
                Change::Delete(key) => batch.remove(key),
            }
        }
        self.tree.apply_batch(batch).map_err(self.index.failed("write rows"))
    }

    fn scan(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        let start = from.max(prefix).to_vec();
        self.tree
            .range(start..)
            .take_while(|row| row.as_ref().map_or(true, |(key, _)| key.starts_with(prefix)))
            .take(limit)
            .map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(self.index.failed("scan rows")))
            .collect()
    }

    fn last(&self, prefix: &[u8], to: &[u8]) -> Result<Option<Row>, StoreError> {
        let row = self.tree.range(..=to.to_vec()).next_back().transpose().map_err(self.index.failed("scan rows"))?;
        Ok(row.filter(|(key, _)| key.starts_with(prefix)).map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.tree.clear().map_err(self.index.failed("clear a map"))
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.index.flush()
    }
}

fn check_len(what: &'static str, len: usize, max: usize) -> Result<(), StoreError> {
    if len > max { Err(StoreError::TooLarge { what, len, max }) } else { Ok(()) }
}
