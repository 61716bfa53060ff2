//! A writer into a store is cut off from power: everything it had acknowledged is there when the power comes back.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{Ran, Scenario, audit::audit, image::Image, rng::Rng, writer::Acknowledged};

/// MiB of the image.
const IMAGE: u64 = 256;
/// A cut falls within this span after the writer began.
const SPAN: Duration = Duration::from_millis(700);
/// Runs on one file system; then a new one, so that its size and the check's time stay the same.
const RUNS: u64 = 25;

/// More counts than a writer gets through in one run.
const COUNTS: u64 = 1_000_000;

/// See the module.
pub struct Power {
    image: Image,
    said: Acknowledged,
    runs: u64,
    program: PathBuf,
}

/// The writer; killed when dropped, so that its disk can be unmounted.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Power {
    /// An empty file system. `program` is the program `faults`, whose hidden command `writer` writes.
    ///
    /// # Errors
    /// No image can be mounted.
    pub fn new(program: PathBuf) -> Result<Self> {
        Ok(Self { image: Image::new(IMAGE)?, said: Acknowledged::default(), runs: 0, program })
    }
}

impl Scenario for Power {
    fn run(&mut self, _n: u64, rng: &mut Rng) -> Result<Ran> {
        if self.runs == RUNS {
            *self = Self::new(self.program.clone())?;
        }
        self.runs += 1;
        let home = self.image.path();
        let child = Command::new(&self.program)
            .arg("writer")
            .arg(&home)
            .arg(rng.draw().to_string())
            .arg((self.runs * COUNTS).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut writer = Writer(child);
        let out = writer.0.stdout.take().context("its standard output")?;
        let reader = thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines.map(|line| (Instant::now(), line)).collect::<Vec<_>>()
        });
        let switch = self.image.switch(rng.below(2) == 0)?;
        thread::sleep(rng.moment(SPAN));
        let cut_at = switch.cut()?;
        drop(writer);
        let lines = reader.join().ok().context("reading what it said")?;
        let before = lines.iter().filter(|(at, _)| *at < cut_at).count() as u64;
        for (at, line) in &lines {
            if *at < cut_at { self.said.read(line)? } else { self.said.read_late(line)? }
        }
        self.image.power_on()?;
        audit(&home.join("store"))?;
        let checked = self.said.check(&home)?;
        Ok(Ran { inside: before > 0, acknowledged: before, checked, resumed: false })
    }
}
