//! A safetensors file: a header of JSON that says where each tensor lies, and the tensors. Everything in it is checked before
//! it is used; what only has the name is refused by what it is.

use std::{collections::HashMap, io::Read as _};

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use super::super::source::Source;
use crate::error::EngineError;

/// Bytes of the header, at most: a model of a thousand tensors has some hundred thousand.
const HEADER_BYTES: u64 = 8 << 20;
/// Tensors, at most.
const TENSORS: usize = 1 << 16;
/// Bytes before the header: its length.
const LENGTH_BYTES: u64 = 8;
/// Bytes read at once: whole numbers of every type.
const PIECE: usize = 1 << 20;
/// How files start that Python's pickle made, plain or zipped: reading one runs what is in it.
const PICKLES: [&[u8]; 5] = [b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04"];

/// Where a tensor lies.
struct Place {
    dtype: DType,
    shape: Vec<usize>,
    start: u64,
    bytes: usize,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// An open file.
pub(super) struct Safetensors<'a> {
    source: &'a Source,
    places: HashMap<String, Place>,
    /// Put before the names of tensors: some savers keep the encoder's under `bert.`.
    prefix: &'static str,
}

impl<'a> Safetensors<'a> {
    pub(super) fn open(source: &'a Source) -> Result<Self, EngineError> {
        let bad = |why: &str| EngineError::model(format!("'{}' is not a whole safetensors file: {why}", source.name()));
        let mut start = Vec::new();
        let mut reader = source.reader();
        let io = |e: std::io::Error| EngineError::worker(format!("'{}' cannot be read: {e}", source.name()));
        reader.by_ref().take(LENGTH_BYTES).read_to_end(&mut start).map_err(io)?;
        if PICKLES.iter().any(|pickle| start.starts_with(pickle)) {
            return Err(bad(
                "it holds a Python pickle, which could run anything when it is read, and is never opened here; save the model \
                 with safe_serialization=True",
            ));
        }
        let length = <[u8; 8]>::try_from(start).map(u64::from_le_bytes).map_err(|_| bad("it is cut short"))?;
        let data = length.checked_add(LENGTH_BYTES).filter(|data| *data <= source.size());
        let data = data.ok_or_else(|| bad("its header goes beyond its end; it may be cut short, publish it again"))?;
        if length > HEADER_BYTES {
            return Err(bad(&format!("its header has {length} bytes, and {HEADER_BYTES} are read")));
        }
        let mut header = Vec::new();
        reader.take(length).read_to_end(&mut header).map_err(io)?;
        let entries: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&header).map_err(|e| bad(&format!("its header does not parse: {e}")))?;
        if entries.len() > TENSORS {
            return Err(bad(&format!("it has {} tensors; at most {TENSORS} are read", entries.len())));
        }
        let mut places = HashMap::with_capacity(entries.len());
        for (name, entry) in entries {
            if name == "__metadata__" {
                continue;
            }
            let entry: Entry = serde_json::from_value(entry).map_err(|e| bad(&format!("a tensor's entry: {e}")))?;
            // Types that no embedder's weights have are left alone: old files carry row numbers as I64.
            if let Some(place) = entry.place(data, source.size()).map_err(bad)? {
                places.insert(name, place);
            }
        }
        let prefix = if places.contains_key("embeddings.word_embeddings.weight") { "" } else { "bert." };
        Ok(Self { source, places, prefix })
    }

    /// A tensor's numbers; its shape must be this one. Not one of them may be infinite or NaN.
    pub(super) fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EngineError> {
        let name = format!("{}{name}", self.prefix);
        let bad = |why: String| EngineError::model(format!("the tensor '{name}' {why}"));
        let place = self.places.get(&name).ok_or_else(|| bad("is missing, or of no type that is run".to_owned()))?;
        if place.shape != shape {
            return Err(bad(format!("has the shape {:?} instead of {shape:?}", place.shape)));
        }
        // In pieces, so that a large tensor is not in memory twice.
        let mut numbers = Vec::new();
        let count = place.bytes / place.dtype.size_in_bytes().max(1);
        let no_memory =
            |_| EngineError::worker(format!("there is no memory for the tensor '{name}'; raise the worker's limit"));
        numbers.try_reserve_exact(count).map_err(no_memory)?;
        let mut piece = vec![0; PIECE.min(place.bytes)];
        for at in (0..place.bytes).step_by(PIECE) {
            let length = PIECE.min(place.bytes.saturating_sub(at));
            let piece = piece.get_mut(..length).unwrap_or_default();
            self.source
                .read_at(place.start.saturating_add(at as u64), piece)
                .map_err(|e| EngineError::worker(format!("the tensor '{name}' cannot be read: {e}")))?;
            let count = length / place.dtype.size_in_bytes().max(1);
            let read = || {
                let tensor = Tensor::from_raw_buffer(piece, place.dtype, &[count], &Device::Cpu)?;
                tensor.to_dtype(DType::F32)?.to_vec1::<f32>()
            };
            numbers.extend(read().map_err(|e| bad(format!("cannot be read: {e}")))?);
        }
        if numbers.iter().any(|n| !n.is_finite()) {
            return Err(bad("holds values that are not finite".to_owned()));
        }
        Ok(numbers)
    }
}

impl Entry {
    /// Where it lies in the file, unless it is of a type that is not read.
    fn place(&self, data: u64, size: u64) -> Result<Option<Place>, &'static str> {
        let [from, to] = self.data_offsets;
        let end = data.checked_add(to).filter(|end| *end <= size);
        let (Some(_), Some(length)) = (end, to.checked_sub(from)) else {
            return Err("a tensor goes beyond its end; it may be cut short, publish it again");
        };
        let dtype = match self.dtype.as_str() {
            "F32" => DType::F32,
            "F16" => DType::F16,
            "BF16" => DType::BF16,
            _ => return Ok(None),
        };
        let bytes = self.shape.iter().try_fold(dtype.size_in_bytes() as u64, |n, d| n.checked_mul(*d));
        let shape = self.shape.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<Vec<usize>>>();
        match (bytes == Some(length), shape, usize::try_from(length)) {
            (true, Some(shape), Ok(bytes)) => Ok(Some(Place { dtype, shape, start: data.saturating_add(from), bytes })),
            _ => Err("a tensor's shape and its bytes do not fit each other"),
        }
    }
}
