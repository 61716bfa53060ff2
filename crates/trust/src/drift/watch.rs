//! Both detectors over the answers of one version, and when what they say is an alarm: the model became worse, not better, and more
//! than an answer or two say so.

use super::{Adwin, Ddm, Drift};

/// Answers that a word of DDM is held against: those behind it count, besides the one that made it speak.
const LATE: u32 = 30;
/// Wrong ones among them that make it an alarm. DDM measures by the best rate it ever saw; where that was no mistake at all, the first
/// one is a change to it.
const WRONG: u32 = 5;

/// What the detectors agreed to be an alarm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alarm {
    /// ADWIN cut its window, and the newer part is worse.
    pub adwin: bool,
    /// DDM said that the rate of mistakes left the best it was.
    pub ddm: bool,
    /// Share of wrong answers in ADWIN's window before this answer, 0 to 1.
    pub before: f64,
    /// The same after it: of the newer part, if the window was cut.
    pub after: f64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    adwin: Adwin,
    ddm: Ddm,
    answers: u64,
    wrong: u64,
    /// DDM spoke: answers that are still held against it, and wrong ones seen since.
    doubt: Option<(u32, u32)>,
    warned: bool,
}

impl Watch {
    /// Takes whether one answer was wrong, in the order in which that became known.
    pub fn take(&mut self, wrong: bool) -> Option<Alarm> {
        self.answers = self.answers.saturating_add(1);
        self.wrong = self.wrong.saturating_add(u64::from(wrong));
        let before = self.adwin.mean();
        let cut = self.adwin.update(f64::from(u8::from(wrong))) == Drift::Changed;
        let after = self.adwin.mean();
        let adwin = cut && after > before;
        let ddm = self.doubted(wrong);
        (adwin || ddm).then(|| {
            self.doubt = None;
            Alarm { adwin, ddm, before, after }
        })
    }

    /// True once DDM spoke and enough of what followed was wrong.
    fn doubted(&mut self, wrong: bool) -> bool {
        let said = self.ddm.update(wrong);
        self.warned = said == Drift::Warning;
        let begun = if said == Drift::Changed { Some(self.doubt.unwrap_or((LATE, 0))) } else { self.doubt };
        self.doubt = begun.and_then(|(left, seen)| Some((left.checked_sub(1)?, seen.saturating_add(u32::from(wrong)))));
        self.doubt.is_some_and(|(_, seen)| seen >= WRONG)
    }

    /// Answers taken.
    #[must_use]
    pub const fn answers(&self) -> u64 {
        self.answers
    }

    /// Wrong ones among them.
    #[must_use]
    pub const fn wrong(&self) -> u64 {
        self.wrong
    }

    /// Share of wrong answers in ADWIN's window: of late. 0 while it is empty.
    #[must_use]
    pub fn late(&self) -> f64 {
        self.adwin.mean()
    }

    /// Answers in that window.
    #[must_use]
    pub fn window(&self) -> f64 {
        self.adwin.width()
    }

    /// True if DDM's last word was a warning, or a change that is not an alarm yet.
    #[must_use]
    pub const fn warned(&self) -> bool {
        self.warned || self.doubt.is_some()
    }
}
