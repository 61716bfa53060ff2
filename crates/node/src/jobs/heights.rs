//! How new the newest record was that this node ever saw of each name: written down, so that a resolver which was restarted gives out
//! none older than before. What cannot be written or read costs that protection and nothing else: the node goes on.

use std::{path::Path, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use zero2ai_names::cache::HEIGHTS;
use zero2ai_proto::{CodecError, ModelName, decode, encode};
use zero2ai_store::secret_file;

use crate::core::Core;

/// The file in the home folder. Which names a node asked for is its user's business: no other user of the machine reads it.
const FILE: &str = "heights.cbor";
/// Bytes of it: a name has at most 127 bytes, a height nine.
const BYTES: usize = HEIGHTS * 160;
/// How often it is written if anything is new: what a crash forgets.
const EVERY: Duration = Duration::from_secs(5);

/// Names and heights.
type Seen = Vec<(ModelName, u64)>;

/// What is written down. A file that is damaged is as good as none.
pub(crate) fn read(home: &Path) -> Seen {
    let path = home.join(FILE);
    if std::fs::metadata(&path).is_ok_and(|m| m.len() > BYTES as u64) {
        return damaged(&path, &"it is too large");
    }
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return damaged(&path, &error),
    };
    parse(&bytes).unwrap_or_else(|error| damaged(&path, &error))
}

fn parse(bytes: &[u8]) -> Result<Seen, CodecError> {
    decode(bytes, BYTES)
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> Seen {
    tracing::warn!(file = %path.display(), %why, "how new names were before is not read: older records could be given out");
    Vec::new()
}

fn write(home: &Path, seen: &Seen) -> Result<(), String> {
    let bytes = encode(seen).map_err(|e| e.to_string())?;
    secret_file::atomic_write(&home.join(FILE), &bytes).map_err(|e| e.to_string())
}

/// Writes down what is new every few seconds, and at the end.
pub(crate) async fn keep_heights(core: Arc<Core>, stop: CancellationToken) {
    let mut mark = 0;
    loop {
        let last = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        if let Some((now, seen)) = core.names.seen_since(mark) {
            let home = core.home.clone();
            match tokio::task::spawn_blocking(move || write(&home, &seen)).await {
                Ok(Ok(())) => mark = now,
                Ok(Err(reason)) => tracing::warn!(%reason, "how new names are was not written down"),
                Err(_) => {}
            }
        }
        if last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_nothing_to_die_of() {
        let home = tempfile::tempdir().unwrap();
        assert!(read(home.path()).is_empty(), "there is none yet");
        let name = |i: usize| format!("{:0>63}/{i:0>63}", "a").parse::<ModelName>().unwrap();
        let seen: Seen = (0..HEIGHTS).map(|i| (name(i), u64::MAX)).collect();
        write(home.path(), &seen).unwrap();
        assert_eq!(read(home.path()), seen, "as many as there may be, of the longest names");
        write(home.path(), &seen[..2].to_vec()).unwrap();
        let file = home.path().join(FILE);
        let bytes = std::fs::read(&file).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&file, &bytes[..cut]).unwrap();
            assert!(read(home.path()).is_empty(), "cut at {cut}");
        }
        std::fs::write(&file, vec![0; BYTES + 1]).unwrap();
        assert!(read(home.path()).is_empty());
    }
}
