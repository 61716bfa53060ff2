//! What a validator shows a jury: the samples of the leaves that it opened, kept until those can be disputed no more. Each lies in a file of its
//! own beside its round's, so that data which are moved or changed meanwhile lose no dispute.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use zero2ai_proto::{
    NodeId, encode,
    limits::SHOWN_BYTES,
    local::LocalData,
    rpc::{ErrorCode, RpcError},
    sample::ShownSample,
    tx::{Disputed, OpenedLeaf},
};
use zero2ai_store::secret_file;
use zero2ai_validator::{
    Dataset, own_salt,
    shown::{accept, show},
};
use zeroize::Zeroizing;

use crate::{
    core::Core,
    jobs::jury::sits,
    serve::errors::{denied, internal, not_found},
};

/// Where the sample at a place lies, beside the file of its round.
fn file(round: &Path, place: u32) -> PathBuf {
    round.with_extension(format!("{place}.shown"))
}

/// Keeps the samples of the leaves that are about to be opened. Tells how many of them are kept: those of the data as they lie there now that
/// are what was committed to, and short enough. Data that are all kept are not read again.
pub(super) fn keep(round: &Path, data: &LocalData, salts: &[u8; 32], leaves: &[OpenedLeaf]) -> Result<usize, RpcError> {
    if leaves.iter().all(|leaf| file(round, leaf.index).is_file()) {
        return Ok(leaves.len()); // of an earlier try
    }
    let data = Dataset::read(data).map_err(internal)?;
    let mut kept = 0;
    for leaf in leaves {
        let place = usize::try_from(leaf.index).map_err(internal)?;
        let Some(sample) = show(&data, place) else { continue };
        let shown = ShownSample { salt: own_salt(salts, leaf.index.into()), sample };
        let bytes = encode(&shown).map_err(internal)?;
        if bytes.len() <= SHOWN_BYTES && accept(shown, leaf, 0).is_ok() {
            secret_file::write(&file(round, leaf.index), &bytes).map_err(internal)?;
            kept += 1;
        }
    }
    Ok(kept)
}

/// Deletes what was kept for a round.
pub(super) fn forget(round: &Path) -> Result<(), RpcError> {
    let (Some(folder), Some(stem)) = (round.parent(), round.file_stem().and_then(|s| s.to_str())) else {
        return Ok(());
    };
    let own = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".shown"))
    };
    let entries = std::fs::read_dir(folder).map_err(internal)?.flatten().map(|entry| entry.path());
    entries.filter(own).try_for_each(|path| std::fs::remove_file(path).map_err(internal))
}

/// Jurors who are being shown something: one sample at a time each, so that none has this node hold more.
#[derive(Default)]
pub(crate) struct Showing(Mutex<BTreeSet<NodeId>>);

impl Showing {
    /// Begins to show something to `juror`, until what this gives is dropped.
    pub(crate) fn begin(&self, juror: NodeId) -> Result<Shows<'_>, RpcError> {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(juror) {
            return Ok(Shows { among: self, juror });
        }
        Err(RpcError::new(ErrorCode::Busy, "a sample is being shown to you already: ask for the next one behind it"))
    }
}

/// One showing.
pub(crate) struct Shows<'a> {
    among: &'a Showing,
    juror: NodeId,
}

impl Drop for Shows<'_> {
    fn drop(&mut self) {
        self.among.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.juror);
    }
}

impl Core {
    /// The encoded sample of a leaf that this node opened, for a juror who sits over it.
    pub(crate) async fn show_sample(&self, juror: &NodeId, which: Disputed) -> Result<Zeroizing<Vec<u8>>, RpcError> {
        if which.validator != self.id {
            return Err(not_found(format!("{which} was opened by another node: ask that one")));
        }
        let sits = self.chain.read(|ledger| sits(ledger, &which, juror));
        if !sits {
            return Err(denied(format!(
                "a sample is shown to those who sit over its leaf, and by this node's ledger you do not sit over {which}"
            )));
        }
        let path = file(&super::rounds::file(&self.home, &which.name, which.version, which.round), which.leaf);
        self.blocking(move || {
            if !secret_file::exists(&path).map_err(internal)? {
                return Err(not_found(format!("the sample of {which} was not kept")));
            }
            secret_file::read(&path, SHOWN_BYTES).map_err(internal)
        })
        .await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use zero2ai_proto::{SecretKey, decode};
    use zero2ai_validator::{Leaves, Row};

    use super::*;

    #[test]
    fn what_was_opened_is_kept_while_the_data_are_the_same_and_goes_with_its_round() {
        let dir = tempfile::tempdir().unwrap();
        let (table, round) = (dir.path().join("t.csv"), dir.path().join("round.cbor"));
        let data = LocalData { path: table.to_str().unwrap().into(), ..LocalData::default() };
        std::fs::write(&table, "a,b,label\n1,2,0\n3,4,1\n5,6,1\n").unwrap();
        let read = Dataset::read(&data).unwrap();
        let row = |nth| Row { label: 0, answer: 0, sample: read.sample_hash(nth).unwrap() };
        let leaves = Leaves::of(&[row(0), row(1), row(2)], &[3; 32]).open(&[0, 2]).unwrap();
        assert_eq!(keep(&round, &data, &[3; 32], &leaves).unwrap(), 2);
        let bytes = secret_file::read(&file(&round, 2), SHOWN_BYTES).unwrap();
        let shown: ShownSample = decode(&bytes, SHOWN_BYTES).unwrap();
        assert_eq!(shown.salt, own_salt(&[3; 32], 2));
        assert!(accept(shown, &leaves[1], 0).is_ok());

        let other = dir.path().join("round2.cbor");
        assert_eq!(keep(&other, &data, &[4; 32], &leaves).unwrap(), 0, "another run's salt");
        std::fs::write(&table, "a,b,label\n1,2,0\n3,4,1\n5,6,0\n").unwrap();
        assert_eq!(keep(&other, &data, &[3; 32], &leaves).unwrap(), 1, "one sample is another now");
        forget(&round).unwrap();
        assert!(!file(&round, 0).exists() && !file(&round, 2).exists());
        assert!(file(&other, 0).exists(), "another round's stays");
    }

    #[test]
    fn a_juror_is_shown_one_sample_at_a_time() {
        let (showing, [one, two]) = (Showing::default(), [1, 2].map(|n: u8| SecretKey::from_bytes(&[n; 32]).public()));
        let first = showing.begin(one).unwrap();
        assert_eq!(showing.begin(one).err().map(|e| e.code), Some(ErrorCode::Busy));
        assert!(showing.begin(two).is_ok());
        drop(first);
        assert!(showing.begin(one).is_ok());
    }
}
