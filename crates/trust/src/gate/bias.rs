//! Bias: is the dataset balanced over classes and groups, do its labels depend on the group, and do a model's answers?
//! The definitions are fairlearn's (demographic parity; equalised odds, Hardt, Price and Srebro 2016, arXiv 1610.02413).
#![allow(clippy::float_arithmetic)]

use std::collections::BTreeMap;

use super::{Check, Criterion};
use crate::metrics::{MetricError, interval, paired};

/// Samples that a group needs before a rate over it means anything: below, Wilson's interval is wider than 0.3.
pub const GROUP: u64 = 30;

/// Where a dataset counts as biased.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The rarest class has at least this share of what it would have if all were equal.
    pub class_balance: f64,
    /// The rarest group, likewise.
    pub group_balance: f64,
    /// Largest difference of a rate between two groups.
    pub difference: f64,
}

impl Default for Limits {
    /// A fifth of an even share; and 0.2 of difference, the complement of the four-fifths rule of the US guidelines on
    /// employee selection (29 CFR 1607.4 D) for rates near one.
    fn default() -> Self {
        Self { class_balance: 0.2, group_balance: 0.2, difference: 0.2 }
    }
}

/// How a yes-or-no answer differs between groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Fairness {
    /// Largest minus smallest share of "yes".
    pub parity_difference: f64,
    /// Smallest over largest share of "yes"; 1 where nobody gets one.
    pub parity_ratio: f64,
    /// The larger of the two differences: of true positive rates and of false positive rates. `None` where a group lacks
    /// positives or negatives: there a rate does not exist, and fairlearn's 0 would be a guess.
    pub odds_difference: Option<f64>,
    /// The smaller of the two ratios of those rates.
    pub odds_ratio: Option<f64>,
    /// Samples of the smallest group.
    pub smallest: u64,
    /// Lower end of the 95 % interval of the parity difference, between the two groups that are farthest apart
    /// (Newcombe 1998, method 10): above 0 the difference is not chance.
    pub parity_low: f64,
}

#[derive(Clone, Copy, Default)]
struct Rates {
    n: u64,
    yes: u64,
    positives: u64,
    hits: u64,
    alarms: u64,
}

/// Compares answers between groups.
///
/// # Errors
/// No samples, or lists of different lengths.
pub fn fairness(truth: &[bool], answers: &[bool], groups: &[u32]) -> Result<Fairness, MetricError> {
    paired(truth, answers)?;
    paired(truth, groups)?;
    let mut rates: BTreeMap<u32, Rates> = BTreeMap::new();
    for ((&t, &a), &g) in truth.iter().zip(answers).zip(groups) {
        let r = rates.entry(g).or_default();
        r.n += 1;
        r.yes += u64::from(a);
        r.positives += u64::from(t);
        r.hits += u64::from(t && a);
        r.alarms += u64::from(!t && a);
    }
    let rates: Vec<Rates> = rates.into_values().collect();
    let over = |part: fn(&Rates) -> (u64, u64)| -> Option<(f64, f64)> {
        let values: Option<Vec<f64>> =
            rates.iter().map(part).map(|(k, n)| (n > 0).then(|| k as f64 / n as f64)).collect();
        let values = values?;
        Some((values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(0.0, f64::max)))
    };
    let ratio = |(low, high): (f64, f64)| if high > 0.0 { low / high } else { 1.0 };
    let selected = over(|r| (r.yes, r.n)).ok_or(MetricError::Empty)?;
    let found = over(|r| (r.hits, r.positives));
    let alarms = over(|r| (r.alarms, r.n - r.positives));
    let odds = found.zip(alarms);
    Ok(Fairness {
        parity_difference: selected.1 - selected.0,
        parity_ratio: ratio(selected),
        odds_difference: odds.map(|(t, f)| (t.1 - t.0).max(f.1 - f.0)),
        odds_ratio: odds.map(|(t, f)| ratio(t).min(ratio(f))),
        smallest: rates.iter().map(|r| r.n).min().unwrap_or(0),
        parity_low: newcombe_low(&rates),
    })
}

/// Lower end of the difference between the groups of the highest and the lowest share.
fn newcombe_low(rates: &[Rates]) -> f64 {
    let share = |r: &Rates| r.yes as f64 / r.n.max(1) as f64;
    let by_share = |a: &&Rates, b: &&Rates| share(a).total_cmp(&share(b));
    let (Some(high), Some(low)) = (rates.iter().max_by(by_share), rates.iter().min_by(by_share)) else { return 0.0 };
    let (high_low, _) = interval::wilson(high.yes, high.n, interval::Z95);
    let (_, low_high) = interval::wilson(low.yes, low.n, interval::Z95);
    let (up, down) = (share(high) - high_low, low_high - share(low));
    share(high) - share(low) - (up * up + down * down).sqrt()
}

/// Judges a dataset's own balance: its classes, and, where every sample names a group, the groups and whether the label
/// depends on them (each class against the rest). Without groups only the classes are judged, and the note says so.
#[must_use]
pub fn dataset(truth: &[u16], classes: u16, groups: Option<&[u32]>, limits: Limits) -> Check {
    if truth.is_empty() || classes == 0 || truth.iter().any(|t| *t >= classes) {
        return Check::not_assessable(Criterion::Bias, "no samples, or a class that the model does not have");
    }
    let mut check = Check::new(Criterion::Bias);
    let per_class = (0..classes).map(|c| truth.iter().filter(|t| **t == c).count());
    let balance = rarest(per_class, usize::from(classes), truth.len());
    check.at_least("rarest class, as a share of an even share", balance, limits.class_balance);
    match groups {
        Some(groups) if groups.len() == truth.len() => by_group(&mut check, truth, classes, groups, limits),
        _ => check.notes.push("No column names a group, so only the balance of classes was judged.".to_owned()),
    }
    check
}

fn by_group(check: &mut Check, truth: &[u16], classes: u16, groups: &[u32], limits: Limits) {
    let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
    for g in groups {
        *sizes.entry(*g).or_default() += 1;
    }
    if sizes.len() < 2 {
        check.notes.push("All samples are of one group, so nothing can be compared between groups.".to_owned());
        return;
    }
    let balance = rarest(sizes.values().copied(), sizes.len(), truth.len());
    check.at_least("rarest group, as a share of an even share", balance, limits.group_balance);
    if sizes.values().any(|n| (*n as u64) < GROUP) {
        check.notes.push(format!("A group has fewer than {GROUP} samples: rates between groups were not compared."));
        return;
    }
    for class in 0..classes {
        let is: Vec<bool> = truth.iter().map(|t| *t == class).collect();
        if let Ok(found) = fairness(&is, &is, groups) {
            differs(check, &format!("share of class {class} between groups, difference"), &found, limits.difference);
        }
    }
}

/// Judges a model's answers between groups: demographic parity and equalised odds of "answered `positive`".
#[must_use]
pub fn answers(truth: &[u16], said: &[u16], positive: u16, groups: &[u32], limits: Limits) -> Check {
    let is = |labels: &[u16]| labels.iter().map(|l| *l == positive).collect::<Vec<bool>>();
    let Ok(found) = fairness(&is(truth), &is(said), groups) else {
        return Check::not_assessable(Criterion::Bias, "answers, truths and groups do not match, or there are none");
    };
    if found.smallest < GROUP {
        return Check::not_assessable(
            Criterion::Bias,
            "a group has fewer than 30 samples: a rate over it means little",
        );
    }
    let mut check = Check::new(Criterion::Bias);
    differs(&mut check, "demographic parity, difference", &found, limits.difference);
    check.tell("demographic parity, ratio", found.parity_ratio);
    match found.odds_difference {
        Some(odds) => check.at_most("equalised odds, difference", odds, limits.difference),
        None => check.notes.push("A group lacks positives or negatives: equalised odds do not exist there.".to_owned()),
    }
    check
}

/// A difference counts against the dataset only if chance does not explain it.
fn differs(check: &mut Check, name: &str, found: &Fairness, limit: f64) {
    if found.parity_low > 0.0 {
        check.at_most(name, found.parity_difference, limit);
    } else {
        check.tell(name, found.parity_difference);
    }
}

/// The smallest count over what each would have if all were equal.
fn rarest(counts: impl Iterator<Item = usize>, kinds: usize, total: usize) -> f64 {
    counts.min().unwrap_or(0) as f64 * kinds as f64 / total.max(1) as f64
}
