//! Chunks that arrive by the hundred. Each lies in a folder of its own kind until one flush of the file system has made all
//! of them durable; only then do they move among the chunks and into the index. Flushing each by itself costs more than all the
//! rest of a transfer. What a crash leaves here is looked at by the next open: whole chunks are kept, the rest goes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use zero2ai_proto::Cid;

use crate::{error::StoreError, files, spread::Spread};

/// Chunks that may arrive before they are settled: a crash leaves no more than a second's hashing.
const MOST: usize = 1024;

/// See the module.
pub(crate) struct Arriving {
    folders: Spread,
    /// On the file system that is flushed. Open for as long as the store is, so that no failed write goes unheard.
    root: File,
    /// Chunks here, and their lengths.
    held: Mutex<BTreeMap<Cid, u32>>,
    /// Held while they are settled.
    settling: Mutex<()>,
}

impl Arriving {
    /// The folder `dir`, made if need be.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, StoreError> {
        let folders = Spread::open(dir)?;
        let root = File::open(folders.dir()).map_err(StoreError::io("open", folders.dir()))?;
        Ok(Self { folders, root, held: Mutex::default(), settling: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Cid, u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, cid: &Cid) -> PathBuf {
        self.folders.folder(u64::from(cid.as_bytes().first().copied().unwrap_or_default()))
    }

    pub(crate) fn path(&self, cid: &Cid) -> PathBuf {
        self.folder(cid).join(cid.to_string())
    }

    pub(crate) fn holds(&self, cid: &Cid) -> bool {
        self.held().contains_key(cid)
    }

    /// True if so many are here that they should be settled.
    pub(crate) fn is_full(&self) -> bool {
        self.held().len() >= MOST
    }

    /// Takes a chunk in; false if it is here already. Not durable.
    pub(crate) fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<bool, StoreError> {
        files::write_unsynced(&self.folder(cid), &cid.to_string(), bytes)?;
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Ok(self.held().insert(*cid, len).is_none())
    }

    /// Takes in what a crash left, by a check of its hash; what is not whole is removed. Gives the lengths of what was kept.
    pub(crate) fn adopt(&self, max: usize) -> Result<Vec<u32>, StoreError> {
        let mut kept = Vec::new();
        for path in self.folders.files()? {
            let named = path.file_name().and_then(|name| name.to_str()?.parse::<Cid>().ok());
            let bytes = named.and_then(|cid| Some((cid, files::read_bounded(&path, max).ok()??)));
            match bytes.filter(|(cid, bytes)| Cid::of(bytes) == *cid && path == self.path(cid)) {
                Some((cid, bytes)) => {
                    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    self.held().insert(cid, len);
                    kept.push(len);
                }
                None => fs::remove_file(&path).map_err(StoreError::io("remove", &path))?,
            }
        }
        Ok(kept)
    }

    /// Lets a chunk go; its length, if it was here.
    pub(crate) fn forget(&self, cid: &Cid) -> Result<Option<u32>, StoreError> {
        let len = self.held().remove(cid);
        files::remove(&self.path(cid))?;
        Ok(len)
    }

    /// Makes everything durable that is here: contents, then names, then what `claim` does with each.
    pub(crate) fn settle(
        &self,
        target: impl Fn(&Cid) -> PathBuf,
        claim: impl Fn(&Cid, u32) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _alone = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let chunks: Vec<(Cid, u32)> = self.held().iter().map(|(cid, len)| (*cid, *len)).collect();
        if chunks.is_empty() {
            return Ok(());
        }
        self.flush()?;
        for (cid, _) in &chunks {
            let (from, to) = (self.path(cid), target(cid));
            to.parent().map_or(Ok(()), files::create_dir)?;
            match fs::rename(&from, &to) {
                // It was let go meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                moved => moved.map_err(StoreError::io("move the finished file to", &to))?,
            }
        }
        self.flush()?;
        for (cid, len) in chunks {
            // Claimed before it is forgotten here: it is never nowhere. Under the lock, so that nobody lets it go in between.
            let mut held = self.held();
            if held.contains_key(&cid) {
                claim(&cid, len)?;
                held.remove(&cid);
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        rustix::fs::syncfs(&self.root)
            .map_err(|e| StoreError::io("flush the file system of", self.folders.dir())(e.into()))
    }
}
