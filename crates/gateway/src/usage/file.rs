//! The file of usage: a line of figures for each token's id, written whole.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Bytes of the file at most: all tokens that are kept, several times over.
const FILE_BYTES: u64 = 1024 * 1024;

/// What one token has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Tokens of text, read and written, and rows of predictions.
    pub units: u64,
    /// What a start counts as used if the node did not stop in order: [`Self::units`], and all that calls in hand could take.
    pub counted: u64,
    /// Calls that took units.
    pub calls: u64,
    /// When the last of them came, milliseconds since 1970 UTC.
    pub last_ms: u64,
}

/// The file holds something else, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} does not tell what tokens have used ({why}): no budget can be kept without it; restore it, or delete it to count from \
     nothing", path.display()
)]
pub struct UsageError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub why: String,
}

/// Reads the usage of every token by its id; none is an empty list.
///
/// # Errors
/// [`UsageError`].
pub fn read(path: &Path) -> Result<BTreeMap<String, Usage>, UsageError> {
    let wrong = |why: &dyn fmt::Display| UsageError { path: path.to_owned(), why: why.to_string() };
    let file = match fs::File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other.map_err(|e| wrong(&e))?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| wrong(&e))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(wrong(&format!("it is longer than {FILE_BYTES} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|e| wrong(&e))
}

/// Writes it durably and whole: a neighbour first, then a rename, then the folder.
pub(super) fn write(path: &Path, all: &BTreeMap<String, Usage>) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(all)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}
