//! ONNX tensors that lie in files beside the model (`TensorProto.external_data`): which files, and how long they must be.
//! Names come from strangers: a plain file name is taken as the name of a file of the same folder of the same model, and
//! everything else is refused. No path is ever opened on a model's word.

use std::{
    collections::BTreeMap,
    io::{BufReader, Read, Seek},
};

use zero2ai_proto::{
    limits::{LABEL_BYTES, MANIFEST_FILES},
    manifest::Format,
};

use super::{CutError, malformed, onnx::varint, size_of};

/// Messages within messages: graphs nest through attributes. protobuf itself allows 100.
const DEPTH: u32 = 64;
/// Fields read in all: some ten for each tensor and node of the largest models, with much room.
const FIELDS: u64 = 1 << 26;
/// Bytes in a key or value that is read: a file name and two numbers.
const ENTRY_BYTES: u64 = 4_096;

/// A file beside an ONNX model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalFile {
    /// Its name, without any folder.
    pub name: String,
    /// Bytes it must have at least.
    pub needs: u64,
}

/// Messages that lead to tensors.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    Tensor,
    Entry,
}

impl Message {
    /// The message in a field; `None` for what leads to no tensor (numbers of onnx.proto).
    fn field(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) | (Self::Training, 1 | 2) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Function, 7) | (Self::Graph, 1) => Self::Node,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Self::Tensor,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::Sparse,
            (Self::Tensor, 13) => Self::Entry,
            _ => return None,
        })
    }
}

/// What one tensor says of its place.
#[derive(Default)]
struct Place {
    outside: bool,
    location: Option<String>,
    offset: u64,
    length: u64,
}

struct Walker<R> {
    reader: BufReader<R>,
    at: u64,
    fields: u64,
    place: Place,
    entry: (String, String),
    files: BTreeMap<String, u64>,
}

/// The files that an ONNX model's tensors lie in, in the order of their names; none for a model in one file. Leaves the
/// reader anywhere.
///
/// # Errors
/// [`CutError`]; also where a name is no plain file name.
pub fn external_files<R: Read + Seek>(mut reader: R) -> Result<Vec<ExternalFile>, CutError> {
    let size = size_of(&mut reader)?;
    let (place, entry, files) = Default::default();
    let mut walker = Walker { reader: BufReader::new(reader), at: 0, fields: 0, place, entry, files };
    walker.message(Message::Model, size, 0)?;
    Ok(walker.files.into_iter().map(|(name, needs)| ExternalFile { name, needs }).collect())
}

impl<R: Read + Seek> Walker<R> {
    fn message(&mut self, kind: Message, end: u64, depth: u32) -> Result<(), CutError> {
        if depth > DEPTH {
            return fail(format!("its messages are nested deeper than {DEPTH}"));
        }
        while self.at < end {
            self.fields += 1;
            if self.fields > FIELDS {
                return fail(format!("it has more than {FIELDS} fields"));
            }
            let tag = self.number(end)?;
            let field = tag >> 3;
            match tag & 7 {
                0 => {
                    let value = self.number(end)?;
                    // data_location: EXTERNAL.
                    self.place.outside |= matches!(kind, Message::Tensor) && field == 14 && value == 1;
                }
                1 => self.skip(8, end)?,
                2 => {
                    let len = self.number(end)?;
                    let inner = self.end_of(len, end)?;
                    self.content(kind, field, inner, depth)?;
                }
                5 => self.skip(4, end)?,
                other => return fail(format!("the bytes at {} have the unknown wire type {other}", self.at)),
            }
        }
        Ok(())
    }

    /// A length-delimited field up to `end`.
    fn content(&mut self, kind: Message, field: u64, end: u64, depth: u32) -> Result<(), CutError> {
        match (kind, kind.field(field)) {
            (_, Some(Message::Tensor)) => {
                self.place = Place::default();
                self.message(Message::Tensor, end, depth + 1)?;
                self.placed()
            }
            (_, Some(Message::Entry)) => {
                self.entry = Default::default();
                self.message(Message::Entry, end, depth + 1)?;
                self.entered()
            }
            (_, Some(inner)) => self.message(inner, end, depth + 1),
            (Message::Entry, None) if matches!(field, 1 | 2) => {
                let text = self.text(end)?;
                *if field == 1 { &mut self.entry.0 } else { &mut self.entry.1 } = text;
                Ok(())
            }
            (_, None) => self.skip(end - self.at, end),
        }
    }

    /// A pair of `external_data` was read.
    fn entered(&mut self) -> Result<(), CutError> {
        let (key, value) = std::mem::take(&mut self.entry);
        self.place.outside = true;
        let number = || {
            value.parse().map_err(|_| malformed(Format::Onnx, format!("the {key} of an external tensor is no number")))
        };
        match key.as_str() {
            "location" => self.place.location = Some(value),
            "offset" => self.place.offset = number()?,
            "length" => self.place.length = number()?,
            _ => {}
        }
        Ok(())
    }

    /// A tensor was read.
    fn placed(&mut self) -> Result<(), CutError> {
        let place = std::mem::take(&mut self.place);
        if !place.outside {
            return Ok(());
        }
        let Some(name) = place.location else { return fail("a tensor lies outside the file but does not say where") };
        if !is_plain(&name) {
            return fail(format!(
                "a tensor lies in '{}', and only a plain name of a file in the model's own folder is followed",
                name.escape_default()
            ));
        }
        let Some(needs) = place.offset.checked_add(place.length) else {
            return fail("an external tensor lies beyond any file");
        };
        let known = self.files.entry(name).or_default();
        *known = needs.max(*known);
        if self.files.len() > MANIFEST_FILES {
            return fail(format!("its tensors lie in more than {MANIFEST_FILES} files"));
        }
        Ok(())
    }

    fn end_of(&self, len: u64, end: u64) -> Result<u64, CutError> {
        match self.at.checked_add(len) {
            Some(inner) if inner <= end => Ok(inner),
            _ => fail(format!("a field of {len} bytes at {} runs past what holds it, so it is cut short", self.at)),
        }
    }

    fn number(&mut self, end: u64) -> Result<u64, CutError> {
        match varint(&mut self.reader, &mut self.at)? {
            Some(value) if self.at <= end => Ok(value),
            _ => fail(format!("a number runs past what holds it at {}", self.at)),
        }
    }

    fn skip(&mut self, len: u64, end: u64) -> Result<(), CutError> {
        let to = self.end_of(len, end)?;
        // Within the buffer where it can be: most fields are short.
        let by = i64::try_from(len).map_err(|_| malformed(Format::Onnx, "a field is longer than any file".into()))?;
        self.reader.seek_relative(by)?;
        self.at = to;
        Ok(())
    }

    fn text(&mut self, end: u64) -> Result<String, CutError> {
        let len = end - self.at;
        if len > ENTRY_BYTES {
            return fail(format!("the place of a tensor is described in {len} bytes; {ENTRY_BYTES} are allowed"));
        }
        let mut bytes = Vec::new();
        (&mut self.reader).take(len).read_to_end(&mut bytes)?;
        self.at += bytes.len() as u64;
        if self.at != end {
            return fail("the file ended while it was read");
        }
        String::from_utf8(bytes).map_err(|_| malformed(Format::Onnx, "the place of a tensor is not text".into()))
    }
}

/// True for a name of a file beside the model: no folder, no way up, nothing hidden.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LABEL_BYTES
        && !name.starts_with('.')
        && !name.contains(['/', '\\', ':'])
        && !name.chars().any(char::is_control)
}

fn fail<T>(why: impl Into<String>) -> Result<T, CutError> {
    Err(malformed(Format::Onnx, why.into()))
}
