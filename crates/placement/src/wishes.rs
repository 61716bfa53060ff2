//! What a caller wants of endpoints beside that they are near: rules that leave some out, and costs that put others behind. Pure. What
//! an endpoint says of itself is its operator's signed word, no more: a region is no proof of a place.

use std::collections::BTreeSet;

use zero2ai_proto::NodeId;

/// What an endpoint elsewhere costs more than one in the preferred region, microseconds: about what lies between two continents' halves.
/// Less, and a queue of a moment takes calls abroad; more, and a region whose endpoints are all busy is stayed in too long.
const ELSEWHERE_US: u64 = 50_000;
/// What one that is not preferred costs more, where some are, microseconds.
const UNPREFERRED_US: u64 = 50_000;

/// What an endpoint says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// The node.
    pub node: &'a NodeId,
    /// Where it stands; `None` if it says nothing.
    pub region: Option<&'a str>,
    /// What it asks for a prediction, in the pool's smallest unit.
    pub price: u64,
}

/// See the module. The default wants nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Only these regions; all, if there are none here. An endpoint that names no region is in none.
    pub regions: BTreeSet<String>,
    /// Rather this region than another.
    pub near: Option<String>,
    /// Nothing dearer.
    pub price_cap: Option<u64>,
    /// What one unit of price is worth, in microseconds of waiting.
    pub unit_us: u64,
    /// None of these nodes.
    pub avoid: BTreeSet<NodeId>,
    /// Rather these nodes than others.
    pub prefer: BTreeSet<NodeId>,
}

impl Wishes {
    /// What is added to an endpoint's cost, microseconds; `None` if it is not to be asked at all.
    #[must_use]
    pub fn extra_us(&self, offer: Offer<'_>) -> Option<u64> {
        let elsewhere = !self.regions.is_empty() && !offer.region.is_some_and(|region| self.regions.contains(region));
        if elsewhere || self.avoid.contains(offer.node) || self.price_cap.is_some_and(|cap| offer.price > cap) {
            return None;
        }
        let far = if self.near.is_some() && self.near.as_deref() != offer.region { ELSEWHERE_US } else { 0 };
        let unloved = if self.prefer.is_empty() || self.prefer.contains(offer.node) { 0 } else { UNPREFERRED_US };
        Some(offer.price.saturating_mul(self.unit_us).saturating_add(far).saturating_add(unloved))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use zero2ai_proto::PublicKey;

    use super::*;

    const NODE: NodeId = PublicKey([1; 32]);

    fn offer(region: Option<&str>, price: u64) -> Offer<'_> {
        Offer { node: &NODE, region, price }
    }

    #[test]
    fn rules_leave_out_and_preferences_put_behind() {
        let none = Wishes::default();
        assert_eq!(none.extra_us(offer(None, u64::MAX)), Some(0), "who wants nothing takes all alike");
        let only = Wishes { regions: BTreeSet::from(["eu".to_owned()]), ..Wishes::default() };
        assert_eq!((only.extra_us(offer(Some("eu"), 0)), only.extra_us(offer(Some("us"), 0))), (Some(0), None));
        assert_eq!(only.extra_us(offer(None, 0)), None, "nowhere is not there");
        let near = Wishes { near: Some("eu".into()), ..Wishes::default() };
        assert_eq!(near.extra_us(offer(Some("eu"), 0)), Some(0));
        assert_eq!(
            (near.extra_us(offer(Some("us"), 0)), near.extra_us(offer(None, 0))),
            (Some(ELSEWHERE_US), Some(ELSEWHERE_US))
        );
        let capped = Wishes { price_cap: Some(5), unit_us: 100, ..Wishes::default() };
        assert_eq!((capped.extra_us(offer(None, 5)), capped.extra_us(offer(None, 6))), (Some(500), None));
        let avoiding = Wishes { avoid: BTreeSet::from([NODE]), prefer: BTreeSet::from([NODE]), ..Wishes::default() };
        assert_eq!(avoiding.extra_us(offer(None, 0)), None, "who is avoided is not asked, though preferred");
        let other = Wishes { prefer: BTreeSet::from([PublicKey([2; 32])]), ..Wishes::default() };
        assert_eq!(other.extra_us(offer(None, 0)), Some(UNPREFERRED_US));
    }

    proptest! {
        #[test]
        fn a_lower_price_is_never_worse(a: u64, b: u64, unit_us: u64, cap: Option<u64>) {
            let wishes = Wishes { price_cap: cap, unit_us, ..Wishes::default() };
            let [low, high] = [a.min(b), a.max(b)].map(|price| wishes.extra_us(offer(None, price)).unwrap_or(u64::MAX));
            prop_assert!(low <= high);
        }
    }
}
