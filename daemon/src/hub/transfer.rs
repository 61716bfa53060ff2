//! One file: what is there of it already stays, the rest is asked for until it is whole, and it gets its name only once its
//! hash is the one listed.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::{
    http::{Http, Trouble},
    listing::{Hash, Listed},
};
use crate::exit::{Exit, Failure, Outcome, file_error};

/// Tries in a row that bring no byte, before a download is given up.
const TRIES: u32 = 6;
/// Pause after the first such try; doubled after each.
const PAUSE: Duration = Duration::from_millis(250);
/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

/// A file that is being written, and the hash of what is there.
struct Partial {
    path: PathBuf,
    file: File,
    hash: Context,
    have: u64,
}

/// Downloads `file` from `url` into `folder`; `told` hears how many bytes of it are there.
pub(super) fn bring(http: &Http, url: &str, file: &Listed, folder: &Path, told: &mut dyn FnMut(u64)) -> Outcome {
    let path = folder.join(&file.path);
    if whole(&path, file) {
        told(file.size);
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| file_error("make the folder", parent, &e))?;
    }
    let mut partial = Partial::open(folder, file)?;
    let (mut barren, mut pause) = (0, PAUSE);
    while partial.have < file.size {
        told(partial.have);
        let before = partial.have;
        let why = match http.bytes(url, partial.have, file.size) {
            Err(Trouble::Final(failure)) => {
                partial.leave();
                return Err(failure);
            }
            Err(Trouble::Passing(why)) => why,
            Ok(bytes) => {
                if bytes.from == 0 && partial.have > 0 {
                    partial.restart(file)?;
                }
                partial.fill(bytes.reader, file.size, told)?
            }
        };
        if partial.have > before {
            (barren, pause) = (0, PAUSE);
        } else {
            barren += 1;
        }
        if barren >= TRIES {
            return Err(Failure::new(
                Exit::Unreachable,
                format!(
                    "{url} could not be downloaded: {why}. {} of {} bytes are here; run the command again to go on from \
                     there.",
                    partial.have, file.size
                ),
            ));
        }
        if partial.have < file.size {
            tracing::info!(url, have = partial.have, size = file.size, why, "the download broke off; trying again");
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2);
        }
    }
    told(file.size);
    partial.finish(url, file, &path)
}

impl Partial {
    fn open(folder: &Path, file: &Listed) -> Outcome<Self> {
        // Of a length that every file system takes, and hidden: no publication takes it for a file of the model.
        let name = blake3::hash(file.path.as_bytes()).to_hex();
        let path = folder.join(format!(".{}.part", &name[..16]));
        let fail = |e: io::Error| file_error("write", &path, &e);
        let mut handle =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        let mut hash = begin(file);
        let mut have = handle.metadata().map_err(fail)?.len();
        if have > file.size {
            handle.set_len(0).map_err(fail)?;
            have = 0;
        }
        feed(&mut hash, &mut handle).map_err(fail)?;
        Ok(Self { path, file: handle, hash, have })
    }

    /// What is there stays for the next try; nothing needs no file.
    fn leave(self) {
        if self.have == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// From the first byte again.
    fn restart(&mut self, file: &Listed) -> Outcome {
        let again = self.file.set_len(0).and_then(|()| self.file.rewind());
        again.map_err(|e| file_error("write", &self.path, &e))?;
        (self.hash, self.have) = (begin(file), 0);
        Ok(())
    }

    /// Takes what comes, up to `size`. Says why it ended; an error is one of our own disk.
    fn fill(&mut self, mut from: Box<dyn Read>, size: u64, told: &mut dyn FnMut(u64)) -> Outcome<String> {
        let mut buffer = vec![0; BUFFER];
        while self.have < size {
            let most = usize::try_from(size - self.have).unwrap_or(BUFFER).min(BUFFER);
            let read = match from.read(&mut buffer[..most]) {
                Ok(0) => return Ok("the connection ended too early".into()),
                Ok(read) => read,
                Err(e) => return Ok(e.to_string()),
            };
            self.file.write_all(&buffer[..read]).map_err(|e| file_error("write", &self.path, &e))?;
            self.hash.update(&buffer[..read]);
            self.have = self.have.saturating_add(read as u64);
            told(self.have);
        }
        Ok(String::new())
    }

    fn finish(self, url: &str, file: &Listed, path: &Path) -> Outcome {
        if !is(self.hash, file) {
            let _ = fs::remove_file(&self.path);
            return Err(Failure::new(
                Exit::Unverified,
                format!(
                    "{url} does not have the hash that the hub lists: it was damaged on its way, or the server is not \
                     honest. What came was thrown away; run the command again to download it anew."
                ),
            ));
        }
        self.file.sync_all().map_err(|e| file_error("write", &self.path, &e))?;
        fs::rename(&self.path, path).map_err(|e| file_error("name", path, &e))
    }
}

/// True if the file lies there as it is listed. Another one of its name is replaced.
fn whole(path: &Path, file: &Listed) -> bool {
    let sound = || -> io::Result<bool> {
        let mut handle = File::open(path)?;
        if handle.metadata()?.len() != file.size {
            return Ok(false);
        }
        let mut hash = begin(file);
        feed(&mut hash, &mut handle)?;
        Ok(is(hash, file))
    };
    sound().unwrap_or(false)
}

fn begin(file: &Listed) -> Context {
    match file.hash {
        Hash::Sha256(_) => Context::new(&SHA256),
        Hash::GitBlob(_) => {
            let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            hash.update(format!("blob {}\0", file.size).as_bytes());
            hash
        }
    }
}

fn feed(hash: &mut Context, from: &mut impl Read) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn is(hash: Context, file: &Listed) -> bool {
    let found = hash.finish();
    match &file.hash {
        Hash::Sha256(wanted) => found.as_ref() == wanted,
        Hash::GitBlob(wanted) => found.as_ref() == wanted,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What `git hash-object` and `sha256sum` print.
    #[test]
    fn hashes_are_those_of_git_and_sha256sum() {
        let text = b"hello\n";
        let check = |hash: Hash, size: u64| {
            let file = Listed { path: "f".into(), size, hash };
            let mut hash = begin(&file);
            feed(&mut hash, &mut text.as_slice()).unwrap();
            is(hash, &file)
        };
        let mut sha1 = [0; 20];
        hex::decode_to_slice("ce013625030ba8dba906f756967f9e9ca394464a", &mut sha1).unwrap();
        let mut sha256 = [0; 32];
        hex::decode_to_slice("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", &mut sha256).unwrap();
        assert!(check(Hash::GitBlob(sha1), 6) && check(Hash::Sha256(sha256), 6));
        assert!(!check(Hash::GitBlob(sha1), 7));
        sha256[0] ^= 1;
        assert!(!check(Hash::Sha256(sha256), 6));
    }
}
