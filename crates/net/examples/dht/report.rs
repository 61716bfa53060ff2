//! What a run showed, as numbers.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use crate::{truth::Answer, world::Plan};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lookup {
    Record,
    Newest,
    Providers,
}

impl Lookup {
    const fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Newest => "newest record",
            Self::Providers => "providers",
        }
    }
}

/// Lookups of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kind {
    pub(crate) asked: u64,
    pub(crate) found: u64,
    pub(crate) older: u64,
    pub(crate) forged: u64,
    ms: Vec<u64>,
    streams: Vec<u64>,
}

impl Kind {
    /// Share of lookups that found a true answer, in per mille.
    pub(crate) fn success_permille(&self) -> u64 {
        (self.found * 1000).checked_div(self.asked).unwrap_or(0)
    }
}

/// Lookups so far; with `true`: at the key that sybils stand next to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(pub(crate) BTreeMap<(Lookup, bool), Kind>);

impl Tally {
    pub(crate) fn add(&mut self, kind: Lookup, sybils: bool, answer: Option<Answer>, took: Duration, streams: u64) {
        let kind = self.0.entry((kind, sybils)).or_default();
        kind.asked += 1;
        match answer {
            None => return,
            Some(Answer::Forged) => {
                kind.forged += 1;
                return;
            }
            Some(Answer::Older) => kind.older += 1,
            Some(Answer::Newest) => {}
        }
        kind.found += 1;
        kind.ms.push(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        kind.streams.push(streams);
    }

    pub(crate) fn line(&self) -> String {
        self.0.iter().fold(String::new(), |mut line, ((kind, sybils), k)| {
            let place = if *sybils { " beside sybils" } else { "" };
            let _ = write!(line, "{}{place} {}/{} ({} forged); ", kind.name(), k.found, k.asked, k.forged);
            line
        })
    }
}

/// The whole run.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    plan: Plan,
    seconds: f64,
    pub(crate) tally: Tally,
    /// Bytes, streams and dials of all honest nodes within the window.
    used: [u64; 3],
    connections: Vec<u64>,
    gossip: (u64, u64),
    churned: u64,
    pub(crate) lag_p99_ms: u64,
    pub(crate) memory_kib_per_node: u64,
    pub(crate) lies: u64,
}

impl Report {
    pub(crate) fn new(
        plan: &Plan,
        seconds: f64,
        tally: Tally,
        used: [u64; 3],
        connections: Vec<u64>,
        gossip: (u64, u64),
        churned: u64,
    ) -> Self {
        let plan = plan.clone();
        let (lag_p99_ms, memory_kib_per_node, lies) = (0, 0, 0);
        Self { plan, seconds, tally, used, connections, gossip, churned, lag_p99_ms, memory_kib_per_node, lies }
    }

    /// The run as JSON: plain numbers and short words, so nothing needs escaping.
    pub(crate) fn json(&mut self) -> String {
        let p = &self.plan;
        let rtt = u64::try_from(p.rtt.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut kinds: Vec<String> = Vec::new();
        for ((kind, sybils), k) in &mut self.tally.0 {
            let (name, share) = (kind.name(), k.success_permille() as f64 / 10.0);
            let [p50, p99] = [50, 99].map(|q| percentile(&mut k.ms, q));
            let streams = [50, 99].map(|q| percentile(&mut k.streams, q));
            let trips = [p50, p99].map(|ms| ms as f64 / rtt as f64);
            kinds.push(format!(
                "    {{\"what\": \"{name}\", \"beside_sybils\": {sybils}, \"asked\": {}, \"found\": {}, \"found_percent\": {share}, \
                 \"older_version\": {}, \"forged\": {}, \"p50_ms\": {p50}, \"p99_ms\": {p99}, \"p50_round_trips\": {:.1}, \
                 \"p99_round_trips\": {:.1}, \"p50_requests\": {}, \"p99_requests\": {}}}",
                k.asked, k.found, k.older, k.forged, trips[0], trips[1], streams[0], streams[1]
            ));
        }
        let honest = (p.nodes - p.nodes * p.hostile / 100) as f64;
        let hourly = self.used.map(|n| n as f64 / honest / self.seconds * 3600.0);
        let connections = [50, 99, 100].map(|q| percentile(&mut self.connections, q));
        let (heard, expected) = self.gossip;
        format!(
            "{{\n  \"nodes\": {}, \"hostile_percent\": {}, \"sybils\": {}, \"churn_percent_per_hour\": {}, \"seed\": {}, \
             \"rtt_ms\": {rtt}, \"window_s\": {:.0}, \"records\": {}, \"lookups_per_second\": {},\n  \"left_and_joined\": {}, \
             \"lies_told\": {},\n  \"lookups\": [\n{}\n  ],\n  \"per_node_and_hour\": {{\"mib\": {:.2}, \"requests\": {:.0}, \
             \"dials\": {:.0}}},\n  \"connections\": {{\"p50\": {}, \"p99\": {}, \"most\": {}}},\n  \"gossip\": {{\"heard\": {heard}, \
             \"expected\": {expected}}},\n  \"memory_kib_per_node\": {},\n  \"timer_lag_p99_ms\": {}\n}}",
            p.nodes,
            p.hostile,
            p.sybils,
            p.churn,
            p.seed,
            self.seconds,
            p.records,
            p.lookups_per_second,
            self.churned,
            self.lies,
            kinds.join(",\n"),
            hourly[0] / 1_048_576.0,
            hourly[1],
            hourly[2],
            connections[0],
            connections[1],
            connections[2],
            self.memory_kib_per_node,
            self.lag_p99_ms,
        )
    }
}

/// The nearest-rank percentile. 0 of nothing.
pub(crate) fn percentile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1) - 1;
    values.get(rank).copied().unwrap_or(0)
}
