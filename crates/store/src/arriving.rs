//! Chunks that arrive by the hundred. Each lies in a folder of its own kind until one flush of the file system has made all
//! of them durable; only then do they move among the chunks and into the index. Flushing each by itself costs more than all the
//! rest of a transfer. What a crash leaves here is looked at by the next open: whole chunks are kept, the rest goes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use zero2ai_proto::Cid;

use crate::{error::StoreError, files, spread::Spread};

/// Chunks that may arrive before they are settled: the disk writes while more of them come, and a crash leaves little to hash.
const MOST: usize = 256;

/// See the module.
pub(crate) struct Arriving {
    folders: Spread,
    /// On the file system that is flushed. Open for as long as the store is, so that no failed write goes unheard.
    root: File,
    held: Mutex<BTreeMap<Cid, Held>>,
    /// Held while they are settled.
    settling: Mutex<()>,
}

/// A chunk that is not claimed yet.
#[derive(Clone, Copy)]
struct Held {
    len: u32,
    /// It has its final name, which may not be durable.
    named: bool,
}

impl Arriving {
    /// The folder `dir`, made if need be.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, StoreError> {
        let folders = Spread::open(dir)?;
        let root = File::open(folders.dir()).map_err(StoreError::io("open", folders.dir()))?;
        Ok(Self { folders, root, held: Mutex::default(), settling: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Cid, Held>> {
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
        self.held().values().filter(|held| !held.named).count() >= MOST
    }

    /// Takes a chunk in; false if it is here already. Not durable.
    pub(crate) fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<bool, StoreError> {
        files::write_unsynced(&self.folder(cid), &cid.to_string(), bytes)?;
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Ok(self.held().insert(*cid, Held { len, named: false }).is_none())
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
                    self.held().insert(cid, Held { len, named: false });
                    kept.push(len);
                }
                None => fs::remove_file(&path).map_err(StoreError::io("remove", &path))?,
            }
        }
        Ok(kept)
    }

    /// Lets a chunk go; its length, if it was here.
    pub(crate) fn forget(&self, cid: &Cid) -> Result<Option<u32>, StoreError> {
        let held = self.held().remove(cid);
        files::remove(&self.path(cid))?;
        Ok(held.map(|held| held.len))
    }

    /// Makes durable what arrived: contents, then names, then what `claim` does with each. A flush that makes contents durable
    /// does the same for the names that the call before it gave; only if `all` is to be durable now, another follows.
    pub(crate) fn settle(
        &self,
        all: bool,
        target: impl Fn(&Cid) -> PathBuf,
        claim: impl Fn(&Cid, u32) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _alone = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let (named, new): (Vec<_>, Vec<_>) =
            self.held().iter().map(|(cid, held)| (*cid, *held)).partition(|h| h.1.named);
        if named.is_empty() && new.is_empty() {
            return Ok(());
        }
        self.flush()?;
        self.claim(&named, &claim)?;
        for (cid, _) in &new {
            self.name(cid, &target(cid))?;
        }
        if all && !new.is_empty() {
            self.flush()?;
            self.claim(&new, &claim)?;
        }
        Ok(())
    }

    /// Moves a chunk to its final place. The next flush makes that durable.
    fn name(&self, cid: &Cid, target: &Path) -> Result<(), StoreError> {
        target.parent().map_or(Ok(()), files::create_dir)?;
        match fs::rename(self.path(cid), target) {
            // It was let go meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            moved => moved.map_err(StoreError::io("move the finished file to", target))?,
        }
        if let Some(held) = self.held().get_mut(cid) {
            held.named = true;
        }
        Ok(())
    }

    fn claim(
        &self,
        chunks: &[(Cid, Held)],
        claim: impl Fn(&Cid, u32) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for (cid, Held { len, .. }) in chunks {
            // Claimed before it is forgotten here: it is never nowhere. Under the lock, so that nobody lets it go in between.
            let mut held = self.held();
            if held.contains_key(cid) {
                claim(cid, *len)?;
                held.remove(cid);
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        rustix::fs::syncfs(&self.root)
            .map_err(|e| StoreError::io("flush the file system of", self.folders.dir())(e.into()))
    }
}
