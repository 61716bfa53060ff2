//! The database below the index: opened, flushed for real, and set aside when it is broken.

use std::{
    fs::{self, File},
    io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{error::StoreError, files};

/// The database's folder in a home.
const FOLDER: &str = "index";
/// The file inside that folder that holds its log (sled 0.34's own name).
const DATA_FILE: &str = "db";
/// How long to wait for the threads of a store that this process has just dropped. Beyond it, another process holds the
/// database without holding the home's lock, which is an error.
const REOPEN_WAIT: Duration = Duration::from_secs(3);

/// An open database and the home's lock, which outlives it.
pub(crate) struct Index {
    /// There until this is dropped; the database must be closed before the lock is let go.
    db: Option<sled::Db>,
    folder: PathBuf,
    suspect: AtomicBool,
    _lock: File,
}

impl Index {
    /// Opens the database of `home` and reads every row of the map `checked`, or of all maps if that is `None`. A database
    /// that cannot be opened and read is moved aside, to the returned path, and a fresh one made.
    pub(crate) fn open(
        home: &Path,
        cache_bytes: u64,
        checked: Option<&str>,
        lock: File,
    ) -> Result<(Self, Option<PathBuf>), StoreError> {
        let folder = home.join(FOLDER);
        let (db, broken) = match try_open(&folder, cache_bytes, checked) {
            Ok(db) => (db, None),
            Err(e) if is_damage(&e) => {
                let aside = set_aside(home, &folder)?;
                tracing::warn!(error = %e, moved_to = %aside.display(), "the index was damaged: a fresh one is built from the stored files");
                let fresh = try_open(&folder, cache_bytes, checked);
                (fresh.map_err(StoreError::index("be opened"))?, Some(aside))
            }
            Err(e) => return Err(StoreError::index("be opened")(e)),
        };
        Ok((Self { db: Some(db), folder, suspect: AtomicBool::new(false), _lock: lock }, broken))
    }

    /// Wraps an error of the database, and remembers that it is not to be believed any more.
    pub(crate) fn failed(&self, what: &'static str) -> impl FnOnce(sled::Error) -> StoreError + '_ {
        move |source| {
            self.suspect.store(true, Ordering::Relaxed);
            StoreError::index(what)(source)
        }
    }

    /// True once any operation failed.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    fn db(&self) -> Result<&sled::Db, StoreError> {
        self.db.as_ref().ok_or_else(|| StoreError::index("be used")(sled::Error::ReportableBug("it is closed".into())))
    }

    pub(crate) fn tree(&self, name: &str) -> Result<sled::Tree, StoreError> {
        self.db()?.open_tree(name).map_err(self.failed("open a map"))
    }

    /// The database's own flush asks Linux to start writing but not to finish, so its file is synced here.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.db()?.flush().map_err(self.failed("be flushed"))?;
        let path = self.folder.join(DATA_FILE);
        File::open(&path).and_then(|f| f.sync_all()).map_err(StoreError::io("sync", &path))
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let db = self.db.take();
        // On a disk that fails the database panics instead of closing, and a node must be able to stop all the same. All maps
        // are gone by now, since each holds this.
        if panic::catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            tracing::warn!("the index could not be closed: the next start rebuilds it from the stored files");
        }
    }
}

fn try_open(folder: &Path, cache_bytes: u64, checked: Option<&str>) -> Result<sled::Db, sled::Error> {
    let config = sled::Config::new().path(folder).cache_capacity(cache_bytes);
    let started = Instant::now();
    loop {
        // Some kinds of damage make the database assert instead of returning an error.
        let opened = panic::catch_unwind(AssertUnwindSafe(|| {
            let db = config.open()?;
            read_through(&db, checked)?;
            Ok(db)
        }));
        match opened.unwrap_or_else(|_| Err(sled::Error::ReportableBug("it panicked while opening".into()))) {
            Err(sled::Error::Io(e)) if is_busy(&e) && started.elapsed() < REOPEN_WAIT => {
                thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Reads every row of a map, or of all: pages are checked only when they are read.
fn read_through(db: &sled::Db, checked: Option<&str>) -> Result<(), sled::Error> {
    let names = match checked {
        Some(name) => vec![sled::IVec::from(name)],
        None => db.tree_names(),
    };
    names.into_iter().try_for_each(|name| db.open_tree(name)?.iter().try_for_each(|row| row.map(drop)))
}

/// The database's file is still locked. Its message is all there is to tell by.
fn is_busy(e: &io::Error) -> bool {
    e.to_string().contains("could not acquire lock")
}

/// True if a fresh database would help: the bytes are wrong, not the disk, its rights or its space.
fn is_damage(e: &sled::Error) -> bool {
    match e {
        sled::Error::Io(e) => {
            !is_busy(e)
                && matches!(
                    e.kind(),
                    io::ErrorKind::InvalidData
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::Other
                )
        }
        sled::Error::Corruption { .. }
        | sled::Error::ReportableBug(_)
        | sled::Error::Unsupported(_)
        | sled::Error::CollectionNotFound(_) => true,
    }
}

fn set_aside(home: &Path, folder: &Path) -> Result<PathBuf, StoreError> {
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let aside = home.join(format!("{FOLDER}.broken-{stamp}"));
    fs::rename(folder, &aside).map_err(StoreError::io("move aside", folder))?;
    files::sync_dir(home)?;
    Ok(aside)
}
