//! Outcomes that callers send to the owner of a model: taken, kept, watched for drift, answered with a new round of grading.
//!
//! | module | owns |
//! |---|---|
//! | [`book`] | which are taken and which go; what the detectors make of them |
//! | [`files`] | where they lie on disk |
//! | [`send`] | this node's own, to the owners of the models it called |
//! | [`revalidate`] | a new round for a version that an alarm is about |

mod book;
mod files;
mod revalidate;
mod send;

pub(crate) use revalidate::keep_revalidated;
pub(crate) use send::keep_sent;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use zero2ai_chunk::open_sealed;
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    Digest, ModelName, NodeId,
    calls::{OutcomeCall, OutcomeTaken},
    decode, encode,
    ids::tagged_hash,
    keys::AccountId,
    limits::{CLOCK_SKEW_MS, OUTCOME_AGE_MS, OUTCOME_BYTES},
    local::{Alarm, OutcomesItem, ToldOutcome, VersionOutcomes},
    outcome::{CheckedOutcome, OutcomeInfo, OutcomeReport},
    rpc::{ErrorCode, RpcError},
    state::Rights,
};
use zero2ai_trust::drift;

use crate::{
    core::Core,
    serve::errors::{denied, internal, invalid, not_found, unavailable},
};
use book::{Book, Kept, Shares};

/// Alarms that are kept: the newest.
const ALARMS: usize = 256;

/// The outcomes of a node: those that came, and the alarms about its models.
pub(crate) struct Outcomes {
    home: PathBuf,
    /// Held while one is written, so that they stand on disk in the order in which the detectors heard of them.
    book: tokio::sync::Mutex<Book>,
    alarms: Mutex<Vec<(ModelName, Alarm)>>,
    /// Held while this node's own are sent: one at a time.
    sending: tokio::sync::Mutex<()>,
}

fn storage(why: impl std::fmt::Display) -> RpcError {
    RpcError::new(ErrorCode::Storage, format!("an outcome could not be kept: {why}"))
}

fn millionths(share: f64) -> u32 {
    // A share is within 0 and 1: what is left of it fits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let ppm = (share.clamp(0.0, 1.0) * 1e6).round() as u32;
    ppm
}

impl Outcomes {
    /// Reads what is on disk. What is damaged is told and left out: these are hints, not the ledger.
    pub(crate) fn open(home: &Path) -> Self {
        let floors: Vec<(AccountId, u64)> = files::read_small(&files::floors_file(home));
        let mut book = Book::new(Shares::default(), floors.into_iter().collect());
        for path in files::list(&files::kept_folder(home), "cbor") {
            match files::read::<Kept>(&path, OUTCOME_BYTES) {
                Ok(kept) => drop(book.add(kept)),
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
        let alarms = files::read_small(&files::alarms_file(home));
        let book = tokio::sync::Mutex::new(book);
        Self { home: home.to_owned(), book, alarms: Mutex::new(alarms), sending: tokio::sync::Mutex::default() }
    }

    fn alarms(&self) -> MutexGuard<'_, Vec<(ModelName, Alarm)>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the alarms, on disk first.
    fn change_alarms(&self, change: impl FnOnce(&mut Vec<(ModelName, Alarm)>)) -> Result<(), RpcError> {
        let mut alarms = self.alarms();
        let mut after = alarms.clone();
        change(&mut after);
        let surplus = after.len().saturating_sub(ALARMS);
        after.drain(..surplus);
        files::write(&files::alarms_file(&self.home), &after).map_err(storage)?;
        *alarms = after;
        Ok(())
    }
}

impl Core {
    /// Takes an outcome that a member sealed to this node.
    pub(crate) async fn take_sealed_outcome(&self, peer: &NodeId, call: OutcomeCall) -> Result<OutcomeTaken, RpcError> {
        if call.ciphertext.len() > OUTCOME_BYTES.saturating_add(64) {
            return Err(invalid(format!(
                "the outcome is longer than {OUTCOME_BYTES} bytes: send it without its input"
            )));
        }
        let info = encode(&OutcomeInfo::new(self.pool, *peer, self.id)).map_err(internal)?;
        let sealing = self.sealing.clone();
        let report = self
            .blocking(move || {
                let bytes = open_sealed(&call.encapsulated, &call.ciphertext, &sealing, &info).map_err(|_| {
                    invalid("the outcome is not sealed by its sender to this node: look up its sealing key anew")
                })?;
                decode::<OutcomeReport>(&bytes, OUTCOME_BYTES).map_err(invalid)
            })
            .await?;
        self.take_outcome(peer, report).await
    }

    /// Takes an outcome that `peer` brings: returns once it is on disk.
    async fn take_outcome(&self, peer: &NodeId, report: OutcomeReport) -> Result<OutcomeTaken, RpcError> {
        let pool = self.pool;
        let (report, checked) =
            self.blocking(move || report.check(&pool).map(|checked| (report, checked)).map_err(invalid)).await?;
        self.admit_outcome(peer, &checked)?;
        // Of what was said, and not of when: who repeats himself after a lost answer says the same.
        let truths = encode(&checked.outcome.truths).map_err(internal)?;
        let said = Digest(tagged_hash("zero2ai outcome truths v1", &truths));
        let CheckedOutcome { account, request, response, outcome, rows } = checked;
        let mut book = self.outcomes.book.lock().await;
        let now = now_ms();
        if !book.is_fresh(&account, (&outcome.receipt, &said), response.time_ms, now)? {
            return Ok(OutcomeTaken { fresh: false });
        }
        let mut kept = Kept {
            place: book.next(),
            receipt: outcome.receipt,
            said,
            account,
            name: request.name,
            version: request.version,
            provider: request.provider,
            answered_ms: response.time_ms,
            told_ms: now,
            truths: outcome.truths,
            rows,
            has_input: report.input.is_some(),
            bytes: 0,
        };
        let home = self.outcomes.home.clone();
        let kept = self
            .blocking(move || {
                // The report first: what is listed has one.
                kept.bytes = files::write(&files::report_file(&home, kept.place), &report).map_err(storage)?;
                files::write(&files::kept_file(&home, kept.place), &kept).map_err(storage)?;
                Ok(kept)
            })
            .await?;
        let (name, version) = (kept.name.clone(), kept.version);
        if let Some(alarm) = book.add(kept) {
            let heard = book.watch(&name, version).map_or(0, drift::Watch::answers);
            self.alarm(&name, version, alarm, heard)?;
        }
        self.drop_surplus(&mut book).await?;
        Ok(OutcomeTaken { fresh: true })
    }

    /// Whose outcomes are taken, and of which calls.
    fn admit_outcome(&self, peer: &NodeId, checked: &CheckedOutcome) -> Result<(), RpcError> {
        let CheckedOutcome { account, request, response, .. } = checked;
        if account != peer {
            return Err(denied("an outcome is taken from the account alone that made the call"));
        }
        let (name, version) = (&request.name, request.version);
        let (model, entry, served) =
            self.chain.read(|l| (l.model(name), l.version(name, version), l.member(&request.provider)));
        if model.is_some_and(|model| model.owner != self.id) {
            return Err(denied(format!("this node does not own {name}")));
        }
        // Its own ledger may be a block behind: to be tried again.
        let entry = entry.ok_or_else(|| unavailable(format!("{name}@{version} is not on the ledger here")))?;
        if entry.manifest != request.manifest {
            return Err(invalid(format!("the call was not answered by {name}@{version}")));
        }
        // Who has no rights left may have lost his key; a newcomer may not be on the ledger here yet: to be tried again.
        if served.is_none_or(|member| member.rights == Rights::default()) {
            return Err(unavailable("the call was not answered by a member of the pool, as far as this node knows"));
        }
        // Nobody answers himself: such a receipt anyone can make. The owner may; the model is his.
        if request.provider == *peer && request.provider != self.id {
            return Err(invalid("the call was answered by its own caller"));
        }
        let now = now_ms();
        if response.time_ms > now.saturating_add(CLOCK_SKEW_MS)
            || response.time_ms < request.time_ms.saturating_sub(CLOCK_SKEW_MS)
        {
            return Err(invalid("the receipt's times are impossible"));
        }
        if now.saturating_sub(response.time_ms) > OUTCOME_AGE_MS {
            return Err(invalid("the call is older than thirty days"));
        }
        Ok(())
    }

    fn alarm(&self, name: &ModelName, version: u32, said: drift::Alarm, rows: u64) -> Result<(), RpcError> {
        let height = self.chain.read(zero2ai_ledger::Ledger::height);
        let detectors = [said.adwin.then_some("adwin"), said.ddm.then_some("ddm")];
        let detector = detectors.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let (before_ppm, after_ppm) = (millionths(said.before), millionths(said.after));
        tracing::warn!(
            %name, version, detector, before_ppm, after_ppm,
            "callers' outcomes say that a model answers worse than it did: see 'zero2ai outcomes'"
        );
        let alarm = Alarm { version, time_ms: now_ms(), height, detector, rows, before_ppm, after_ppm, round: None };
        self.outcomes.change_alarms(|alarms| {
            // One that nothing has answered yet is brought up to date: nobody's are pushed out by another's repetition.
            let open = |(n, a): &&mut (ModelName, Alarm)| n == name && a.version == version && a.round.is_none();
            match alarms.iter_mut().find(open) {
                Some((_, old)) => *old = alarm,
                None => alarms.push((name.clone(), alarm)),
            }
        })
    }

    /// Lets go what is too much: first it is written that it is not taken again, then it is deleted.
    async fn drop_surplus(&self, book: &mut Book) -> Result<(), RpcError> {
        while let Some(place) = book.drop_one() {
            let floors: Vec<(AccountId, u64)> = book.floors().iter().map(|(a, f)| (*a, *f)).collect();
            let home = self.outcomes.home.clone();
            self.blocking(move || {
                files::write(&files::floors_file(&home), &floors).map_err(storage)?;
                files::remove(&files::kept_file(&home, place)).map_err(storage)?;
                files::remove(&files::report_file(&home, place)).map_err(storage)
            })
            .await?;
        }
        Ok(())
    }

    /// What the outcomes of a model come to: a line a version.
    pub(crate) async fn outcome_versions(&self, name: &ModelName) -> Result<Vec<VersionOutcomes>, RpcError> {
        if self.chain.read(|l| l.model(name)).is_none_or(|model| model.owner != self.id) {
            return Err(not_found(format!("this node owns no model {name}: outcomes are sealed to a model's owner")));
        }
        let book = self.outcomes.book.lock().await;
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        for kept in book.of(name) {
            let count = counts.entry(kept.version).or_default();
            *count = count.saturating_add(1);
        }
        let line = |(version, watch): (u32, &drift::Watch)| {
            // A window is a count of rows: whole, and far below 2^53.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let window = watch.window() as u64;
            VersionOutcomes {
                version,
                outcomes: counts.get(&version).copied().unwrap_or_default(),
                rows: watch.answers(),
                wrong: watch.wrong(),
                late_ppm: millionths(watch.late()),
                window,
                warned: watch.warned(),
                alarms: self
                    .outcomes
                    .alarms()
                    .iter()
                    .filter(|(n, a)| n == name && a.version == version)
                    .map(|(_, a)| a.clone())
                    .collect(),
            }
        };
        Ok(book.watches(name).map(line).collect())
    }

    /// The outcomes of a model, one after the other.
    pub(crate) async fn outcome_places(&self, name: &ModelName) -> Vec<u64> {
        self.outcomes.book.lock().await.of(name).map(|kept| kept.place).collect()
    }

    /// One of them; `None` if it is gone meanwhile.
    pub(crate) async fn told_outcome(&self, place: u64, inputs: bool) -> Result<Option<OutcomesItem>, RpcError> {
        let home = self.outcomes.home.clone();
        self.blocking(move || {
            let Ok(kept) = files::read::<Kept>(&files::kept_file(&home, place), OUTCOME_BYTES) else { return Ok(None) };
            let report = || files::read::<OutcomeReport>(&files::report_file(&home, place), OUTCOME_BYTES);
            let input = if inputs && kept.has_input { report().map_err(storage)?.input } else { None };
            Ok(Some(OutcomesItem::Outcome(Box::new(ToldOutcome {
                receipt: kept.receipt,
                account: kept.account,
                provider: kept.provider,
                version: kept.version,
                answered_ms: kept.answered_ms,
                told_ms: kept.told_ms,
                truths: kept.truths,
                rows: kept.rows,
                has_input: kept.has_input,
                input,
            }))))
        })
        .await
    }

    /// Current versions of this node's models that an alarm is about which nothing has answered yet.
    pub(crate) fn unanswered_alarms(&self) -> Vec<(ModelName, u32)> {
        let alarms = self.outcomes.alarms().clone();
        let mut list: Vec<(ModelName, u32)> = self.chain.read(|l| {
            let open = alarms.into_iter().filter(|(name, alarm)| revalidate::is_open(l, &self.id, name, alarm));
            open.map(|(name, alarm)| (name, alarm.version)).collect()
        });
        list.sort();
        list.dedup();
        list
    }
}
