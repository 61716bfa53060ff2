//! Tokens beside the first one: each with a name, what it may do, until when, how often, and how much. The file holds their
//! hashes alone, so that who reads it can use none. It is read again whenever it changes: a revocation holds from the next
//! request on.

use std::{
    collections::HashMap,
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zero2ai_clock::now_ms;
use zero2ai_proto::ids::tagged_hash;

use crate::guard::Caller;

/// Tokens in one file at most: more than one machine's programs need, and read in no time.
pub const TOKENS: usize = 256;
/// Bytes of the file at most.
pub const FILE_BYTES: u64 = 256 * 1024;
/// Bytes of a token's name at most.
const NAME_BYTES: usize = 64;
/// The span that `per_minute` is over.
const MINUTE: Duration = Duration::from_secs(60);

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Predict, chat, complete.
    Infer,
    /// List and describe models, ask for health.
    Models,
    /// Read `/metrics`.
    Metrics,
}

impl Scope {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Models => "models",
            Self::Metrics => "metrics",
        }
    }
}

impl FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Infer, Self::Models, Self::Metrics]
            .into_iter()
            .find(|scope| scope.word() == text)
            .ok_or_else(|| format!("'{text}' is no scope: choose of infer, models, metrics"))
    }
}

/// One token as the file has it: everything but the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// Tells it apart: eight hexadecimal digits.
    pub id: String,
    /// What it is for, in the user's words.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made, milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// Not good after this, milliseconds since 1970 UTC; none is for ever.
    pub expires_ms: Option<u64>,
    /// Requests in one minute at most; none is no limit of its own.
    pub per_minute: Option<u32>,
    /// Units it may use in all: tokens of text, read and written, and rows of predictions; none is no limit.
    pub budget: Option<u64>,
    /// Of the token, in hexadecimal.
    hash: String,
}

/// What a token is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What it is for, in the user's words: 1 to 64 bytes.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Not good after this, milliseconds since 1970 UTC; none is for ever.
    pub expires_ms: Option<u64>,
    /// Requests in one minute at most; none is no limit of its own.
    pub per_minute: Option<u32>,
    /// Units it may use in all; none is no limit.
    pub budget: Option<u64>,
}

/// Why tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file cannot be read.
    #[error("the tokens in {} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds something else, or too much.
    #[error("{} holds no list of tokens ({why}): delete it to revoke them all", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A name that is none.
    #[error("a token's name is 1 to {NAME_BYTES} bytes of text without control characters")]
    Name,
}

impl TokenEntry {
    /// The entry of `token`, a fresh secret, made at `created_ms` (milliseconds since 1970 UTC).
    ///
    /// # Errors
    /// [`TokensError::Name`].
    pub fn new(token: &str, terms: Terms, created_ms: u64) -> Result<Self, TokensError> {
        let Terms { name, scopes, expires_ms, per_minute, budget } = terms;
        if name.is_empty() || name.len() > NAME_BYTES || name.chars().any(char::is_control) {
            return Err(TokensError::Name);
        }
        let hash = hash(token);
        let id = hash.chars().take(8).collect();
        Ok(Self { id, name, scopes, created_ms, expires_ms, per_minute, budget, hash })
    }
}

/// Tokens are 256 random bits, so that a plain hash tells nothing.
fn hash(token: &str) -> String {
    let digest = tagged_hash("zero2ai http token v1", token.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the file of tokens; none is an empty list.
///
/// # Errors
/// [`TokensError`].
pub fn read(path: &Path) -> Result<Vec<TokenEntry>, TokensError> {
    use std::io::Read as _;
    let io = |source| TokensError::Io { path: path.to_owned(), source };
    let damaged = |why: &dyn fmt::Display| TokensError::Damaged { path: path.to_owned(), why: why.to_string() };
    let file = match fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io)?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(damaged(&format!("it is longer than {FILE_BYTES} bytes")));
    }
    let entries: Vec<TokenEntry> = serde_json::from_slice(&bytes).map_err(|e| damaged(&e))?;
    if entries.len() > TOKENS {
        return Err(damaged(&format!("{} tokens; {TOKENS} are allowed", entries.len())));
    }
    Ok(entries)
}

/// The file as bytes, to be written mode 0600.
///
/// # Errors
/// None that can be met with entries made here.
pub fn write(entries: &[TokenEntry]) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec_pretty(entries)
}

/// Why a token is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No such token, or it has expired or was revoked.
    Unknown,
    /// It may not do this.
    Scope(&'static str),
    /// Too many requests in this minute.
    Rate(u32),
}

/// The tokens of one file as they are now, and how often each was used in the present minute.
#[derive(Debug)]
pub(crate) struct Tokens {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Of the file when it was read: its time, length and number on the disk.
    stamp: Option<(SystemTime, u64, u64)>,
    entries: Vec<TokenEntry>,
    /// At most one a token of the file.
    used: HashMap<String, (Instant, u32)>,
}

impl Tokens {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, known: Mutex::default() }
    }

    /// Lets a token in to do `scope`, and counts the request.
    pub(crate) fn check(&self, token: &str, scope: Scope) -> Result<Caller, Refusal> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(&mut known);
        let given = hash(token);
        let same = |entry: &&TokenEntry| bool::from(entry.hash.as_bytes().ct_eq(given.as_bytes()));
        let entry = known.entries.iter().find(same).ok_or(Refusal::Unknown)?.clone();
        if entry.expires_ms.is_some_and(|end| end <= now_ms()) {
            return Err(Refusal::Unknown);
        }
        if !entry.scopes.contains(&scope) {
            return Err(Refusal::Scope(scope.word()));
        }
        let caller = Caller { id: entry.id.clone(), budget: entry.budget };
        let Some(most) = entry.per_minute else { return Ok(caller) };
        let (since, count) = known.used.entry(entry.id).or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() >= MINUTE {
            (*since, *count) = (Instant::now(), 0);
        }
        if *count >= most {
            return Err(Refusal::Rate(most));
        }
        *count = count.saturating_add(1);
        Ok(caller)
    }

    /// Reads the file again if it changed. One that cannot be read lets nobody in.
    fn refresh(&self, known: &mut Known) {
        let meta = fs::metadata(&self.path).ok();
        let stamp = meta.and_then(|m| Some((m.modified().ok()?, m.len(), m.ino())));
        if stamp == known.stamp {
            return;
        }
        known.entries = read(&self.path).unwrap_or_else(|error| {
            tracing::warn!(%error, "no token but the first is good");
            Vec::new()
        });
        let entries = &known.entries;
        known.used.retain(|id, _| entries.iter().any(|entry| entry.id == *id));
        known.stamp = stamp;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn entry(token: &str, scopes: &[Scope], expires_ms: Option<u64>, per_minute: Option<u32>) -> TokenEntry {
        let (name, scopes) = ("test".to_owned(), scopes.to_vec());
        TokenEntry::new(token, Terms { name, scopes, expires_ms, per_minute, budget: Some(9) }, NOW).unwrap()
    }

    #[test]
    fn a_token_does_what_it_may_until_it_expires_or_is_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let tokens = Tokens::new(path.clone());
        assert_eq!(tokens.check("a", Scope::Infer), Err(Refusal::Unknown), "no file");
        let all = [
            entry("a", &[Scope::Infer], None, None),
            entry("b", &[Scope::Infer], Some(NOW), None),
            entry("c", &[Scope::Models, Scope::Metrics], Some(u64::MAX), Some(2)),
        ];
        fs::write(&path, write(&all).unwrap()).unwrap();
        let caller = Caller { id: all[0].id.clone(), budget: Some(9) };
        assert_eq!(tokens.check("a", Scope::Infer), Ok(caller));
        assert_eq!(tokens.check("a", Scope::Metrics), Err(Refusal::Scope("metrics")));
        assert_eq!(tokens.check("b", Scope::Infer), Err(Refusal::Unknown), "expired");
        for expected in [Ok(()), Ok(()), Err(Refusal::Rate(2))] {
            assert_eq!(tokens.check("c", Scope::Models).map(drop), expected);
        }
        assert_eq!(tokens.check(&all[0].hash, Scope::Infer), Err(Refusal::Unknown), "a hash is no token");
        assert!(!fs::read_to_string(&path).unwrap().contains("\"a\""));
        fs::write(&path, write(&all[1..]).unwrap()).unwrap();
        assert_eq!(tokens.check("a", Scope::Infer), Err(Refusal::Unknown), "revoked");
        fs::write(&path, b"something else").unwrap();
        assert_eq!(tokens.check("c", Scope::Models), Err(Refusal::Unknown), "damaged");
        assert!(matches!(read(&path), Err(TokensError::Damaged { .. })));
    }

    #[test]
    fn names_and_scopes_that_are_none() {
        for name in ["", "a\nb", &"x".repeat(65)] {
            let name = name.to_owned();
            let terms = Terms { name, scopes: Vec::new(), expires_ms: None, per_minute: None, budget: None };
            assert!(TokenEntry::new("t", terms.clone(), NOW).is_err(), "{terms:?}");
        }
        assert!("admin".parse::<Scope>().is_err());
        assert_eq!("infer".parse(), Ok(Scope::Infer));
    }
}
