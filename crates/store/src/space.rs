//! The free space that chunks and manifests leave to what must never fail for want of it: the chain's own log, which
//! shares their disk, and which stops the node when it cannot write.

use std::path::Path;

use crate::error::StoreError;

/// The reserve is at most this part of a file system, so that small ones can be used at all.
const PART: u64 = 16;

/// Refuses to store `needed` more bytes in `dir` if less than `reserve` bytes would be left. What others write meanwhile
/// is not seen: writers side by side can take some of the reserve, a chunk each.
pub(crate) fn check(dir: &Path, needed: u64, reserve: u64) -> Result<(), StoreError> {
    let disk = rustix::fs::statvfs(dir).map_err(|e| StoreError::io("look for free space at", dir)(e.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let (free, reserve) = (bytes(disk.f_bavail), reserve.min(bytes(disk.f_blocks) / PART));
    if leaves(free, needed, reserve) {
        Ok(())
    } else {
        Err(StoreError::Space { dir: dir.to_path_buf(), needed, free, reserve })
    }
}

fn leaves(free: u64, needed: u64, reserve: u64) -> bool {
    free.checked_sub(needed).is_some_and(|left| left >= reserve)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_reserve_stays_whole() {
        assert!(leaves(30, 20, 10));
        assert!(!leaves(30, 21, 10));
        assert!(!leaves(30, 31, 0));
        assert!(leaves(30, 30, 0));
    }

    #[test]
    fn a_real_disk_refuses_what_it_cannot_hold() {
        let dir = tempfile::tempdir().unwrap();
        check(dir.path(), 1, 0).unwrap();
        let full = check(dir.path(), u64::MAX / 2, 1).unwrap_err();
        assert!(matches!(full, StoreError::Space { .. }));
        assert!(full.to_string().contains("Free some space"), "{full}");
        assert!(matches!(check(&dir.path().join("gone"), 1, 0), Err(StoreError::Io { .. })));
    }
}
