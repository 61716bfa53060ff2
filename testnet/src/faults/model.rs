//! Models large enough that a fault lands inside their publication: the digits classifier with a long description
//! (ModelProto.doc_string, field 6), which changes its chunks and not what it computes.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::rng::Rng;
use crate::fixture;

/// Tag of the field: number 6, length-delimited.
const DOC_STRING: u8 = 0x32;
/// The description's letters: it must be text.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";

/// Writes the model number `n` of about `bytes` bytes into `dir`.
///
/// # Errors
/// The fixture cannot be read or the file not written.
pub fn write(dir: &Path, n: u64, bytes: usize) -> Result<PathBuf> {
    let mut model = std::fs::read(fixture("digits/digits.onnx"))?;
    let letter = |b: &u8| LETTERS[usize::from(b % 64)];
    let text: Vec<u8> = Rng::new(0x6d6f_6465, n).bytes(bytes).iter().map(letter).collect();
    model.push(DOC_STRING);
    let mut left = text.len();
    while left >= 0x80 {
        model.push(u8::try_from(left & 0x7f)? | 0x80);
        left >>= 7;
    }
    model.push(u8::try_from(left)?);
    model.extend_from_slice(&text);
    let path = dir.join(format!("model-{n}.onnx"));
    std::fs::write(&path, model)?;
    Ok(path)
}
