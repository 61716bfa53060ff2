//! Signs votes and proposals, and never two that contradict each other: it remembers the newest thing it signed (the
//! mark) and refuses whatever is older or different. The mark outlives the process: [`crate::disk`] makes it last before
//! a signature leaves.
//!
//! The mark alone does not keep a node safe: it says what was signed last, not which block the node was locked on. That is
//! in the write-ahead log. Where the log does not hold what the mark says, the lock is lost, and voting on in a later round
//! could help another block to become final: so nothing is signed at that height any more, until others have decided it.

use serde::{Deserialize, Serialize};
use zero2ai_ledger::{Ledger, LedgerError};
use zero2ai_proto::{
    CodecError, PoolId, SecretKey, Signature,
    block::{Proposal, Vote, VoteKind},
    tx::Tx,
};

/// What was signed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Signed {
    /// A proposal.
    Proposal(Proposal),
    /// A vote.
    Vote(Vote),
}

impl Signed {
    /// Its place in the order in which an honest signer signs: by height, then round, then proposal before prevote
    /// before precommit.
    fn place(&self) -> (u64, u32, u8) {
        match self {
            Self::Proposal(p) => (p.height, p.round, 0),
            Self::Vote(v) => (v.height, v.round, if v.kind == VoteKind::Prevote { 1 } else { 2 }),
        }
    }

    /// The height it was signed at.
    pub(crate) fn height(&self) -> u64 {
        self.place().0
    }

    pub(crate) fn sign_bytes(&self, pool: &PoolId) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::Proposal(p) => p.sign_bytes(pool),
            Self::Vote(v) => v.sign_bytes(pool),
        }
    }
}

/// The key, and what it signed last.
#[derive(Debug)]
pub(crate) struct Signer {
    key: SecretKey,
    pool: PoolId,
    mark: Option<Signed>,
    fresh: bool,
    /// Up to this height nothing is signed: what was signed there, and on which lock, is not known any more.
    lost: Option<u64>,
}

impl Signer {
    /// `mark` is what was signed last; `lost` the height at which the log of what led to it is gone.
    pub(crate) fn new(key: SecretKey, pool: PoolId, mark: Option<Signed>, lost: Option<u64>) -> Self {
        Self { key, pool, mark, fresh: false, lost }
    }

    /// The height up to which nothing is signed, since the log of it was lost.
    pub(crate) fn lost(&self) -> Option<u64> {
        self.lost
    }

    /// Signs, or refuses (`None`) what is older than the mark or contradicts it, and everything at a height whose log is
    /// lost. The same thing is signed again gladly: Ed25519 gives the same signature.
    pub(crate) fn sign(&mut self, what: Signed) -> Result<Option<Signature>, CodecError> {
        if self.lost.is_some_and(|height| what.height() <= height) {
            tracing::debug!(?what, "not signed: the log of this height is lost");
            return Ok(None);
        }
        if let Some(mark) = self.mark
            && (what.place() < mark.place() || (what.place() == mark.place() && what != mark))
        {
            tracing::warn!(?what, ?mark, "refused to sign: the mark says that something else was signed already");
            return Ok(None);
        }
        let signature = self.key.sign(&what.sign_bytes(&self.pool)?);
        self.fresh |= self.mark != Some(what);
        self.mark = Some(what);
        Ok(Some(signature))
    }

    /// What a block that this node proposes now begins with, if anything. It needs no mark: there is one for each seed and height.
    pub(crate) fn beacon(&self, ledger: &Ledger) -> Result<Option<zero2ai_proto::Signed<Tx>>, LedgerError> {
        ledger.beacon(&self.key)
    }

    /// The mark, if it moved since it was last taken: it must be on disk before the signature leaves.
    pub(crate) fn take_mark(&mut self) -> Option<Signed> {
        std::mem::take(&mut self.fresh).then_some(self.mark).flatten()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use zero2ai_proto::BlockId;

    use super::*;

    fn vote(height: u64, round: u32, kind: VoteKind, block: Option<u8>) -> Signed {
        Signed::Vote(Vote { height, round, kind, block: block.map(|b| BlockId([b; 32])) })
    }

    fn signer(mark: Option<Signed>) -> Signer {
        Signer::new(SecretKey::from_bytes(&[1; 32]), PoolId([0; 32]), mark, None)
    }

    fn any_signed() -> impl Strategy<Value = Signed> {
        (0..3u64, 0..3u32, 0..3u8, proptest::option::of(0..2u8)).prop_map(|(h, r, step, b)| match step {
            0 => Signed::Proposal(Proposal {
                height: h,
                round: r,
                pol_round: None,
                block: BlockId([b.unwrap_or(9); 32]),
            }),
            1 => vote(h, r, VoteKind::Prevote, b),
            _ => vote(h, r, VoteKind::Precommit, b),
        })
    }

    proptest! {
        #[test]
        fn whatever_is_asked_no_two_signatures_contradict(asked in proptest::collection::vec((any_signed(), any::<bool>()), 0..40)) {
            let mut s = signer(None);
            let mut signed: Vec<Signed> = vec![];
            for (what, restart) in asked {
                if s.sign(what).unwrap().is_some() {
                    signed.push(what);
                }
                if restart {
                    let mark = signed.last().copied();
                    s = signer(mark);
                }
            }
            for a in &signed {
                for b in &signed {
                    prop_assert!(a.place() != b.place() || a == b, "{a:?} contradicts {b:?}");
                }
            }
        }
    }

    #[test]
    fn the_mark_survives_a_restart_and_is_offered_once() {
        let mut s = signer(None);
        let first = vote(5, 1, VoteKind::Prevote, Some(1));
        let signature = s.sign(first).unwrap();
        assert_eq!(s.take_mark(), Some(first));
        assert_eq!(s.take_mark(), None);
        let mut s = signer(Some(first));
        assert_eq!(s.sign(first).unwrap(), signature, "the same vote is signed again");
        assert_eq!(s.take_mark(), None);
        assert_eq!(s.sign(vote(5, 1, VoteKind::Prevote, Some(2))).unwrap(), None);
        assert_eq!(s.sign(vote(5, 0, VoteKind::Precommit, Some(1))).unwrap(), None);
        assert!(s.sign(vote(5, 1, VoteKind::Precommit, Some(2))).unwrap().is_some());
    }

    #[test]
    fn a_height_whose_log_is_lost_is_not_signed_at_in_any_round() {
        let mark = vote(5, 1, VoteKind::Precommit, Some(1));
        let mut s = Signer::new(SecretKey::from_bytes(&[1; 32]), PoolId([0; 32]), Some(mark), Some(5));
        for round in 0..4 {
            for kind in [VoteKind::Prevote, VoteKind::Precommit] {
                assert_eq!(s.sign(vote(5, round, kind, Some(2))).unwrap(), None);
                assert_eq!(s.sign(vote(5, round, kind, None)).unwrap(), None);
            }
        }
        assert_eq!(s.sign(mark).unwrap(), None, "its own words, which would look as if the log held them");
        assert_eq!(s.take_mark(), None);
        assert!(s.sign(vote(6, 0, VoteKind::Prevote, Some(2))).unwrap().is_some());
    }
}
