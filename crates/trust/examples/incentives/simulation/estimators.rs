//! Other ways to make one score of many findings, for the comparison: stake mean, Yuma-style clipping, winsorised mean, median.

/// Findings of one round: weight and quality.
pub(crate) type Findings = [(u64, u32)];

fn total(findings: &Findings) -> u128 {
    findings.iter().map(|(w, _)| u128::from(*w)).sum()
}

fn mean_of(findings: impl Iterator<Item = (u64, u32)>, total: u128) -> u32 {
    let sum: u128 = findings.map(|(w, q)| u128::from(w) * u128::from(q)).sum();
    u32::try_from(sum / total.max(1)).unwrap_or(0)
}

/// The largest quality that at least this part of the weight supports.
fn quantile(findings: &Findings, part_ppm: u128) -> u32 {
    let mut sorted = findings.to_vec();
    sorted.sort_by_key(|(_, q)| std::cmp::Reverse(*q));
    let needed = total(findings) * part_ppm;
    let mut support = 0u128;
    let found = sorted.iter().find(|(w, _)| {
        support += u128::from(*w) * 1_000_000;
        support >= needed
    });
    found.map_or(0, |(_, q)| *q)
}

/// By stake alone.
pub(crate) fn stake_mean(findings: &Findings) -> u32 {
    mean_of(findings.iter().copied(), total(findings))
}

/// As Bittensor's Yuma consensus clips weights: what exceeds the quality that half of the stake supports is cut to it, what is
/// below stands.
pub(crate) fn yuma_clip(findings: &Findings) -> u32 {
    let consensus = quantile(findings, 500_000);
    mean_of(findings.iter().map(|(w, q)| (*w, (*q).min(consensus))), total(findings))
}

/// The fifth of the stake at either end is moved to where the other three fifths end.
pub(crate) fn winsorised(findings: &Findings) -> u32 {
    let (high, low) = (quantile(findings, 200_000), quantile(findings, 800_000));
    mean_of(findings.iter().map(|(w, q)| (*w, (*q).clamp(low.min(high), high))), total(findings))
}

/// The median by stake.
pub(crate) fn median(findings: &Findings) -> u32 {
    quantile(findings, 500_000)
}
