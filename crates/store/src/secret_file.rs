//! Key files, readable by their owner alone, and plain small files; both are written whole or not at all.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use zeroize::Zeroizing;

use crate::{error::StoreError, files};

/// Permission bits that let somebody other than the owner at a file.
const GROUP_OR_OTHERS: u32 = 0o077;

/// Writes `secret` as `path`, mode 0600, durably, replacing what was there. Missing folders are created, mode 0700.
///
/// # Errors
/// [`StoreError::Io`]; `path` is then as it was before.
pub fn write(path: &Path, secret: &[u8]) -> Result<(), StoreError> {
    atomic_write(path, secret)
}

/// Reads a key file of at most `max` bytes. The buffer is zeroized when dropped.
///
/// # Errors
/// [`StoreError::Exposed`] if group or others have any right to it, [`StoreError::Damaged`] if it is longer than `max`,
/// [`StoreError::Io`] (kind `NotFound` if there is none).
pub fn read(path: &Path, max: usize) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let file = File::open(path).map_err(StoreError::io("open the key file", path))?;
    let meta = file.metadata().map_err(StoreError::io("read the key file", path))?;
    let mode = meta.permissions().mode() & 0o7777;
    if mode & GROUP_OR_OTHERS != 0 {
        return Err(StoreError::Exposed { path: path.to_path_buf(), mode });
    }
    // Reserved up front, so that the buffer never grows and leaves an unzeroized copy behind.
    let limit = (max as u64).saturating_add(1);
    let mut secret = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len().min(limit)).unwrap_or(max) + 1));
    file.take(limit).read_to_end(&mut secret).map_err(StoreError::io("read the key file", path))?;
    if secret.len() > max {
        let why = format!("a key file of this kind has at most {max} bytes");
        return Err(StoreError::Damaged { path: path.to_path_buf(), why });
    }
    Ok(secret)
}

/// Writes a small file durably, mode 0600, replacing what was there: readers see the old bytes or the new ones. Missing
/// folders are created, mode 0700.
///
/// # Errors
/// [`StoreError::Io`]; `path` is then as it was before.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    files::create_dir(dir)?;
    files::write_whole(dir, path, bytes)
}

/// True if something stands at `path`, so that a key is never made over one that could not be read.
///
/// # Errors
/// [`StoreError::Io`] if the operating system cannot tell.
pub fn exists(path: &Path) -> Result<bool, StoreError> {
    fs::exists(path).map_err(StoreError::io("look for", path))
}
