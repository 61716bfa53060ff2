//! Cutting and sealing whole files: formats, sharing between versions, truncated and hostile headers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    io::{Cursor, Read, Seek, SeekFrom},
};

mod common;

use common::{gguf, noise, safetensors};
use proptest::prelude::*;
use zero2ai_chunk::{
    ContentSecret, SealError, Sealer,
    cut::{CutError, cuts},
    detect_format, named_format, open_file, seal_file,
};
use zero2ai_proto::{
    Cid,
    manifest::{Domain, FileEntry, Format, Manifest, Task},
};

fn onnx() -> Vec<u8> {
    let mut out = vec![0x08, 0x09, 0x12, 3, b's', b'k', b'l', 0x3a, 0xac, 0x02];
    out.extend([7; 300]);
    out.extend([0x42, 2, 0x10, 0x0d]);
    out
}

fn seal(bytes: &[u8]) -> (FileEntry, BTreeMap<Cid, Vec<u8>>, Format) {
    let mut reader = Cursor::new(bytes);
    let format = detect_format(&mut reader).unwrap();
    let sealer = Sealer::new(Domain::Private, ContentSecret::from_bytes([5; 32]));
    let mut stored = BTreeMap::new();
    let mut last = 0;
    let mut sink = |cid, sealed: &[u8]| {
        stored.insert(cid, sealed.to_vec());
        Ok::<_, Infallible>(())
    };
    let mut progress = |done, total| {
        assert!(done > last && done <= total && total == bytes.len() as u64);
        last = done;
    };
    let entry = seal_file(&sealer, &mut reader, "model", format, &mut sink, &mut progress).unwrap();
    assert_eq!(last, bytes.len() as u64);
    (entry, stored, format)
}

fn opened(entry: &FileEntry, stored: &BTreeMap<Cid, Vec<u8>>, format: Format) -> Vec<u8> {
    let manifest = Manifest {
        name: "a/b".parse().unwrap(),
        version: 1,
        format,
        task: Task::Tensors,
        domain: Domain::Private,
        secret: [5; 32],
        files: vec![entry.clone()],
        conformance: Vec::new(),
        preparation: None,
    };
    manifest.check().unwrap();
    let mut out = Vec::new();
    open_file(&manifest, entry, &mut |cid| stored.get(cid).cloned().ok_or("missing"), &mut out).unwrap();
    out
}

#[test]
fn every_format_round_trips() {
    let big = noise(2_500_000, 1);
    let cases = [
        (gguf(&[("w", &big), ("b", b"0123456789")]), Format::Gguf),
        (safetensors(&[("w", &big), ("b", b"0123456789")]), Format::Safetensors),
        (onnx(), Format::Onnx),
        (noise(3_000_000, 2), Format::Opaque),
        (b"{}".to_vec(), Format::Opaque),
        (Vec::new(), Format::Opaque),
    ];
    for (bytes, expected) in cases {
        let (entry, stored, format) = seal(&bytes);
        assert_eq!(format, expected);
        assert_eq!(opened(&entry, &stored, format), bytes);
    }
}

#[test]
fn tensors_are_cut_on_their_own() {
    let big = noise(2_500_000, 1);
    for bytes in [gguf(&[("w", &big), ("b", &[1; 64])]), safetensors(&[("w", &big), ("b", &[1; 64])])] {
        let (entry, _, _) = seal(&bytes);
        let parts: Vec<_> = entry.parts.iter().map(|p| (p.name.as_str(), p.chunks.len())).collect();
        assert_eq!(parts, [("#header", 1), ("w", 3), ("b", 1)]);
    }
}

#[test]
fn a_new_version_shares_every_unchanged_tensor() {
    let (kept, old, new) = (noise(1_500_000, 1), noise(300_000, 2), noise(310_000, 3));
    for make in [gguf, safetensors] {
        let (_, first, _) = seal(&make(&[("changed", &old), ("kept", &kept), ("gone", b"x")]));
        let (_, second, _) = seal(&make(&[("changed", &new), ("kept", &kept), ("added", b"y")]));
        let new_bytes: usize = second.iter().filter(|(cid, _)| !first.contains_key(cid)).map(|(_, b)| b.len()).sum();
        assert!(new_bytes < 320_000, "{new_bytes}");
    }
}

#[test]
fn an_insertion_into_a_file_of_unknown_format_changes_few_chunks() {
    let bytes = noise(6_000_000, 9);
    let mut longer = bytes.clone();
    longer.splice(2_000_000..2_000_000, *b"inserted");
    let cids = |bytes: &[u8]| seal(bytes).1.into_keys().collect::<BTreeSet<_>>();
    let (first, second) = (cids(&bytes), cids(&longer));
    assert!(second.difference(&first).count() <= 3, "{} of {}", second.difference(&first).count(), second.len());
}

#[test]
fn a_canary_is_in_no_ciphertext() {
    let canary = b"CANARY-IN-THE-COAL-MINE";
    for bytes in [gguf(&[("w", canary)]), safetensors(&[("w", canary)]), canary.repeat(40_000)] {
        let (_, stored, _) = seal(&bytes);
        assert!(!stored.values().any(|sealed| sealed.windows(canary.len()).any(|w| w == canary)));
    }
}

#[test]
fn a_file_cut_short_anywhere_is_a_clear_error() {
    let cases = [
        ("m.gguf", gguf(&[("w", &noise(500, 1)), ("b", b"0123456789")])),
        ("m.safetensors", safetensors(&[("w", &noise(500, 1)), ("b", b"0123456789")])),
        ("m.onnx", onnx()),
    ];
    for (name, bytes) in cases {
        let format = named_format(name).unwrap();
        assert!(cuts(&mut Cursor::new(&bytes), format).is_ok());
        for len in 0..bytes.len() {
            match cuts(&mut Cursor::new(&bytes[..len]), format) {
                Err(e @ CutError::Malformed { .. }) => assert!(e.to_string().contains("nothing was published")),
                // An ONNX file that ends exactly between two fields behind its graph is another, shorter model.
                Ok(_) if format == Format::Onnx && len == bytes.len() - 4 => {}
                other => panic!("{name} cut at {len}: {other:?}"),
            }
            // By content alone it is never mistaken for a file of unknown format, once its magic number is there.
            let magic = if format == Format::Onnx { 9 } else { 9.min(bytes.len()) };
            if len > magic && format != Format::Onnx {
                assert!(detect_format(&mut Cursor::new(&bytes[..len])).is_err(), "{name} cut at {len}");
            }
        }
    }
}

#[test]
fn overlaps_and_absurd_counts_are_refused() {
    let overlap =
        r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}}"#;
    let reversed = r#"{"a":{"dtype":"X","shape":[8],"data_offsets":[8,0]}}"#;
    let shape = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,9],"data_offsets":[0,12]}}"#;
    let huge = r#"{"a":{"dtype":"X","shape":[1],"data_offsets":[0,18446744073709551615]}}"#;
    for json in [overlap, reversed, shape, huge, "[]", "{\"a\":1}"] {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.extend([0; 12]);
        let result = cuts(&mut Cursor::new(bytes), Format::Safetensors);
        assert!(matches!(result, Err(CutError::Malformed { .. })), "{json}: {result:?}");
    }
    for (at, value) in [(8, u64::MAX), (16, u64::MAX), (8, 1 << 40), (24, u64::MAX)] {
        let mut bytes = gguf(&[("w", &[1; 64])]);
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        assert!(matches!(cuts(&mut Cursor::new(bytes), Format::Gguf), Err(CutError::Malformed { .. })));
    }
}

#[test]
fn a_sink_that_fails_stops_the_sealing() {
    let sealer = Sealer::new(Domain::Public, ContentSecret::public());
    let mut calls = 0;
    let result = seal_file(
        &sealer,
        &mut Cursor::new(noise(3_000_000, 1)),
        "m",
        Format::Opaque,
        &mut |_, _| {
            calls += 1;
            if calls == 2 { Err("disk full") } else { Ok(()) }
        },
        &mut |_, _| {},
    );
    assert!(matches!(result, Err(SealError::Sink(_))));
    assert_eq!(calls, 2);
}

/// A file that grows or shrinks between being measured and being read.
struct Shifty(Cursor<Vec<u8>>, u64);

impl Read for Shifty {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl Seek for Shifty {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        match to {
            SeekFrom::End(_) => Ok(self.1),
            other => self.0.seek(other),
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    let sealer = Sealer::new(Domain::Public, ContentSecret::public());
    for claimed in [10, 1_000] {
        let mut file = Shifty(Cursor::new(noise(500, 1)), claimed);
        let sink = &mut |_, _: &[u8]| Ok::<_, Infallible>(());
        let result = seal_file(&sealer, &mut file, "m", Format::Opaque, sink, &mut |_, _| {});
        assert!(matches!(result, Err(SealError::Changed { .. })), "{result:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_headers_never_panic_and_cuts_always_cover(
        which in 0usize..3,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        keep in any::<prop::sample::Index>(),
    ) {
        let (mut bytes, format) = match which {
            0 => (gguf(&[("w", &[1; 200]), ("b", &[2; 10])]), Format::Gguf),
            1 => (safetensors(&[("w", &[1; 200]), ("b", &[2; 10])]), Format::Safetensors),
            _ => (onnx(), Format::Onnx),
        };
        let len = bytes.len();
        for (at, byte) in edits {
            bytes[at.index(len)] = byte;
        }
        bytes.truncate(len - keep.index(len) / 8);
        if let Ok(Some(cuts)) = cuts(&mut Cursor::new(&bytes), format) {
            let mut at = 0;
            for cut in &cuts {
                prop_assert_eq!(cut.start, at);
                prop_assert!(cut.end > cut.start);
                at = cut.end;
            }
            prop_assert_eq!(at, bytes.len() as u64);
        }
        let _ = detect_format(&mut Cursor::new(&bytes));
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), which in 0usize..3) {
        let (magic, format) =
            [(&b"GGUF\x03\0\0\0"[..], Format::Gguf), (&b""[..], Format::Safetensors), (&b"\x08\x09"[..], Format::Onnx)][which];
        let bytes = [magic, &bytes].concat();
        let _ = cuts(&mut Cursor::new(&bytes), format);
        let _ = detect_format(&mut Cursor::new(&bytes));
    }
}
