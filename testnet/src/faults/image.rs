//! An ext4 file system in a file, mounted through a loop device, and its power switch: the shutdown ioctl, after which the
//! kernel writes nothing more of what it had only in memory. What was synced before is what a disk would hold after its
//! power went (the caches of a real disk that lies about syncs are not imitated).

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// How long a file system may be busy with processes that were just killed.
const BUSY: Duration = Duration::from_secs(10);
/// Pulls the switch when it is told to. Rust's safe libraries have no call for it. Argument 1 writes the journal out first,
/// 2 writes nothing.
const SHUTDOWN: &str = "import fcntl, os, struct, sys\n\
    disk, how = os.open(sys.argv[1], os.O_RDONLY), struct.pack('I', int(sys.argv[2]))\n\
    print('ready', flush=True)\n\
    if sys.stdin.readline(): fcntl.ioctl(disk, 0x8004587d, how)";

/// A mounted image. Unmounted and removed when dropped.
pub struct Image {
    dir: TempDir,
    mounted: bool,
}

/// A switch ready to be pulled. Dropped without, it leaves the power on.
pub struct Switch(Child);

impl Switch {
    /// Cuts the power; the moment just before.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn cut(mut self) -> Result<Instant> {
        let mut word = self.0.stdin.take().context("its standard input")?;
        let moment = Instant::now();
        word.write_all(b"cut\n")?;
        let ended = self.0.wait()?;
        ensure!(ended.success(), "the shutdown ioctl failed: {ended}");
        Ok(moment)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Why no image can be mounted here, if so.
#[must_use]
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting a file system needs root: run it again as root (sudo)".into());
    }
    for (program, package) in
        [("mkfs.ext4", "e2fsprogs"), ("mount", "mount"), ("losetup", "mount"), ("python3", "python3")]
    {
        let ran = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if ran.is_err() {
            return Some(format!("the program {program} is not here: install the package {package}"));
        }
    }
    match Image::new(16) {
        Ok(_) => None,
        Err(why) => Some(format!("no loop device can be mounted here: {why:#}")),
    }
}

impl Image {
    /// Makes and mounts a file system of `mib` MiB.
    ///
    /// # Errors
    /// [`missing`] says why in general.
    pub fn new(mib: u64) -> Result<Self> {
        let mut image = Self { dir: tempfile::tempdir()?, mounted: false };
        std::fs::File::create(image.file())?.set_len(mib.saturating_mul(1 << 20))?;
        run(Command::new("mkfs.ext4").arg("-q").arg("-F").arg(image.file()))?;
        std::fs::create_dir(image.path())?;
        image.mount()?;
        Ok(image)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// A folder beside it, on a disk that stays.
    #[must_use]
    pub fn beside(&self) -> &Path {
        self.dir.path()
    }

    /// A switch that is ready to cut the power at once. With `journal` the kernel writes its journal out first, as happens
    /// when the cut comes just after a commit.
    ///
    /// # Errors
    /// Its program cannot be run.
    pub fn switch(&self, journal: bool) -> Result<Switch> {
        let flag = if journal { "1" } else { "2" };
        let mut child = Command::new("python3")
            .args(["-c", SHUTDOWN])
            .arg(self.path())
            .arg(flag)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("running python3")?;
        let mut ready = [0; 6];
        let out = child.stdout.as_mut().context("its standard output")?;
        let read = out.read_exact(&mut ready).context("the switch");
        let switch = Switch(child);
        read.map(|()| switch)
    }

    /// Makes it read-only, as a kernel does with a disk that failed.
    ///
    /// # Errors
    /// Somebody has a file open for writing there.
    pub fn read_only(&self) -> Result<()> {
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()))
    }

    /// Unmounts and mounts it again, as after the power came back. Whoever had files open there must be dead.
    ///
    /// # Errors
    /// It stays busy, or its journal cannot be replayed.
    pub fn power_on(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&mut self) -> Result<()> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.file()).arg(self.path()))?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        let start = Instant::now();
        while let Err(busy) = run(Command::new("umount").arg(self.path())) {
            if start.elapsed() > BUSY {
                return Err(busy);
            }
            thread::sleep(Duration::from_millis(50));
        }
        self.mounted = false;
        // A worker in a mount namespace of its own may outlive its node by a moment and keep the dead file system alive;
        // mounted again then, it would still be dead.
        while self.attached()? {
            ensure!(start.elapsed() < BUSY, "the loop device of {} stays in use", self.file().display());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// True while a loop device stands on the image.
    fn attached(&self) -> Result<bool> {
        let listed = Command::new("losetup").arg("-j").arg(self.file()).output().context("running losetup")?;
        Ok(!listed.stdout.trim_ascii().is_empty())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.mounted && self.unmount().is_err() {
            // Busy for good: it goes when its last user does.
            let _ = run(Command::new("umount").arg("-l").arg(self.path()));
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let ran = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(!said.trim().is_empty(), "{command:?} failed with {}", ran.status);
    bail!("{command:?}: {}", said.trim())
}
