//! Progress of long operations on standard error: a bar on a terminal, a line a step elsewhere (and one every few seconds of
//! a long one), nothing with `--json`. Bytes come with their rate and the time left.

mod rate;

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use zero2ai_proto::local::{FetchPicture, Progress as Step};

use self::rate::Rate;
use crate::{output::Output, picture};

/// How often a spinner moves: often enough to show that the program lives.
const TICK: Duration = Duration::from_millis(120);
/// How often a long step has a line of its own where there is no terminal.
const LINE: Duration = Duration::from_secs(10);

/// Shows one operation's progress; gone from the terminal when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    lines: bool,
    last: String,
    rate: Rate,
    start: Instant,
    said: Instant,
    /// Tenths of a transfer that were told.
    tenths: u32,
}

impl Progress {
    fn new(bar: Option<ProgressBar>, lines: bool) -> Self {
        let now = Instant::now();
        Self { bar, lines, last: String::new(), rate: Rate::default(), start: now, said: now, tenths: 0 }
    }

    /// Starts with these words.
    pub(crate) fn start(out: Output, what: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !out.json).then(|| {
            let bar = ProgressBar::new_spinner().with_message(what.to_owned());
            bar.enable_steady_tick(TICK);
            bar
        });
        let mut progress = Self::new(bar, !terminal && !out.json);
        progress.say(what);
        progress
    }

    /// Shows nothing: for jobs that run beside others.
    pub(crate) fn silent() -> Self {
        Self::new(None, false)
    }

    /// What is being done now, with no measure of how far.
    pub(crate) fn say(&mut self, what: &str) {
        self.step(&Step { what: what.to_owned(), done: 0, total: 0 });
    }

    /// What is being done now, and how far it is.
    pub(crate) fn step(&mut self, step: &Step) {
        let changed = step.what != self.last;
        if changed {
            self.rate = Rate::default();
            self.last.clone_from(&step.what);
        }
        let in_bytes = step.total > 0 && step.what.starts_with("bytes ");
        let mut words = step.what.clone();
        if in_bytes {
            self.rate.saw(self.start.elapsed(), step.done);
            words = format!("{words}: {}", self.rate.words(step.total));
        }
        if let Some(bar) = &self.bar {
            if step.total > 0 {
                bar.set_length(step.total);
                let template =
                    if in_bytes { "{spinner} [{bar:24}] {msg}" } else { "{spinner} {msg} [{bar:24}] {pos}/{len}" };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_position(step.done);
            } else if changed {
                bar.set_style(ProgressStyle::default_spinner());
            }
            if changed || in_bytes {
                bar.set_message(words);
            }
        } else if self.lines && (changed || (in_bytes && self.said.elapsed() >= LINE)) {
            self.said = Instant::now();
            eprintln!("  ... {words}");
        }
    }

    /// How a transfer stands: redrawn on a terminal, a line each tenth elsewhere.
    pub(crate) fn picture(&mut self, picture: &FetchPicture) {
        if let Some(bar) = &self.bar {
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar.set_message(picture::draw(picture));
        } else if self.lines {
            let tenths = u64::from(picture.chunks) * 10 / u64::from(picture.total_chunks).max(1);
            let tenths = u32::try_from(tenths).unwrap_or(10);
            if tenths > self.tenths {
                eprintln!("  ... {}", picture::summary(picture));
                self.tenths = tenths;
            }
        }
        // The next step is a new one.
        self.last.clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
