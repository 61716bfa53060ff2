//! What a hub says a repository holds. Nothing of it is used before it was checked: every name is a relative path that a
//! model may have, files are bounded in number and size, and each has a hash.

use std::collections::BTreeSet;

use serde::Deserialize;
use zero2ai_proto::{limits::MANIFEST_FILES, manifest::path_is_usable};

/// Folders within folders, as many as `publish` takes.
const DEPTH: usize = 8;
/// Bytes of all files: more than any manifest can name.
const TOTAL: u64 = 1 << 40;

/// How a file is known to be the one listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// SHA-256 of its bytes: of files in large file storage.
    Sha256([u8; 32]),
    /// SHA-1 as git names a blob, over a head with its length and its bytes: of all other files. It finds damage; against
    /// somebody who makes two files of one name SHA-1 is weak.
    GitBlob([u8; 20]),
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Relative path, checked.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    pub(super) hash: Hash,
}

/// A repository's files at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    /// The commit, 40 hexadecimal digits.
    pub(super) commit: String,
    /// At least one, none twice, hidden ones left out.
    pub(super) files: Vec<Listed>,
}

impl Listing {
    /// Bytes of all files; bounded when it was read.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).fold(0, u64::saturating_add)
    }
}

#[derive(Deserialize)]
struct Repository {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// Reads a hub's answer. Files that match none of `only` are left out, and hidden ones, which no model has.
pub(super) fn read(answer: &[u8], only: &[String]) -> Result<Listing, String> {
    let found: Repository =
        serde_json::from_slice(answer).map_err(|e| format!("the hub's list of files cannot be read ({e})"))?;
    if !(found.sha.len() == 40 && found.sha.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err("the hub names no commit".into());
    }
    let (mut files, mut seen, mut total) = (Vec::new(), BTreeSet::new(), 0u64);
    for sibling in found.siblings {
        let path = &sibling.rfilename;
        if !path_is_usable(path) || path.split('/').count() > DEPTH {
            return Err(format!(
                "the hub lists a file named '{}': a name must be a relative path, not too long, without '..' and odd \
                 characters. Nothing was downloaded",
                path.chars().take(80).collect::<String>().escape_default()
            ));
        }
        let hidden = path.split('/').any(|part| part.starts_with('.'));
        if hidden || !(only.is_empty() || only.iter().any(|pattern| matches(pattern, path))) {
            continue;
        }
        if !seen.insert(path.clone()) {
            return Err(format!("the hub lists {path} twice"));
        }
        let file = listed(sibling)?;
        total = total.checked_add(file.size).filter(|t| *t <= TOTAL).ok_or("the files are larger than any model")?;
        if files.len() >= MANIFEST_FILES {
            return Err(format!(
                "it has more than {MANIFEST_FILES} files, which is more than a model may have. Choose some with --only"
            ));
        }
        files.push(file);
    }
    if files.is_empty() {
        return Err(if only.is_empty() { "it holds no files".into() } else { "no file there matches --only".into() });
    }
    Ok(Listing { commit: found.sha.to_ascii_lowercase(), files })
}

fn listed(sibling: Sibling) -> Result<Listed, String> {
    let path = sibling.rfilename;
    let hashes = match (&sibling.lfs, &sibling.blob_id) {
        (Some(lfs), _) => digest(&lfs.sha256).map(|hash| (lfs.size, Hash::Sha256(hash))),
        (None, Some(blob)) => sibling.size.zip(digest(blob).map(Hash::GitBlob)),
        (None, None) => None,
    };
    let (size, hash) = hashes.ok_or_else(|| {
        format!("the hub gives no size or no hash of {path}, so that nobody could say whether it came whole")
    })?;
    Ok(Listed { path, size, hash })
}

fn digest<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}

/// True if `pattern`, in which `*` is any run of characters, fits the path or its last part.
fn matches(pattern: &str, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    fits(pattern, path) || fits(pattern, name)
}

/// Greedy with one step back: at most pattern × text steps, whatever the pattern.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn plain(name: &str) -> Value {
        json!({ "rfilename": name, "size": 3, "blobId": "ab".repeat(20) })
    }

    fn answer(siblings: &[Value]) -> Vec<u8> {
        json!({ "sha": "0123456789abcdef0123456789abcdef01234567", "siblings": siblings, "private": false })
            .to_string()
            .into_bytes()
    }

    #[test]
    fn names_sizes_and_hashes_are_taken() {
        let weights = json!({ "rfilename": "onnx/model.onnx", "size": 134, "blobId": "cd".repeat(20),
            "lfs": { "sha256": "ef".repeat(32), "size": 1_000, "pointerSize": 134 } });
        let found = read(&answer(&[plain(".gitattributes"), plain("config.json"), weights]), &[]).unwrap();
        let file = |path: &str, size, hash| Listed { path: path.into(), size, hash };
        let wanted = [
            file("config.json", 3, Hash::GitBlob([0xab; 20])),
            file("onnx/model.onnx", 1_000, Hash::Sha256([0xef; 32])),
        ];
        assert_eq!((found.files.as_slice(), found.bytes()), (wanted.as_slice(), 1_003));
        let some = read(&answer(&[plain("config.json"), plain("a/b.txt")]), &["*.json".into(), "x*".into()]).unwrap();
        assert_eq!(some.files[0].path, "config.json");
    }

    #[test]
    fn what_a_hostile_hub_lists_is_refused() {
        let long = "x".repeat(300);
        let deep = "d/".repeat(9) + "f";
        for name in ["../x", "/etc/passwd", "a/../../b", "a//b", "a\\b", "a\nb", "", ".", "..", "a/..", &long, &deep] {
            let why = read(&answer(&[plain("ok"), plain(name)]), &[]).unwrap_err();
            assert!(why.contains("a file named"), "{name}: {why}");
        }
        // Also where it would not be wanted.
        assert!(read(&answer(&[plain("../x"), plain("a.json")]), &["*.json".into()]).is_err());
        let refused = |siblings: &[Value], word: &str| {
            let why = read(&answer(siblings), &[]).unwrap_err();
            assert!(why.contains(word), "'{word}' is not in: {why}");
        };
        refused(&[plain("a"), plain("a")], "twice");
        refused(&[], "no files");
        refused(&[json!({ "rfilename": "a", "size": 3 })], "no hash");
        refused(&[json!({ "rfilename": "a", "blobId": "ab".repeat(20) })], "no size");
        refused(&[json!({ "rfilename": "a", "size": 3, "blobId": "../../x" })], "no hash");
        refused(&[json!({ "rfilename": "a", "size": -3, "blobId": "ab".repeat(20) })], "cannot be read");
        refused(&[json!({ "rfilename": "a", "size": u64::MAX, "blobId": "ab".repeat(20) })], "larger than");
        let half = |n: u8| json!({ "rfilename": n.to_string(), "size": u64::MAX / 2 + 9, "blobId": "ab".repeat(20) });
        refused(&[half(1), half(2)], "larger than");
        refused(&(0..2_000).map(|n| plain(&n.to_string())).collect::<Vec<_>>(), "--only");
        for text in ["", "{}", "[]", r#"{"sha":"../x","siblings":[]}"#, "\u{0}"] {
            assert!(read(text.as_bytes(), &[]).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_fit_paths_and_names() {
        for (pattern, path, does) in [
            ("*.gguf", "a.gguf", true),
            ("*.gguf", "sub/a.gguf", true),
            ("sub/*", "sub/a/b", true),
            ("*Q4*.gguf", "m-Q4_1.gguf", true),
            ("*a*b*c", "xxaxxbxxbxc", true),
            ("*a*b*c", "xxaxxbxxbx", false),
            ("a", "ab", false),
            ("", "a", false),
            ("**", "a", true),
            ("config.json", "sub/config.json", true),
        ] {
            assert_eq!(matches(pattern, path), does, "{pattern} {path}");
        }
    }
}
