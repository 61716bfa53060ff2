//! The lock that keeps two processes off one home. The operating system drops it when its holder dies, so there is no stale
//! lock to clean up.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use crate::{error::StoreError, files};

/// Name of the lock file in a home.
const LOCK_FILE: &str = "lock";

/// Locks `home` for as long as the returned file lives.
///
/// # Errors
/// [`StoreError::InUse`] if another process (or another store in this one) holds it.
pub(crate) fn acquire(home: &Path) -> Result<File, StoreError> {
    let path = home.join(LOCK_FILE);
    let file = files::private_options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(StoreError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { home: home.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(StoreError::io("lock", &path)(source)),
    }
}
