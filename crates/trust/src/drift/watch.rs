//! Both detectors over the answers of one version, and when what they say is an alarm: the model became worse, not better, more than an
//! answer or two say so, and not one account alone while others speak.
//!
//! The detectors hear everybody in one stream, so a single account can make them speak. What they say is therefore a claim at first: the
//! account with the most wrong answers since then is left out, and the others' answers must be worse than the same others' were before,
//! by more than chance (Chernoff's bound with the Kullback-Leibler divergence, a thousandth). An alarm rests on as many accounts as it
//! takes to make it: on three where it would have been one without the two with the most wrong answers, too.
//!
//! What is left: where one account was the only one of a week, its word is all there is, and [`Alarm::accounts`] says 1. Accounts in
//! league bear each other out, and an alarm says no more than their number. Who floods right answers hides what others see.
#![allow(clippy::float_arithmetic)]

use std::collections::{BTreeMap, VecDeque};

use super::{Adwin, Ddm, Drift};

/// Answers that a word of DDM is held against: those behind it count, besides the one that made it speak.
const LATE: u32 = 30;
/// Wrong ones among them that make it a claim. DDM measures by the best rate it ever saw; where that was no mistake at all, the first
/// one is a change to it.
const WRONG: u32 = 5;
/// Accounts beyond which it makes no difference how many bear an alarm out.
pub const ENOUGH: u32 = 3;
/// Who said nothing for so long, milliseconds, is not waited for: a week.
const PRESENT_MS: u64 = 7 * 24 * 3_600_000;
/// Answers of one account that count in a claim: who calls most decides no more than others.
const EACH: usize = 64;
/// Accounts that are told apart; beyond, the one that was silent for longest is forgotten.
const TELLERS: usize = 1_024;
/// -ln of the chance that others' answers look so much worse by accident: a thousandth.
const CHANCE: f64 = 6.907_755_278_982_137;

/// Who says what became of an answer: an account's key.
pub type Teller = [u8; 32];

/// What became of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who says so.
    pub teller: Teller,
    /// When it was heard, milliseconds.
    pub time_ms: u64,
    /// Whether the answer was wrong.
    pub wrong: bool,
}

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
    /// Accounts that it takes to make it, at most [`ENOUGH`]: with one less, whichever, the others' answers are still worse.
    pub accounts: u32,
}

/// One account's answers.
#[derive(Clone, Debug, Default)]
struct Account {
    heard_ms: u64,
    answers: u64,
    wrong: u64,
    /// The newest, by their place in the stream: at most [`EACH`].
    newest: VecDeque<(u64, bool)>,
}

/// Answers, and wrong ones among them.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    answers: u64,
    wrong: u64,
}

impl Tally {
    const fn add(&mut self, other: Self) {
        self.answers = self.answers.saturating_add(other.answers);
        self.wrong = self.wrong.saturating_add(other.wrong);
    }
}

/// What the detectors say, until others bear it out.
#[derive(Clone, Debug)]
struct Claim {
    said: Alarm,
    /// Answers from this place on count for it.
    since: u64,
    late: BTreeMap<Teller, Tally>,
    /// What each had said before that, as it was when the detectors first spoke.
    earlier: BTreeMap<Teller, Tally>,
    /// How many accounts bore it out when an alarm was last given.
    told: u32,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    adwin: Adwin,
    ddm: Ddm,
    answers: u64,
    wrong: u64,
    accounts: BTreeMap<Teller, Account>,
    now_ms: u64,
    /// DDM spoke: answers that are still held against it, wrong ones seen since, and where it spoke.
    doubt: Option<(u32, u32, u64)>,
    warned: bool,
    claim: Option<Claim>,
}

impl Watch {
    /// Takes what became of one answer, in the order in which that became known. An alarm is given again when more accounts bear it out.
    pub fn take(&mut self, told: Told) -> Option<Alarm> {
        self.answers = self.answers.saturating_add(1);
        self.wrong = self.wrong.saturating_add(u64::from(told.wrong));
        self.note(told);
        let before = self.adwin.mean();
        let cut = self.adwin.update(f64::from(u8::from(told.wrong))) == Drift::Changed;
        let after = self.adwin.mean();
        let adwin = cut && after > before;
        let spoke = self.doubted(told.wrong);
        if adwin || spoke.is_some() {
            self.doubt = None;
            // A window is a count of answers: whole, and far below 2^53.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let window = self.adwin.width() as u64;
            let cut = self.answers.saturating_sub(window).saturating_add(1);
            let since = spoke.unwrap_or(cut).min(if adwin { cut } else { u64::MAX });
            self.begin(Alarm { adwin, ddm: spoke.is_some(), before, after, accounts: 0 }, since);
        } else if self.claim.as_ref().is_some_and(|claim| after <= claim.said.before) {
            self.claim = None;
        } else if !self.counts(told) {
            return None;
        }
        self.judge()
    }

    fn note(&mut self, told: Told) {
        self.now_ms = self.now_ms.max(told.time_ms);
        if !self.accounts.contains_key(&told.teller) && self.accounts.len() >= TELLERS {
            let silent = self.accounts.iter().min_by_key(|(_, account)| account.heard_ms).map(|(teller, _)| *teller);
            silent.and_then(|teller| self.accounts.remove(&teller));
        }
        let account = self.accounts.entry(told.teller).or_default();
        account.heard_ms = self.now_ms;
        account.answers = account.answers.saturating_add(1);
        account.wrong = account.wrong.saturating_add(u64::from(told.wrong));
        if account.newest.len() >= EACH {
            account.newest.pop_front();
        }
        account.newest.push_back((self.answers, told.wrong));
    }

    /// Where DDM spoke, once enough of what followed was wrong.
    fn doubted(&mut self, wrong: bool) -> Option<u64> {
        let said = self.ddm.update(wrong);
        self.warned = said == Drift::Warning;
        let begun =
            if said == Drift::Changed { Some(self.doubt.unwrap_or((LATE, 0, self.answers))) } else { self.doubt };
        self.doubt = begun
            .and_then(|(left, seen, since)| Some((left.checked_sub(1)?, seen.saturating_add(u32::from(wrong)), since)));
        self.doubt.filter(|(_, seen, _)| *seen >= WRONG).map(|(_, _, since)| since)
    }

    /// A claim of what the detectors say now. One that is open goes on: nobody makes others' word void by making them speak again.
    fn begin(&mut self, said: Alarm, since: u64) {
        let since = self.claim.as_ref().map_or(since, |open| open.since.min(since));
        let of = |account: &Account| {
            let mut late = Tally::default();
            for (_, wrong) in account.newest.iter().filter(|(place, _)| *place >= since) {
                late.add(Tally { answers: 1, wrong: u64::from(*wrong) });
            }
            let answers = account.answers.saturating_sub(late.answers);
            (late, Tally { answers, wrong: account.wrong.saturating_sub(late.wrong) })
        };
        let both: Vec<_> = self.accounts.iter().map(|(teller, account)| (*teller, of(account))).collect();
        let late = both.iter().map(|(teller, (late, _))| (*teller, *late)).collect();
        // What came behind the change is no part of what was before it, however long the claim is open.
        let earlier = self.claim.take().map(|open| open.earlier);
        let earlier =
            earlier.unwrap_or_else(|| both.into_iter().map(|(teller, (_, earlier))| (teller, earlier)).collect());
        self.claim = Some(Claim { said, since, late, earlier, told: 0 });
    }

    /// Counts an answer in the open claim; true if that may decide something.
    fn counts(&mut self, told: Told) -> bool {
        let Some(claim) = self.claim.as_mut().filter(|claim| claim.told < ENOUGH) else { return false };
        let tally = claim.late.entry(told.teller).or_default();
        let room = tally.answers < EACH as u64;
        if room {
            tally.add(Tally { answers: 1, wrong: u64::from(told.wrong) });
        }
        room && told.wrong
    }

    /// The alarm, if more accounts bear the claim out than before.
    fn judge(&mut self) -> Option<Alarm> {
        let borne = self.borne_out_by(self.claim.as_ref()?);
        let claim = self.claim.as_mut().filter(|claim| borne > claim.told)?;
        claim.told = borne;
        Some(Alarm { accounts: borne, ..claim.said })
    }

    /// How many accounts bear a claim out, at most [`ENOUGH`]; 0 if it rests on one while others speak.
    fn borne_out_by(&self, claim: &Claim) -> u32 {
        let present = |account: &&Account| account.heard_ms.saturating_add(PRESENT_MS) >= self.now_ms;
        if self.accounts.values().filter(present).count() <= 1 {
            return 1;
        }
        let mut tallies: Vec<(Tally, Tally)> = claim
            .late
            .iter()
            .map(|(teller, late)| (*late, claim.earlier.get(teller).copied().unwrap_or_default()))
            .collect();
        tallies.sort_by_key(|(late, _)| std::cmp::Reverse(late.wrong));
        let without = |worst: &u32| {
            let (mut late, mut earlier) = (Tally::default(), Tally::default());
            for (own_late, own_earlier) in tallies.iter().skip(*worst as usize) {
                late.add(*own_late);
                earlier.add(*own_earlier);
            }
            is_worse(late, earlier)
        };
        match (1..ENOUGH).take_while(without).last() {
            Some(worst) => worst.saturating_add(1),
            None => 0,
        }
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

    /// True if DDM's last word was a warning, or the detectors say that something changed and it is no alarm yet.
    #[must_use]
    pub fn warned(&self) -> bool {
        self.warned || self.doubt.is_some() || self.claim.as_ref().is_some_and(|claim| claim.told == 0)
    }
}

/// True if `late` is worse than `earlier` by more than chance. The earlier rate is Laplace's, so that who was never heard before counts by
/// halves: the probability of `wrong` or more of n answers at a rate p below q = wrong / n is at most exp(-n·KL(q, p)) (Chernoff 1952,
/// Hoeffding 1963).
fn is_worse(late: Tally, earlier: Tally) -> bool {
    let share = |of: u64, all: u64| of as f64 / all as f64;
    if late.answers == 0 {
        return false;
    }
    let q = share(late.wrong, late.answers);
    let p = share(earlier.wrong.saturating_add(1), earlier.answers.saturating_add(2));
    let part = |q: f64, p: f64| if q == 0.0 { 0.0 } else { q * libm::log(q / p) };
    q > p && late.answers as f64 * (part(q, p) + part(1.0 - q, 1.0 - p)) >= CHANCE
}
