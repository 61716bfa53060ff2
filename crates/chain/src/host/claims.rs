//! Who says that he has newer blocks, and how fetching on his word went. One node's claim never hides another's: liars lose
//! their turn to those whose word held, and are ignored for longer every time. Knows nothing of blocks.

use std::{cmp::Reverse, collections::BTreeMap};

use zero2ai_proto::NodeId;

use crate::config::{CLAIMS, DOUBT_MS};

/// What one node says.
#[derive(Clone, Copy, Debug, Default)]
struct Claim {
    /// The height that it has; 0 if it claims nothing that is missing here.
    height: u64,
    /// When it may be fetched from, steady milliseconds.
    fetch_at: u64,
    /// Fetches on its word, in a row, that did not bring what it promised.
    failures: u32,
    /// Until when its word is ignored, steady milliseconds.
    doubted_until: u64,
}

/// The claims of at most [`CLAIMS`] nodes.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<NodeId, Claim>);

impl Claims {
    /// `from` says that it has `height`, which is missing here; it may be asked from `fetch_at` on, or earlier if it could
    /// be already. When there is no room, it takes the place of the node whose word broke most often, or is ignored.
    pub(super) fn hear(&mut self, from: NodeId, height: u64, fetch_at: u64, now: u64) {
        if !self.0.contains_key(&from) && self.0.len() >= CLAIMS {
            let worst = self.0.iter().filter(|(_, c)| c.failures > 0).max_by_key(|(_, c)| c.failures);
            let Some(worst) = worst.map(|(who, _)| *who) else { return };
            self.0.remove(&worst);
        }
        let claim = self.0.entry(from).or_default();
        if now < claim.doubted_until {
            return;
        }
        claim.fetch_at = if claim.height == 0 { fetch_at } else { claim.fetch_at.min(fetch_at) };
        claim.height = claim.height.max(height);
    }

    /// This node has `height` itself now.
    pub(super) fn reached(&mut self, height: u64) {
        for claim in self.0.values_mut().filter(|c| c.height <= height) {
            claim.height = 0;
        }
        self.0.retain(|_, c| c.height > 0 || c.failures > 0);
    }

    /// Whom to ask at `now`: of those who may be asked the one whose word broke least often, then the highest.
    pub(super) fn best(&self, now: u64) -> Option<(NodeId, u64)> {
        let due = self.0.iter().filter(|(_, c)| c.height > 0 && c.fetch_at <= now);
        due.min_by_key(|(_, c)| (c.failures, Reverse(c.height))).map(|(who, c)| (*who, c.height))
    }

    /// When somebody may be asked.
    pub(super) fn fetch_at(&self) -> Option<u64> {
        self.0.values().filter(|c| c.height > 0).map(|c| c.fetch_at).min()
    }

    /// Fetching on its word brought what it promised.
    pub(super) fn held(&mut self, who: &NodeId) {
        if let Some(claim) = self.0.get_mut(who) {
            (claim.failures, claim.doubted_until) = (0, 0);
        }
    }

    /// Fetching on its word brought less than it promised: the claim is dropped, and new ones are ignored for `first`
    /// milliseconds, twice as long as that the next time, and so on.
    pub(super) fn broken(&mut self, who: &NodeId, first: u64, now: u64) {
        // One that was not heard of for so long is forgotten with its failures: they may have been the network's.
        self.0.retain(|_, c| c.height > 0 || now < c.doubted_until.saturating_add(DOUBT_MS));
        let Some(claim) = self.0.get_mut(who) else { return };
        let doubt = first.saturating_mul(1 << claim.failures.min(20)).min(DOUBT_MS);
        claim.failures = claim.failures.saturating_add(1);
        (claim.height, claim.doubted_until) = (0, now.saturating_add(doubt));
        tracing::debug!(node = %who.short(), failures = claim.failures, doubt, "a claim of newer blocks did not hold");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::SecretKey;

    use super::*;

    fn node(n: u16) -> NodeId {
        let mut seed = [1; 32];
        seed[..2].copy_from_slice(&n.to_be_bytes());
        SecretKey::from_bytes(&seed).public()
    }

    #[test]
    fn liars_cost_less_and_less_and_never_hide_an_honest_claim() {
        let (liars, honest) = ([node(1), node(2)], node(3));
        let mut claims = Claims::default();
        let (mut now, mut own, mut wasted) = (0, 0, 0u64);
        // The liars boast of any height and bring nothing, four seconds each time; an honest fetch takes a tenth.
        while own < 100 * 64 {
            assert!(now < 600_000, "reached {own} only");
            for liar in liars {
                claims.hear(liar, u64::MAX, now, now);
            }
            claims.hear(honest, 100 * 64, now, now);
            match claims.best(now) {
                Some((who, _)) if who == honest => {
                    (own, now) = (own + 64, now + 100);
                    claims.held(&honest);
                    claims.reached(own);
                }
                Some((liar, _)) => {
                    (wasted, now) = (wasted + 4_000, now + 4_000);
                    claims.broken(&liar, 2_000, now);
                }
                None => now += 100,
            }
        }
        assert!(wasted <= 8_000, "{wasted} ms went to liars");
    }

    #[test]
    fn doubt_doubles_up_to_its_limit_and_ends_with_a_kept_word() {
        let (who, mut claims, mut now) = (node(1), Claims::default(), 0);
        let mut doubts = Vec::new();
        for _ in 0..12 {
            claims.hear(who, 9, now, now);
            assert_eq!(claims.best(now), Some((who, 9)));
            claims.broken(&who, 2_000, now);
            let start = now;
            while claims.best(now).is_none() {
                now += 1_000;
                claims.hear(who, 9, now, now);
            }
            doubts.push(now - start);
        }
        assert_eq!(doubts[..4], [2_000, 4_000, 8_000, 16_000]);
        assert_eq!(doubts[11], DOUBT_MS);
        claims.held(&who);
        claims.broken(&who, 2_000, now);
        claims.hear(who, 9, now + 2_000, now + 2_000);
        assert!(claims.best(now + 2_000).is_some());
    }

    #[test]
    fn there_is_an_end_to_who_is_remembered_and_a_newcomer_replaces_the_worst() {
        let mut claims = Claims::default();
        let many = u16::try_from(CLAIMS).unwrap();
        (0..many + 5).for_each(|n| claims.hear(node(n), 7, 0, 0));
        assert_eq!(claims.0.len(), CLAIMS);
        claims.broken(&node(3), 2_000, 0);
        claims.hear(node(many), 8, 0, 1);
        assert_eq!((claims.0.len(), claims.best(1)), (CLAIMS, Some((node(many), 8))));
        claims.reached(8);
        assert!(claims.0.is_empty() && claims.fetch_at().is_none());
    }
}
