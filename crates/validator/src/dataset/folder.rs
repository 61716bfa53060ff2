//! Folders of pictures or sounds: a folder a class, or `labels.csv` or `labels.jsonl` with the columns `file` and `label` (of sounds also
//! `start` and `end`, seconds). Links are not followed, hidden files left out.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use zero2ai_media::Kind;
use zero2ai_proto::{limits::CLASSES, local::LocalData};

use super::{
    BYTES, Dataset, DatasetError, Medium, SAMPLES, Samples,
    columns::{class_of, numbered},
    shown, table,
};

/// Files read below one folder, each once, within [`BYTES`] in all.
pub(super) struct Files {
    folder: PathBuf,
    held: BTreeMap<PathBuf, Arc<[u8]>>,
    bytes: u64,
}

impl Files {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), held: BTreeMap::new(), bytes: 0 }
    }

    /// What a file below the folder holds.
    pub(super) fn content(&mut self, path: &Path) -> Result<Arc<[u8]>, String> {
        if let Some(content) = self.held.get(path) {
            return Ok(Arc::clone(content));
        }
        let fail = |why: &dyn std::fmt::Display| format!("'{}': {why}", path.display());
        if !path.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(fail(&"a file is named by its path below the folder of the table"));
        }
        let full = self.folder.join(path);
        let meta = fs::symlink_metadata(&full).map_err(|e| fail(&e))?;
        if !meta.is_file() {
            return Err(fail(&"it is no plain file (links are not followed)"));
        }
        let left = BYTES.saturating_sub(self.bytes);
        let mut content = Vec::new();
        File::open(&full)
            .and_then(|f| f.take(left.saturating_add(1)).read_to_end(&mut content))
            .map_err(|e| fail(&e))?;
        if content.len() as u64 > left {
            return Err(fail(&format!("the files have more than {BYTES} bytes together: take fewer")));
        }
        self.bytes = self.bytes.saturating_add(content.len() as u64);
        let content: Arc<[u8]> = content.into();
        self.held.insert(path.to_owned(), Arc::clone(&content));
        Ok(content)
    }
}

/// Pictures or sounds: all of one kind.
pub(super) fn media(all: Vec<(PathBuf, Medium)>, labels: Vec<u16>) -> Result<Samples, DatasetError> {
    let mut sounds = None;
    for (path, medium) in &all {
        let kind = Kind::of(&medium.content);
        let fail = |why: String| Err(DatasetError::new(path.display().to_string(), why));
        if !kind.is_sound() && !kind.is_picture() {
            return fail(format!("it is {kind}, and neither a picture nor a sound: take it out"));
        }
        if *sounds.get_or_insert(kind.is_sound()) != kind.is_sound() {
            return fail(format!(
                "it is {kind}, and the files before are not: pictures and sounds are two sets of data"
            ));
        }
        if medium.span.is_some() && !kind.is_sound() {
            return fail("'start' and 'end' are for sounds".into());
        }
    }
    let media = all.into_iter().map(|(_, medium)| medium).collect();
    Ok(if sounds == Some(true) { Samples::Sounds(media, labels) } else { Samples::Pictures(media, labels) })
}

/// Reads a folder.
pub(super) fn read(folder: &Path, data: &LocalData) -> Result<Dataset, DatasetError> {
    for name in ["labels.csv", "labels.jsonl", "labels.parquet"] {
        let path = folder.join(name);
        if path.is_file() {
            return table::read(&path, data);
        }
    }
    if let Some(column) = [&data.label, &data.group, &data.slice].into_iter().flatten().chain(&data.features).next() {
        let why = format!("column '{column}' is named, and there is no labels.csv or labels.jsonl with columns");
        return Err(DatasetError::new(shown(folder), why));
    }
    by_class(folder, data)
}

/// Names in a folder, in their order; hidden ones left out.
fn names(folder: &Path) -> Result<Vec<(String, fs::FileType)>, DatasetError> {
    let fail = |e: std::io::Error| DatasetError::new(shown(folder), e.to_string());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|odd| DatasetError::new(odd.to_string_lossy(), "its name is not UTF-8: rename it"))?;
        if name.starts_with('.') {
            continue;
        }
        if found.len() > SAMPLES {
            return Err(DatasetError::new(shown(folder), format!("more than {SAMPLES} files: split the data")));
        }
        found.push((name, entry.file_type().map_err(fail)?));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn by_class(folder: &Path, data: &LocalData) -> Result<Dataset, DatasetError> {
    let classes: Vec<String> = names(folder)?.into_iter().filter(|(_, t)| t.is_dir()).map(|(n, _)| n).collect();
    let help = "give a folder a class, or labels.csv with the columns file and label";
    if classes.is_empty() || classes.len() > CLASSES {
        return Err(DatasetError::new(shown(folder), format!("{} folders in it: {help}", classes.len())));
    }
    let numbers = classes.iter().all(|c| class_of(c, &[]).is_some());
    let (order, mut called, mut notes) = (numbered(classes.iter().cloned()), data.classes.clone(), Vec::new());
    if called.is_empty() && !numbers {
        called = order.keys().cloned().collect();
        notes.push(format!(
            "The folders name the classes; they were numbered in the order of their names: {}.",
            called.join(", ")
        ));
    }
    let (mut files, mut all, mut labels) = (Files::new(folder), Vec::new(), Vec::new());
    for class in &classes {
        let unknown = || DatasetError::new(class, format!("the folder is none of the classes {}", called.join(", ")));
        let label = class_of(class, &called).ok_or_else(unknown)?;
        for (name, _) in names(&folder.join(class))? {
            if all.len() >= SAMPLES {
                return Err(DatasetError::new(shown(folder), format!("more than {SAMPLES} files: split the data")));
            }
            let path = Path::new(class).join(name);
            let content = files.content(&path).map_err(|why| DatasetError::new(shown(folder), why))?;
            all.push((path, Medium { content, span: None }));
            labels.push(label);
        }
    }
    if all.is_empty() {
        return Err(DatasetError::new(shown(folder), format!("no files in its folders: {help}")));
    }
    Ok(Dataset { samples: media(all, labels)?, groups: None, slices: None, names: called, notes })
}
