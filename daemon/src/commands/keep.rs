//! What `predict` and `run` tell and keep of a call beside its answer: which runtime served it, and all of it in a file.

use std::path::Path;

use zero2ai_client::Resolution;
use zero2ai_proto::{NodeId, encode, kept::KeptCall};

use super::write_private;
use crate::{
    exit::Outcome,
    session::{QUICK, Session},
};

/// Characters of somebody else's word that are shown and kept: it may be of any length.
const WORD_CHARS: usize = 100;

/// What the node that answered says computes there; nothing signs it. `None` if it does not say.
pub(crate) async fn runtime_of(session: &Session, found: &Resolution, node: NodeId) -> Option<String> {
    let info = session.client.describe_at(node, found, QUICK).await.ok()?;
    Some(plain(&info.runtime))
}

/// Somebody else's word as it may be shown: short, and without what a terminal would take for a command.
pub(crate) fn plain(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(WORD_CHARS).collect()
}

/// The same in a sentence, behind the node that answered.
pub(crate) fn by(runtime: Option<&str>) -> String {
    runtime.map(|runtime| format!(" ({runtime})")).unwrap_or_default()
}

/// Writes calls to `path`, if there is one, readable by this user alone: the salt links them to what the ledger knows. To be
/// told behind the answer, which was paid for and is shown even if it cannot be kept.
pub(crate) fn save(path: Option<&Path>, calls: impl FnOnce() -> Vec<KeptCall>, runtime: Option<&str>) -> Outcome {
    let Some(path) = path else { return Ok(()) };
    let mut calls = calls();
    // The last one is of the node that was asked; those before it are gone.
    if let Some(last) = calls.last_mut() {
        last.runtime = runtime.unwrap_or_default().to_owned();
    }
    write_private("keep the call in", path, &encode(&calls)?)
}

/// Where a call was kept, for people.
pub(crate) fn kept_at(path: Option<&Path>) -> String {
    path.map(|path| format!("\nThe call is kept in {}: zero2ai audit re-run {}", path.display(), path.display()))
        .unwrap_or_default()
}
