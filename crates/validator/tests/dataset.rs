//! Data as users have them: every format gives the same samples, and every fault is told by its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use zero2ai_proto::local::LocalData;
use zero2ai_validator::{
    Dataset,
    dataset::{Samples, Span},
};

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testnet/fixtures").join(path)
}

fn at(path: &Path) -> LocalData {
    LocalData { path: path.to_str().unwrap().to_owned(), ..LocalData::default() }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) -> LocalData {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        at(&path)
    }

    fn whole(&self) -> LocalData {
        at(self.0.path())
    }
}

#[track_caller]
fn refused(data: &LocalData, words: &[&str]) {
    let error = Dataset::read(data).expect_err("it was read").to_string();
    for word in words {
        assert!(error.contains(word), "'{word}' is not in: {error}");
    }
}

#[test]
fn a_table_is_the_same_samples_in_every_format() {
    let group = |data: LocalData| LocalData { group: text("region"), label: text("granted"), ..data };
    let csv = Dataset::read(&group(at(&fixture("grading/heldout-1.csv")))).unwrap();
    let columnar = Dataset::read(&group(at(&fixture("grading/heldout-1.parquet")))).unwrap();
    assert_eq!(csv, columnar);
    assert_eq!((csv.len(), csv.groups.as_ref().unwrap().len()), (240, 240));
    let folder = Folder::new();
    let (mut lists, mut columns) = (String::new(), String::new());
    let Samples::Rows(rows, labels) = &csv.samples else { panic!("rows") };
    for ((row, label), region) in rows.iter().zip(labels).zip(csv.groups.as_ref().unwrap()) {
        let numbers: Vec<String> = row.iter().map(ToString::to_string).collect();
        writeln!(lists, r#"{{"x": [{}], "region": "{region}", "granted": {label}}}"#, numbers.join(", ")).unwrap();
        let named: Vec<String> = numbers.iter().enumerate().map(|(i, n)| format!(r#""c{i}": {n}"#)).collect();
        writeln!(columns, r#"{{{}, "region": "{region}", "granted": {label}}}"#, named.join(", ")).unwrap();
    }
    let lists = Dataset::read(&group(folder.put("lists.jsonl", &lists))).unwrap();
    assert_eq!(csv.root(), lists.root());
    let columns = group(folder.put("columns.jsonl", &columns));
    refused(&columns, &["--features"]);
    let features = (0..9).map(|i| format!("c{i}")).collect();
    assert_eq!(Dataset::read(&LocalData { features, ..columns }).unwrap(), csv);
}

#[test]
fn a_root_names_the_set_and_not_its_order() {
    let folder = Folder::new();
    let root = |text: &str| Dataset::read(&folder.put("t.csv", text)).unwrap().root();
    assert_eq!(root("1,2,0\n3,4,1\n"), root("a,b,class\n3,4,1\n1,2,0\n"));
    assert_ne!(root("1,2,0\n3,4,1\n"), root("1,2,0\n3,4,0\n"));
    let prompts = |text: &str| Dataset::read(&folder.put("t.jsonl", text)).unwrap().root();
    let one = r#"{"prompt": "a", "expected": "b"}"#;
    assert_ne!(prompts(one), prompts(r#"{"prompt": "a", "expected": ["b", "c"]}"#));
    assert_ne!(prompts(one), prompts(r#"{"prompt": "ab", "expected": "b"}"#));
}

#[test]
fn texts_are_known_by_their_columns() {
    let folder = Folder::new();
    let prompts = "{\"prompt\": \"2 + 2 =\", \"expected\": [\"4\", \"four\"], \"kind\": \"sums\"}\n\n{\"prompt\": \"x\", \"expected\": 7, \"kind\": \"other\"}\n";
    let data = LocalData { slice: text("kind"), ..folder.put("p.jsonl", prompts) };
    let read = Dataset::read(&data).unwrap();
    let Samples::Prompts(all) = &read.samples else { panic!("prompts") };
    assert_eq!((all[0].expected.len(), all[1].expected[0].as_str()), (2, "7"));
    assert_eq!(read.slices.unwrap(), ["sums", "other"]);
    let pairs = "query,relevant\n\"a, quoted\",b\n";
    let read = Dataset::read(&folder.put("q.csv", pairs)).unwrap();
    assert!(matches!(&read.samples, Samples::Pairs(all) if all[0].query == "a, quoted"));
    refused(&folder.put("q.csv", "query,relevant\n,b\n"), &["q.csv line 2", "'query' is empty"]);
}

#[test]
fn names_of_classes_are_places_in_the_models_order() {
    let folder = Folder::new();
    let data = folder.put("t.csv", "x,class\n1,no\n2,yes\n");
    refused(&data, &["line 2", "'no'", "--classes"]);
    let classes = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    let read = Dataset::read(&LocalData { classes: classes(&["yes", "no"]), ..data.clone() }).unwrap();
    assert_eq!(read.labels(), Some([1, 0].as_slice()));
    refused(&LocalData { classes: classes(&["yes"]), ..data }, &["'no'", "none of the classes yes"]);
}

#[test]
fn every_fault_of_a_table_names_its_place() {
    let folder = Folder::new();
    for (text, words) in [
        ("1,2,0\n1,x,0\n", ["t.csv line 2", "'x' is no number"]),
        ("1,2,0\n1,2\n", ["line 2", "2 cells"]),
        ("1,2,0.5\n", ["line 1", "'0.5'"]),
        ("1,2,-1\n", ["line 1", "'-1'"]),
        ("1,NaN,0\n", ["line 1", "not finite"]),
        ("1,1e60,0\n", ["line 1", "not finite"]),
        ("7\n", ["line 1", "features and a class"]),
        ("a,b\n", ["t.csv", "no samples"]),
        ("a,a,c\n1,2,0\n", ["line 2", "called 'a'"]),
        ("", ["t.csv", "no samples"]),
        ("prompt,answer\na,b\n", ["line 2", "no 'expected'"]),
    ] {
        refused(&folder.put("t.csv", text), &words);
    }
    for (text, words) in [
        ("{}\n", ["line 1", "--label"]),
        ("[1]\n", ["line 1", "no JSON object"]),
        ("{\"x\": [1, \"a\"], \"label\": 0}\n", ["line 1", "column 'x'"]),
        ("{\"x\": [1], \"label\": 0}\n{\"x\": [1, 2], \"label\": 0}\n", ["line 2", "2 numbers where"]),
        ("{\"x\": [1], \"label\": 0}\n{\"x\": [1]}\n", ["line 2", "no 'label'"]),
        ("{\"x\": {\"a\": 1}, \"label\": 0}\n", ["line 1", "object inside"]),
        ("{\"x\": [1], \"label\": null}\n", ["line 1", "is empty"]),
    ] {
        refused(&folder.put("t.jsonl", text), &words);
    }
    refused(&folder.put("t.csv", [0xff, 0xfe, b'\n']), &["UTF-8"]);
    refused(&folder.put("t.txt", "1,0\n"), &[".csv, .jsonl or .parquet"]);
    refused(&LocalData { label: text("class"), ..folder.put("t.csv", "x,y\n1,0\n") }, &["'class'", "x, y"]);
    refused(&at(&folder.0.path().join("none.csv")), &["none.csv"]);
}

#[test]
fn a_damaged_parquet_file_is_told_and_nothing_else_happens() {
    let folder = Folder::new();
    let whole = fs::read(fixture("grading/heldout-1.parquet")).unwrap();
    let data = |bytes: &[u8]| LocalData { group: text("region"), ..folder.put("t.parquet", bytes) };
    refused(&data(b"PAR1"), &["t.parquet"]);
    refused(&data(&whole[..whole.len() / 2]), &["t.parquet"]);
    let good = Dataset::read(&data(&whole)).unwrap();
    // Any byte may lie: read or refused, never more.
    let mut refusals = 0;
    for place in (0..whole.len()).step_by(37) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0xa5;
        match Dataset::read(&data(&bytes)) {
            Ok(read) => assert_eq!(read.len(), good.len()),
            Err(_) => refusals += 1,
        }
    }
    assert!(refusals > 20, "{refusals}");
}

#[test]
fn a_folder_of_pictures_or_sounds_has_a_folder_a_class() {
    let folder = Folder::new();
    let media = |name: &str| fs::read(fixture("media").join(name)).unwrap();
    folder.put("dog/b.png", media("picture.png"));
    folder.put("cat/a.jpg", media("picture.jpg"));
    folder.put("cat/.hidden", "x");
    let read = Dataset::read(&folder.whole()).unwrap();
    assert!(matches!(&read.samples, Samples::Pictures(all, labels) if all.len() == 2 && *labels == [0, 1]));
    assert_eq!(read.names, ["cat", "dog"]);
    assert!(read.notes[0].contains("cat, dog"), "{:?}", read.notes);
    let classes = vec!["dog".to_owned(), "cat".to_owned()];
    let other = Dataset::read(&LocalData { classes, ..folder.whole() }).unwrap();
    assert_eq!(other.labels(), Some([1, 0].as_slice()));
    refused(&LocalData { classes: vec!["dog".into()], ..folder.whole() }, &["cat", "none of the classes"]);
    folder.put("dog/c.wav", media("clip.wav"));
    refused(&folder.whole(), &["c.wav", "WAV sound"]);
    folder.put("dog/c.wav", "text");
    refused(&folder.whole(), &["c.wav", "neither a picture nor a sound"]);
    let empty = Folder::new();
    refused(&empty.whole(), &["a folder a class"]);
    std::os::unix::fs::symlink("/etc/passwd", folder.0.path().join("dog/link.png")).unwrap();
    fs::remove_file(folder.0.path().join("dog/c.wav")).unwrap();
    refused(&folder.whole(), &["link.png", "no plain file"]);
}

#[test]
fn a_table_of_labels_stands_beside_its_sounds() {
    let folder = Folder::new();
    folder.put("clips/clip.wav", fs::read(fixture("media/clip.wav")).unwrap());
    folder.put("labels.csv", "file,start,end,label\nclips/clip.wav,0,0.5,1\nclips/clip.wav,,,0\n");
    let read = Dataset::read(&folder.whole()).unwrap();
    let Samples::Sounds(all, labels) = &read.samples else { panic!("sounds") };
    assert_eq!((all[0].span, all[1].span), (Some(Span { start: 0.0, end: 0.5 }), None));
    assert_eq!(*labels, [1, 0]);
    assert!(std::sync::Arc::ptr_eq(&all[0].content, &all[1].content), "read once");
    for (row, words) in [
        ("../x.wav,0,1,1", ["../x.wav", "below the folder"]),
        ("/etc/passwd,0,1,1", ["/etc/passwd", "below the folder"]),
        ("clips/clip.wav,1,0.5,1", ["line 2", "'start' and 'end'"]),
        ("clips/clip.wav,,1,1", ["line 2", "'start' and 'end'"]),
        ("clips/none.wav,,,1", ["none.wav", "No such file"]),
        ("clips/clip.wav,x,1,1", ["'start'", "seconds"]),
    ] {
        folder.put("labels.csv", format!("file,start,end,label\n{row}\n"));
        refused(&folder.whole(), &words);
    }
}
