//! Signs votes and proposals, and never two that contradict each other: it remembers the newest thing it signed (the
//! mark) and refuses whatever is older or different. The mark outlives the process: [`crate::disk`] makes it last before
//! a signature leaves. This is a second fence behind the write-ahead log, which may be lost.

use serde::{Deserialize, Serialize};
use zero2ai_proto::{
    CodecError, PoolId, SecretKey, Signature,
    block::{Proposal, Vote, VoteKind},
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

    fn sign_bytes(&self, pool: &PoolId) -> Result<Vec<u8>, CodecError> {
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
}

impl Signer {
    pub(crate) fn new(key: SecretKey, pool: PoolId, mark: Option<Signed>) -> Self {
        Self { key, pool, mark, fresh: false }
    }

    /// Signs, or refuses (`None`) what is older than the mark or contradicts it. The same thing is signed again gladly:
    /// Ed25519 gives the same signature.
    pub(crate) fn sign(&mut self, what: Signed) -> Result<Option<Signature>, CodecError> {
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
        Signer::new(SecretKey::from_bytes(&[1; 32]), PoolId([0; 32]), mark)
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
}
