//! Medians, percentiles, and the machine they were measured on.

use serde_json::{Value, json};

/// The value at `percent` of a sorted list, by the nearest rank; `None` of an empty one.
#[must_use]
pub fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// How many there are, their least, median, 99th percentile and most.
#[must_use]
pub fn spread(values: &[f64]) -> Value {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |percent| percentile(&sorted, percent).map(rounded);
    json!({ "count": sorted.len(), "least": at(0), "p50": at(50), "p99": at(99), "most": at(100) })
}

/// Three digits behind the point.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// A spread as text.
#[must_use]
pub fn shown(spread: &Value, unit: &str) -> String {
    let (least, p50, p99, most) = (&spread["least"], &spread["p50"], &spread["p99"], &spread["most"]);
    format!("p50 {p50} {unit}, p99 {p99} {unit} ({least} to {most}, {} times)", spread["count"])
}

/// Processor, cores, kernel, and how busy the machine was when this was asked.
#[must_use]
pub fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    json!({
        "processor": model.trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_average": read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 50), Some(100.0));
        assert_eq!(percentile(&values, 99), Some(198.0));
        assert_eq!((percentile(&values, 0), percentile(&values, 100)), (Some(1.0), Some(200.0)));
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0])["p50"], 2.0);
    }
}
