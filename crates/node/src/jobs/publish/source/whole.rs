//! Whether what is published is all of a model: every file that another one speaks of must be there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Seek as _},
};

use serde::Deserialize;
use zero2ai_chunk::cut::external_files;
use zero2ai_proto::{manifest::Format, rpc::RpcError};

use super::Source;
use crate::serve::errors::invalid;

/// Ending of the file that says which shard holds which tensor.
const INDEX: &str = ".safetensors.index.json";
/// Bytes in it: the largest known ones have some megabytes.
const INDEX_BYTES: u64 = 32 * 1024 * 1024;
/// How a file starts that stands for one which Git LFS did not bring.
const LFS: &[u8] = b"version https://git-lfs.github.com/";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Checks that files name only files of the publication. True if a tensor of an ONNX model lies in another file.
pub(super) fn check(source: &Source) -> Result<bool, RpcError> {
    let sizes: BTreeMap<&str, u64> = source.files.iter().map(|f| (f.path.as_str(), f.size)).collect();
    let mut external = false;
    for (index, file) in source.files.iter().enumerate() {
        let beside = |name: &str| file.path.rsplit_once('/').map_or(name.to_owned(), |(f, _)| format!("{f}/{name}"));
        if file.format == Format::Onnx {
            let needed = external_files(source.open(index)?).map_err(|e| invalid(format!("{}: {e}", file.path)))?;
            for other in needed {
                external = true;
                let path = beside(&other.name);
                match sizes.get(path.as_str()) {
                    None => return Err(missing(&file.path, &path)),
                    Some(size) if *size < other.needs => {
                        let why = format!("{path} is cut short: {} needs {} bytes of it", file.path, other.needs);
                        return Err(invalid(why));
                    }
                    Some(_) => {}
                }
            }
        } else if file.path.ends_with(INDEX) {
            for shard in shards(source, index)? {
                let path = beside(&shard);
                if !sizes.contains_key(path.as_str()) {
                    return Err(missing(&file.path, &path));
                }
            }
        }
    }
    Ok(external)
}

fn missing(file: &str, other: &str) -> RpcError {
    invalid(format!(
        "{file} speaks of '{}', which is not part of what is published: publish the folder that holds both, or download \
         what is missing",
        other.escape_default()
    ))
}

fn shards(source: &Source, index: usize) -> Result<BTreeSet<String>, RpcError> {
    let file = &source.files[index];
    let fail = |why: &dyn std::fmt::Display| invalid(format!("{}: {why}", file.path));
    let mut text = Vec::new();
    source.open(index)?.take(INDEX_BYTES + 1).read_to_end(&mut text).map_err(|e| fail(&e))?;
    if text.len() as u64 > INDEX_BYTES {
        return Err(fail(&format!("a list of shards has {INDEX_BYTES} bytes at most")));
    }
    let list: Index = serde_json::from_slice(&text).map_err(|e| fail(&e))?;
    Ok(list.weight_map.into_values().collect())
}

/// Bytes of a model's settings that are read here.
const SETTINGS_BYTES: u64 = 1024 * 1024;

/// The kind that a folder's `config.json` names, if it has one that can be read.
pub(super) fn kind(source: &Source) -> Result<Option<String>, RpcError> {
    #[derive(Deserialize)]
    struct Settings {
        model_type: Option<String>,
    }
    let Some(index) = source.files.iter().position(|f| f.path == "config.json" && f.size <= SETTINGS_BYTES) else {
        return Ok(None);
    };
    let mut text = Vec::new();
    let read = source.open(index)?.take(SETTINGS_BYTES).read_to_end(&mut text);
    read.map_err(|e| invalid(format!("config.json: {e}")))?;
    let settings: Option<Settings> = serde_json::from_slice(&text).ok();
    Ok(settings.and_then(|s| s.model_type).map(|kind| kind.chars().filter(|c| !c.is_control()).take(64).collect()))
}

/// Why a file's content is not what its name says.
pub(super) fn mistaken(file: &mut File, named: Format) -> String {
    let mut start = Vec::new();
    let read = file.rewind().and_then(|()| file.take(LFS.len() as u64).read_to_end(&mut start));
    if read.is_ok() && start == LFS {
        return "it only stands for the file, which Git LFS did not bring: run 'git lfs pull' in its folder".into();
    }
    format!("its name says {named:?}, but its content is not a whole file of that format: is it cut short?")
}
