//! The bytes of every signed or carried type are pinned in `proto/vectors/vectors.json`: a change of one is a change of
//! the protocol, and this test says so. `UPDATE_VECTORS=1` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod samples;

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/vectors.json")
}

/// One entry a line, so that a change shows as a one-line diff and needs no JSON library to read.
fn render(vectors: &BTreeMap<String, Vec<u8>>) -> String {
    let mut text = String::from("{\n");
    for (i, (name, bytes)) in vectors.iter().enumerate() {
        let comma = if i + 1 == vectors.len() { "" } else { "," };
        writeln!(text, "  \"{name}\": \"{}\"{comma}", hex::encode(bytes)).unwrap();
    }
    text + "}\n"
}

fn parse(text: &str) -> BTreeMap<String, Vec<u8>> {
    let entry = |line: &str| {
        let mut parts = line.split('"');
        let (name, bytes) = (parts.nth(1)?, parts.nth(1)?);
        Some((name.to_owned(), hex::decode(bytes).expect("hexadecimal")))
    };
    text.lines().filter_map(entry).collect()
}

#[test]
fn pinned_bytes_do_not_change() {
    let now = samples::all();
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(file(), render(&now)).unwrap();
        println!("wrote {} vectors: where one changed, this is a change of the protocol", now.len());
        return;
    }
    let pinned = parse(&std::fs::read_to_string(file()).unwrap());
    for (name, bytes) in &now {
        let was = pinned.get(name).unwrap_or_else(|| panic!("{name} has no vector: run with UPDATE_VECTORS=1"));
        assert_eq!(
            hex::encode(was),
            hex::encode(bytes),
            "the bytes of {name} changed. That is a change of the protocol: nodes of the old one would read this value \
             otherwise or refuse it. If it is meant, say so in CHANGELOG.md and run with UPDATE_VECTORS=1"
        );
    }
    let gone: Vec<_> = pinned.keys().filter(|name| !now.contains_key(*name)).collect();
    assert!(gone.is_empty(), "vectors of types that are no longer pinned: {gone:?}");
}

#[test]
fn every_method_has_its_own_number() {
    let numbers = samples::methods();
    let distinct: std::collections::BTreeSet<u16> = numbers.iter().map(|(id, _)| *id).collect();
    assert_eq!(distinct.len(), numbers.len(), "two methods share a number: {numbers:?}");
}
