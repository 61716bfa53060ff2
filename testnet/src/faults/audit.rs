//! Looks at a home that nobody has open: every file that stands under its final name must be whole. It reads the files
//! itself, not through the store.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use zero2ai_proto::{Cid, ManifestId};

/// What lies in a home's store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Chunk files: all that have their final place, which are whole, and of those that just arrived the whole ones, which
    /// the next open takes in.
    pub chunks: u64,
    /// Manifest files, all whole.
    pub manifests: u64,
}

/// Hashes every chunk and manifest file in the store folder `store`.
///
/// # Errors
/// One of them does not have the hash it is named by, or cannot be read.
pub fn audit(store: &Path) -> Result<Audit> {
    let mut found = Audit::default();
    for folder in list(&store.join("chunks"))? {
        for file in list(&folder)? {
            let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
            anyhow::ensure!(Cid::of(&bytes).to_string() == name(&file), "{} is not whole", file.display());
            found.chunks += 1;
        }
    }
    for file in list(&store.join("arriving"))?.iter().map(|folder| list(folder)).collect::<Result<Vec<_>>>()?.concat() {
        let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
        found.chunks += u64::from(Cid::of(&bytes).to_string() == name(&file));
    }
    for file in list(&store.join("manifests"))? {
        let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
        anyhow::ensure!(ManifestId::of(&bytes).to_string() == name(&file), "{} is not whole", file.display());
        found.manifests += 1;
    }
    Ok(found)
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The entries of a folder; none if it is not there yet.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|e| Ok(e?.path())).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| dir.display().to_string()),
    }
}
