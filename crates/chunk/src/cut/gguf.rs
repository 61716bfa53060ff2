//! GGUF headers, versions 2 and 3, little-endian: `GGUF`, version, counts, key-value pairs, tensor descriptions, padding,
//! data (as ggml's own specification has it).

use std::io::Read;

use zero2ai_proto::{
    limits::{FILE_PARTS, LABEL_BYTES},
    manifest::Format,
};

use super::{CutError, Layout, TensorPlace, check_name, malformed, reader::HeaderReader};

const MAGIC: [u8; 4] = *b"GGUF";
/// Bytes in a header. The largest known ones (vocabularies of 256,000 tokens with merges) have some 20 MiB.
const HEADER_BYTES: u64 = 128 * 1024 * 1024;
/// Key-value pairs. Real files have some tens.
const PAIRS: u64 = 65_536;
/// Bytes in a key, by the format's own rule.
const KEY_BYTES: u64 = 65_535;
/// Arrays within arrays. Real files have none.
const NESTING: u32 = 4;
/// Dimensions of a tensor; ggml itself has 4.
const DIMENSIONS: u32 = 8;
const DEFAULT_ALIGNMENT: u64 = 32;
/// Largest alignment believed: beyond a huge page there is no use for one.
const MAX_ALIGNMENT: u64 = 4 * 1024 * 1024;
/// Value types that need a name here.
const TYPE_U32: u32 = 4;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

pub(super) fn looks_like(start: &[u8]) -> bool {
    start.starts_with(&MAGIC)
}

pub(super) fn layout<R: Read>(reader: R, size: u64) -> Result<Layout, CutError> {
    let mut header = HeaderReader::new(reader, Format::Gguf, size, HEADER_BYTES);
    if header.array()? != MAGIC {
        return fail("it does not start with 'GGUF'");
    }
    match header.u32()? {
        2 | 3 => {}
        version => return fail(format!("its version is {version}; 2 and 3 in little-endian order are understood")),
    }
    let (tensors, pairs) = (header.u64()?, header.u64()?);
    if tensors > FILE_PARTS as u64 || pairs > PAIRS {
        return fail(format!("{tensors} tensors and {pairs} settings are more than {FILE_PARTS} and {PAIRS}"));
    }
    let mut alignment = DEFAULT_ALIGNMENT;
    for _ in 0..pairs {
        let len = header.u64()?;
        if len > KEY_BYTES {
            return fail(format!("a key of {len} bytes is longer than {KEY_BYTES}"));
        }
        let key = header.bytes(len)?;
        let kind = header.u32()?;
        if key == b"general.alignment" && kind == TYPE_U32 {
            alignment = u64::from(header.u32()?);
        } else {
            skip_value(&mut header, kind, 0)?;
        }
    }
    if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
        return fail(format!("its alignment {alignment} is not a power of two up to {MAX_ALIGNMENT}"));
    }
    let described = (0..tensors).map(|_| description(&mut header)).collect::<Result<Vec<_>, _>>()?;
    let header_end = header.position().next_multiple_of(alignment);
    let tensors = described.into_iter().map(|d| d.place(header_end)).collect::<Result<Vec<_>, _>>()?;
    Ok(Layout { format: Format::Gguf, header_end, tensors, alignment })
}

/// One tensor as the header describes it.
struct Description {
    name: String,
    /// From the start of the data.
    offset: u64,
    /// Bytes; `None` if the element type is not known here.
    len: Option<u64>,
}

impl Description {
    fn place(self, data: u64) -> Result<TensorPlace, CutError> {
        let beyond = || malformed(Format::Gguf, format!("tensor '{}' lies beyond any file", self.name));
        let start = data.checked_add(self.offset).ok_or_else(beyond)?;
        let end = self.len.map(|len| start.checked_add(len).ok_or_else(beyond)).transpose()?;
        Ok(TensorPlace { name: self.name, start, end })
    }
}

fn description<R: Read>(header: &mut HeaderReader<R>) -> Result<Description, CutError> {
    let len = header.u64()?;
    if len > LABEL_BYTES as u64 {
        return fail(format!("a tensor's name of {len} bytes is longer than {LABEL_BYTES}"));
    }
    let name = String::from_utf8(header.bytes(len)?)
        .map_err(|_| malformed(Format::Gguf, "a tensor's name is not text".into()))?;
    check_name(Format::Gguf, &name)?;
    let dimensions = header.u32()?;
    if dimensions > DIMENSIONS {
        return fail(format!("tensor '{name}' has {dimensions} dimensions; {DIMENSIONS} are allowed"));
    }
    let mut elements = 1u64;
    for _ in 0..dimensions {
        elements = header
            .u64()?
            .checked_mul(elements)
            .ok_or_else(|| malformed(Format::Gguf, format!("tensor '{name}' has more elements than can be counted")))?;
    }
    let kind = header.u32()?;
    let offset = header.u64()?;
    let len = match block(kind) {
        None => None,
        Some((per_block, bytes)) if elements.is_multiple_of(per_block) => {
            let bytes = (elements / per_block).checked_mul(bytes);
            Some(bytes.ok_or_else(|| malformed(Format::Gguf, format!("tensor '{name}' is larger than any file")))?)
        }
        Some((per_block, _)) => {
            return fail(format!(
                "tensor '{name}' has {elements} elements, which its type stores {per_block} at a time"
            ));
        }
    };
    Ok(Description { name, offset, len })
}

fn skip_value<R: Read>(header: &mut HeaderReader<R>, kind: u32, depth: u32) -> Result<(), CutError> {
    match (scalar_bytes(kind), kind) {
        (Some(bytes), _) => header.skip(bytes),
        (None, TYPE_STRING) => {
            let len = header.u64()?;
            header.skip(len)
        }
        (None, TYPE_ARRAY) if depth < NESTING => {
            let (kind, count) = (header.u32()?, header.u64()?);
            match scalar_bytes(kind) {
                Some(bytes) => header.skip(count.saturating_mul(bytes)),
                None => {
                    // An item has at least 8 bytes, so a count beyond the file fails before the loop begins.
                    header.need(count.saturating_mul(8))?;
                    (0..count).try_for_each(|_| skip_value(header, kind, depth + 1))
                }
            }
        }
        (None, TYPE_ARRAY) => fail(format!("arrays are nested deeper than {NESTING}")),
        (None, kind) => fail(format!("a setting has the unknown type {kind}")),
    }
}

/// Bytes of a value of a fixed size.
fn scalar_bytes(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Elements and bytes in one block of a ggml type; `None` for types newer than this table.
fn block(kind: u32) -> Option<(u64, u64)> {
    Some(match kind {
        0 | 26 => (1, 4),      // F32, I32
        1 | 25 | 30 => (1, 2), // F16, I16, BF16
        24 => (1, 1),          // I8
        27 | 28 => (1, 8),     // I64, F64
        2 => (32, 18),         // Q4_0
        3 => (32, 20),         // Q4_1
        6 => (32, 22),         // Q5_0
        7 => (32, 24),         // Q5_1
        8 => (32, 34),         // Q8_0
        9 => (32, 36),         // Q8_1
        10 => (256, 84),       // Q2_K
        11 | 21 => (256, 110), // Q3_K, IQ3_S
        12 => (256, 144),      // Q4_K
        13 => (256, 176),      // Q5_K
        14 => (256, 210),      // Q6_K
        15 => (256, 292),      // Q8_K
        16 | 35 => (256, 66),  // IQ2_XXS, TQ2_0
        17 => (256, 74),       // IQ2_XS
        18 => (256, 98),       // IQ3_XXS
        19 => (256, 50),       // IQ1_S
        20 => (32, 18),        // IQ4_NL
        22 => (256, 82),       // IQ2_S
        23 => (256, 136),      // IQ4_XS
        29 => (256, 56),       // IQ1_M
        34 => (256, 54),       // TQ1_0
        39 => (32, 17),        // MXFP4
        _ => return None,
    })
}

fn fail<T>(why: impl Into<String>) -> Result<T, CutError> {
    Err(malformed(Format::Gguf, why.into()))
}
