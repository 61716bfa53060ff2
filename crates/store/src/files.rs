//! Files that appear whole or not at all: temporary file → fsync → rename → fsync of the directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::error::StoreError;

/// Makes temporary names unique within this process; the process id does so among processes.
static NEXT_TEMP: AtomicU64 = AtomicU64::new(0);

/// Options whose created files only their owner can read: sealed or not, nobody else needs them.
pub(crate) fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Creates `dir` and its missing parents, readable by their owner alone, and makes all new entries durable.
pub(crate) fn create_dir(dir: &Path) -> Result<(), StoreError> {
    let parents = parents_of_missing(dir);
    if parents.is_empty() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io("create the folder", dir))?;
    parents.into_iter().try_for_each(sync_dir)
}

/// The folders that get a new entry when `dir` and its missing parents are made, the innermost first.
fn parents_of_missing(dir: &Path) -> Vec<&Path> {
    dir.ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.is_dir())
        .filter_map(Path::parent)
        .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
        .collect()
}

/// Creates the `folders` that are missing in `dir`, readable by their owner alone, and makes the new entries durable at once.
pub(crate) fn create_all(dir: &Path, folders: impl Iterator<Item = PathBuf>) -> Result<(), StoreError> {
    let mut made = false;
    for folder in folders {
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => made = true,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(StoreError::io("create the folder", &folder)(e)),
        }
    }
    if made { sync_dir(dir) } else { Ok(()) }
}

/// Makes renames, creations and removals in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(StoreError::io("sync the folder", dir))
}

/// Writes `bytes` as `target` (mode 0600), through a temporary file in `temp_dir`, which must be on the same file system.
/// An existing `target` is replaced. On error `target` is as before and the temporary file is gone.
pub(crate) fn write_whole(temp_dir: &Path, target: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temp = temp_name(temp_dir);
    let written = write_synced(&temp, bytes)
        .map_err(StoreError::io("write", &temp))
        .and_then(|()| fs::rename(&temp, target).map_err(StoreError::io("move the finished file to", target)));
    if written.is_err() {
        // Best effort: what a failing disk keeps is swept away at the next open.
        let _ = fs::remove_file(&temp);
    }
    written?;
    target.parent().map_or(Ok(()), sync_dir)
}

/// Writes `bytes` as `name` in `dir`, through a temporary file there, but waits for no disk: a crash may leave a part of it, or
/// nothing.
pub(crate) fn write_unsynced(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let target = dir.join(name);
    let temp = temp_name(dir);
    let written = private_options()
        .write(true)
        .create_new(true)
        .open(&temp)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(StoreError::io("write", &temp))
        .and_then(|()| fs::rename(&temp, &target).map_err(StoreError::io("move the finished file to", &target)));
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written
}

fn temp_name(dir: &Path) -> PathBuf {
    dir.join(format!(".{}-{}.tmp", process::id(), NEXT_TEMP.fetch_add(1, Ordering::Relaxed)))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private_options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads a file of at most `max` bytes; `None` if there is none. A longer one is [`StoreError::Damaged`], not read further.
pub(crate) fn read_bounded(path: &Path, max: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("open", path)(e)),
    };
    let len = file.metadata().map_err(StoreError::io("read", path))?.len();
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(max).min(max));
    // One byte more than allowed, to see whether there is one; the file may have grown since its length was read.
    file.take((max as u64).saturating_add(1)).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    if bytes.len() > max {
        return Err(StoreError::Damaged { path: path.to_path_buf(), why: format!("it is longer than {max} bytes") });
    }
    Ok(Some(bytes))
}

/// At most `most` bytes of a file from `offset` on; `None` if there is no such file.
pub(crate) fn read_piece(path: &Path, offset: u64, most: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("open", path)(e)),
    };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(offset)).map_err(StoreError::io("read", path))?;
    file.take(most as u64).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    Ok(Some(bytes))
}

/// Removes a file durably; false if there was none.
pub(crate) fn remove(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_dir).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(StoreError::io("remove", path)(e)),
    }
}

/// Names of the entries of `dir` that are text.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let entries = fs::read_dir(dir).map_err(StoreError::io("list", dir))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_folder_that_gets_an_entry_is_synced() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("a"), root.path().join("a/b"));
        assert_eq!(parents_of_missing(&b.join("c")), [b.as_path(), &a, root.path()]);
        create_dir(&b).unwrap();
        assert_eq!(parents_of_missing(&b.join("c")), [b.as_path()]);
        assert!(parents_of_missing(&b).is_empty());
        assert_eq!(parents_of_missing(Path::new("no-such-folder")), [Path::new(".")]);
    }
}
