//! What the worker process gives up before it looks at a model: memory beyond a limit, every file and socket it does not
//! hold already, every system call that computing does not need.

use std::{collections::BTreeMap, fs};

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

/// Name of the memory limit in a worker's report.
pub(crate) const LIMITS: &str = "limits";
/// Name of Landlock in a worker's report.
pub(crate) const LANDLOCK: &str = "landlock";
/// Name of seccomp in a worker's report.
pub(crate) const SECCOMP: &str = "seccomp";

/// Open descriptors: the socket, standard error, a model's files. The worker can open nothing itself.
const DESCRIPTORS: u64 = 128;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Puts this process into the sandbox; answers which parts hold. A part that fails is said on standard error and left
/// out: the node decides whether that is enough.
pub(super) fn enter(memory_bytes: Option<u64>) -> Vec<String> {
    let mut standing = Vec::new();
    let mut note = |name: &str, entered: Result<(), AnyError>| match entered {
        Ok(()) => standing.push(name.to_owned()),
        Err(error) => eprintln!("{name} does not hold in this worker: {error}"),
    };
    note(LIMITS, limits(memory_bytes));
    note(LANDLOCK, restrict_files());
    note(SECCOMP, restrict_calls());
    standing
}

fn limits(memory_bytes: Option<u64>) -> Result<(), AnyError> {
    let at = |value| Rlimit { current: Some(value), maximum: Some(value) };
    // RLIMIT_DATA counts memory that can be written to; RLIMIT_AS would also count what allocators only reserve.
    if let Some(bytes) = memory_bytes {
        setrlimit(Resource::Data, at(bytes))?;
    }
    setrlimit(Resource::Core, at(0))?; // A core file would hold the model in the clear.
    setrlimit(Resource::Fsize, at(0))?;
    setrlimit(Resource::Nofile, at(DESCRIPTORS))?;
    Ok(())
}

fn restrict_files() -> Result<(), AnyError> {
    // Landlock binds the calling thread and those it starts later.
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(format!("{threads} threads run already; the worker must be entered before any is started").into());
    }
    landlock()
}

fn landlock() -> Result<(), AnyError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("the kernel has no Landlock, or it is switched off".into()),
        _ => Ok(()),
    }
}

/// Calls that computing needs. All others, opening and connecting and executing among them, are refused with EPERM
/// rather than by death, since libraries probe for things and go on without them.
const ALLOWED: &[i64] = &[
    // The socket, standard error and memory files that are open already.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_sendto, // How std writes to a socket; no descriptors can go with it.
    libc::SYS_recvmsg,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_close,
    // Memory (executable memory is refused below).
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // Threads and time (processes are refused below).
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals to itself.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getrandom,
];

fn restrict_calls() -> Result<(), AnyError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, vec![])).collect();
    let masked = |arg, mask: i32, value: i32| {
        let operator = SeccompCmpOp::MaskedEq(mask.unsigned_abs().into());
        SeccompCondition::new(arg, SeccompCmpArgLen::Dword, operator, value.unsigned_abs().into())
    };
    let equal = |arg, value: i32| {
        SeccompCondition::new(arg, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value.unsigned_abs().into())
    };
    let no_execution = SeccompRule::new(vec![masked(2, libc::PROT_EXEC, 0)?])?;
    rules.insert(libc::SYS_mmap, vec![no_execution.clone()]);
    rules.insert(libc::SYS_mprotect, vec![no_execution]);
    let thread = SeccompRule::new(vec![masked(0, libc::CLONE_THREAD, libc::CLONE_THREAD)?])?;
    rules.insert(libc::SYS_clone, vec![thread]);
    rules.insert(libc::SYS_prctl, vec![SeccompRule::new(vec![equal(0, libc::PR_SET_NAME)?])?]);
    let own = i32::try_from(std::process::id())?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![equal(0, own)?])?]);
    // Passed on to the next filter, which answers it.
    rules.insert(libc::SYS_clone3, vec![]);
    let errno = |code: i32| SeccompAction::Errno(code.unsigned_abs());
    let allow: BpfProgram = SeccompFilter::new(rules, errno(libc::EPERM), SeccompAction::Allow, arch)?.try_into()?;
    // clone3 hides its flags behind a pointer that a filter cannot follow: "not there" makes libc fall back to clone.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, vec![])]);
    let without_clone3: BpfProgram =
        SeccompFilter::new(clone3, SeccompAction::Allow, errno(libc::ENOSYS), arch)?.try_into()?;
    apply_filter_all_threads(&without_clone3)?;
    // Installing the second filter needs calls that it forbids: so it is the last thing done here.
    apply_filter_all_threads(&allow)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{net::TcpListener, os::unix::net::UnixStream, process::Command, thread};

    use super::*;

    /// The filters bind a whole process: so this is run in one of its own, by the test below.
    #[test]
    #[ignore = "puts the process into the sandbox"]
    fn probe() {
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        landlock().unwrap();
        restrict_calls().unwrap();
        let refused = [
            fs::read("/etc/hostname").is_err(),
            fs::read("/proc/self/status").is_err(),
            fs::write(std::env::temp_dir().join("zero2ai-sandbox-probe"), b"x").is_err(),
            TcpListener::bind("127.0.0.1:0").is_err(),
            UnixStream::pair().is_err(),
            UnixStream::connect("/run/any.sock").is_err(),
            Command::new("/bin/true").spawn().is_err(),
        ];
        let works = [
            thread::Builder::new()
                .spawn(|| vec![1_u8; 1 << 20].len())
                .is_ok_and(|t| t.join().is_ok_and(|n| n == 1 << 20)),
            std::io::Write::write(&mut ours, b"x").is_ok_and(|n| n == 1),
        ];
        eprintln!("refused {refused:?}, works {works:?}");
        std::process::exit(if refused == [true; 7] && works == [true; 2] { 77 } else { 1 });
    }

    #[test]
    fn nothing_can_be_opened_connected_or_started() {
        let exe = std::env::current_exe().unwrap();
        let mut probe = Command::new(exe);
        let output =
            probe.args(["--ignored", "--exact", "child::sandbox::tests::probe", "--nocapture"]).output().unwrap();
        assert_eq!(output.status.code(), Some(77), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
