//! The map of the workspace is a test: layers, who may name which library, file sizes, module docs, and that every path
//! named in prose exists. Reads files only; builds nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Layer of every crate by folder. An arrow in a `Cargo.toml` points to a lower layer only, or is one of [`SIDEWAYS`].
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["proto", "crates/clock"]),
    (
        1,
        &[
            "crates/chunk",
            "crates/ledger",
            "crates/trust",
            "crates/policy",
            "crates/kernels",
            "crates/media",
            "crates/placement",
        ],
    ),
    (2, &["crates/store", "crates/net", "crates/rpc", "crates/engine"]),
    (3, &["crates/names", "crates/swarm", "crates/chain", "crates/validator", "crates/deploy", "crates/client"]),
    (4, &["crates/gateway"]),
    (5, &["crates/node", "crates/client-python"]),
    (6, &["daemon", "testnet", "benches"]),
];

/// The only arrows within a layer.
const SIDEWAYS: &[(&str, &str)] = &[("ledger", "trust"), ("ledger", "policy")];

/// Libraries (by prefix of their name) that only one crate may name, so that they can be replaced in one place. The benches
/// are no part of the product: they measure some of these by themselves, beside it.
const ONLY: &[(&str, &str)] = &[
    ("serde_cbor", "proto"),
    ("vrf-", "proto"),
    ("libp2p", "crates/net"),
    ("quinn", "crates/rpc"),
    ("rustls", "crates/rpc"),
    ("sled", "crates/store"),
    ("candle", "crates/engine"),
    ("cudarc", "crates/engine"),
    ("image", "crates/media"),
    ("symphonia", "crates/media"),
    ("parquet", "crates/validator"),
    ("csv", "crates/validator"),
    ("arc-malachitebft", "crates/chain"),
];

/// A workspace of its own, so that the tools measured beside the product burden neither its build nor its tests.
const APART: &str = "benches";
/// The fuzz targets, another one: libFuzzer needs a nightly compiler.
const FUZZ: &str = "testnet/fuzz";

/// Lines of one file without its tests. Beyond the first mark the test fails; beyond the second it prints the file.
const LINES: (usize, usize) = (800, 500);
/// Lines of a `lib.rs`: it is a map, not a place.
const LIB_LINES: usize = 120;

/// Documents whose paths are checked.
const DOCUMENTS: &[&str] = &[
    "README.md",
    "crates/ARCHITECTURE.md",
    "CHANGELOG.md",
    "proto/README.md",
    "benches/RESULTS.md",
    "testnet/fuzz/README.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root").to_owned()
}

/// Every crate's folder, relative to the root, with the names in its dependency tables.
fn crates() -> BTreeMap<String, Vec<String>> {
    let mut folders: Vec<String> = ["proto", "daemon", "testnet", "benches"].map(str::to_owned).into();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        folders.push(format!("crates/{}", entry.unwrap().file_name().to_string_lossy()));
    }
    let manifest = |folder: &String| fs::read_to_string(root().join(folder).join("Cargo.toml")).ok();
    folders.into_iter().filter_map(|f| manifest(&f).map(|text| (f, dependencies(&text)))).collect()
}

/// Names in `[dependencies]`, `[dev-dependencies]`, `[build-dependencies]` and their per-target forms.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut within = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            within = section.ends_with("dependencies");
            if let Some((_, name)) = section.split_once("dependencies.") {
                names.push(name.to_owned());
            }
        } else if within && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            names.push(name.trim_matches('"').to_owned());
        }
    }
    names
}

fn layer(folder: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, folders)| folders.contains(&folder)).map(|(layer, _)| *layer)
}

fn bare(folder: &str) -> &str {
    folder.rsplit('/').next().unwrap_or(folder)
}

/// Every `.rs` file of the workspace, relative to the root.
fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for top in ["proto", "crates", "daemon", "testnet", "benches"] {
        walk(&root().join(top), &mut found);
    }
    found.sort();
    assert!(found.len() > 50, "the walk found {} files only", found.len());
    found
}

#[test]
fn arrows_point_down() {
    let crates = crates();
    let folder_of: BTreeMap<&str, &str> = crates.keys().map(|f| (bare(f), f.as_str())).collect();
    let mut wrong = Vec::new();
    for (folder, names) in &crates {
        let from =
            layer(folder).unwrap_or_else(|| panic!("{folder} is not on the map: add it to LAYERS and to the docs"));
        for name in names.iter().filter_map(|n| n.strip_prefix("zero2ai-")) {
            let to =
                folder_of.get(name).and_then(|f| layer(f)).unwrap_or_else(|| panic!("{folder} names unknown {name}"));
            if to >= from && !SIDEWAYS.contains(&(bare(folder), name)) {
                wrong.push(format!("{folder} (layer {from}) names {name} (layer {to})"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that do not point down: {wrong:#?}");
}

#[test]
fn each_library_is_named_by_its_owner_alone() {
    let mut wrong = Vec::new();
    for (folder, names) in crates().into_iter().filter(|(folder, _)| folder != APART) {
        for (prefix, owner) in ONLY {
            wrong.extend(
                names.iter().filter(|n| n.starts_with(prefix) && folder != *owner).map(|n| format!("{folder}: {n}")),
            );
        }
    }
    assert!(wrong.is_empty(), "libraries named outside their crate: {wrong:#?}");
}

/// What an application that links the client must not get with it, by prefix of the library's name: no models, no consensus,
/// no swarm, no database, no server.
const NOT_IN_CLIENT: &[&str] =
    &["candle", "tract", "cudarc", "arc-malachitebft", "libp2p", "sled", "rocksdb", "axum", "hyper", "zero2ai-store"];

/// Names of the packages in the lock file with those that each names, whatever their versions: more than is ever linked.
fn locked() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut packages: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in text.split("[[package]]").skip(1) {
        let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
        let name = package.lines().find(|l| l.starts_with("name = ")).and_then(quoted).unwrap();
        let named = package.lines().filter(|l| l.starts_with(" \"")).filter_map(quoted);
        let bare = named.map(|n| n.split(' ').next().unwrap_or_default().to_owned());
        packages.entry(name).or_default().extend(bare);
    }
    packages
}

#[test]
fn the_client_stays_small() {
    let packages = locked();
    let (mut seen, mut next) = (std::collections::BTreeSet::new(), vec!["zero2ai-client".to_owned()]);
    while let Some(name) = next.pop() {
        if seen.insert(name.clone()) {
            next.extend(packages.get(&name).unwrap_or_else(|| panic!("Cargo.lock has no {name}")).iter().cloned());
        }
    }
    assert!(seen.len() > 50, "the walk found {seen:?} only");
    let wrong: Vec<_> = seen.iter().filter(|n| NOT_IN_CLIENT.iter().any(|prefix| n.starts_with(prefix))).collect();
    assert!(wrong.is_empty(), "the client library brings {wrong:?} into every application");
}

/// The one crate that may hold `unsafe` code. It repeats the workspace's lints, since a crate cannot take them but for one.
const UNSAFE: &str = "crates/kernels";

/// The lints in a manifest's tables whose names start with `prefix`, as `table: name = level`.
fn lints(manifest: &str, prefix: &str) -> Vec<String> {
    let mut table = None;
    let mut lints = Vec::new();
    for line in manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[') {
            table = section.trim_end_matches(']').strip_prefix(prefix);
        } else if let Some(table) = table {
            lints.push(format!("{table}: {line}"));
        }
    }
    lints
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    let workspace = lints(&fs::read_to_string(root().join("Cargo.toml")).unwrap(), "workspace.lints.");
    assert!(workspace.len() > 5, "found {workspace:?} only");
    for folder in crates().keys() {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        if folder == UNSAFE {
            let own = lints(&text, "lints.");
            let argued = ["rust: unsafe_op_in_unsafe_fn = \"deny\"", "clippy: undocumented_unsafe_blocks = \"deny\""];
            let wanted = workspace.iter().map(String::as_str).filter(|lint| !lint.starts_with("rust: unsafe_code"));
            let missing: Vec<_> = wanted.chain(argued).filter(|lint| !own.iter().any(|o| o == lint)).collect();
            assert!(missing.is_empty(), "{folder}/Cargo.toml lacks the lints {missing:?}");
        } else {
            assert!(
                text.contains("[lints]\nworkspace = true"),
                "{folder}/Cargo.toml does not take the workspace's lints"
            );
        }
    }
}

/// A crate outside the workspace inherits nothing: what it must share is written in its own manifest, and compared here.
#[test]
fn the_benches_have_the_workspace_lints_and_profile() {
    let text = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let (root, apart) = (text("Cargo.toml"), text(&format!("{APART}/Cargo.toml")));
    let exclude = format!("exclude = [\"{APART}\", \"{FUZZ}\"]");
    assert!(root.contains(&exclude), "{APART} or {FUZZ} is not excluded from the root's workspace");
    for table in ["workspace.lints.", "profile."] {
        let wanted = lints(&root, table);
        assert!(!wanted.is_empty());
        assert_eq!(lints(&apart, table), wanted, "{APART}/Cargo.toml differs in [{table}*]");
    }
}

#[test]
fn every_source_says_what_it_owns_and_is_not_too_long() {
    let mut wrong = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display();
        if !text.starts_with("//!") {
            wrong.push(format!("{name} does not start with a //! line"));
        }
        let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
        if lines > LINES.0 {
            wrong
                .push(format!("{name} has {lines} lines without its tests; at most {} are allowed: split it", LINES.0));
        } else if lines > LINES.1 {
            println!("long: {name} has {lines} lines without its tests");
        }
        if path.file_name().is_some_and(|n| n == "lib.rs") && lines > LIB_LINES {
            wrong.push(format!("{name} has {lines} lines; a lib.rs is a map of at most {LIB_LINES}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Words between single backticks, outside fenced blocks.
fn quoted(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut words = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            words.extend(line.split('`').skip(1).step_by(2).flat_map(str::split_whitespace));
        }
    }
    words
}

/// True if `word` reads as a path of this repository: below one of its folders, or a relative path to a kind of file that
/// is kept here. Patterns and placeholders are no paths, and `target/` holds what is built.
fn reads_as_path(word: &str) -> bool {
    let tops = ["crates/", "daemon/", "proto/", "testnet/", "benches/", ".ci/"];
    let kinds = [".rs", ".toml", ".md", ".py", ".json"];
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let below = tops.iter().any(|t| word.starts_with(t));
    let file = word.contains('/') && !word.starts_with('/') && kinds.iter().any(|k| word.ends_with(k));
    plain && !word.starts_with("target/") && (below || file)
}

#[test]
fn every_path_named_in_prose_exists() {
    let mut wrong = Vec::new();
    for document in DOCUMENTS {
        let path = root().join(document);
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let beside = path.parent().unwrap();
        for word in quoted(&text).into_iter().filter(|w| reads_as_path(w)) {
            if !root().join(word).exists() && !beside.join(word).exists() {
                wrong.push(format!("{document} names {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "paths that do not exist: {wrong:#?}");
}

/// A table of claims ends each line with `file`: `test`, `test`: the claim is only as good as the test that shows it.
#[test]
fn every_test_named_in_the_threat_model_exists() {
    let page = fs::read_to_string(root().join("proto/README.md")).unwrap();
    let mut claims = 0;
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let last = quoted(line.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default());
        let Some((file, tests)) = last.split_first().filter(|(f, _)| f.contains("/tests/") || f.contains("/test_"))
        else {
            continue;
        };
        let text = fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        for test in tests {
            assert!(
                text.contains(&format!("fn {test}(")) || text.contains(&format!("def {test}(")),
                "{file} has no {test}"
            );
            claims += 1;
        }
    }
    assert!(claims > 10, "found {claims} claims only: is the table still there?");
}

#[test]
fn the_documents_are_there() {
    let files = ["deny.toml", "clippy.toml", "LICENSE-MIT", "LICENSE-APACHE", ".gitignore", ".ci/run"];
    let missing: Vec<_> = DOCUMENTS.iter().chain(&files).filter(|f| !root().join(f).is_file()).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}

#[test]
fn the_readers_of_manifests_and_prose_see_what_they_should() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = \"1\"\n# c = \"1\"\n\
                    [dependencies.d]\nversion = \"1\"\n[target.'cfg(unix)'.dependencies]\ne = { version = \"1\" }\n[lints]\nf = 1\n";
    assert_eq!(dependencies(manifest), ["a", "b", "d", "e"]);
    assert_eq!(quoted("see `a/b` and `c d`\n```\n`e`\n```\nf `g`"), ["a/b", "c", "d", "g"]);
    for (word, is) in [
        ("crates/store", true),
        ("src/codec.rs", true),
        ("acme/digits", false),
        ("target/demo.json", false),
        ("event/NAME/I", false),
        ("crates/*", false),
        ("/etc/hosts.md", false),
    ] {
        assert_eq!(reads_as_path(word), is, "{word}");
    }
}
