//! `hf:org/repo@revision`: a repository of a hub as it is typed. Only characters that hubs allow in names, so that no name
//! becomes another path of an address or of a disk.

use std::{fmt, path::Path};

use crate::exit::{Exit, Failure, Outcome};

/// What a place starts with. A file of such a name can be given as `./hf:...`.
const PREFIX: &str = "hf:";
/// Characters in each half of a repository's name, as hubs allow.
const NAME: usize = 96;
/// Characters in a revision.
const REVISION: usize = 128;

/// A repository at a branch, tag or commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// `org/repo`, or `repo` of a hub's oldest models.
    pub(super) repo: String,
    /// Branch, tag or commit.
    pub(super) revision: String,
}

impl Place {
    /// Reads what was given as a path; `None` if it is one.
    pub(crate) fn read(path: &Path) -> Outcome<Option<Self>> {
        let Some(text) = path.to_str().and_then(|text| text.strip_prefix(PREFIX)) else { return Ok(None) };
        let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
        let name = |part: &str| part.len() <= NAME && part.bytes().all(in_names) && !part.starts_with('.');
        let mut halves = repo.split('/');
        let first = halves.next().is_some_and(|half| !half.is_empty() && name(half));
        let second = halves.next().is_none_or(|half| !half.is_empty() && name(half));
        let usable = |r: &str| {
            (1..=REVISION).contains(&r.len())
                && r.bytes().all(|b| in_names(b) || b == b'/')
                && !r.split('/').any(|part| matches!(part, "" | "." | ".."))
        };
        if !first || !second || halves.next().is_some() || !usable(revision) {
            return Err(Failure::new(
                Exit::Usage,
                format!(
                    "'{}' is no place on a hub. Write hf:org/repo or hf:org/repo@revision, in letters, digits, '.', '_' \
                     and '-'; a file of that name is ./{0}.",
                    path.display()
                ),
            ));
        }
        Ok(Some(Self { repo: repo.to_owned(), revision: revision.to_owned() }))
    }

    /// The same repository at a commit, as text.
    pub(super) fn at(&self, commit: &str) -> String {
        format!("{PREFIX}{}@{commit}", self.repo)
    }

    /// The repository's name as one part of a path.
    pub(super) fn folder(&self) -> String {
        self.repo.replace('/', "--")
    }
}

fn in_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}@{}", self.repo, self.revision)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn places_are_read_and_nothing_that_could_be_another_path() {
        let read = |text: &str| Place::read(Path::new(text));
        let place = read("hf:acme/tiny.model-1@refs/pr/2").unwrap().unwrap();
        assert_eq!((place.repo.as_str(), place.revision.as_str()), ("acme/tiny.model-1", "refs/pr/2"));
        assert_eq!(read("hf:gpt2").unwrap().unwrap().to_string(), "hf:gpt2@main");
        for path in ["./hf:acme/m", "/models/hf:x", "model.gguf"] {
            assert_eq!(read(path).unwrap(), None, "{path}");
        }
        let long = format!("hf:{}/m", "x".repeat(97));
        for bad in ["hf:", "hf:/m", "hf:a/", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/.b", "hf:a b/c", "hf:a/b@", &long]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        for bad in ["hf:a/b@../x", "hf:a/b@x//y", "hf:a/b@x?y", "hf:a/b@x#y", "hf:a/b%2f@x", "hf:a/b@x@y"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
