//! Tokens beside the first one: made, changed and revoked in the home's file, whether the node runs or not.

use std::{collections::BTreeMap, fs, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use zero2ai_clock::now_ms;
use zero2ai_gateway::{
    tokens::{self, Scope, TOKENS, Terms, TokenEntry},
    usage::{self, Usage},
};
use zero2ai_proto::keys::random_bytes;
use zero2ai_store::secret_file;
use zeroize::Zeroizing;

use super::{TOKENS_FILE, USAGE_FILE};
use crate::error::NodeError;

/// Locked by who changes the list.
const LOCK_FILE: &str = "http.tokens.lock";

/// The tokens that were made beside the first one.
///
/// # Errors
/// The file is damaged or cannot be read.
pub fn tokens(home: &Path) -> Result<Vec<TokenEntry>, NodeError> {
    tokens::read(&home.join(TOKENS_FILE)).map_err(|e| NodeError::Home { path: home.to_owned(), why: e.to_string() })
}

/// What each token has used, by its id; the first one's is [`super::FIRST`]. While a gateway runs, figures of the last two
/// seconds may be missing.
///
/// # Errors
/// The file is damaged or cannot be read.
pub fn usage(home: &Path) -> Result<BTreeMap<String, Usage>, NodeError> {
    usage::read(&home.join(USAGE_FILE)).map_err(|e| NodeError::Home { path: home.to_owned(), why: e.to_string() })
}

/// What a token is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// What it is for, in the user's words: 1 to 64 bytes.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// How long it is good; none is for ever.
    pub lifetime: Option<Duration>,
    /// Requests in one minute at most; none is no limit.
    pub per_minute: Option<u32>,
    /// Units it may use in all, see [`Usage::units`]; none is no limit.
    pub budget: Option<u64>,
}

/// Makes a token of 256 random bits and keeps its hash. A gateway that runs knows it from the next request on.
///
/// # Errors
/// A name that is none or too many tokens, as [`NodeError::Home`]; the disk refuses.
pub fn new_token(home: &Path, wish: NewToken) -> Result<(Zeroizing<String>, TokenEntry), NodeError> {
    let wrong = |why: String| NodeError::Home { path: home.to_owned(), why };
    let _turn = turn(home)?;
    let mut all = tokens(home)?;
    let now = now_ms();
    all.retain(|entry| entry.expires_ms.is_none_or(|end| end > now));
    if all.len() >= TOKENS {
        return Err(wrong(format!("it has {TOKENS} tokens, and no more are kept: revoke some")));
    }
    let random: [u8; 32] = random_bytes().map_err(|e| NodeError::Internal(e.to_string()))?;
    let token = Zeroizing::new(format!("z2t-{}", hex::encode(Zeroizing::new(random).as_slice())));
    let NewToken { name, scopes, lifetime, per_minute, budget } = wish;
    let lifetime = lifetime.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let expires_ms = lifetime.map(|span| now.saturating_add(span));
    let terms = Terms { name, scopes, expires_ms, per_minute, budget };
    let entry = TokenEntry::new(&token, terms, now).map_err(|e| wrong(e.to_string()))?;
    all.push(entry.clone());
    save(home, &all)?;
    Ok((token, entry))
}

/// Revokes the token with this id, from the next request on. False if there is none.
///
/// # Errors
/// As [`tokens`]; the disk refuses.
pub fn revoke_token(home: &Path, id: &str) -> Result<bool, NodeError> {
    let _turn = turn(home)?;
    let mut all = tokens(home)?;
    let before = all.len();
    all.retain(|entry| entry.id != id);
    if all.len() == before {
        return Ok(false);
    }
    save(home, &all).map(|()| true)
}

/// Sets what the token with this id may use in all, what it has used until now included, from the next request on. False if
/// there is none.
///
/// # Errors
/// As [`tokens`]; the disk refuses.
pub fn set_budget(home: &Path, id: &str, budget: Option<u64>) -> Result<bool, NodeError> {
    let _turn = turn(home)?;
    let mut all = tokens(home)?;
    let Some(entry) = all.iter_mut().find(|entry| entry.id == id) else { return Ok(false) };
    entry.budget = budget;
    save(home, &all).map(|()| true)
}

/// Waits until no other program changes the list; until what it returns is dropped, none does.
fn turn(home: &Path) -> Result<fs::File, NodeError> {
    let path = home.join(LOCK_FILE);
    let wrong = |e: std::io::Error| NodeError::Home { path: home.to_owned(), why: format!("{LOCK_FILE}: {e}") };
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(wrong)?;
    file.lock().map_err(wrong)?;
    Ok(file)
}

fn save(home: &Path, all: &[TokenEntry]) -> Result<(), NodeError> {
    let bytes = tokens::write(all).map_err(|e| NodeError::Internal(e.to_string()))?;
    Ok(secret_file::write(&home.join(TOKENS_FILE), &bytes)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tokens_made_and_revoked_at_once_are_all_there() {
        let home = tempfile::tempdir().unwrap();
        let wish = |name: String| NewToken { name, scopes: Vec::new(), lifetime: None, per_minute: None, budget: None };
        let first = new_token(home.path(), wish("first".to_owned())).unwrap().1;
        std::thread::scope(|scope| {
            for i in 0..8 {
                let home = home.path();
                scope.spawn(move || new_token(home, wish(format!("token {i}"))).unwrap());
            }
            scope.spawn(|| assert!(revoke_token(home.path(), &first.id).unwrap()));
        });
        let mut names: Vec<_> = tokens(home.path()).unwrap().into_iter().map(|t| t.name).collect();
        names.sort();
        assert_eq!(names, (0..8).map(|i| format!("token {i}")).collect::<Vec<_>>());
    }
}
