//! Figures of a bench: one record a run, raw, as JSON; medians and spread of them as a table; and the machine they are of.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::process::run;

/// Everything that one run of one bench found out.
#[derive(Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) bench: String,
    /// Commit of the sources measured; `+` behind it if they were changed since.
    pub(crate) commit: String,
    /// Seconds since 1970.
    pub(crate) when: u64,
    pub(crate) machine: Machine,
    /// The settings, in words.
    pub(crate) settings: BTreeMap<String, String>,
    /// Figures that bound all runs, by name.
    pub(crate) bounds: BTreeMap<String, f64>,
    pub(crate) runs: Vec<Run>,
}

/// One tool in one round.
#[derive(Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) tool: String,
    pub(crate) round: u32,
    pub(crate) figures: BTreeMap<String, f64>,
    /// Why it did not come to its end, if it did not; it has no figures then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<String>,
}

/// What ran it, without names and paths.
#[derive(Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    /// Processes that wanted a core in the minute before the bench: beyond a few tenths, others were at work.
    pub(crate) load: f64,
}

impl Machine {
    fn look() -> Self {
        let field = |path: &str, name: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|l| l.starts_with(name)).and_then(|l| l.split_once(':'));
            line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
        };
        let kib = field("/proc/meminfo", "MemTotal");
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kib.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0).div_ceil(1 << 20),
            load: load.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0),
        }
    }
}

impl Results {
    pub(crate) fn new(bench: &str, settings: &[(&str, String)]) -> Self {
        Self {
            bench: bench.into(),
            commit: commit(),
            when: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            machine: Machine::look(),
            settings: settings.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            bounds: BTreeMap::new(),
            runs: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, tool: &str, round: u32, figures: &[(&str, f64)]) {
        let text: Vec<String> = figures.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
        println!("{} round {round}: {tool}: {}", self.bench, text.join(", "));
        let figures = figures.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        self.runs.push(Run { tool: tool.into(), round, figures, failed: None });
    }

    /// Another project's tool that did not come to its end: told in the table, and no reason to lose what others showed.
    pub(crate) fn add_failure(&mut self, tool: &str, round: u32, why: &anyhow::Error) {
        println!("{} round {round}: {tool} failed: {why}", self.bench);
        // Only the first line: a stack of this bench helps nobody who reads the figures.
        let failed = format!("{why:#}").lines().next().map(str::to_owned);
        self.runs.push(Run { tool: tool.into(), round, figures: BTreeMap::new(), failed });
    }

    /// A sentence for each run that failed.
    pub(crate) fn failures(&self) -> String {
        let failed = self.runs.iter().filter_map(|r| Some((r, r.failed.as_ref()?)));
        failed.map(|(r, why)| format!("\n{} failed in round {}: {why}\n", r.tool, r.round)).collect()
    }

    /// The tools, in the order in which they first ran.
    pub(crate) fn tools(&self) -> Vec<&str> {
        let mut tools: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !tools.contains(&run.tool.as_str()) {
                tools.push(&run.tool);
            }
        }
        tools
    }

    /// The figures that one tool has, in the order of their names.
    pub(crate) fn figures(&self, tool: &str) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.runs.iter().filter(|r| r.tool == tool).flat_map(|r| r.figures.keys()).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// One figure of one tool over all rounds; `None` if it has none.
    pub(crate) fn spread(&self, tool: &str, figure: &str) -> Option<Spread> {
        Spread::of(self.runs.iter().filter(|r| r.tool == tool).filter_map(|r| r.figures.get(figure).copied()).collect())
    }

    /// Writes the raw figures, if `path` says where.
    pub(crate) fn save(&self, path: Option<&Path>) -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not what a bench writes", path.display()))
    }
}

/// Median and extremes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let mid = values.len() / 2;
        let upper = *values.get(mid)?;
        let median =
            if values.len() % 2 == 1 { upper } else { values.get(mid - 1).map_or(upper, |l| (l + upper) / 2.0) };
        Some(Self { median, least, most })
    }

    /// `median (least–most)` with `digits` behind the point.
    pub(crate) fn show(self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.least, self.most)
    }
}

/// A table in Markdown.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<&str> = cells.collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(&mut head.iter().copied());
    text += &line(&mut head.iter().enumerate().map(|(n, _)| if n == 0 { "---" } else { "---:" }));
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

fn commit() -> String {
    let git = |arguments: &[&str]| run(Command::new("git").args(arguments)).unwrap_or_default();
    let changed = !git(&["status", "--porcelain", "--untracked-files=no", "--", ":!benches/results"]).trim().is_empty();
    format!("{}{}", git(&["rev-parse", "--short=12", "HEAD"]).trim(), if changed { "+" } else { "" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap(), Spread { median: 2.5, least: 1.0, most: 4.0 });
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
