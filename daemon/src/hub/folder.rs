//! Where a download lies: `hub/ORG--REPO/COMMIT` of the home. One process at a time; nothing that the list does not name.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock, statvfs};

use super::{listing::Listing, place::Place};
use crate::{
    exit::{Exit, Failure, Outcome, file_error},
    output::bytes,
};

/// Bytes of the disk that a download leaves free: the chain of the node in the same home needs room to write.
const RESERVE: u64 = 512 * 1024 * 1024;
/// The file whose lock says that a download runs.
const LOCK: &str = ".lock";

/// A folder of this process alone, until it is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Of the repository.
    above: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes it, or goes on with it, and sees that what is missing has room.
    pub(super) fn open(home: &Path, place: &Place, listing: &Listing) -> Outcome<Self> {
        let above = home.join("hub").join(place.folder());
        let path = above.join(&listing.commit);
        let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        make.map_err(|e| file_error("make the folder", &path, &e))?;
        let fail = |e: io::Error| file_error("lock", &above, &e);
        let lock = File::options().write(true).create(true).truncate(false).open(above.join(LOCK)).map_err(fail)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
            rustix::io::Errno::WOULDBLOCK => Failure::new(
                Exit::InUse,
                format!("{} is being downloaded by another process: wait for it.", place.repo),
            ),
            other => fail(other.into()),
        })?;
        let folder = Self { path, above, _lock: lock };
        let here = folder.sweep(listing).map_err(|e| file_error("tidy", &folder.path, &e))?;
        let room = statvfs(&folder.path).map(|s| s.f_bavail.saturating_mul(s.f_frsize));
        let room = room.map_err(|e| file_error("look at the disk of", &folder.path, &e.into()))?;
        let missing = listing.bytes().saturating_sub(here);
        if missing.saturating_add(RESERVE) > room {
            return Err(Failure::new(
                Exit::Storage,
                format!(
                    "{} more of {} do not fit below {}: {} are free, and {} of them stay so. Free some space, choose \
                     another home, or fewer files with --only.",
                    bytes(missing),
                    place,
                    home.display(),
                    bytes(room),
                    bytes(RESERVE)
                ),
            ));
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what an earlier download of other files left. Returns the bytes that stay.
    fn sweep(&self, listing: &Listing) -> io::Result<u64> {
        let (mut folders, mut here) = (vec![self.path.clone()], 0u64);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let (entry, path) = entry.map(|e| (e.file_type(), e.path()))?;
                if entry?.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&self.path).unwrap_or(&path);
                let part = name.extension().is_some_and(|e| e == "part") && name.parent() == Some(Path::new(""));
                if part || listing.files.iter().any(|f| Path::new(&f.path) == name) {
                    here = here.saturating_add(fs::metadata(&path)?.len());
                } else {
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok(here)
    }

    /// Removes the download, and the folders above it if nothing else lies there.
    pub(super) fn remove(self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the download could not be removed");
            return;
        }
        let _ = fs::remove_file(self.above.join(LOCK));
        // Not empty is no error: another commit lies there.
        let _ = fs::remove_dir(&self.above);
        let _ = self.above.parent().map(fs::remove_dir);
    }
}
