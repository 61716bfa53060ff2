//! One home's chunks and manifests: plain files named by their hash, with an index over the chunks.
//!
//! The files are the truth. The index says quickly which chunks are here; after an unclean stop, or when its database was
//! broken, it is rebuilt from the files at open.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use zero2ai_proto::{
    Cid, ManifestId,
    limits::{CHUNK_BYTES, MANIFEST_BYTES, SEAL_OVERHEAD},
};

use crate::{
    arriving::Arriving,
    error::StoreError,
    files,
    index::Index,
    lock, space,
    spread::Spread,
    tree::{KeyValue, Tree},
};

/// Bytes in one stored chunk: a full plaintext chunk and its tag.
const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + SEAL_OVERHEAD;
/// Folder of chunk files, one subfolder a first byte, so that no folder has to hold all of them.
const CHUNKS: &str = "chunks";
/// Folder of sealed manifests.
const MANIFESTS: &str = "manifests";
/// Folder of files that are still being written; emptied at open.
const TEMP: &str = "temp";
/// Folder of chunks that arrived and are not durable yet.
const ARRIVING: &str = "arriving";
/// Written at a clean stop, removed at open: the number of index rows. If it is missing or tells another number, the index
/// is not to be believed.
const CLEAN: &str = "clean";
/// The index's map from chunk id to its length, 4 bytes big-endian.
const CHUNK_ROWS: &str = "store/chunks";

/// Rows looked at in one go.
const PAGE: usize = 1024;

/// How a store uses its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes of memory the index may use as a cache. The database's own default, 1 GiB, is too much for a node.
    pub cache_bytes: u64,
    /// Bytes of chunks and manifests allowed; `None` is whatever the disk holds. Beyond it they are refused: what may go
    /// to make room is for the caller to know.
    pub quota_bytes: Option<u64>,
    /// Bytes of the disk that chunks and manifests leave free, but at most a sixteenth of it. With none, whoever may
    /// publish could fill the disk until the chain's own log can no longer be written, which stops the node.
    pub reserve_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { cache_bytes: 64 * 1024 * 1024, quota_bytes: None, reserve_bytes: 512 * 1024 * 1024 }
    }
}

/// What [`Store::open`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// The last stop was not a clean one, or the index was broken or incomplete: it was rebuilt from the files.
    pub rebuilt: bool,
    /// Where a broken database was moved.
    pub broken_index: Option<PathBuf>,
    /// Unfinished files that were removed.
    pub temp_files: usize,
}

/// How much is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Number of chunks.
    pub chunks: u64,
    /// Bytes of their ciphertext.
    pub bytes: u64,
}

/// What [`Store::rebuild`] changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Chunks in the index now.
    pub chunks: u64,
    /// Bytes of their ciphertext.
    pub bytes: u64,
    /// Chunk files that the index did not know.
    pub added: u64,
    /// Rows whose file is not there: they are gone.
    pub removed: u64,
    /// Rows that told another length than their file has.
    pub corrected: u64,
}

/// One home's store. Clones share it; the home stays locked until the last clone and the last [`Tree`] are gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    arriving: Arriving,
    chunks_dir: PathBuf,
    manifests_dir: PathBuf,
    temp: Spread,
    clean: PathBuf,
    rows: Tree,
    index: Arc<Index>,
    config: StoreConfig,
    chunks: AtomicU64,
    bytes: AtomicU64,
    /// Bytes of all manifests. Held while one is written or removed, so that it is counted once.
    manifest_bytes: Mutex<u64>,
    report: OpenReport,
}

impl Store {
    /// Opens or creates the store in the folder `home` and locks it against other processes.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Io`], or [`StoreError::Index`] if even a fresh index cannot be made.
    pub fn open(home: &Path, config: StoreConfig) -> Result<Self, StoreError> {
        files::create_dir(home)?;
        let lock = lock::acquire(home)?;
        let [chunks_dir, manifests_dir] = [CHUNKS, MANIFESTS].map(|folder| home.join(folder));
        let is_new = !fs::exists(&chunks_dir).map_err(StoreError::io("look for", &chunks_dir))?;
        for dir in [&chunks_dir, &manifests_dir] {
            files::create_dir(dir)?;
        }
        files::create_all(&chunks_dir, (0..=u8::MAX).map(|first| chunks_dir.join(format!("{first:02x}"))))?;
        let temp = Spread::open(home.join(TEMP))?;
        let temp_files = sweep(&temp)?;
        let clean = home.join(CLEAN);
        let at_stop =
            files::read_bounded(&clean, 20).ok().flatten().and_then(|n| String::from_utf8(n).ok()?.parse().ok());
        let checked = at_stop.map(|_: u64| CHUNK_ROWS);
        let (index, broken_index) = Index::open(home, config.cache_bytes, checked, lock)?;
        let index = Arc::new(index);
        let rows = Tree::new(index.tree(CHUNK_ROWS)?, Arc::clone(&index));
        let mut stats = count(&rows)?;
        let rebuilt = !is_new && (at_stop != Some(stats.chunks) || broken_index.is_some());
        if rebuilt {
            rebuild(&chunks_dir, &rows)?;
            stats = count(&rows)?;
        }
        files::remove(&clean)?;
        let manifest_bytes = Mutex::new(total(&manifests_dir)?);
        let report = OpenReport { rebuilt, broken_index, temp_files };
        let (chunks, bytes) = (AtomicU64::new(stats.chunks), AtomicU64::new(stats.bytes));
        let arriving = Arriving::open(home.join(ARRIVING))?;
        let inner = Inner {
            arriving,
            chunks_dir,
            manifests_dir,
            temp,
            clean,
            rows,
            index,
            config,
            chunks,
            bytes,
            manifest_bytes,
            report,
        };
        let store = Self { inner: Arc::new(inner) };
        for len in store.inner.arriving.adopt(SEALED_CHUNK_BYTES)? {
            store.inner.count_one(u64::from(len));
        }
        store.settle()?;
        Ok(store)
    }

    /// What was found when this store was opened.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// Stores a chunk durably; false if it was here already. Its hash is checked first.
    ///
    /// # Errors
    /// [`StoreError::WrongHash`], [`StoreError::TooLarge`] (or empty), [`StoreError::Quota`], [`StoreError::Space`],
    /// [`StoreError::Io`], [`StoreError::Index`]. The chunk is then not visible, unless the index alone failed: it is then on disk, and
    /// found by the next open.
    pub fn put_chunk(&self, cid: &Cid, ciphertext: &[u8]) -> Result<bool, StoreError> {
        if self.inner.arriving.holds(cid) {
            self.settle()?;
        }
        let Some(room) = self.room_for(cid, ciphertext)? else { return Ok(false) };
        let path = self.chunk_path(cid);
        path.parent().map_or(Ok(()), files::create_dir)?;
        files::write_whole(&self.inner.temp.next(), &path, ciphertext)?;
        let row = u32::try_from(ciphertext.len()).unwrap_or(u32::MAX).to_be_bytes();
        if self.inner.rows.replace(cid.as_bytes(), Some(&row))?.is_some() {
            return Ok(false); // Another thread stored the same bytes meanwhile.
        }
        room.take();
        Ok(true)
    }

    /// Takes in a chunk that is one of many, as [`Store::put_chunk`] does, but durable only after [`Store::settle`]: a crash
    /// before that may lose it, and leaves no part of it.
    ///
    /// # Errors
    /// As [`Store::put_chunk`].
    pub fn put_arriving(&self, cid: &Cid, ciphertext: &[u8]) -> Result<bool, StoreError> {
        let Some(room) = self.room_for(cid, ciphertext)? else { return Ok(false) };
        if !self.inner.arriving.put(cid, ciphertext)? {
            return Ok(false); // Another thread stored the same bytes meanwhile.
        }
        room.take();
        if self.inner.arriving.is_full() {
            self.inner.settle(false)?;
        }
        Ok(true)
    }

    /// Makes every chunk durable that [`Store::put_arriving`] took in before. One flush of the whole file system: what other
    /// programs wrote there is waited for too.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Index`]. What was not settled is so by the next call, or looked at by the next open.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.inner.settle(true)
    }

    /// Room for these bytes if they are that chunk and not here yet.
    fn room_for(&self, cid: &Cid, ciphertext: &[u8]) -> Result<Option<Room<'_>>, StoreError> {
        let len = ciphertext.len();
        if len == 0 || len > SEALED_CHUNK_BYTES {
            return Err(StoreError::TooLarge { what: "a chunk", len, max: SEALED_CHUNK_BYTES });
        }
        let actual = Cid::of(ciphertext);
        if actual != *cid {
            return Err(StoreError::WrongHash { cid: *cid, actual });
        }
        if self.has_chunk(cid)? {
            return Ok(None);
        }
        let manifests = *self.manifest_bytes();
        let (room, others) = Room::new(&self.inner, len as u64);
        self.check_room(len as u64, others.saturating_add(manifests))?;
        Ok(Some(room))
    }

    /// A chunk's ciphertext, its hash checked again; `None` if it is not here.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the bytes on disk have changed, [`StoreError::Io`], [`StoreError::Index`].
    pub fn chunk(&self, cid: &Cid) -> Result<Option<Vec<u8>>, StoreError> {
        // Asked first: what is just being written, and not known yet, is not to be forgotten.
        let known = self.has_chunk(cid)?;
        let mut places = vec![self.chunk_path(cid)];
        if self.inner.arriving.holds(cid) {
            // It may be settled between two looks: then it is where the first one was.
            places.extend([self.inner.arriving.path(cid), self.chunk_path(cid)]);
        }
        let mut bytes = None;
        for place in places {
            bytes = match files::read_bounded(&place, SEALED_CHUNK_BYTES) {
                Err(StoreError::Damaged { .. }) => return Err(StoreError::Corrupt { cid: *cid }),
                other => other?,
            };
            if bytes.is_some() {
                break;
            }
        }
        match bytes {
            Some(bytes) if Cid::of(&bytes) == *cid => Ok(Some(bytes)),
            Some(_) => Err(StoreError::Corrupt { cid: *cid }),
            None => {
                if known {
                    // Somebody removed the file under us: stop claiming that it is here.
                    self.forget(cid)?;
                }
                Ok(None)
            }
        }
    }

    /// True if the chunk is in the index or just arrived. Its bytes are not looked at.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn has_chunk(&self, cid: &Cid) -> Result<bool, StoreError> {
        Ok(self.inner.arriving.holds(cid) || self.inner.rows.get(cid.as_bytes())?.is_some())
    }

    /// Removes a chunk; false if it was not here.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Index`].
    pub fn delete_chunk(&self, cid: &Cid) -> Result<bool, StoreError> {
        // The row goes first: a crash in between leaves a file nobody claims, never a claim without a file.
        let known = self.forget(cid)?;
        Ok(files::remove(&self.chunk_path(cid))? || known)
    }

    /// Ids and lengths of at most `limit` chunks in the index, in the order of their ids, beginning behind `after`: one
    /// page of a walk through all of them, which sees every chunk that is there from its beginning to its end.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn chunk_ids(&self, after: Option<&Cid>, limit: usize) -> Result<Vec<(Cid, u32)>, StoreError> {
        let from = after.map_or_else(Vec::new, |cid| [cid.as_bytes().as_slice(), &[0]].concat());
        let rows = self.inner.rows.scan(&[], &from, limit)?;
        let read = |(key, len): (Vec<u8>, Vec<u8>)| {
            let cid = <[u8; 32]>::try_from(key).ok()?;
            Some((Cid(cid), u32::try_from(row_len(&len)).unwrap_or(u32::MAX)))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Bytes of chunks and manifests allowed, if they are limited.
    #[must_use]
    pub fn quota(&self) -> Option<u64> {
        self.inner.config.quota_bytes
    }

    /// Bytes of the disk that are kept free, as configured.
    #[must_use]
    pub fn reserve(&self) -> u64 {
        self.inner.config.reserve_bytes
    }

    /// Bytes that the quota counts: chunks and manifests.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.stats().bytes.saturating_add(*self.manifest_bytes())
    }

    /// Number and bytes of the chunks held; [`Store::used`] counts manifests too.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { chunks: self.inner.chunks.load(Ordering::Relaxed), bytes: self.inner.bytes.load(Ordering::Relaxed) }
    }

    /// Stores an encoded sealed manifest durably. Storing it again is no error.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] (or empty), [`StoreError::Quota`], [`StoreError::Space`], [`StoreError::Io`].
    pub fn put_manifest(&self, sealed: &[u8]) -> Result<ManifestId, StoreError> {
        if sealed.is_empty() || sealed.len() > MANIFEST_BYTES {
            return Err(StoreError::TooLarge { what: "a sealed manifest", len: sealed.len(), max: MANIFEST_BYTES });
        }
        let id = ManifestId::of(sealed);
        let path = self.manifest_path(&id);
        let mut all = self.manifest_bytes();
        // Written even if it is here: what is on disk may be damaged.
        let others = all.saturating_sub(file_len(&path)?);
        self.check_room(sealed.len() as u64, self.stats().bytes.saturating_add(others))?;
        files::write_whole(&self.inner.temp.next(), &path, sealed)?;
        *all = others.saturating_add(sealed.len() as u64);
        Ok(id)
    }

    /// An encoded sealed manifest, its hash checked again; `None` if it is not here.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the bytes on disk have changed, [`StoreError::Io`].
    pub fn manifest(&self, id: &ManifestId) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.manifest_path(id);
        match files::read_bounded(&path, MANIFEST_BYTES)? {
            Some(bytes) if ManifestId::of(&bytes) != *id => {
                Err(StoreError::Damaged { path, why: "its bytes no longer have the hash they are named by".into() })
            }
            other => Ok(other),
        }
    }

    /// At most `most` bytes of an encoded sealed manifest from `offset` on, none behind its end; `None` if it is not here. So that it can
    /// be sent without being held in memory as a whole: its hash is not checked, whoever receives it does that.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn manifest_piece(&self, id: &ManifestId, offset: u64, most: usize) -> Result<Option<Vec<u8>>, StoreError> {
        files::read_piece(&self.manifest_path(id), offset, most)
    }

    /// Removes a manifest, not its chunks; false if it was not here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn delete_manifest(&self, id: &ManifestId) -> Result<bool, StoreError> {
        let path = self.manifest_path(id);
        let mut all = self.manifest_bytes();
        let len = file_len(&path)?;
        let was_here = files::remove(&path)?;
        *all = all.saturating_sub(len);
        Ok(was_here)
    }

    /// The manifests held, in no order.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn manifests(&self) -> Result<Vec<ManifestId>, StoreError> {
        Ok(files::names(&self.inner.manifests_dir)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The map called `name`, made if missing. Names that start with `store/` belong to this crate.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn tree(&self, name: &str) -> Result<Tree, StoreError> {
        Ok(Tree::new(self.inner.index.tree(name)?, Arc::clone(&self.inner.index)))
    }

    /// Notes that the manifest was used just now: on its file, as the time of its last change. No error if it is not here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn mark_used(&self, id: &ManifestId) -> Result<(), StoreError> {
        let path = self.manifest_path(id);
        let marked = File::options().write(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        match marked {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("note the use of", &path)(e)),
            _ => Ok(()),
        }
    }

    /// When the manifest was stored or last marked as used; `None` if it is not here.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn last_used(&self, id: &ManifestId) -> Result<Option<SystemTime>, StoreError> {
        let path = self.manifest_path(id);
        match fs::metadata(&path).and_then(|file| file.modified()) {
            Ok(at) => Ok(Some(at)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StoreError::io("read", &path)(e)),
        }
    }

    /// Makes the index say what the files say, while the store is open: adds rows for files it does not know, removes rows
    /// without a file. Lengths come from the files' metadata; bytes are checked when they are read. The caller keeps away
    /// whoever deletes chunks, else a chunk removed meanwhile may keep a row until it is asked for. `progress` hears
    /// how many of how many folders are done.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Index`]; what was set right until then stays so.
    pub fn rebuild(&self, mut progress: impl FnMut(u64, u64)) -> Result<Rebuilt, StoreError> {
        let mut report = Rebuilt::default();
        let folders = folders(&self.inner.chunks_dir)?;
        let total = folders.len() as u64;
        for (done, folder) in (0u64..).zip(&folders) {
            progress(done, total);
            for (cid, len) in chunk_files(&self.inner.chunks_dir, folder)? {
                self.claim(&cid, len, &mut report)?;
            }
        }
        let mut after = None;
        loop {
            let page = self.chunk_ids(after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (cid, _) in page {
                let path = self.chunk_path(&cid);
                if !fs::exists(&path).map_err(StoreError::io("look for", &path))? {
                    report.removed += u64::from(self.forget(&cid)?);
                }
            }
        }
        self.inner.rows.flush()?;
        let Stats { chunks, bytes } = self.stats();
        Ok(Rebuilt { chunks, bytes, ..report })
    }

    /// Writes the row of a chunk file.
    fn claim(&self, cid: &Cid, len: u32, report: &mut Rebuilt) -> Result<(), StoreError> {
        match self.inner.rows.replace(cid.as_bytes(), Some(&len.to_be_bytes()))? {
            None => {
                self.inner.chunks.fetch_add(1, Ordering::Relaxed);
                report.added += 1;
            }
            Some(old) if row_len(&old) != u64::from(len) => {
                self.inner.bytes.fetch_sub(row_len(&old), Ordering::Relaxed);
                report.corrected += 1;
            }
            Some(_) => return Ok(()),
        }
        self.inner.bytes.fetch_add(u64::from(len), Ordering::Relaxed);
        Ok(())
    }

    fn manifest_bytes(&self) -> MutexGuard<'_, u64> {
        self.inner.manifest_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, cid: &Cid) -> Result<bool, StoreError> {
        if let Some(len) = self.inner.arriving.forget(cid)? {
            self.inner.chunks.fetch_sub(1, Ordering::Relaxed);
            self.inner.bytes.fetch_sub(u64::from(len), Ordering::Relaxed);
            self.inner.rows.replace(cid.as_bytes(), None)?;
            return Ok(true);
        }
        let Some(len) = self.inner.rows.replace(cid.as_bytes(), None)? else { return Ok(false) };
        self.inner.chunks.fetch_sub(1, Ordering::Relaxed);
        self.inner.bytes.fetch_sub(row_len(&len), Ordering::Relaxed);
        Ok(true)
    }

    /// Refuses `needed` more bytes beside those used if the quota or the disk has no room for them.
    fn check_room(&self, needed: u64, used: u64) -> Result<(), StoreError> {
        match self.inner.config.quota_bytes {
            Some(quota) if used.saturating_add(needed) > quota => Err(StoreError::Quota { needed, used, quota }),
            _ => space::check(self.inner.temp.dir(), needed, self.inner.config.reserve_bytes),
        }
    }

    fn chunk_path(&self, cid: &Cid) -> PathBuf {
        chunk_path(&self.inner.chunks_dir, cid)
    }

    fn manifest_path(&self, id: &ManifestId) -> PathBuf {
        self.inner.manifests_dir.join(id.to_string())
    }
}

impl Inner {
    fn count_one(&self, len: u64) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len, Ordering::Relaxed);
    }

    fn settle(&self, all: bool) -> Result<(), StoreError> {
        let claim = |cid: &Cid, len: u32| self.rows.replace(cid.as_bytes(), Some(&len.to_be_bytes())).map(drop);
        self.arriving.settle(all, |cid| chunk_path(&self.chunks_dir, cid), claim)
    }
}

/// Bytes of a chunk that is being written, counted before it is looked whether they fit: two writers cannot both take the last
/// room. Given back unless it is taken.
struct Room<'a> {
    inner: &'a Inner,
    len: u64,
}

impl<'a> Room<'a> {
    /// The room, and the bytes of all other chunks.
    fn new(inner: &'a Inner, len: u64) -> (Self, u64) {
        let others = inner.bytes.fetch_add(len, Ordering::Relaxed);
        (Self { inner, len }, others)
    }

    /// The chunk is there.
    fn take(mut self) {
        self.len = 0;
        self.inner.chunks.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.inner.bytes.fetch_sub(self.len, Ordering::Relaxed);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(e) = self.settle(true) {
            return tracing::warn!(error = %e, "what arrived last was not made durable: the next start looks at it again");
        }
        // Only an index that never failed and is flushed may call the stop a clean one; else the next open rebuilds it.
        if self.index.is_suspect() {
            return;
        }
        let rows = self.chunks.load(Ordering::Relaxed).to_string();
        let stopped =
            self.index.flush().and_then(|()| files::write_whole(&self.temp.next(), &self.clean, rows.as_bytes()));
        if let Err(e) = stopped {
            tracing::warn!(error = %e, "the store was not closed cleanly: the next start rebuilds its index");
        }
    }
}

fn chunk_path(chunks_dir: &Path, cid: &Cid) -> PathBuf {
    let name = cid.to_string();
    chunks_dir.join(&name[..2]).join(name)
}

/// Bytes of the file at `path`, 0 if there is none.
fn file_len(path: &Path) -> Result<u64, StoreError> {
    match fs::metadata(path) {
        Ok(file) => Ok(file.len()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(StoreError::io("read", path)(e)),
    }
}

/// Bytes of the files in `dir`.
fn total(dir: &Path) -> Result<u64, StoreError> {
    files::names(dir)?.iter().try_fold(0u64, |sum, name| Ok(sum.saturating_add(file_len(&dir.join(name))?)))
}

/// Removes what was being written when the last process died.
fn sweep(temp: &Spread) -> Result<usize, StoreError> {
    let files = temp.files()?;
    for path in &files {
        fs::remove_file(path).map_err(StoreError::io("remove", path))?;
    }
    Ok(files.len())
}

/// Makes empty rows say what the files say. Lengths come from the files' metadata; bytes are checked when they are read.
fn rebuild(chunks_dir: &Path, rows: &Tree) -> Result<(), StoreError> {
    rows.clear()?;
    for folder in folders(chunks_dir)? {
        for (cid, len) in chunk_files(chunks_dir, &folder)? {
            rows.put(cid.as_bytes(), &len.to_be_bytes())?;
        }
    }
    rows.flush()
}

/// The folders of chunk files. What else somebody put beside them is none of ours and must not keep a node from starting.
fn folders(chunks_dir: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = files::names(chunks_dir)?;
    names.retain(|name| chunks_dir.join(name).is_dir());
    Ok(names)
}

/// The chunk files of a folder and their lengths. One that lies in a folder that is not its own cannot be read by its
/// name, and is none.
fn chunk_files(chunks_dir: &Path, folder: &str) -> Result<Vec<(Cid, u32)>, StoreError> {
    let mut found = Vec::new();
    for name in files::names(&chunks_dir.join(folder))? {
        let Some(cid) = name.parse::<Cid>().ok().filter(|_| name.starts_with(folder)) else { continue };
        let path = chunk_path(chunks_dir, &cid);
        match fs::metadata(&path) {
            Ok(file) => found.push((cid, u32::try_from(file.len()).unwrap_or(u32::MAX))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::io("read", &path)(e)),
        }
    }
    Ok(found)
}

fn count(rows: &Tree) -> Result<Stats, StoreError> {
    let mut stats = Stats::default();
    for (_, len) in rows.scan_prefix(&[])? {
        stats.chunks += 1;
        stats.bytes = stats.bytes.saturating_add(row_len(&len));
    }
    Ok(stats)
}

fn row_len(row: &[u8]) -> u64 {
    row.try_into().map_or(0, |len| u64::from(u32::from_be_bytes(len)))
}
