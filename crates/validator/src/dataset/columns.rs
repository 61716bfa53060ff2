//! What the columns of a table mean: decided by their names at the first record, held for all others.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use zero2ai_proto::{limits::CLASSES, local::LocalData};

use super::{
    ANSWERS, Dataset, DatasetError, FEATURES, Medium, NUMBERS, Pair, Prompt, SAMPLES, Samples, Span, TEXT_BYTES,
    folder::{Files, media},
};

/// One value of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    /// Nothing.
    Missing,
    /// A number that the format knows as one.
    Number(f64),
    /// Text; in CSV everything is.
    Text(Cow<'a, str>),
    /// A list of numbers.
    Numbers(Vec<f64>),
    /// A list of texts.
    Texts(Vec<String>),
}

/// What the table is.
enum Layout {
    Rows { features: Vec<String>, label: String },
    Prompts { expected: String },
    Pairs,
    Files { label: String },
}

/// Makes samples of records.
pub(crate) struct Builder<'a> {
    data: &'a LocalData,
    name: String,
    /// Records have their columns in the order of the file.
    ordered: bool,
    layout: Option<Layout>,
    width: usize,
    rows: Vec<Vec<f32>>,
    labels: Vec<u16>,
    prompts: Vec<Prompt>,
    pairs: Vec<Pair>,
    files: Files,
    media: Vec<(PathBuf, Medium)>,
    groups: Vec<String>,
    slices: Vec<String>,
}

type Record<'r, 'c> = [(&'r str, Cell<'c>)];

/// The cell of a column; `near` is where it probably stands.
fn find<'r, 'c>(record: &'r Record<'_, 'c>, column: &str, near: usize) -> Option<&'r Cell<'c>> {
    match record.get(near) {
        Some((name, cell)) if *name == column => Some(cell),
        _ => record.iter().find(|(name, _)| *name == column).map(|(_, cell)| cell),
    }
}

impl<'a> Builder<'a> {
    /// For the table called `name` in the folder `beside`.
    pub(crate) fn new(data: &'a LocalData, name: &str, beside: &Path, ordered: bool) -> Self {
        Self {
            data,
            name: name.to_owned(),
            ordered,
            layout: None,
            width: 0,
            rows: Vec::new(),
            labels: Vec::new(),
            prompts: Vec::new(),
            pairs: Vec::new(),
            files: Files::new(beside),
            media: Vec::new(),
            groups: Vec::new(),
            slices: Vec::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Adds a record that stands at `place`.
    pub(crate) fn add(&mut self, place: &str, record: &Record<'_, '_>) -> Result<(), DatasetError> {
        let fail = |why: String| DatasetError::new(place, why);
        if self.rows.len().max(self.prompts.len()).max(self.pairs.len()).max(self.media.len()) >= SAMPLES {
            return Err(fail(format!("more than {SAMPLES} samples: split the data")));
        }
        if self.layout.is_none() {
            self.layout = Some(layout(record, self.data, self.ordered).map_err(fail)?);
        }
        let Some(layout) = &self.layout else { return Ok(()) };
        match layout {
            Layout::Rows { features, label } => {
                let mut row = Vec::with_capacity(features.len());
                for (near, column) in features.iter().enumerate() {
                    numbers(record, column, near, &mut row).map_err(|why| fail(format!("column '{column}': {why}")))?;
                }
                if row.is_empty() || row.len() > FEATURES {
                    return Err(fail(format!("{} numbers; a row has 1 to {FEATURES}", row.len())));
                }
                if self.rows.is_empty() {
                    self.width = row.len();
                }
                if row.len() != self.width {
                    return Err(fail(format!("{} numbers where the rows before have {}", row.len(), self.width)));
                }
                if self.rows.len().saturating_add(1).saturating_mul(self.width) > NUMBERS {
                    return Err(fail(format!("more than {NUMBERS} numbers in all: split the data")));
                }
                self.labels.push(class(record, label, &self.data.classes).map_err(fail)?);
                self.rows.push(row);
            }
            Layout::Prompts { expected } => {
                let prompt = text(record, "prompt").map_err(fail)?;
                let expected = answers(record, expected).map_err(fail)?;
                self.prompts.push(Prompt { prompt, expected });
            }
            Layout::Pairs => {
                let (query, relevant) = (text(record, "query").map_err(fail)?, text(record, "relevant").map_err(fail)?);
                self.pairs.push(Pair { query, relevant });
            }
            Layout::Files { label } => {
                let path = PathBuf::from(text(record, "file").map_err(fail)?);
                let span = span(record).map_err(fail)?;
                self.labels.push(class(record, label, &self.data.classes).map_err(fail)?);
                let content = self.files.content(&path).map_err(fail)?;
                self.media.push((path, Medium { content: Arc::clone(&content), span }));
            }
        }
        for (column, kept) in [(&self.data.group, &mut self.groups), (&self.data.slice, &mut self.slices)] {
            if let Some(column) = column {
                kept.push(word(record, column).map_err(fail)?);
            }
        }
        Ok(())
    }

    /// The samples.
    pub(crate) fn finish(self) -> Result<Dataset, DatasetError> {
        let samples = match self.layout {
            None => return Err(DatasetError::new(self.name, "it holds no samples: give a line or row for each")),
            Some(Layout::Rows { .. }) => Samples::Rows(self.rows, self.labels),
            Some(Layout::Prompts { .. }) => Samples::Prompts(self.prompts),
            Some(Layout::Pairs) => Samples::Pairs(self.pairs),
            Some(Layout::Files { .. }) => media(self.media, self.labels)?,
        };
        Ok(Dataset {
            samples,
            groups: self.data.group.as_ref().map(|_| self.groups),
            slices: self.data.slice.as_ref().map(|_| self.slices),
            names: self.data.classes.clone(),
            notes: Vec::new(),
        })
    }
}

/// What a table of such records is.
fn layout(record: &Record<'_, '_>, data: &LocalData, ordered: bool) -> Result<Layout, String> {
    let has = |column: &str| record.iter().any(|(name, _)| *name == column);
    for named in [&data.label, &data.group, &data.slice].into_iter().flatten().chain(&data.features) {
        if !has(named) {
            let all: Vec<&str> = record.iter().map(|(name, _)| *name).take(20).collect();
            return Err(format!("there is no column '{named}': the columns are {}", all.join(", ")));
        }
    }
    if data.classes.len() > CLASSES {
        return Err(format!("{} classes are named; at most {CLASSES} can be graded", data.classes.len()));
    }
    if has("prompt") {
        let expected = data.label.clone().unwrap_or_else(|| "expected".into());
        return Ok(Layout::Prompts { expected });
    }
    if has("query") && has("relevant") {
        return Ok(Layout::Pairs);
    }
    if has("file") {
        return Ok(Layout::Files { label: data.label.clone().unwrap_or_else(|| "label".into()) });
    }
    let beside = [&data.group, &data.slice];
    let is_beside = |name: &str| beside.iter().any(|b| b.as_deref() == Some(name));
    // A JSON object has no last field.
    let last = record.iter().rev().map(|(name, _)| *name).find(|name| ordered && !is_beside(name));
    let usual = ["label", "class", "target"].into_iter().find(|name| has(name));
    let label = data.label.clone().or_else(|| usual.map(str::to_owned)).or_else(|| last.map(str::to_owned));
    let label = label.ok_or("there is no column for the class: name it with --label")?;
    let features: Vec<String> = if data.features.is_empty() {
        let features = record.iter().map(|(name, _)| *name).filter(|name| *name != label && !is_beside(name));
        features.map(str::to_owned).collect()
    } else {
        data.features.clone()
    };
    if features.is_empty() {
        return Err("features and a class are needed".into());
    }
    if !ordered && data.features.is_empty() && features.len() > 1 {
        return Err("a JSON object has no order: name the columns in the model's order with --features, or give them as one list".into());
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = record.iter().map(|(name, _)| *name).find(|name| !seen.insert(*name)) {
        return Err(format!("two columns are called '{twice}': rename one"));
    }
    Ok(Layout::Rows { features, label })
}

fn cell<'r, 'c>(record: &'r Record<'_, 'c>, column: &str) -> Result<&'r Cell<'c>, String> {
    find(record, column, usize::MAX).ok_or_else(|| format!("there is no '{column}' here"))
}

/// The number or numbers of a column.
fn numbers(record: &Record<'_, '_>, column: &str, near: usize, row: &mut Vec<f32>) -> Result<(), String> {
    // Rounded to what models take.
    #[allow(clippy::cast_possible_truncation)]
    let mut push = |value: f64| {
        let value = value as f32;
        row.push(value);
        if value.is_finite() { Ok(()) } else { Err("a number that is not finite in single precision".to_owned()) }
    };
    match find(record, column, near) {
        Some(Cell::Number(value)) => push(*value),
        Some(Cell::Numbers(values)) => values.iter().try_for_each(|v| push(*v)),
        Some(Cell::Text(text)) => {
            let value: f32 = text.parse().map_err(|_| format!("'{}' is no number", short(text)))?;
            push(f64::from(value))
        }
        Some(Cell::Texts(_)) => Err("texts where numbers are needed".into()),
        Some(Cell::Missing) | None => Err("nothing here: leave the row out, or fill it in".into()),
    }
}

/// The class of a label: its number, or the place of its name among `names`.
fn class(record: &Record<'_, '_>, column: &str, names: &[String]) -> Result<u16, String> {
    let number = |value: f64| -> Option<u16> {
        let whole = value.fract() == 0.0 && (0.0..=f64::from(u16::MAX)).contains(&value);
        // Just checked.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        whole.then_some(value as u16)
    };
    let bad = |shown: &str| {
        if names.is_empty() {
            format!(
                "'{shown}' in column '{column}' is no class: classes are 0, 1, 2, …; if they have names, give these with --classes in the \
                     order of the model's outputs"
            )
        } else {
            format!("'{shown}' in column '{column}' is none of the classes {}", names.join(", "))
        }
    };
    match cell(record, column)? {
        Cell::Number(value) => number(*value).ok_or_else(|| bad(&value.to_string())),
        Cell::Text(text) => class_of(text, names).ok_or_else(|| bad(short(text))),
        Cell::Missing => Err(format!("column '{column}' is empty: every sample needs a class")),
        Cell::Numbers(_) | Cell::Texts(_) => Err(format!("column '{column}' holds a list; a sample has one class")),
    }
}

/// The class that a name or number stands for.
pub(super) fn class_of(text: &str, names: &[String]) -> Option<u16> {
    if let Some(place) = names.iter().position(|name| name == text) {
        return u16::try_from(place).ok();
    }
    let value: f32 = text.parse().ok()?;
    let whole = value.fract() == 0.0 && (0.0..=f32::from(u16::MAX)).contains(&value);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (whole && names.is_empty()).then_some(value as u16)
}

fn text(record: &Record<'_, '_>, column: &str) -> Result<String, String> {
    match cell(record, column)? {
        Cell::Text(text) if text.len() > TEXT_BYTES => Err(format!("'{column}' has more than {TEXT_BYTES} bytes")),
        Cell::Text(text) if !text.trim().is_empty() => Ok(text.to_string()),
        Cell::Text(_) | Cell::Missing => Err(format!("'{column}' is empty")),
        Cell::Number(_) | Cell::Numbers(_) | Cell::Texts(_) => Err(format!("'{column}' must be a text")),
    }
}

fn answers(record: &Record<'_, '_>, column: &str) -> Result<Vec<String>, String> {
    let all = match cell(record, column)? {
        Cell::Texts(all) if all.len() <= ANSWERS && all.iter().all(|t| t.len() <= TEXT_BYTES) => all.clone(),
        Cell::Texts(_) => return Err(format!("'{column}' has more than {ANSWERS} answers, or one too long")),
        Cell::Number(value) => vec![value.to_string()],
        _ => vec![text(record, column)?],
    };
    if all.iter().any(|t| !t.trim().is_empty()) { Ok(all) } else { Err(format!("'{column}' is empty")) }
}

/// A group or part of the data: a word or a number.
fn word(record: &Record<'_, '_>, column: &str) -> Result<String, String> {
    match cell(record, column)? {
        Cell::Text(text) if text.len() <= 256 && !text.trim().is_empty() => Ok(text.to_string()),
        Cell::Number(value) => Ok(value.to_string()),
        _ => Err(format!("column '{column}' must be a word of at most 256 bytes, or a number")),
    }
}

/// The part of a sound that a record speaks of: `start` and `end`, seconds.
fn span(record: &Record<'_, '_>) -> Result<Option<Span>, String> {
    let seconds = |column: &str| -> Result<Option<f64>, String> {
        let value = match find(record, column, usize::MAX) {
            None | Some(Cell::Missing) => return Ok(None),
            Some(Cell::Text(text)) if text.is_empty() => return Ok(None),
            Some(Cell::Number(value)) => Some(*value),
            Some(Cell::Text(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let value = value.filter(|v| v.is_finite() && *v >= 0.0);
        value.map(Some).ok_or_else(|| format!("'{column}' must be seconds from the beginning"))
    };
    match (seconds("start")?, seconds("end")?) {
        (None, None) => Ok(None),
        (Some(start), Some(end)) if start < end => Ok(Some(Span { start, end })),
        _ => Err("'start' and 'end' belong together, and the first comes first".into()),
    }
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(40)]
}

/// Names of classes by what the data say, for folders: in the order of their names.
pub(super) fn numbered(names: impl IntoIterator<Item = String>) -> BTreeMap<String, u16> {
    let names: std::collections::BTreeSet<String> = names.into_iter().collect();
    names.into_iter().zip(0u16..).collect()
}
