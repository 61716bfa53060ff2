//! Which data of a validator's folder is for which model.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use zero2ai_proto::{ModelName, local::LocalData, manifest::Task};

use crate::{
    cli::Columns,
    commands::read_file,
    exit::{Exit, Failure, Outcome},
};

/// Endings of tables.
const TABLES: [&str; 3] = ["csv", "jsonl", "parquet"];
/// Bytes of the settings beside data.
const SETTINGS: u64 = 64 * 1024;

/// What a file beside the data may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    label: Option<String>,
    group: Option<String>,
    slice: Option<String>,
    features: Vec<String>,
    classes: Vec<String>,
}

/// The data for a model that does this, if there are any.
pub(super) fn data_for(folder: &Path, name: &ModelName, task: Task) -> Outcome<Option<LocalData>> {
    let own = folder.join(name.publisher()).join(name.model());
    let shared = match task {
        Task::Generate { .. } => Some("text"),
        Task::Embed { .. } => Some("embedding"),
        Task::Classify { .. } | Task::Tensors => None,
    };
    for base in std::iter::once(own).chain(shared.map(|domain| folder.join(domain))) {
        if let Some(path) = at(&base) {
            return columns(&base)?.of(&path).map(Some);
        }
    }
    Ok(None)
}

/// A table or a folder of this name.
fn at(base: &Path) -> Option<PathBuf> {
    let tables = TABLES.iter().map(|ending| ended(base, ending)).find(|path| path.is_file());
    tables.or_else(|| base.is_dir().then(|| base.to_owned()))
}

/// A name with an ending behind whatever it has: a model's name may hold dots.
fn ended(base: &Path, ending: &str) -> PathBuf {
    let mut name = base.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    base.with_file_name(name)
}

fn columns(base: &Path) -> Outcome<Columns> {
    let path = ended(base, "toml");
    if !path.is_file() {
        return Ok(Columns::default());
    }
    let bad = |why: String| Failure::new(Exit::Config, format!("{}: {why}.", path.display()));
    let text = String::from_utf8(read_file("read the settings", &path, SETTINGS)?).map_err(|e| bad(e.to_string()))?;
    let Settings { label, group, slice, features, classes } = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
    Ok(Columns { label, group, slice, features, classes })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn data_are_found_by_name_then_by_what_the_model_does() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("lab/digits.v2.csv", "1,0\n");
        put("lab/digits.v2.toml", "label = \"class\"\nclasses = [\"no\", \"yes\"]\n");
        put("lab/cats/a/1.png", "");
        put("text.jsonl", "{}");
        let find = |name: &str, task| data_for(dir.path(), &name.parse().unwrap(), task);
        let found = find("lab/digits.v2", Task::Classify { classes: 2 }).unwrap().unwrap();
        assert!(found.path.ends_with("lab/digits.v2.csv"));
        assert_eq!((found.label.as_deref(), found.classes.len()), (Some("class"), 2));
        assert!(find("lab/cats", Task::Tensors).unwrap().unwrap().path.ends_with("lab/cats"));
        assert!(find("other/chat", Task::Generate { context: 8 }).unwrap().unwrap().path.ends_with("text.jsonl"));
        assert_eq!(find("lab/other", Task::Tensors).unwrap(), None);
        put("lab/digits.v2.toml", "lable = 1\n");
        assert_eq!(find("lab/digits.v2", Task::Tensors).unwrap_err().exit, Exit::Config);
    }
}
