//! What this machine has for running models, found at run time.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::available_parallelism,
};

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its name, as the driver tells it.
    pub name: String,
}

/// What this machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// The instruction set's name, such as `x86_64`.
    pub arch: &'static str,
    /// Extensions that the runtimes use, such as `avx2`.
    pub cpu_features: Vec<&'static str>,
    /// Cores this process may use.
    pub cores: usize,
    /// Bytes of memory; 0 if the system does not say.
    pub memory_bytes: u64,
    /// Bytes of memory that could be had now; 0 if the system does not say.
    pub available_bytes: u64,
    /// Bytes of memory that this process's control group may use; 0 if it has no limit.
    pub limit_bytes: u64,
    /// GPUs that a driver offers.
    pub gpus: Vec<Gpu>,
}

/// Looks. Takes milliseconds without a GPU driver, up to seconds with one; opens no device for work.
#[must_use]
pub fn hardware() -> Hardware {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Hardware {
        arch: std::env::consts::ARCH,
        cpu_features: cpu_features(),
        cores: available_parallelism().map_or(1, usize::from),
        memory_bytes: kibibytes(&meminfo, "MemTotal:"),
        available_bytes: kibibytes(&meminfo, "MemAvailable:"),
        limit_bytes: group_limit(
            Path::new("/sys/fs/cgroup"),
            &fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
        ),
        gpus: gpus(),
    }
}

fn kibibytes(meminfo: &str, key: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix(key));
    let value = line.and_then(|l| l.split_whitespace().next()).and_then(|v| v.parse::<u64>().ok());
    value.unwrap_or(0).saturating_mul(1024)
}

/// The least limit of memory among this process's control groups, of version 2 and of version 1, and all those above them. In a
/// container the groups' own paths may not be there: then the mount itself is the container's group.
fn group_limit(mount: &Path, groups: &str) -> u64 {
    let mut least = 0;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => (mount.to_owned(), "memory.max"),
            list if list.split(',').any(|c| c == "memory") => (mount.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let said = fs::read_to_string(PathBuf::from(&root).join(group).join(file)).unwrap_or_default();
            // "max", or a number near 2^63, is no limit.
            match said.trim().parse::<u64>() {
                Ok(bytes) if bytes < NO_LIMIT && (least == 0 || bytes < least) => least = bytes,
                _ => {}
            }
        }
    }
    least
}

/// Bytes from which on a limit is none: version 1 of control groups says so by a number near 2^63.
const NO_LIMIT: u64 = 1 << 60;

fn cpu_features() -> Vec<&'static str> {
    let mut found = Vec::new();
    macro_rules! look {
        ($check:ident: $($name:tt),*) => { $( if std::arch::$check!($name) { found.push($name); } )* };
    }
    #[cfg(target_arch = "x86_64")]
    look!(is_x86_feature_detected: "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vnni", "avx512bf16", "avxvnni");
    #[cfg(target_arch = "aarch64")]
    look!(is_aarch64_feature_detected: "neon", "dotprod", "i8mm", "bf16", "sve");
    found
}

/// The CUDA driver's own list. Asked only where the kernel's half of the driver is there, since the library panics when it
/// finds no user half.
fn gpus() -> Vec<Gpu> {
    if !fs::exists("/proc/driver/nvidia/version").unwrap_or(false) {
        return Vec::new();
    }
    std::panic::catch_unwind(|| {
        let count = cudarc::driver::CudaContext::device_count().unwrap_or(0);
        let name = |index| {
            let device = cudarc::driver::result::device::get(index).ok()?;
            Some(Gpu { name: cudarc::driver::result::device::get_name(device).ok()? })
        };
        (0..count).filter_map(name).collect()
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_read_in_kibibytes() {
        let text = "MemTotal:       24000 kB\nMemAvailable:   100 kB\n";
        assert_eq!(kibibytes(text, "MemTotal:"), 24_000 * 1024);
        assert_eq!(kibibytes("", "MemTotal:"), 0);
        assert!(hardware().cores >= 1);
    }

    #[test]
    fn the_least_limit_of_all_groups_above_counts() {
        let mount = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "4000\n");
        write("a/b/memory.max", "max\n");
        assert_eq!(group_limit(mount.path(), "0::/a/b\n"), 4000);
        assert_eq!(group_limit(mount.path(), "0::/elsewhere\n1:name=systemd:/a\n"), 0);
        write("memory/x/memory.limit_in_bytes", "3000\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(group_limit(mount.path(), "4:cpu,memory:/x\n0::/a/b\n"), 3000);
        write("memory.max", "500\n");
        assert_eq!(group_limit(mount.path(), "0::/\n"), 500, "in a container");
        assert_eq!(group_limit(mount.path(), "rubbish"), 0);
    }
}
