//! safetensors headers: 8 bytes of length, JSON, then the data, to which the header's offsets are relative.

use std::{fmt, io::Read};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use zero2ai_proto::{limits::FILE_PARTS, manifest::Format};

use super::{CutError, Layout, TensorPlace, check_name, malformed, reader::HeaderReader};

/// Bytes of JSON. The format allows 100 MB; [`FILE_PARTS`] tensors with long names fit in this.
const HEADER_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes before the JSON.
const LENGTH_BYTES: u64 = 8;
/// Dimensions of a tensor.
const DIMENSIONS: usize = 16;
/// The one entry that is no tensor.
const METADATA: &str = "__metadata__";

pub(super) fn looks_like(start: &[u8]) -> bool {
    match start {
        [l0, l1, l2, l3, l4, l5, l6, l7, b'{', ..] => {
            (2..=HEADER_BYTES).contains(&u64::from_le_bytes([*l0, *l1, *l2, *l3, *l4, *l5, *l6, *l7]))
        }
        _ => false,
    }
}

pub(super) fn layout<R: Read>(reader: R, size: u64) -> Result<Layout, CutError> {
    let mut header = HeaderReader::new(reader, Format::Safetensors, size, HEADER_BYTES + LENGTH_BYTES);
    let len = header.u64()?;
    let json = header.bytes(len)?;
    let data = header.position();
    let Entries(entries) = serde_json::from_slice(&json)
        .map_err(|e| malformed(Format::Safetensors, format!("its header does not parse: {e}")))?;
    let tensors = entries.into_iter().map(|(name, e)| place(name, &e, data)).collect::<Result<Vec<_>, _>>()?;
    // The format has no alignment: whatever lies between tensors is a gap.
    Ok(Layout { format: Format::Safetensors, header_end: data, tensors, alignment: 1 })
}

fn place(name: String, entry: &Entry, data: u64) -> Result<TensorPlace, CutError> {
    let fail = |why: &str| Err(malformed(Format::Safetensors, format!("tensor '{name}' {why}")));
    check_name(Format::Safetensors, &name)?;
    let [begin, end] = entry.data_offsets;
    let elements = entry.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
    if let Some(bits) = element_bits(&entry.dtype) {
        let bytes = elements.and_then(|n| n.checked_mul(bits)).map(|bits| bits.div_ceil(8));
        if bytes.is_none() || bytes != end.checked_sub(begin) {
            return fail("has a shape that does not fit its bytes");
        }
    }
    match (data.checked_add(begin), data.checked_add(end)) {
        (Some(start), Some(end)) => Ok(TensorPlace { name, start, end: Some(end) }),
        _ => fail("lies beyond any file"),
    }
}

/// Bits of one element; `None` for types newer than this table, whose sizes are then not checked.
fn element_bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 8,
        _ => return None,
    })
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    #[serde(deserialize_with = "shape")]
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// A shape, bounded while it is read: a header of megabytes could be one shape of millions.
fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    struct Shape;
    impl<'de> Visitor<'de> for Shape {
        type Value = Vec<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of dimensions")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u64>, A::Error> {
            let mut shape = Vec::new();
            while let Some(dimension) = seq.next_element()? {
                if shape.len() == DIMENSIONS {
                    return Err(A::Error::custom(format!("more than {DIMENSIONS} dimensions")));
                }
                shape.push(dimension);
            }
            Ok(shape)
        }
    }
    deserializer.deserialize_seq(Shape)
}

/// The header's map without its metadata, bounded while it is read.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to their places")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                map.next_value::<IgnoredAny>()?;
            } else if entries.len() == FILE_PARTS {
                return Err(A::Error::custom(format!("more than {FILE_PARTS} tensors")));
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Entries(entries))
    }
}
