//! What the kernel counts of a process: proc(5).

use anyhow::{Context as _, Result};

/// Memory of a process and its threads, now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident pages, MiB; those that processes share count for each.
    pub rss_mib: f64,
    /// The same, where shared ones are divided among those that share them.
    pub pss_mib: f64,
    /// Of these, pages that are no file's.
    pub anonymous_mib: f64,
    /// Threads.
    pub threads: u64,
}

/// Memory of process `pid`.
///
/// # Errors
/// There is none.
pub fn memory(pid: u32) -> Result<Memory> {
    let read =
        |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).with_context(|| format!("process {pid}"));
    let (rollup, status) = (read("smaps_rollup")?, read("status")?);
    let number = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let mib = |key| kib_to_mib(number(&rollup, key));
    Ok(Memory {
        rss_mib: mib("Rss"),
        pss_mib: mib("Pss"),
        anonymous_mib: mib("Anonymous"),
        threads: number(&status, "Threads"),
    })
}

/// Processor time of process `pid` since its start, seconds; to a hundredth.
///
/// # Errors
/// There is none.
pub fn processor_s(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    // The name may hold blanks: the fields are counted from behind it.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    #[allow(clippy::cast_precision_loss)] // hundredths of seconds
    Ok(ticks as f64 / 100.0)
}

/// Processes that `pid` started and that still run.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>()).collect()
}

#[allow(clippy::cast_precision_loss)] // shown with three digits
fn kib_to_mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn this_process_has_memory_threads_and_children() {
        let own = std::process::id();
        let memory = memory(own).unwrap();
        assert!(memory.rss_mib > 1.0 && memory.pss_mib <= memory.rss_mib && memory.threads >= 1, "{memory:?}");
        assert!(processor_s(own).unwrap() >= 0.0);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(own).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
