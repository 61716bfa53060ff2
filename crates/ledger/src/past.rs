//! Who signed which heights, as far back as evidence reaches. Derived from the blocks, like every node's; not part of the
//! state, since every change of the signers is in the headers already.

use zero2ai_proto::{limits::EVIDENCE_HEIGHTS, state::SignerSet};

/// The sets that were replaced, oldest first, each with the last height it signed.
#[derive(Debug, Default)]
pub(crate) struct PastSigners(Vec<(u64, SignerSet)>);

impl PastSigners {
    /// `set` signed up to `last`, and another set signs from there on. What is too old for evidence is forgotten.
    pub(crate) fn replaced(&mut self, last: u64, set: SignerSet) {
        self.0.push((last, set));
        self.0.retain(|(signed, _)| last.saturating_sub(*signed) <= EVIDENCE_HEIGHTS.saturating_add(1));
    }

    /// As it is at `height`, by the sets in force since the genesis: from which height each signs, ascending.
    pub(crate) fn of(sets: &[(u64, SignerSet)], height: u64) -> Self {
        let mut past = Self::default();
        for pair in sets.windows(2) {
            let [(_, set), (next_from, _)] = pair else { continue };
            // The set of the next height is the present one.
            if *next_from <= height.saturating_add(1) {
                past.replaced(next_from.saturating_sub(1), set.clone());
            }
        }
        past
    }

    /// The replaced set that signed `height`; `None` if it was the present one.
    pub(crate) fn at(&self, height: u64) -> Option<&SignerSet> {
        let nth = self.0.partition_point(|(last, _)| *last < height);
        self.0.get(nth).map(|(_, set)| set)
    }
}
