//! A version's plaintext as files in a folder of the user's: names checked, nothing overwritten unasked, every file hashed
//! before it gets its name. All of them are whole before the first one appears.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with, statvfs},
    io::Errno,
};
use zero2ai_proto::{Digest, limits::MANIFEST_FILES, local::OpenedFile, manifest::path_is_usable};

use crate::{
    exit::{Exit, Failure, Outcome, file_error},
    output::bytes,
};

/// Where files lie until all are whole. What a killed command leaves of it, the next one removes.
const PART: &str = ".zero2ai-part";

/// A version on its way into a folder. Dropped before [`Plain::finish`], it leaves nothing.
pub(super) struct Plain {
    folder: PathBuf,
    part: PathBuf,
    /// Locked: one command writes into a folder at a time.
    _lock: File,
    force: bool,
    files: Vec<OpenedFile>,
    /// The file that is being written, its hash so far, and the bytes it lacks.
    open: Option<(File, blake3::Hasher, u64)>,
    /// Files that are whole.
    whole: usize,
}

impl Plain {
    /// Checks what a node says that it will send, and the folder it is to go into. Writes nothing unless all is well.
    pub(super) fn begin(folder: &Path, force: bool, files: Vec<OpenedFile>) -> Outcome<Self> {
        let total = check(&files)?;
        let fail = |what: &str, path: &Path, e: io::Error| file_error(what, path, &e);
        make(folder)?;
        let lock = File::open(folder).map_err(|e| fail("open", folder, e))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
            Errno::WOULDBLOCK => {
                Failure::new(Exit::InUse, format!("Another command writes into {}: wait for it.", folder.display()))
            }
            other => fail("lock", folder, other.into()),
        })?;
        for file in &files {
            free(folder, &file.path, force)?;
        }
        let room = statvfs(folder).map_err(|e| fail("look at the disk of", folder, e.into()))?;
        let room = room.f_bavail.saturating_mul(room.f_frsize);
        if total > room {
            let (total, room) = (bytes(total), bytes(room));
            let why = format!("{total} do not fit into {}: {room} are free there.", folder.display());
            return Err(Failure::new(Exit::Storage, why));
        }
        let part = folder.join(PART);
        match fs::remove_dir_all(&part) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail("remove", &part, e)),
            _ => make(&part)?,
        }
        Ok(Self { folder: folder.to_owned(), part, _lock: lock, force, files, open: None, whole: 0 })
    }

    /// Bytes of all files.
    pub(super) fn total(&self) -> u64 {
        self.files.iter().map(|f| f.size).fold(0, u64::saturating_add)
    }

    /// The next bytes, of whichever file they are.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Outcome {
        while !bytes.is_empty() {
            self.advance()?;
            let path = self.part.join(self.whole.to_string());
            let Some((file, hash, lacks)) = &mut self.open else {
                return Err(wrong("the node sent more bytes than its list has"));
            };
            let here = usize::try_from(*lacks).unwrap_or(usize::MAX).min(bytes.len());
            let (ours, rest) = bytes.split_at(here);
            file.write_all(ours).map_err(|e| file_error("write", &path, &e))?;
            hash.update(ours);
            *lacks -= here as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Closes the open file if it has all its bytes, and those after it that have none; then opens the next.
    fn advance(&mut self) -> Outcome {
        loop {
            match self.open.take() {
                Some((file, hash, 0)) => {
                    let Some(listed) = self.files.get(self.whole) else { return Ok(()) };
                    if Digest(*hash.finalize().as_bytes()) != listed.hash {
                        return Err(wrong(&format!(
                            "{} does not have the hash in its manifest: its publisher made it wrongly, do not use it",
                            listed.path
                        )));
                    }
                    file.sync_all().map_err(|e| file_error("write", &self.part, &e))?;
                    self.whole += 1;
                }
                open @ Some(_) => {
                    self.open = open;
                    return Ok(());
                }
                None => {
                    let Some(next) = self.files.get(self.whole) else { return Ok(()) };
                    let path = self.part.join(self.whole.to_string());
                    let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
                    let file = file.map_err(|e| file_error("write", &path, &e))?;
                    self.open = Some((file, blake3::Hasher::new(), next.size));
                }
            }
        }
    }

    /// Gives the files their names.
    pub(super) fn finish(mut self) -> Outcome {
        self.advance()?;
        if self.whole < self.files.len() {
            return Err(wrong("the node ended its answer before the last file was whole"));
        }
        for (number, file) in self.files.iter().enumerate() {
            let path = self.folder.join(&file.path);
            if let Some(parent) = path.parent() {
                make(parent)?;
            }
            let from = self.part.join(number.to_string());
            rename(&from, &path, self.force).map_err(|e| file_error("name", &path, &e))?;
        }
        File::open(&self.folder).and_then(|f| f.sync_all()).map_err(|e| file_error("write", &self.folder, &e))
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.part);
    }
}

fn wrong(why: &str) -> Failure {
    Failure::new(Exit::Unverified, format!("Nothing was written: {why}."))
}

/// Folders for their owner alone: what goes into them may be a private model.
fn make(folder: &Path) -> Outcome {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| file_error("make the folder", folder, &e))
}

/// Bytes of all files, if their names can be used: relative, each once, none of them the folder of another.
fn check(files: &[OpenedFile]) -> Outcome<u64> {
    let (mut names, mut total) = (BTreeSet::new(), 0u64);
    for file in files {
        if !path_is_usable(&file.path) || file.path == PART || file.path.starts_with(&format!("{PART}/")) {
            return Err(wrong(&format!("'{}' is no name for a file", file.path.escape_default())));
        }
        if !names.insert(file.path.as_str()) {
            return Err(wrong(&format!("{} is listed twice", file.path)));
        }
        total = total.checked_add(file.size).ok_or_else(|| wrong("the files are larger than any disk"))?;
    }
    let mut folders = names.iter().flat_map(|name| name.match_indices('/').map(|(at, _)| &name[..at]));
    if let Some(both) = folders.find(|folder| names.contains(folder)) {
        return Err(wrong(&format!("{both} is listed as a file and as a folder")));
    }
    if files.is_empty() || files.len() > MANIFEST_FILES {
        return Err(wrong(&format!("{} files; 1 to {MANIFEST_FILES} are a model", files.len())));
    }
    Ok(total)
}

/// Fails if `name` below `folder` is taken, or lies behind a link.
fn free(folder: &Path, name: &str, force: bool) -> Outcome {
    let refused = |path: &Path, why: &str| {
        Err(Failure::new(Exit::Invalid, format!("Nothing was written: {} {why}.", path.display())))
    };
    let mut path = folder.to_owned();
    let parts: Vec<&str> = name.split('/').collect();
    for (number, part) in parts.iter().enumerate() {
        path.push(part);
        let Ok(meta) = fs::symlink_metadata(&path) else { return Ok(()) };
        if number + 1 < parts.len() {
            if meta.is_symlink() {
                return refused(&path, "is a symbolic link, and no link is followed");
            } else if !meta.is_dir() {
                return refused(&path, "is no folder");
            }
        } else if meta.is_dir() {
            return refused(&path, "is a folder");
        } else if !force {
            return refused(&path, "is there already. Choose another folder, or --force");
        }
    }
    Ok(())
}

/// Renames; without `force` only to a name that is still free, where the file system can say so.
fn rename(from: &Path, to: &Path, force: bool) -> io::Result<()> {
    if !force {
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {}
            other => return Ok(other?),
        }
    }
    fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn file(path: &str, bytes: &[u8]) -> OpenedFile {
        OpenedFile { path: path.into(), size: bytes.len() as u64, hash: Digest(*blake3::hash(bytes).as_bytes()) }
    }

    fn refused<T>(outcome: Outcome<T>, word: &str) {
        let why = outcome.err().expect("refused").message;
        assert!(why.contains(word), "'{word}' is not in: {why}");
    }

    #[test]
    fn files_come_out_whole_at_once_and_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("new/out");
        let list = vec![file("a", b"aaaa"), file("sub/none", b""), file("sub/b", b"bbbbbb"), file("z", b"")];
        let mut plain = Plain::begin(&out, false, list.clone()).unwrap();
        for piece in [&b"aa"[..], b"aabbb", b"", b"bbb"] {
            plain.take(piece).unwrap();
            assert!(!out.join("a").exists());
        }
        plain.finish().unwrap();
        assert_eq!(fs::read(out.join("a")).unwrap(), b"aaaa");
        assert_eq!(fs::read(out.join("sub/b")).unwrap(), b"bbbbbb");
        assert!(out.join("z").exists() && out.join("sub/none").exists() && !out.join(PART).exists());
        assert_eq!(fs::metadata(out.join("a")).unwrap().permissions().mode() & 0o777, 0o600);
        // Again: refused, then forced.
        refused(Plain::begin(&out, false, list.clone()), "--force");
        let mut plain = Plain::begin(&out, true, list).unwrap();
        plain.take(b"aaaabbbbbb").unwrap();
        plain.finish().unwrap();
    }

    #[test]
    fn what_is_not_as_listed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let begin = || Plain::begin(dir.path(), false, vec![file("a", b"aaaa"), file("b", b"bb")]).unwrap();
        let mut plain = begin();
        refused(plain.take(b"aaabbb"), "hash");
        drop(plain);
        let mut plain = begin();
        refused(plain.take(b"aaaabbb"), "more bytes");
        drop(plain);
        let mut plain = begin();
        plain.take(b"aaaab").unwrap();
        refused(plain.finish(), "before the last");
        let mut plain = begin();
        plain.take(b"aaaaxx").unwrap();
        refused(plain.finish(), "hash");
        // Somebody else took the name meanwhile.
        let mut plain = begin();
        plain.take(b"aaaabb").unwrap();
        fs::write(dir.path().join("a"), b"mine").unwrap();
        assert!(plain.finish().is_err());
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"mine");
        assert!(!dir.path().join("b").exists() && !dir.path().join(PART).exists());
    }

    #[test]
    fn hostile_names_and_links_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["../a", "/a", "a/../b", "", "a//b", "a\\b", PART, ".zero2ai-part/0"] {
            refused(Plain::begin(dir.path(), true, vec![file(name, b"x")]), "no name");
        }
        refused(Plain::begin(dir.path(), true, vec![file("a", b"x"), file("a", b"x")]), "twice");
        refused(Plain::begin(dir.path(), true, vec![file("a/b/c", b"x"), file("a/b", b"x")]), "as a folder");
        refused(Plain::begin(dir.path(), true, Vec::new()), "0 files");
        let huge = OpenedFile { size: u64::MAX, ..file("a", b"") };
        refused(Plain::begin(dir.path(), true, vec![huge.clone()]), "do not fit");
        refused(Plain::begin(dir.path(), true, vec![huge, file("b", b"x")]), "larger than");
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), dir.path().join("link")).unwrap();
        refused(Plain::begin(dir.path(), true, vec![file("link/a", b"x")]), "symbolic link");
        fs::create_dir(dir.path().join("folder")).unwrap();
        refused(Plain::begin(dir.path(), true, vec![file("folder", b"x")]), "is a folder");
        // A link in a file's own place is replaced, not followed.
        fs::write(elsewhere.path().join("theirs"), b"theirs").unwrap();
        symlink(elsewhere.path().join("theirs"), dir.path().join("own")).unwrap();
        let mut plain = Plain::begin(dir.path(), true, vec![file("own", b"x")]).unwrap();
        plain.take(b"x").unwrap();
        plain.finish().unwrap();
        assert_eq!(fs::read(elsewhere.path().join("theirs")).unwrap(), b"theirs");
        assert_eq!(fs::read(dir.path().join("own")).unwrap(), b"x");
    }
}
