//! Outcomes on disk and in memory, changed together: first the disk, in one step, then memory, on a thread that goes on whatever
//! becomes of the request. An outcome, and the alarm that it gives, are there once its file is; all else follows from such files, and what
//! fails behind them is made up for by the next one or at the next start.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zero2ai_proto::{ModelName, limits::OUTCOME_BYTES, local::Alarm, outcome::OutcomeReport, rpc::RpcError};
use zero2ai_trust::drift;

use super::{
    book::{Book, Kept, Pasts, Shares},
    files, storage,
};

/// Alarms that are kept: the newest.
const ALARMS: usize = 256;

/// Alarms as they stand in a file of their own, which knows more than the outcomes': which round answered one, and those whose outcome is
/// gone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Alarms {
    /// Those of outcomes below this place are in here.
    upto: u64,
    all: Vec<(ModelName, Alarm)>,
}

impl Alarms {
    /// One that nothing has answered yet is brought up to date: nobody's are pushed out by another's repetition.
    fn add(&mut self, name: &ModelName, alarm: Alarm) {
        let open = |(n, a): &&mut (ModelName, Alarm)| n == name && a.version == alarm.version && a.round.is_none();
        match self.all.iter_mut().find(open) {
            Some((_, old)) => *old = Alarm { accounts: old.accounts.max(alarm.accounts), ..alarm },
            None => self.all.push((name.clone(), alarm)),
        }
        let surplus = self.all.len().saturating_sub(ALARMS);
        self.all.drain(..surplus);
    }
}

/// See the module.
pub(super) struct State {
    home: PathBuf,
    pub(super) book: Book,
    alarms: Alarms,
    /// The alarms in memory are not all in their file.
    unsaved: bool,
}

/// What makes an alarm out of the detectors' word.
pub(super) type Told<'a> = &'a dyn Fn(&drift::Alarm, u64) -> Alarm;

impl State {
    /// Reads what is on disk. What is damaged is told and left out: these are hints, not the ledger.
    pub(super) fn open(home: &Path, shares: Shares) -> Self {
        let pasts: Pasts = files::read_small(&files::pasts_file(home));
        let mut alarms: Alarms = files::read_small(&files::alarms_file(home));
        let mut book = Book::new(shares, pasts, alarms.upto);
        let mut unsaved = false;
        for path in files::list(&files::kept_folder(home), "cbor") {
            match files::read::<Kept>(&path, OUTCOME_BYTES) {
                Ok(kept) => {
                    if let Some(alarm) = kept.alarm.clone().filter(|_| kept.place >= alarms.upto) {
                        alarms.add(&kept.name, alarm);
                        unsaved = true;
                    }
                    book.put_again(kept);
                }
                Err(error) => tracing::warn!(file = %path.display(), %error, "an outcome is not read"),
            }
        }
        // Of one that was not finished, or not deleted to the end.
        for path in files::list(&files::kept_folder(home), "report") {
            if !path.with_extension("cbor").exists()
                && let Err(error) = files::remove(&path)
            {
                tracing::warn!(error, "a report without its outcome stays");
            }
        }
        alarms.upto = book.next();
        Self { home: home.to_owned(), book, alarms, unsaved }
    }

    /// The alarms, oldest first.
    pub(super) fn alarms(&self) -> &[(ModelName, Alarm)] {
        &self.alarms.all
    }

    /// Takes an outcome, unless it is here: then it is false. Its place, size and alarm are filled in.
    ///
    /// # Errors
    /// As [`Book::is_fresh`]; a write failed, and nothing was changed.
    pub(super) fn take(&mut self, mut kept: Kept, report: &OutcomeReport, told: Told<'_>) -> Result<bool, RpcError> {
        if !self.book.is_fresh(&kept)? {
            return Ok(false);
        }
        let now = kept.told_ms;
        // What could not be let go before has to be now: there is no more room than that.
        self.let_go(now)?;
        kept.place = self.book.next();
        let (watch, said) = self.book.heard(&kept);
        kept.alarm = said.map(|said| told(&said, watch.answers()));
        // The report first: what is listed has one.
        kept.bytes = files::write(&files::report_file(&self.home, kept.place), report).map_err(storage)?;
        files::write(&files::kept_file(&self.home, kept.place), &kept).map_err(storage)?;
        let (name, alarm) = (kept.name.clone(), kept.alarm.clone());
        self.book.put(kept, watch);
        if let Some(alarm) = alarm {
            self.alarms.add(&name, alarm);
            self.unsaved = true;
        }
        // The outcome is taken, whatever becomes of the rest.
        if let Err(error) = self.save_alarms().and_then(|()| self.let_go(now)) {
            tracing::warn!(error = error.message, "outcomes are not in order on disk: tried again with the next one");
        }
        Ok(true)
    }

    fn save_alarms(&mut self) -> Result<(), RpcError> {
        if self.unsaved {
            self.alarms.upto = self.book.next();
            files::write(&files::alarms_file(&self.home), &self.alarms).map_err(storage)?;
            self.unsaved = false;
        }
        Ok(())
    }

    /// Writes down which round answers the open alarms of a version.
    ///
    /// # Errors
    /// The write failed: they stay open.
    pub(super) fn answer(&mut self, name: &ModelName, version: u32, round: u64) -> Result<(), RpcError> {
        let mut after = Alarms { upto: self.book.next(), ..self.alarms.clone() };
        let open = after.all.iter_mut().filter(|(n, a)| n == name && a.version == version && a.round.is_none());
        open.for_each(|(_, alarm)| alarm.round = Some(round));
        files::write(&files::alarms_file(&self.home), &after).map_err(storage)?;
        (self.alarms, self.unsaved) = (after, false);
        Ok(())
    }

    /// Lets go what is too much: first it is written that it is not taken again, then it is deleted, then forgotten. What its alarm says
    /// must stand elsewhere before.
    fn let_go(&mut self, now: u64) -> Result<(), RpcError> {
        while let Some((place, pasts)) = self.book.surplus(now) {
            self.save_alarms()?;
            files::write(&files::pasts_file(&self.home), &pasts).map_err(storage)?;
            files::remove(&files::kept_file(&self.home, place)).map_err(storage)?;
            files::remove(&files::report_file(&self.home, place)).map_err(storage)?;
            self.book.let_go(place, pasts);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
