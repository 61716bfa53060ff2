//! A validator's own data as samples: tables in CSV, JSONL or Parquet, and folders of pictures or sounds. Owns what may be in
//! them and how much; knows nothing of models.
//!
//! | module | owns |
//! |---|---|
//! | [`table`] | the three formats of tables, record by record |
//! | [`columns`] | what the columns of a table mean, and records as samples |
//! | [`folder`] | pictures and sounds: a folder a class, or a table of labels beside them |
//!
//! What a table holds, its columns say: `prompt` is for models that write text (beside it `expected`, one answer or a list),
//! `query` and `relevant` for embedders, `file` for pictures or sounds beside the table; everything else is rows of numbers with
//! a class, by default in the last column.

use std::{path::Path, sync::Arc};

use zero2ai_ledger::receipt_log::root_of;
use zero2ai_proto::{Digest, local::LocalData};

pub mod columns;
pub mod folder;
pub mod table;

/// Samples of one dataset: enough for any interval that matters, few enough to hold.
pub const SAMPLES: usize = 100_000;
/// Numbers of one row.
pub const FEATURES: usize = 65_536;
/// Bytes of a table, and of all files of a folder together: both are held in memory while a model is run.
pub const BYTES: u64 = 256 * 1024 * 1024;
/// Numbers of all rows together: 256 MiB of them.
pub const NUMBERS: usize = 64 * 1024 * 1024;
/// Bytes of one text.
pub const TEXT_BYTES: usize = 256 * 1024;
pub use zero2ai_proto::limits::ANSWERS;

/// Data that cannot be used: where, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct DatasetError {
    /// The file, and in it the line, row or column.
    pub place: String,
    /// What is wrong there.
    pub why: String,
}

impl DatasetError {
    pub(crate) fn new(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self { place: place.into(), why: why.into() }
    }
}

/// A prompt and what may be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What the model is given.
    pub prompt: String,
    /// Answers that are right, at least one.
    pub expected: Vec<String>,
}

/// A query and the text that is to be found with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What is searched for.
    pub query: String,
    /// What should be found.
    pub relevant: String,
}

/// A part of a sound, seconds from its beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Where it begins.
    pub start: f64,
    /// Where it ends.
    pub end: f64,
}

/// A picture, or a sound or a part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Medium {
    /// The file's bytes; parts of one sound share them.
    pub content: Arc<[u8]>,
    /// The part that is labelled; none is all of it.
    pub span: Option<Span>,
}

/// Samples of one kind, in the order of the data.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// Rows of numbers, all of one length, and the class of each.
    Rows(Vec<Vec<f32>>, Vec<u16>),
    /// Pictures and the class of each.
    Pictures(Vec<Medium>, Vec<u16>),
    /// Sounds and the class of each.
    Sounds(Vec<Medium>, Vec<u16>),
    /// For models that write text.
    Prompts(Vec<Prompt>),
    /// For embedders.
    Pairs(Vec<Pair>),
}

/// A validator's samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The samples.
    pub samples: Samples,
    /// The group of each sample, where a column names it.
    pub groups: Option<Vec<String>>,
    /// The part of the data that each belongs to, likewise.
    pub slices: Option<Vec<String>>,
    /// What the classes are called, if they have names.
    pub names: Vec<String>,
    /// What a reader of a report must know of how it was read.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Reads what lies at `data.path`: by its ending a table (`.csv`, `.jsonl`, `.parquet`), or a folder.
    ///
    /// # Errors
    /// See [`DatasetError`].
    pub fn read(data: &LocalData) -> Result<Self, DatasetError> {
        let path = Path::new(&data.path);
        let meta = std::fs::metadata(path).map_err(|e| DatasetError::new(shown(path), e.to_string()))?;
        let read = if meta.is_dir() { folder::read(path, data)? } else { table::read(path, data)? };
        if read.is_empty() {
            return Err(DatasetError::new(shown(path), "it holds no samples"));
        }
        Ok(read)
    }

    /// How many samples there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.samples {
            Samples::Rows(rows, _) => rows.len(),
            Samples::Pictures(media, _) | Samples::Sounds(media, _) => media.len(),
            Samples::Prompts(prompts) => prompts.len(),
            Samples::Pairs(pairs) => pairs.len(),
        }
    }

    /// True without samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of each sample, where samples have classes.
    #[must_use]
    pub fn labels(&self) -> Option<&[u16]> {
        match &self.samples {
            Samples::Rows(_, labels) | Samples::Pictures(_, labels) | Samples::Sounds(_, labels) => Some(labels),
            Samples::Prompts(_) | Samples::Pairs(_) => None,
        }
    }

    /// The groups as numbers, in the order of their names.
    #[must_use]
    pub fn group_numbers(&self) -> Option<Vec<u32>> {
        let groups = self.groups.as_ref()?;
        let mut names: Vec<&String> = groups.iter().collect();
        names.sort();
        names.dedup();
        let number = |g: &String| names.binary_search(&g).ok().and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX);
        Some(groups.iter().map(number).collect())
    }

    /// What samples are, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.samples {
            Samples::Rows(..) => "rows of numbers",
            Samples::Pictures(..) => "pictures",
            Samples::Sounds(..) => "sounds",
            Samples::Prompts(_) => "prompts",
            Samples::Pairs(_) => "queries",
        }
    }

    /// RFC 6962 root over the samples in ascending order of bytes: shuffling the data does not make them others. A row is its
    /// numbers, then its class, little-endian; of pictures and sounds the SHA-256 of the file stands for it, then the part of it, then the
    /// class; texts stand behind their length.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut leaves: Vec<Vec<u8>> = (0..self.len()).map(|i| self.leaf(i)).collect();
        leaves.sort();
        root_of(leaves)
    }

    /// The hash of one sample, as leaves have it before they are salted; `None` beyond the last.
    #[must_use]
    pub fn sample_hash(&self, sample: usize) -> Option<Digest> {
        (sample < self.len()).then(|| crate::Row::hash(&self.leaf(sample)))
    }

    /// The bytes that stand for one sample.
    pub(crate) fn leaf(&self, sample: usize) -> Vec<u8> {
        match &self.samples {
            Samples::Rows(rows, labels) => {
                let features = rows[sample].iter().flat_map(|v| v.to_le_bytes());
                features.chain(labels[sample].to_le_bytes()).collect()
            }
            Samples::Pictures(media, labels) | Samples::Sounds(media, labels) => {
                let Medium { content, span } = &media[sample];
                let mut leaf = <sha2::Sha256 as sha2::Digest>::digest(content).to_vec();
                leaf.extend(span.iter().flat_map(|s| [s.start, s.end]).flat_map(f64::to_le_bytes));
                leaf.extend(labels[sample].to_le_bytes());
                leaf
            }
            Samples::Prompts(prompts) => {
                let Prompt { prompt, expected } = &prompts[sample];
                texts(std::iter::once(prompt).chain(expected))
            }
            Samples::Pairs(pairs) => texts([&pairs[sample].query, &pairs[sample].relevant]),
        }
    }
}

fn texts<'a>(all: impl IntoIterator<Item = &'a String>) -> Vec<u8> {
    let one = |t: &'a String| (t.len() as u64).to_le_bytes().into_iter().chain(t.bytes());
    all.into_iter().flat_map(one).collect()
}

/// A path's last part: what a person needs, and nothing of the machine.
pub(crate) fn shown(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
