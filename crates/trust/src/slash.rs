//! What costs stake, and how much. Owns the two offences that the ledger proves by itself and the rates; a finding that others do
//! not share, a lost dispute and silence are none of them.

use std::collections::BTreeMap;

use zero2ai_proto::tx::ClassCounts;

use crate::PPM;

/// The least rate of an offence, millionths of the stake.
pub const LEAST_RATE_PPM: u32 = 50_000;

/// The rate for everyone convicted within a window: max(5 %, 9 f²), f being the part of all power that was convicted in it. One that
/// errs alone loses little; a third that acts together loses everything. (Correlated slashing as in Ethereum, Buterin and others,
/// "Combining GHOST and Casper", arXiv 2003.03052, with a square in place of its line.)
#[must_use]
pub fn rate_ppm(convicted: u64, total: u64) -> u32 {
    let ppm = u128::from(PPM);
    let f = (u128::from(convicted.min(total)) * ppm).div_ceil(u128::from(total.max(1)));
    u32::try_from(9 * f * f / ppm).unwrap_or(PPM).clamp(LEAST_RATE_PPM, PPM)
}

/// What a stake loses at a rate, rounded up, never more than it is: so stake in crumbs loses no less than stake in one piece.
#[must_use]
pub fn slash(stake: u64, rate_ppm: u32) -> u64 {
    let lost = (u128::from(stake) * u128::from(rate_ppm.min(PPM))).div_ceil(u128::from(PPM));
    u64::try_from(lost).unwrap_or(stake).min(stake)
}

/// What those convicted in one window lose, in their order, all at one rate: charged when the window is over, so that
/// the first is not spared what the last one brought about.
#[must_use]
pub fn charges(convicted: &[u64], total: u64) -> Vec<u64> {
    let power = convicted.iter().fold(0u64, |sum, stake| sum.saturating_add(*stake));
    let rate = rate_ppm(power, total);
    convicted.iter().map(|stake| slash(*stake, rate)).collect()
}

/// One opened leaf of a validator's predictions. That it stands under the root that was committed to is checked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its place.
    pub index: u32,
    /// The class that the sample has.
    pub label: u16,
    /// The class that the model said.
    pub answer: u16,
}

/// How opened leaves contradict the counts that were revealed. Any of these is a proof: no run of any model on any data
/// gives such counts and such leaves together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// A leaf stands beyond the number of samples that was revealed.
    Index(u32),
    /// A leaf names a class that the counts do not have.
    Class(u16),
    /// More true positives of this class are open than were revealed.
    TruePositives(u16),
    /// More false positives.
    FalsePositives(u16),
    /// More false negatives.
    FalseNegatives(u16),
    /// All leaves are open, and there are fewer than were revealed.
    Fewer,
}

/// Looks for a contradiction between revealed counts and opened leaves; a place told twice counts once, and which ones are opened
/// or in what order makes no difference to whether they hold. Counts of leaves that were all opened must be met exactly.
#[must_use]
pub fn contradiction(classes: &[ClassCounts], samples: u32, leaves: &[Leaf]) -> Option<Contradiction> {
    let by_place: BTreeMap<u32, Leaf> = leaves.iter().map(|leaf| (leaf.index, *leaf)).collect();
    let mut left: Vec<ClassCounts> = classes.to_vec();
    for leaf in by_place.values() {
        if leaf.index >= samples {
            return Some(Contradiction::Index(leaf.index));
        }
        if let Some(found) = take(&mut left, leaf) {
            return Some(found);
        }
    }
    let all = u32::try_from(by_place.len()) == Ok(samples);
    (all && left.iter().any(|c| *c != ClassCounts::default())).then_some(Contradiction::Fewer)
}

/// Takes a leaf out of what is left of the counts. Of what is no classifier there is one class, and an answer that is not right is its
/// false positive and its false negative at once.
fn take(left: &mut [ClassCounts], leaf: &Leaf) -> Option<Contradiction> {
    let lower = |count: &mut u32| count.checked_sub(1).map(|less| *count = less);
    if let ([only], 0, 1..) = (&mut *left, leaf.label, leaf.answer) {
        let falsely = lower(&mut only.fp).is_none().then_some(Contradiction::FalsePositives(0));
        return falsely.or_else(|| lower(&mut only.fn_).is_none().then_some(Contradiction::FalseNegatives(0)));
    }
    let (label, answer) = (usize::from(leaf.label), usize::from(leaf.answer));
    if label >= left.len() {
        return Some(Contradiction::Class(leaf.label));
    }
    let Some(said) = left.get_mut(answer) else { return Some(Contradiction::Class(leaf.answer)) };
    if label == answer {
        return lower(&mut said.tp).is_none().then_some(Contradiction::TruePositives(leaf.answer));
    }
    if lower(&mut said.fp).is_none() {
        return Some(Contradiction::FalsePositives(leaf.answer));
    }
    let missed = left.get_mut(label).and_then(|c| lower(&mut c.fn_));
    missed.is_none().then_some(Contradiction::FalseNegatives(leaf.label))
}
