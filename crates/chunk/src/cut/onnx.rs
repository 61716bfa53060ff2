//! ONNX files, as far as telling them by their content and seeing that they are whole: the protobuf fields of `ModelProto`
//! at the top level, nothing inside them.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use zero2ai_proto::manifest::Format;

use super::{CutError, malformed};

/// Top-level fields read. A model has some tens: opset imports, metadata, functions.
const FIELDS: usize = 65_536;
/// Field number of `ModelProto.ir_version`, which every writer puts first.
const IR_VERSION: u64 = 1;
/// Field number of `ModelProto.graph`.
const GRAPH: u64 = 7;
/// Highest field number of `ModelProto`, with room for newer ones.
const HIGHEST_FIELD: u64 = 64;

/// What a walk over the top-level fields found.
enum Walk {
    /// Fields up to the file's end.
    Whole { graph: bool },
    /// The field with this number runs past the file's end.
    Short { graph: bool, field: u64 },
    /// Something that is no field of a model.
    Foreign { at: u64 },
}

/// True if the file starts as an ONNX model does and has a graph, whole or cut short.
pub(super) fn looks_like<R: Read + Seek>(reader: &mut R, start: &[u8], size: u64) -> Result<bool, CutError> {
    // Field 1, a varint: a small version number.
    if !matches!(start, [0x08, 1..=63, ..]) {
        return Ok(false);
    }
    Ok(match walk(reader, size)? {
        Walk::Whole { graph } | Walk::Short { graph, .. } => graph,
        Walk::Foreign { .. } => false,
    })
}

/// Checks that the top-level fields fill the file exactly and that one is a graph.
pub(super) fn check<R: Read + Seek>(reader: &mut R, size: u64) -> Result<(), CutError> {
    let fail = |why: String| Err(malformed(Format::Onnx, why));
    match walk(reader, size)? {
        Walk::Whole { graph: true } => Ok(()),
        Walk::Whole { graph: false } => fail("it has no graph, so it is cut short or no ONNX model".into()),
        Walk::Short { field, .. } => {
            fail(format!("its field {field} runs past the file's {size} bytes, so it is cut short"))
        }
        Walk::Foreign { at } => fail(format!("the bytes at {at} are no field of an ONNX model")),
    }
}

fn walk<R: Read + Seek>(reader: &mut R, size: u64) -> Result<Walk, CutError> {
    reader.rewind()?;
    let mut reader = BufReader::with_capacity(4096, reader);
    let (mut at, mut graph) = (0u64, false);
    for nth in 0..FIELDS {
        if at == size {
            return Ok(Walk::Whole { graph });
        }
        let start = at;
        let Some(tag) = varint(&mut reader, &mut at)? else { return Ok(Walk::Short { graph, field: 0 }) };
        let field = tag >> 3;
        if field == 0 || field > HIGHEST_FIELD || (nth == 0 && field != IR_VERSION) {
            return Ok(Walk::Foreign { at: start });
        }
        let len = match tag & 7 {
            0 => varint(&mut reader, &mut at)?.map(|_| 0),
            1 => Some(8),
            2 => varint(&mut reader, &mut at)?,
            5 => Some(4),
            _ => return Ok(Walk::Foreign { at: start }),
        };
        graph |= field == GRAPH && tag & 7 == 2;
        match len.and_then(|len| at.checked_add(len)).filter(|end| *end <= size) {
            Some(end) => {
                at = end;
                reader.seek(SeekFrom::Start(end))?;
            }
            None => return Ok(Walk::Short { graph, field }),
        }
    }
    Ok(Walk::Foreign { at })
}

/// A protobuf varint; `None` if the file ends in it or it has more than ten bytes.
pub(super) fn varint<R: Read>(reader: &mut R, at: &mut u64) -> Result<Option<u64>, CutError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0u8];
        match reader.read_exact(&mut byte) {
            Ok(()) => *at += 1,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Ok(None)
}
