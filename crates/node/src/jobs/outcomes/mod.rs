//! Outcomes that callers send to the owner of a model: taken, kept, watched for drift, answered with a new round of grading.
//!
//! | module | owns |
//! |---|---|
//! | [`book`] | which are taken and which go; what the detectors make of them |
//! | [`files`] | where they lie on disk |
//! | [`state`] | disk and memory, changed in one step |
//! | [`show`] | what is shown of them to this node's user, a page at a time |
//! | [`send`] | this node's own, to the owners of the models it called |
//! | [`waiting`] | which of them wait, and which owner is tried when |
//! | [`revalidate`] | a new round for a version that an alarm is about |

mod book;
mod files;
mod revalidate;
mod send;
mod show;
mod state;
mod waiting;

pub(crate) use revalidate::keep_revalidated;
pub(crate) use send::keep_sent;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use zero2ai_chunk::open_sealed;
use zero2ai_clock::now_ms;
use zero2ai_ledger::Ledger;
use zero2ai_proto::{
    Digest, ModelName, NodeId,
    calls::{OutcomeCall, OutcomeTaken},
    decode, encode,
    ids::tagged_hash,
    limits::{CLOCK_SKEW_MS, OUTCOME_AGE_MS, OUTCOME_BYTES},
    local::Alarm,
    outcome::{CheckedOutcome, OutcomeInfo, OutcomeReport},
    rpc::{ErrorCode, RpcError},
    state::Rights,
};
use zero2ai_trust::drift;

use crate::{
    core::Core,
    serve::errors::{denied, internal, invalid, unavailable},
};
use book::{Kept, Shares};
use state::State;
use waiting::Waiting;

/// The outcomes of a node: those that came, the alarms about its models, and its own that wait.
pub(crate) struct Outcomes {
    home: PathBuf,
    /// Held while one is written, so that they stand on disk in the order in which the detectors heard of them.
    state: Arc<tokio::sync::Mutex<State>>,
    /// The alarms as they were last, for who must not wait for a disk.
    alarms: Arc<Mutex<Vec<(ModelName, Alarm)>>>,
    /// Held while this node's own are sent: one at a time.
    sending: tokio::sync::Mutex<()>,
    /// Never held while anything is awaited.
    waiting: Arc<Mutex<Waiting>>,
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outcomes {
    /// Reads what is on disk.
    pub(crate) fn open(home: &Path) -> Self {
        let state = State::open(home, Shares::default());
        let alarms = Arc::new(Mutex::new(state.alarms().to_vec()));
        Self {
            home: home.to_owned(),
            state: Arc::new(tokio::sync::Mutex::new(state)),
            alarms,
            sending: tokio::sync::Mutex::default(),
            waiting: Arc::new(Mutex::new(Waiting::open(home))),
        }
    }

    fn alarms(&self) -> MutexGuard<'_, Vec<(ModelName, Alarm)>> {
        locked(&self.alarms)
    }

    /// Changes disk and memory on a thread that may wait for the disk. Who drops this future does not stop a change that has begun, and
    /// the next one waits for its end.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, RpcError> + Send + 'static,
    ) -> Result<T, RpcError> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let alarms = Arc::clone(&self.alarms);
        let work = move || {
            let done = work(&mut state);
            *locked(&alarms) = state.alarms().to_vec();
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(internal)?
    }
}

/// Accounts whose word it takes to open a round of a model of `owner`: [`drift::ENOUGH`], or as many others as may call.
fn needed(ledger: &Ledger, owner: &NodeId) -> u32 {
    let callers = ledger.members().filter(|(id, member)| id != owner && member.rights.has(Rights::USER));
    let callers = u32::try_from(callers.take(drift::ENOUGH as usize).count()).unwrap_or(drift::ENOUGH);
    callers.max(1)
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
        let kept = Kept {
            place: 0,
            receipt: outcome.receipt,
            said,
            account,
            name: request.name,
            version: request.version,
            provider: request.provider,
            answered_ms: response.time_ms,
            told_ms: now_ms(),
            truths: outcome.truths,
            rows,
            has_input: report.shown.input.is_some(),
            bytes: 0,
            alarm: None,
        };
        let (height, needed) = self.chain.read(|l| (l.height(), needed(l, &self.id)));
        let work = move |state: &mut State| {
            let (name, version) = (kept.name.clone(), kept.version);
            let told = |said: &drift::Alarm, rows| alarm(&name, version, said, (height, rows, needed));
            state.take(kept, &report, &told)
        };
        Ok(OutcomeTaken { fresh: self.outcomes.change(work).await? })
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

/// The detectors' word about a version at a height, after so many rows; with how many accounts it takes to open a round.
fn alarm(name: &ModelName, version: u32, said: &drift::Alarm, (height, rows, needed): (u64, u64, u32)) -> Alarm {
    let detectors = [said.adwin.then_some("adwin"), said.ddm.then_some("ddm")];
    let detector = detectors.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let (before_ppm, after_ppm, accounts) = (millionths(said.before), millionths(said.after), said.accounts);
    tracing::warn!(
        %name, version, detector, before_ppm, after_ppm, accounts,
        "callers' outcomes say that a model answers worse than it did: see 'zero2ai outcomes'"
    );
    Alarm { version, time_ms: now_ms(), height, detector, rows, before_ppm, after_ppm, round: None, accounts, needed }
}
