//! The leaves of a run, as rounds have them opened: the sample's class, the model's answer, and a digest of the sample that shows nothing
//! of it without its salt. Each leaf has a salt of its own, so that one that is opened shows no other.

use serde::{Deserialize, Serialize};
use zero2ai_ledger::ReceiptLog;
use zero2ai_proto::{Digest, ids::tagged_hash, tx::OpenedLeaf};

/// One sample of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The class that it has.
    pub label: u16,
    /// The class that the model said.
    pub answer: u16,
    /// Hash of its bytes (see [`Row::hash`]); salted it stands in the leaf.
    pub sample: Digest,
}

impl Row {
    /// The hash of a sample's bytes.
    #[must_use]
    pub fn hash(bytes: &[u8]) -> Digest {
        Digest(tagged_hash("zero2ai sample bytes v1", bytes))
    }

    /// What stands in its leaf, under that leaf's own salt.
    fn salted(&self, own: &Digest) -> Digest {
        salted(own, &self.sample)
    }
}

/// The digest of a sample that stands in a leaf: of its hash (see [`Row::hash`]) under the leaf's own salt. Who has both can check that a
/// leaf is about a sample.
#[must_use]
pub fn salted(own: &Digest, sample: &Digest) -> Digest {
    Digest(tagged_hash("zero2ai sample v1", &[own.as_bytes().as_slice(), sample.as_bytes()].concat()))
}

/// The salt of the leaf at a place, from that of its run. It shows nothing of another leaf's.
#[must_use]
pub fn own_salt(run: &[u8; 32], index: u64) -> Digest {
    Digest(tagged_hash("zero2ai sample salt v1", &[run.as_slice(), &index.to_le_bytes()].concat()))
}

/// The leaves of one run, in sample order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaves(Vec<Row>);

impl Leaves {
    /// Salts the rows of a run.
    #[must_use]
    pub fn of(rows: &[Row], salt: &[u8; 32]) -> Self {
        let salted = |(index, row): (u64, &Row)| Row { sample: row.salted(&own_salt(salt, index)), ..*row };
        Self((0..).zip(rows).map(salted).collect())
    }

    fn log(&self) -> ReceiptLog {
        let mut log = ReceiptLog::new();
        for row in &self.0 {
            log.push(&OpenedLeaf::bytes(row.label, row.answer, &row.sample));
        }
        log
    }

    /// The root that an endorsement carries as that of its predictions.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.log().root()
    }

    /// Opens the leaves at these places; `None` if one is beyond the run.
    #[must_use]
    pub fn open(&self, places: &[u32]) -> Option<Vec<OpenedLeaf>> {
        let log = self.log();
        let leaf = |index: &u32| {
            let row = self.0.get(usize::try_from(*index).ok()?)?;
            let siblings = log.prove(u64::from(*index), log.size()).ok()?.siblings;
            Some(OpenedLeaf { index: *index, label: row.label, answer: row.answer, sample: row.sample, siblings })
        };
        places.iter().map(leaf).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use zero2ai_ledger::receipt_log::verify_inclusion;
    use zero2ai_proto::proof::LogProof;

    use super::*;

    #[test]
    fn every_leaf_stands_under_the_root_and_salts_hide_equal_samples() {
        let row = Row { label: 1, answer: 0, sample: Row::hash(b"the same") };
        let leaves = Leaves::of(&[row; 11], &[7; 32]);
        let places: Vec<u32> = (0..11).collect();
        let opened = leaves.open(&places).unwrap();
        for leaf in &opened {
            let proof = LogProof { index: u64::from(leaf.index), size: 11, siblings: leaf.siblings.clone() };
            let bytes = OpenedLeaf::bytes(leaf.label, leaf.answer, &leaf.sample);
            verify_inclusion(&leaves.root(), &proof, &bytes).unwrap();
        }
        assert!(opened.windows(2).all(|pair| pair[0].sample != pair[1].sample));
        assert_ne!(leaves.root(), Leaves::of(&[row; 11], &[8; 32]).root());
        assert_eq!(leaves.open(&[11]), None);
        assert_eq!(opened[3].sample, salted(&own_salt(&[7; 32], 3), &Row::hash(b"the same")));
    }
}
