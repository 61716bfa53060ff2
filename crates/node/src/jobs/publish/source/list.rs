//! The paths below a folder, bounded. Hidden files stay out; what is neither a file nor a folder is refused, so that
//! nobody wonders where it went.

use std::{fs, path::Path};

use zero2ai_proto::{limits::MANIFEST_FILES, manifest::path_is_usable, rpc::RpcError};

use super::too_many;
use crate::serve::errors::invalid;

/// Folders within folders. Real models have one or two.
const DEPTH: usize = 8;
/// Entries looked at, hidden ones among them.
const ENTRIES: usize = 16 * MANIFEST_FILES;

/// Relative paths of the files below `folder`, in ascending order of their bytes.
pub(super) fn paths(folder: &Path) -> Result<Vec<String>, RpcError> {
    let (mut paths, mut seen) = (Vec::new(), 0);
    walk(folder, folder, "", DEPTH, &mut seen, &mut paths)?;
    if paths.is_empty() {
        return Err(invalid(format!("{} holds no files, or hidden ones only", folder.display())));
    }
    paths.sort_unstable();
    Ok(paths)
}

fn walk(
    top: &Path,
    folder: &Path,
    prefix: &str,
    depth: usize,
    seen: &mut usize,
    paths: &mut Vec<String>,
) -> Result<(), RpcError> {
    let fail = |e: std::io::Error| invalid(format!("{} cannot be read: {e}", folder.display()));
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        *seen += 1;
        if *seen > ENTRIES || paths.len() > MANIFEST_FILES {
            return Err(too_many(top));
        }
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = name.to_str().map(|n| format!("{prefix}{n}")).filter(|p| path_is_usable(p));
        let path = path.ok_or_else(|| {
            invalid(format!(
                "{:?} has a name that a model cannot hold: not UTF-8, too long, or with odd characters",
                entry.path()
            ))
        })?;
        // Of the entry itself: a link is not followed.
        let kind = entry.file_type().map_err(fail)?;
        if kind.is_symlink() {
            return Err(invalid(link(&path)));
        } else if kind.is_file() {
            paths.push(path);
        } else if !kind.is_dir() {
            return Err(invalid(no_file(&path)));
        } else if depth == 0 {
            return Err(invalid(format!("{} is nested deeper than {DEPTH} folders", entry.path().display())));
        } else {
            walk(top, &entry.path(), &format!("{path}/"), depth - 1, seen, paths)?;
        }
    }
    if paths.len() > MANIFEST_FILES { Err(too_many(top)) } else { Ok(()) }
}

/// The word on a symbolic link.
pub(super) fn link(path: &str) -> String {
    format!(
        "{path} is a symbolic link, or lies behind one, and no link is followed: what it points to may lie outside of what you \
         meant to publish. Copy the folder with 'cp -rL' and publish the copy"
    )
}

/// The word on a pipe, a socket or a device.
pub(super) fn no_file(path: &str) -> String {
    format!("{path} is no plain file: move it away, or publish another folder")
}
