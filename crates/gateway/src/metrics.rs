//! Counters in Prometheus's text format, by hand: three families are no reason for a library.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use zero2ai_proto::local::{ModelState, ModelsReply};

use crate::routes::Route;

/// Upper bounds of the latency histogram, milliseconds: from a prediction in the same process to a long text.
const BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 1_000, 5_000, 30_000, 120_000];

/// How long the requests of one route took.
#[derive(Clone, Debug, Default)]
struct Histogram {
    /// Requests within each bound and above the one before.
    counts: [u64; BOUNDS_MS.len()],
    all: u64,
    sum_us: u64,
}

/// See the module. Labels are our own words, never a caller's: their number is bounded.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(Route, u16), u64>>,
    latency: Mutex<BTreeMap<Route, Histogram>>,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
}

impl Metrics {
    /// A request was answered with `code` after `took`; of a stream that is its first byte.
    pub(crate) fn answered(&self, route: Route, code: u16, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, code)).or_default() += 1;
        drop(requests);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = latency.entry(route).or_default();
        histogram.all += 1;
        histogram.sum_us = histogram.sum_us.saturating_add(us);
        if let Some(i) = BOUNDS_MS.iter().position(|ms| us <= ms * 1_000) {
            histogram.counts[i] += 1;
        }
    }

    /// One token was given.
    pub(crate) fn token(&self) {
        self.completion_tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// A prompt of so many tokens was read.
    pub(crate) fn prompt(&self, tokens: u32) {
        self.prompt_tokens.fetch_add(u64::from(tokens), Ordering::Relaxed);
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        family(
            out,
            "zero2ai_http_requests_total",
            "counter",
            "Requests by route and status; 499 is a caller that left.",
        )?;
        for ((route, code), n) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            writeln!(out, "zero2ai_http_requests_total{{route=\"{}\",code=\"{code}\"}} {n}", route.label())?;
        }
        let name = "zero2ai_http_request_seconds";
        family(out, name, "histogram", "Time to the answer, of a stream to its first byte.")?;
        for (route, h) in self.latency.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let label = route.label();
            let mut within = 0;
            for (bound, n) in BOUNDS_MS.iter().zip(h.counts) {
                within += n;
                writeln!(out, "{name}_bucket{{route=\"{label}\",le=\"{}\"}} {within}", seconds(bound * 1_000))?;
            }
            writeln!(out, "{name}_bucket{{route=\"{label}\",le=\"+Inf\"}} {}", h.all)?;
            writeln!(out, "{name}_sum{{route=\"{label}\"}} {}", seconds(h.sum_us))?;
            writeln!(out, "{name}_count{{route=\"{label}\"}} {}", h.all)?;
        }
        family(out, "zero2ai_http_tokens_total", "counter", "Tokens of prompts read and of completions given.")?;
        for (kind, n) in [("prompt", &self.prompt_tokens), ("completion", &self.completion_tokens)] {
            writeln!(out, "zero2ai_http_tokens_total{{kind=\"{kind}\"}} {}", n.load(Ordering::Relaxed))?;
        }
        Ok(())
    }
}

/// What is in the node's memory, by its own word. Models are not told apart: their names are their publishers' words.
pub(crate) fn models(reply: &ModelsReply) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_models(&mut out, reply);
    out
}

fn write_models(out: &mut String, reply: &ModelsReply) -> std::fmt::Result {
    family(out, "zero2ai_models", "gauge", "Versions held, by where they are.")?;
    let states = [
        (ModelState::Resident, "resident"),
        (ModelState::Evicted, "evicted"),
        (ModelState::Loading, "loading"),
        (ModelState::Failed, "failed"),
        (ModelState::Waiting, "waiting"),
        (ModelState::Stored, "stored"),
    ];
    for (state, word) in states {
        let n = reply.models.iter().filter(|m| m.state == state).count();
        writeln!(out, "zero2ai_models{{state=\"{word}\"}} {n}")?;
    }
    let ModelsReply { budget, taken, loads, failures, evictions, .. } = reply;
    for (name, kind, help, value) in [
        ("zero2ai_model_memory_bytes", "gauge", "Memory that models take.", taken),
        ("zero2ai_model_memory_budget_bytes", "gauge", "Memory that all models together may take.", budget),
        ("zero2ai_model_loads_total", "counter", "Models loaded.", loads),
        ("zero2ai_model_load_failures_total", "counter", "Loads that failed.", failures),
        ("zero2ai_model_evictions_total", "counter", "Models evicted from memory.", evictions),
    ] {
        family(out, name, kind, help)?;
        writeln!(out, "{name} {value}")?;
    }
    Ok(())
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// Microseconds as seconds.
#[allow(clippy::cast_precision_loss)] // exact to 285 years
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let metrics = Metrics::default();
        for ms in [1, 3, 3, 1_000_000] {
            metrics.answered(Route::Infer, 200, Duration::from_millis(ms));
        }
        metrics.answered(Route::Infer, 400, Duration::ZERO);
        metrics.prompt(7);
        let text = metrics.render();
        for line in [
            "zero2ai_http_requests_total{route=\"infer\",code=\"200\"} 4",
            "zero2ai_http_requests_total{route=\"infer\",code=\"400\"} 1",
            "zero2ai_http_request_seconds_bucket{route=\"infer\",le=\"0.001\"} 2",
            "zero2ai_http_request_seconds_bucket{route=\"infer\",le=\"0.005\"} 4",
            "zero2ai_http_request_seconds_bucket{route=\"infer\",le=\"120\"} 4",
            "zero2ai_http_request_seconds_bucket{route=\"infer\",le=\"+Inf\"} 5",
            "zero2ai_http_request_seconds_count{route=\"infer\"} 5",
            "zero2ai_http_tokens_total{kind=\"prompt\"} 7",
        ] {
            assert!(text.lines().any(|l| l == line), "no line '{line}' in:\n{text}");
        }
    }
}
