//! Files of models, and what manifests say of them.

use std::io::Cursor;

use zero2ai_chunk::{
    cut::{cuts, detect_format, external_files},
    delta::unpack,
    manifest::read_sealed,
    open_manifest, seal_manifest,
};
use zero2ai_proto::{
    Cid, Digest, ManifestId, decode, encode,
    limits::{FILE_PARTS, LABEL_BYTES, MANIFEST_BYTES},
    manifest::{BaseChunk, Delta, Format, Manifest, SealedManifest, path_is_usable},
};

/// Cuts a file: what is accepted covers it once, without gaps.
fn cut(bytes: &[u8], format: Format) {
    let Ok(Some(cuts)) = cuts(&mut Cursor::new(bytes), format) else { return };
    let mut at = 0;
    for cut in &cuts {
        assert!(cut.start == at && cut.end > cut.start && cut.name.len() <= LABEL_BYTES, "{cut:?} after {at}");
        at = cut.end;
    }
    assert!(at == bytes.len() as u64 && cuts.len() <= FILE_PARTS, "{at} of {} bytes are cut", bytes.len());
}

/// A GGUF header.
pub fn gguf(bytes: &[u8]) {
    cut(bytes, Format::Gguf);
}

/// A safetensors header.
pub fn safetensors(bytes: &[u8]) {
    cut(bytes, Format::Safetensors);
    let _ = detect_format(&mut Cursor::new(bytes));
}

/// An ONNX file, and the files it names.
pub fn onnx(bytes: &[u8]) {
    cut(bytes, Format::Onnx);
    let _ = detect_format(&mut Cursor::new(bytes));
    for file in external_files(Cursor::new(bytes)).unwrap_or_default() {
        assert!(path_is_usable(&file.name) && !file.name.contains('/'), "{:?} is no file beside it", file.name);
    }
}

/// A manifest in the clear: what is usable can be sealed, and opens again as the same.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = decode::<Manifest>(bytes, MANIFEST_BYTES) else { return };
    assert_eq!(encode(&manifest).as_deref(), Ok(bytes));
    if manifest.check().is_err() {
        return;
    }
    assert!(manifest.files.iter().all(|f| path_is_usable(&f.path)));
    let total: u64 = manifest.chunks().map(|c| u64::from(c.piece_len())).sum();
    assert_eq!(total, manifest.total_bytes());
    // Two lengths of one chunk are a contradiction that only sealing sees.
    let Ok((sealed, id, key)) = seal_manifest(&manifest) else { return };
    assert!(open_manifest(&sealed, &id, &key).is_ok_and(|again| again == manifest));
}

/// A manifest as seeders read it.
pub fn sealed_manifest(bytes: &[u8]) {
    let Ok(sealed) = read_sealed(bytes, &ManifestId::of(bytes)) else { return };
    let again: Result<SealedManifest, _> = decode(bytes, MANIFEST_BYTES);
    assert_eq!(again.as_ref(), Ok(&sealed));
}

/// A difference, made by whoever made the chunk: its length is bounded by the base's. The first two bytes are the length of
/// the base, the third the width of an element.
pub fn delta(bytes: &[u8]) {
    let Some(([low, high, width], packed)) = bytes.split_first_chunk::<3>() else { return };
    let base = vec![7; usize::from(u16::from_le_bytes([*low, *high])) + 1];
    let len = base.len();
    let chunk = BaseChunk { cid: Cid([1; 32]), plain: Digest::of(&base), len: len as u32 };
    let delta = Delta { base: chunk, piece: Digest::of(&base), width: *width };
    if let Ok(piece) = unpack(&delta, base, packed) {
        assert!(piece.len() == len && Digest::of(&piece) == delta.piece);
    }
}
