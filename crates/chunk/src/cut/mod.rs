//! Where a file is cut: its header apart, each tensor on its own, so that an unchanged tensor is the same chunks in the next
//! version.
//!
//! Headers come from strangers. Every count, length and offset is checked against its bound and against the file before it
//! is used; no memory is reserved on a header's word.

mod external;
mod gguf;
mod onnx;
mod pickle;
mod reader;
mod safetensors;

use std::{
    collections::BTreeSet,
    io::{self, Read, Seek, SeekFrom},
};

use zero2ai_proto::{
    limits::{FILE_PARTS, LABEL_BYTES},
    manifest::Format,
};

pub use external::{ExternalFile, external_files};
pub use pickle::is_pickle;

/// Part name of a header.
pub const HEADER: &str = "#header";
/// Part name of bytes between or behind tensors.
pub const GAP: &str = "#gap";
/// Part name of a whole file of a format that is not cut at tensors.
pub const DATA: &str = "#data";

/// Why a file could not be cut.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// The operating system could not read it.
    #[error("the model file could not be read: {0}. Check the path and the disk, then try again")]
    Read(#[from] io::Error),
    /// Its header is not what its format demands, or the file is cut short.
    #[error("the {} file is not usable: {why}. Download or export it again; nothing was published", title(*format))]
    Malformed {
        /// The format it was taken for.
        format: Format,
        /// What is wrong, and where.
        why: String,
    },
}

/// A stretch of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The tensor's name, or [`HEADER`] or [`GAP`].
    pub name: String,
    /// First byte.
    pub start: u64,
    /// Byte behind the last; above `start`.
    pub end: u64,
}

/// Where a format's header says that its tensors lie.
struct Layout {
    format: Format,
    /// Byte behind the header.
    header_end: u64,
    tensors: Vec<TensorPlace>,
    /// Gaps shorter than this are alignment: they stay with what is before them.
    alignment: u64,
}

/// One tensor in a [`Layout`].
struct TensorPlace {
    name: String,
    start: u64,
    /// Byte behind the last; `None` if the element type is not known here: then up to the next tensor.
    end: Option<u64>,
}

/// Tells a file's format by its content, and checks its header: a GGUF, safetensors or ONNX file that is cut short is an
/// error, never [`Format::Opaque`]. Leaves the reader at the start.
///
/// # Errors
/// [`CutError`].
pub fn detect_format<R: Read + Seek>(reader: &mut R) -> Result<Format, CutError> {
    let size = size_of(reader)?;
    let mut start = Vec::new();
    reader.take(16).read_to_end(&mut start)?;
    let format = if gguf::looks_like(&start) {
        Format::Gguf
    } else if safetensors::looks_like(&start) {
        Format::Safetensors
    } else if onnx::looks_like(reader, &start, size)? {
        Format::Onnx
    } else {
        Format::Opaque
    };
    reader.rewind()?;
    cuts(reader, format)?;
    reader.rewind()?;
    Ok(format)
}

/// The format that a file's name promises; `None` if it promises nothing. A file that is shorter than its magic number looks
/// like nothing by content: a caller who goes by the name first gets the clear error for it.
#[must_use]
pub fn named_format(path: &str) -> Option<Format> {
    let ending = path.rsplit_once('.')?.1.to_ascii_lowercase();
    match ending.as_str() {
        "gguf" => Some(Format::Gguf),
        "safetensors" => Some(Format::Safetensors),
        "onnx" => Some(Format::Onnx),
        _ => None,
    }
}

/// The cuts of a file: in order, without gaps or overlaps, from its first byte to its last. `None` if this format is cut by
/// content instead. The reader's position afterwards is anywhere.
///
/// # Errors
/// [`CutError`].
pub fn cuts<R: Read + Seek>(reader: &mut R, format: Format) -> Result<Option<Vec<Cut>>, CutError> {
    let size = size_of(reader)?;
    let layout = match format {
        Format::Gguf => gguf::layout(reader, size)?,
        Format::Safetensors => safetensors::layout(reader, size)?,
        Format::Onnx => return onnx::check(reader, size).map(|()| None),
        Format::Opaque => return Ok(None),
    };
    cover(layout, size).map(Some)
}

/// Bytes in the file; rewinds it.
pub(crate) fn size_of<R: Seek>(reader: &mut R) -> io::Result<u64> {
    let size = reader.seek(SeekFrom::End(0))?;
    reader.rewind()?;
    Ok(size)
}

/// Turns a header's claims into cuts that cover the file once, or says which claim is wrong.
fn cover(layout: Layout, size: u64) -> Result<Vec<Cut>, CutError> {
    let Layout { format, header_end, mut tensors, alignment } = layout;
    let fail = |why: String| Err(malformed(format, why));
    let mut names = BTreeSet::new();
    if let Some(twice) = tensors.iter().find(|t| !names.insert(t.name.as_str())) {
        return fail(format!("it has two tensors named '{}'", twice.name));
    }
    tensors.sort_by_key(|t| t.start);
    let mut cuts = vec![Cut { name: HEADER.into(), start: 0, end: header_end.min(size) }];
    let mut starts = tensors.iter().map(|t| t.start).skip(1).collect::<Vec<_>>().into_iter();
    for TensorPlace { name, start, end } in tensors {
        let next_start = starts.next().unwrap_or(size);
        let end = end.unwrap_or(next_start);
        if start > end || end > size {
            return fail(format!(
                "tensor '{name}' would lie at bytes {start} to {end} but the file has {size}, so it is cut short or its header is wrong"
            ));
        }
        if start == end {
            continue;
        }
        fill_gap(&mut cuts, start, alignment);
        if cuts.last().is_some_and(|before| before.end > start) {
            return fail(format!("tensor '{name}' overlaps what lies before it"));
        }
        cuts.push(Cut { name, start, end });
    }
    fill_gap(&mut cuts, size, alignment);
    if cuts.len() > FILE_PARTS {
        return fail(format!("it has more than {FILE_PARTS} parts"));
    }
    Ok(cuts)
}

/// Covers the bytes from the last cut up to `to`.
fn fill_gap(cuts: &mut Vec<Cut>, to: u64, alignment: u64) {
    let Some(last) = cuts.last_mut() else { return };
    let start = last.end;
    match to.checked_sub(start) {
        None | Some(0) => {}
        Some(gap) if gap < alignment => last.end = to,
        Some(_) => cuts.push(Cut { name: GAP.into(), start, end: to }),
    }
}

fn malformed(format: Format, why: String) -> CutError {
    CutError::Malformed { format, why }
}

/// Checks a tensor's name, which becomes a part's name.
fn check_name(format: Format, name: &str) -> Result<(), CutError> {
    if name.len() > LABEL_BYTES {
        return Err(malformed(format, format!("a tensor's name is longer than {LABEL_BYTES} bytes")));
    }
    Ok(())
}

fn title(format: Format) -> &'static str {
    match format {
        Format::Onnx => "ONNX",
        Format::Gguf => "GGUF",
        Format::Safetensors => "safetensors",
        Format::Opaque => "model",
    }
}
