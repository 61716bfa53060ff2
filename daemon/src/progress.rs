//! Progress of long operations on standard error: a bar on a terminal, a line a step elsewhere, nothing with `--json`.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use zero2ai_proto::local::{FetchPicture, Progress as Step};

use crate::{output::Output, picture};

/// How often a spinner moves: often enough to show that the program lives.
const TICK: Duration = Duration::from_millis(120);

/// Shows one operation's progress; gone from the terminal when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    lines: bool,
    last: String,
    /// Tenths of a transfer that were told.
    tenths: u32,
}

impl Progress {
    /// Starts with these words.
    pub(crate) fn start(out: Output, what: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !out.json).then(|| {
            let bar = ProgressBar::new_spinner().with_message(what.to_owned());
            bar.enable_steady_tick(TICK);
            bar
        });
        let mut progress = Self { bar, lines: !terminal && !out.json, last: String::new(), tenths: 0 };
        progress.say(what);
        progress
    }

    /// Shows nothing: for jobs that run beside others.
    pub(crate) fn silent() -> Self {
        Self { bar: None, lines: false, last: String::new(), tenths: 0 }
    }

    /// What is being done now, with no measure of how far.
    pub(crate) fn say(&mut self, what: &str) {
        self.step(&Step { what: what.to_owned(), done: 0, total: 0 });
    }

    /// What is being done now, and how far it is.
    pub(crate) fn step(&mut self, step: &Step) {
        let changed = step.what != self.last;
        if let Some(bar) = &self.bar {
            if step.total > 0 {
                bar.set_length(step.total);
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{bar:24}] {pos}/{len}") {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_position(step.done);
            } else if changed {
                bar.set_style(ProgressStyle::default_spinner());
            }
            if changed {
                bar.set_message(step.what.clone());
            }
        } else if self.lines && changed {
            eprintln!("  ... {}", step.what);
        }
        if changed {
            self.last.clone_from(&step.what);
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
