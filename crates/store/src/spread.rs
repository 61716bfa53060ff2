//! A folder whose files are made in many folders within it. ext4 keeps an inode that was freed from being used again for
//! minutes, and whoever makes a file looks at every such inode near the file's folder: after a collection of some thousand
//! chunks, making as many new ones costs thirty times the processor time. Folders that are marked as tops of hierarchies are
//! placed far apart, and so are the inodes of their files, which a later rename does not move.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::{error::StoreError, files};

/// Folders within the folder.
const FOLDERS: u64 = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Spread {
    dir: PathBuf,
    /// Whose turn it is.
    turn: AtomicU64,
}

impl Spread {
    /// The folder `dir` and the folders within it, made if need be.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, StoreError> {
        files::create_dir(&dir)?;
        mark(&dir);
        let spread = Self { dir, turn: AtomicU64::new(0) };
        files::create_all(&spread.dir, (0..FOLDERS).map(|n| spread.folder(n)))?;
        Ok(spread)
    }

    /// The folder itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// One of the folders in it; any `n` names one.
    pub(crate) fn folder(&self, n: u64) -> PathBuf {
        self.dir.join(format!("{:02}", n % FOLDERS))
    }

    /// One of the folders in it, each in turn.
    pub(crate) fn next(&self) -> PathBuf {
        self.folder(self.turn.fetch_add(1, Ordering::Relaxed))
    }

    /// Everything that lies in the folders, or beside them.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut found = Vec::new();
        let folders: Vec<PathBuf> = (0..FOLDERS).map(|n| self.folder(n)).collect();
        for dir in folders.iter().chain([&self.dir]) {
            for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
                found.push(entry.map_err(StoreError::io("list", dir))?.path());
            }
        }
        found.retain(|path| !folders.contains(path));
        Ok(found)
    }
}

/// Marks `dir` so that ext4 places its folders apart. Other file systems do without, or place them so anyway.
fn mark(dir: &Path) {
    if let Ok(dir) = File::open(dir) {
        let marked = ioctl_getflags(&dir).and_then(|flags| ioctl_setflags(&dir, flags | IFlags::TOPDIR));
        if let Err(e) = marked {
            tracing::debug!(error = %e, "this file system places folders as it likes");
        }
    }
}
