//! What a worker takes of memory, as the system tells; and before there is one, what it will likely take.

use zero2ai_proto::manifest::Format;

/// Bytes of a worker beside its model: runtime, threads, buffers. 5 to 10 MiB were measured.
const WORKER: u64 = 16 << 20;

/// Parts of the machine's memory that models may take if nothing else is said: three of four. The rest is for the node, the
/// system's caches, and models that grow while they run.
const SHARE: (u64, u64) = (3, 4);

/// What a model of `bytes` bytes of files will likely take while it is loaded: the files in sealed memory, and what the
/// runtime makes of them beside that. An ONNX graph is kept parsed and packed both.
pub(crate) const fn estimate(format: Format, bytes: u64) -> u64 {
    let times = match format {
        Format::Onnx => 3,
        Format::Gguf | Format::Safetensors | Format::Opaque => 2,
    };
    bytes.saturating_mul(times).saturating_add(WORKER)
}

/// What to ask room for: what was measured before; else the estimate. Unless that is `sure`, of one whose files alone fit never
/// more than there is at all, so that no guess refuses it.
pub(crate) fn need(known: Option<u64>, sure: bool, format: Format, bytes: u64, budget: u64) -> u64 {
    let need = known.unwrap_or_else(|| estimate(format, bytes));
    if sure { need } else { need.min(budget.max(bytes)) }
}

/// Memory of a process that is its own: what it wrote, and sealed files that it maps. Not the program's text, which all workers
/// share. `None` where the system does not tell.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(field(&status, "RssAnon:")?.saturating_add(field(&status, "RssShmem:")?))
}

/// A field of `/proc/PID/status`, bytes.
pub(crate) fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The budget where none is set: a share of the machine's memory, or of what this process's control group may use if that is
/// less. Where the system tells neither there is no bound.
pub(crate) fn default_budget() -> u64 {
    share(&zero2ai_engine::hardware())
}

fn share(hardware: &zero2ai_engine::Hardware) -> u64 {
    let known = [hardware.memory_bytes, hardware.limit_bytes].into_iter().filter(|bytes| *bytes > 0).min();
    known.map_or(u64::MAX, |bytes| (bytes / SHARE.1).saturating_mul(SHARE.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_of_a_process_is_what_it_wrote() {
        let much = std::hint::black_box(vec![1u8; 64 << 20]);
        let now = resident(std::process::id()).unwrap();
        assert!(now >= much.len() as u64 / 2, "{now}");
        assert_eq!(resident(u32::MAX), None);
        assert_eq!(field("RssAnon:\t   12 kB\n", "RssAnon:"), Some(12 * 1024));
        assert_eq!(field("RssAnon:\t   12\n", "RssAnon:"), None);
    }

    #[test]
    fn an_estimate_never_refuses_what_might_fit() {
        let mib = 1 << 20;
        assert_eq!(need(None, false, Format::Gguf, mib, 100 * mib), 18 * mib);
        assert_eq!(need(None, false, Format::Gguf, 60 * mib, 100 * mib), 100 * mib);
        assert_eq!(need(None, false, Format::Gguf, 101 * mib, 100 * mib), 101 * mib, "its files alone do not fit");
        assert_eq!(need(Some(7), false, Format::Gguf, 60 * mib, 100 * mib), 7);
        // What it grew to once does not keep it out for ever; what loading it alone took does.
        assert_eq!(need(Some(300 * mib), false, Format::Gguf, mib, 100 * mib), 100 * mib);
        assert_eq!(need(Some(300 * mib), true, Format::Gguf, mib, 100 * mib), 300 * mib);
    }

    #[test]
    fn the_smaller_of_machine_and_control_group_counts() {
        let mut hardware = zero2ai_engine::hardware();
        (hardware.memory_bytes, hardware.limit_bytes) = (8 << 30, 4 << 30);
        assert_eq!(share(&hardware), 3 << 30);
        hardware.limit_bytes = 0;
        assert_eq!(share(&hardware), 6 << 30);
        hardware.memory_bytes = 0;
        assert_eq!(share(&hardware), u64::MAX);
    }
}
