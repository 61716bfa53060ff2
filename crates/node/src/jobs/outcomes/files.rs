//! Outcomes on disk: `outcomes/kept/` has two files for each one, a small one and the report itself, `outcomes/out/` those that wait
//! for their owner. All of them are this user's alone to read: they hold what callers asked in the clear.

use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use zero2ai_proto::{decode, encode};
use zero2ai_store::secret_file;

/// The folder in the home.
const FOLDER: &str = "outcomes";
/// Bytes of a file that holds no report: a list of a thousand rows, alarms or accounts takes less.
const SMALL: usize = 4 * 1024 * 1024;

/// The folder of those that came.
pub(super) fn kept_folder(home: &Path) -> PathBuf {
    home.join(FOLDER).join("kept")
}

/// The folder of those that wait.
pub(super) fn out_folder(home: &Path) -> PathBuf {
    home.join(FOLDER).join("out")
}

/// What is known of one that came.
pub(super) fn kept_file(home: &Path, place: u64) -> PathBuf {
    kept_folder(home).join(format!("{place:020}.cbor"))
}

/// Its report.
pub(super) fn report_file(home: &Path, place: u64) -> PathBuf {
    kept_folder(home).join(format!("{place:020}.report"))
}

/// What is known of accounts' outcomes that are gone.
pub(super) fn pasts_file(home: &Path) -> PathBuf {
    home.join(FOLDER).join("pasts.cbor")
}

/// The alarms.
pub(super) fn alarms_file(home: &Path) -> PathBuf {
    home.join(FOLDER).join("alarms.cbor")
}

/// Writes a value durably.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> Result<u64, String> {
    let bytes = encode(value).map_err(|e| e.to_string())?;
    secret_file::atomic_write(path, &bytes).map_err(|e| e.to_string())?;
    Ok(bytes.len() as u64)
}

/// Reads a value of at most `max` bytes.
pub(super) fn read<T: Serialize + DeserializeOwned>(path: &Path, max: usize) -> Result<T, String> {
    let bytes = secret_file::read(path, max).map_err(|e| e.to_string())?;
    decode(&bytes, max).map_err(|e| e.to_string())
}

/// The same of a small file that need not be there; one that is damaged is told and left out.
pub(super) fn read_small<T: Serialize + DeserializeOwned + Default>(path: &Path) -> T {
    let missing = !secret_file::exists(path).unwrap_or(true);
    if missing {
        return T::default();
    }
    read(path, SMALL).unwrap_or_else(|error| {
        tracing::warn!(file = %path.display(), %error, "a file of outcomes is not read");
        T::default()
    })
}

/// The files of a folder that end so, in order of name; none if there is no folder.
pub(super) fn list(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        entries.map(|e| e.path()).filter(|path| path.extension().is_some_and(|e| e == end)).collect();
    paths.sort();
    paths
}

/// Deletes one that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot delete {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}
