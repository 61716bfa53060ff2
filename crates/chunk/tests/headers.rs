//! Headers that lie: numbers replaced by extreme ones, tensors moved onto each other, headers of files that claim to be
//! huge. Nothing panics, what is accepted covers the file once, and no more is read than a header may have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Cursor, Read, Seek, SeekFrom};

use common::{gguf, noise};
use proptest::prelude::*;
use zero2ai_chunk::cut::{Cut, CutError, cuts, external_files};
use zero2ai_proto::manifest::Format;

fn covers(cuts: &[Cut], len: usize) {
    let mut at = 0;
    for cut in cuts {
        assert!(cut.start == at && cut.end > cut.start, "{cut:?} after {at}");
        at = cut.end;
    }
    assert_eq!(at, len as u64);
}

fn json_file(json: &str, data: usize) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &vec![0; data]].concat()
}

fn refused(bytes: &[u8], format: Format, word: &str) {
    match cuts(&mut Cursor::new(bytes), format) {
        Err(e @ CutError::Malformed { .. }) => assert!(e.to_string().contains(word), "'{word}' is not in: {e}"),
        other => panic!("'{word}': {other:?}"),
    }
}

#[test]
fn names_shapes_and_counts_are_bounded_while_they_are_read() {
    let twice =
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    refused(&json_file(twice, 2), Format::Safetensors, "two tensors named 'a'");
    refused(&gguf(&[("a", &[1; 64]), ("a", &[2; 64])]), Format::Gguf, "two tensors named 'a'");
    let long = format!(r#"{{"{}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#, "n".repeat(257));
    refused(&json_file(&long, 1), Format::Safetensors, "longer than");
    let flat = format!(r#"{{"a":{{"dtype":"U8","shape":[{}1],"data_offsets":[0,1]}}}}"#, "1,".repeat(1_000_000));
    refused(&json_file(&flat, 1), Format::Safetensors, "dimensions");
    let deep = format!(r#"{{"__metadata__":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    // Metadata is passed over without recursion.
    assert!(cuts(&mut Cursor::new(json_file(&deep, 0)), Format::Safetensors).is_ok());
    let negative = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}"#;
    refused(&json_file(negative, 1), Format::Safetensors, "parse");
    // 100,000 tensors of no bytes.
    let entry = |n: u32| format!(r#""t{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let many = format!("{{{}}}", (0..100_000).map(entry).collect::<Vec<_>>().join(","));
    refused(&json_file(&many, 1), Format::Safetensors, "tensors");
}

#[test]
fn tensors_that_share_bytes_are_refused_whatever_their_order() {
    let at = |name: &str, begin: u32, end: u32| {
        format!(r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{begin},{end}]}}"#, end - begin)
    };
    for (a, b) in [((0, 8), (0, 8)), ((4, 12), (0, 5)), ((0, 12), (3, 4)), ((11, 12), (0, 12))] {
        let json = format!("{{{},{}}}", at("a", a.0, a.1), at("b", b.0, b.1));
        refused(&json_file(&json, 12), Format::Safetensors, "overlaps");
    }
    // In GGUF: the second tensor's offset is its header's last number.
    let mut bytes = gguf(&[("a", &[1; 200]), ("b", &[2; 64])]);
    let second = 256u64.to_le_bytes();
    let offset = bytes.windows(8).rposition(|w| w == second).unwrap();
    bytes[offset..offset + 8].copy_from_slice(&64u64.to_le_bytes());
    refused(&bytes, Format::Gguf, "overlaps");
    bytes[offset..offset + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(&bytes, Format::Gguf, "beyond any file");
}

/// A file of `size` bytes: `start`, then nothing but zeros. Counts what is read.
struct Sparse {
    start: Vec<u8>,
    size: u64,
    at: u64,
    read: u64,
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = buffer.len().min(usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX));
        buffer[..n].fill(0);
        if let Some(rest) = usize::try_from(self.at).ok().and_then(|at| self.start.get(at..)) {
            let shared = rest.len().min(n);
            buffer[..shared].copy_from_slice(&rest[..shared]);
        }
        self.at += n as u64;
        self.read += n as u64;
        Ok(n)
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => self.size.checked_add_signed(by).unwrap(),
            SeekFrom::Current(by) => self.at.checked_add_signed(by).unwrap(),
        };
        Ok(self.at)
    }
}

#[test]
fn of_a_huge_file_no_more_than_a_header_is_read() {
    let mib = 1 << 20;
    let file = |start: &[u8]| Sparse { start: start.to_vec(), size: 1 << 44, at: 0, read: 0 };
    let number = |n: u64| n.to_le_bytes();
    // A GGUF array of 2^40 strings; one of 2^43 bytes; a key of 2^40 bytes.
    let head = [&b"GGUF\x03\0\0\0"[..], &number(0), &number(1), &number(1), b"k", &9u32.to_le_bytes()].concat();
    let strings = [&head[..], &8u32.to_le_bytes(), &number(1 << 40)].concat();
    let scalars = [&head[..], &0u32.to_le_bytes(), &number(1 << 43)].concat();
    let key = [&b"GGUF\x03\0\0\0"[..], &number(0), &number(1), &number(1 << 40)].concat();
    // A string as long as a header may be: read to be passed over, not kept.
    let text = [&head[..head.len() - 4], &8u32.to_le_bytes(), &number(127 << 20)].concat();
    for (start, most) in [(strings, mib), (scalars, mib), (key, mib), (text, 129 * mib)] {
        let mut sparse = file(&start);
        let _ = cuts(&mut sparse, Format::Gguf);
        assert!(sparse.read <= most, "{} bytes read", sparse.read);
    }
    for len in [1u64 << 33, u64::MAX, 33 << 20] {
        let mut sparse = file(&number(len));
        assert!(cuts(&mut sparse, Format::Safetensors).is_err());
        assert!(sparse.read <= mib, "{} bytes read", sparse.read);
    }
    // An ONNX graph whose one tensor has 2^43 bytes: passed over by seeking.
    let varint = |mut n: u64| {
        let mut out = Vec::new();
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    };
    let mut sparse = file(&[]);
    let data = (1u64 << 44) - 64;
    let raw = [vec![9 << 3 | 2], varint(data)].concat();
    let tensor = [vec![5 << 3 | 2], varint(raw.len() as u64 + data), raw].concat();
    sparse.start = [vec![8, 9, 7 << 3 | 2], varint(tensor.len() as u64 + data), tensor].concat();
    sparse.size = sparse.start.len() as u64 + data;
    assert_eq!(external_files(&mut sparse).unwrap(), []);
    assert!(sparse.read <= mib, "{} bytes read", sparse.read);
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = content.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    [out, content.to_vec()].concat()
}

/// A tensor outside the file.
fn outside(location: &str, offset: u64, length: u64) -> Vec<u8> {
    let pair = |key: &str, value: &str| field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let (offset, length) = (offset.to_string(), length.to_string());
    [pair("location", location), pair("offset", &offset), pair("length", &length), vec![14 << 3, 1]].concat()
}

fn model(graph: &[u8]) -> Vec<u8> {
    [vec![8, 9], field(7, graph)].concat()
}

#[test]
fn external_tensors_are_found_wherever_they_are_nested() {
    let attribute = |content: Vec<u8>| field(1, &field(5, &content));
    let graphs = [
        field(5, &outside("a.data", 4, 6)),
        attribute(field(5, &outside("a.data", 4, 6))),
        attribute(field(10, &outside("a.data", 4, 6))),
        attribute(field(6, &field(5, &outside("a.data", 4, 6)))),
        attribute(field(11, &attribute(field(6, &field(5, &outside("a.data", 4, 6)))))),
        field(15, &field(1, &outside("a.data", 4, 6))),
        [field(5, &outside("a.data", 4, 6)), field(5, &outside("a.data", 0, 3))].concat(),
    ];
    for graph in graphs {
        let found = external_files(Cursor::new(model(&graph))).unwrap();
        assert_eq!(found.iter().map(|f| (f.name.as_str(), f.needs)).collect::<Vec<_>>(), [("a.data", 10)]);
    }
    assert_eq!(external_files(Cursor::new(model(&field(5, &field(9, b"inside"))))).unwrap(), []);
    // Said to be outside, without a place; and as deep as no model is.
    assert!(external_files(Cursor::new(model(&field(5, &[14 << 3, 1])))).is_err());
    let deep = (0..100).fold(field(5, &outside("a", 0, 1)), |graph, _| attribute(field(6, &graph)));
    assert!(external_files(Cursor::new(model(&deep))).unwrap_err().to_string().contains("nested"));
    for name in ["../a", "/a", "a/b", "..", ".", "", "a\\b", "C:a", "a\0b", ".a"] {
        let error = external_files(Cursor::new(model(&field(5, &outside(name, 0, 1))))).unwrap_err();
        assert!(error.to_string().contains(&format!("'{}'", name.escape_default())), "{error}");
    }
}

/// Numbers that headers are broken with.
fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(1 << 63),
        Just(u64::from(u32::MAX)),
        Just(1 << 40),
        0u64..2_000,
        any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_number_of_a_gguf_header_may_lie(
        at in any::<prop::sample::Index>(),
        value in extreme(),
        bytes in prop_oneof![Just(4usize), Just(8)],
        keep in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = gguf(&[("w", &noise(300, 1)), ("b", &noise(64, 2)), ("empty", b"")]);
        let header = 400.min(file.len() - 8);
        let at = at.index(header);
        file[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        if let Some(keep) = keep {
            file.truncate(keep.index(file.len()));
        }
        if let Ok(Some(found)) = cuts(&mut Cursor::new(&file), Format::Gguf) {
            covers(&found, file.len());
        }
    }

    #[test]
    fn any_place_of_a_safetensors_tensor_may_lie(
        places in prop::collection::vec((extreme(), extreme(), prop::collection::vec(extreme(), 0..4)), 1..5),
        dtype in prop_oneof![Just("U8"), Just("F32"), Just("F64"), Just("NEW")],
        claimed in prop::option::of(extreme()),
        data in 0usize..3_000,
    ) {
        let entries: Vec<String> = places.iter().enumerate().map(|(i, (begin, end, shape))| {
            format!(r#""t{i}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#)
        }).collect();
        let mut file = json_file(&format!("{{{}}}", entries.join(",")), data);
        if let Some(claimed) = claimed {
            file[..8].copy_from_slice(&claimed.to_le_bytes());
        }
        if let Ok(Some(found)) = cuts(&mut Cursor::new(&file), Format::Safetensors) {
            covers(&found, file.len());
        }
    }

    #[test]
    fn tensors_in_any_order_are_cut_where_they_lie(lens in prop::collection::vec(1u64..400, 1..8), turn in 0usize..8) {
        let mut begin = 0;
        let mut entries: Vec<String> = lens.iter().enumerate().map(|(i, len)| {
            begin += len;
            format!(r#""t{i}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{},{begin}]}}"#, begin - len)
        }).collect();
        entries.rotate_left(turn % lens.len());
        let file = json_file(&format!("{{{}}}", entries.join(",")), usize::try_from(begin).unwrap());
        let found = cuts(&mut Cursor::new(&file), Format::Safetensors).unwrap().unwrap();
        covers(&found, file.len());
        let cut: Vec<u64> = found[1..].iter().map(|c| c.end - c.start).collect();
        prop_assert_eq!(cut, lens);
    }

    #[test]
    fn damaged_external_places_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        noise in prop::collection::vec(any::<u8>(), 0..200),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut file = model(&[field(5, &outside("a.data", 4, 6)), field(1, &field(5, &field(6, &noise)))].concat());
        let len = file.len();
        edits.iter().for_each(|(at, byte)| file[at.index(len)] = *byte);
        file.truncate(len - keep.index(len) / 4);
        if let Ok(found) = external_files(Cursor::new(&file)) {
            prop_assert!(found.iter().all(|f| !f.name.contains(['/', '\\']) && f.name != ".."));
        }
        let _ = external_files(Cursor::new(&noise));
    }
}
