//! This node's own outcomes on their way to the owners of the models it called. What an owner cannot take now is kept, and sent when it
//! is there again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zero2ai_chunk::{Sealed, seal_to};
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    NodeId, Signed,
    calls::{OutcomeCall, OutcomeTaken, TellOutcome},
    encode,
    keys::random_bytes,
    limits::{OUTCOME_AGE_MS, OUTCOME_BYTES},
    local::{OutcomeSendCall, OutcomeSent},
    outcome::{Outcome, OutcomeInfo, OutcomeReport},
    rpc::{ErrorCode, RpcError},
    state::Rights,
};
use zero2ai_rpc::CallError;

use super::{files, locked, storage, waiting::Waits};
use crate::{
    core::Core,
    serve::errors::{denied, internal, invalid, not_found},
};

/// Patience with one owner for one outcome.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether an owner of those that wait is to be tried.
const EVERY: Duration = Duration::from_secs(2);

/// What became of one try.
enum Tried {
    Taken(OutcomeTaken),
    /// The owner will never take it.
    Refused(RpcError),
    /// The owner is there, and may take it later.
    Later(String),
    /// It cannot be reached.
    Away(String),
}

impl Core {
    /// Signs what was true of a call of this node's account, and sends it; kept if the owner is away.
    pub(crate) async fn send_outcome(&self, call: OutcomeSendCall) -> Result<OutcomeSent, RpcError> {
        let OutcomeSendCall { receipt, truths, shown } = call;
        if receipt.request.signer() != self.id {
            return Err(denied("another account made this call: only it can say what was true of it"));
        }
        let id = receipt.id().map_err(internal)?;
        let outcome = Outcome { receipt: id, truths, time_ms: now_ms() };
        let outcome = Signed::sign(&outcome, &self.pool, &self.key).map_err(invalid)?;
        let report = OutcomeReport::new(outcome, receipt, shown);
        let checked = report.check(&self.pool).map_err(invalid)?;
        let length = encode(&report).map_err(internal)?.len();
        if length > OUTCOME_BYTES {
            return Err(invalid(format!(
                "it takes {length} bytes and {OUTCOME_BYTES} are possible: send it without its input"
            )));
        }
        let name = checked.request.name;
        let model = self.chain.read(|l| l.model(&name));
        let owner = model.ok_or_else(|| not_found(format!("there is no model {name} on the ledger")))?.owner;
        let _turn = self.outcomes.sending.lock().await;
        let (fresh, why) = match self.try_outcome(&owner, &report).await {
            Tried::Taken(taken) => {
                // What else waits for it goes next.
                locked(&self.outcomes.waiting).owners.remove(&owner);
                (Some(taken.fresh), None)
            }
            Tried::Refused(error) => return Err(error),
            tried @ (Tried::Later(_) | Tried::Away(_)) => {
                let path = files::out_folder(&self.home).join(format!("{id}.cbor"));
                self.keep_waiting(path.clone(), report).await?;
                (None, self.in_vain(tried, owner, path))
            }
        };
        let waiting = u32::try_from(locked(&self.outcomes.waiting).len()).unwrap_or(u32::MAX);
        Ok(OutcomeSent { owner, fresh, why, waiting })
    }

    /// Lets an owner rest that was away, or an outcome that it does not take yet; gives why.
    fn in_vain(&self, tried: Tried, owner: NodeId, path: PathBuf) -> Option<String> {
        let share = random_bytes::<1>().map_or(0.5, |[byte]| f64::from(byte) / 255.0);
        let (mut waiting, now) = (locked(&self.outcomes.waiting), Instant::now());
        match tried {
            Tried::Taken(_) | Tried::Refused(_) => None,
            Tried::Later(why) => {
                waiting.owners.remove(&owner);
                waiting.each.add(path, now, share);
                Some(why)
            }
            Tried::Away(why) => {
                waiting.owners.add(owner, now, share);
                Some(why)
            }
        }
    }

    async fn keep_waiting(&self, path: PathBuf, report: OutcomeReport) -> Result<(), RpcError> {
        locked(&self.outcomes.waiting).room_for(&path)?;
        let name = report.receipt.request.read_unverified().map_err(invalid)?.name;
        let waits = Waits { since_ms: now_ms(), report };
        let waiting = Arc::clone(&self.outcomes.waiting);
        // On that thread both, since who asked may go away meanwhile.
        self.blocking(move || {
            let bytes = files::write(&path, &waits).map_err(storage)?;
            locked(&waiting).add(path, name, bytes);
            Ok(())
        })
        .await
    }

    /// Seals a report to its owner as of now, and sends it.
    async fn try_outcome(&self, owner: &NodeId, report: &OutcomeReport) -> Tried {
        if *owner == self.id {
            return match self.take_outcome(&self.id, report.clone()).await {
                Ok(taken) => Tried::Taken(taken),
                Err(error) if is_final(error.code) => Tried::Refused(error),
                Err(error) => Tried::Later(error.to_string()),
            };
        }
        let Some(member) = self.chain.read(|l| l.member(owner)).filter(|m| m.rights != Rights::default()) else {
            return Tried::Later("the model's owner is no member of the pool, as far as this node knows".to_owned());
        };
        let sealed = || -> Result<OutcomeCall, String> {
            let info = encode(&OutcomeInfo::new(self.pool, self.id, *owner)).map_err(|e| e.to_string())?;
            let bytes = encode(report).map_err(|e| e.to_string())?;
            let Sealed { encapsulated, ciphertext } =
                seal_to(&bytes, &member.sealing_key, &info).map_err(|e| e.to_string())?;
            Ok(OutcomeCall { encapsulated, ciphertext })
        };
        let call = match sealed() {
            Ok(call) => call,
            Err(why) => return Tried::Refused(internal(why)),
        };
        let answer = tokio::time::timeout(PATIENCE, self.roads.call::<TellOutcome>(owner, &call, PATIENCE)).await;
        match answer {
            Ok(Ok(taken)) => Tried::Taken(taken),
            Ok(Err(CallError::Remote(error))) if is_final(error.code) => Tried::Refused(error),
            Ok(Err(CallError::Remote(error))) => Tried::Later(error.to_string()),
            Ok(Err(error)) => Tried::Away(error.to_string()),
            Err(_) => Tried::Away(format!("no answer within {PATIENCE:?}")),
        }
    }

    /// Tries what waits for owners that do not rest, each owner until it turns out to be away.
    async fn send_waiting(&self) -> Result<(), RpcError> {
        let all = locked(&self.outcomes.waiting).all();
        for (path, name) in all {
            // One at a time, so that a command waits for one only.
            let _turn = self.outcomes.sending.lock().await;
            let owner = self.chain.read(|l| l.model(&name)).map(|model| model.owner);
            let now = Instant::now();
            if locked(&self.outcomes.waiting).each.has(&path, now) {
                continue;
            }
            // A ledger that is fetched anew knows no model yet: what waits stays.
            let Some(owner) = owner else {
                locked(&self.outcomes.waiting).each.add(path, now, 0.5);
                continue;
            };
            if locked(&self.outcomes.waiting).owners.has(&owner, now) {
                continue;
            }
            let given_up = self.again(&path, owner).await;
            let Some(why) = given_up else { continue };
            if !why.is_empty() {
                tracing::warn!(file = %path.display(), why, "an outcome that waited is given up");
            }
            let gone = path.clone();
            let removed = self.blocking(move || files::remove(&gone).map_err(storage)).await;
            let mut waiting = locked(&self.outcomes.waiting);
            match removed {
                Ok(()) => waiting.remove(&path),
                // It must not hold up what else waits.
                Err(error) => {
                    tracing::warn!(file = %path.display(), error = error.message, "an outcome that waits no longer is not deleted");
                    waiting.each.add(path, now, 0.5);
                }
            }
        }
        Ok(())
    }

    /// Sends one that waits; `Some` once it waits no longer, with why if it was not taken.
    async fn again(&self, path: &Path, owner: NodeId) -> Option<String> {
        let from = path.to_owned();
        let Waits { since_ms, report } = match self.blocking(move || Waits::read(&from).map_err(storage)).await {
            Ok(waits) => waits,
            // A disk that cannot be read now may be read at the next start. It must not hold up what else waits for that owner.
            Err(error) => {
                tracing::warn!(file = %path.display(), error = error.message, "an outcome that waits is not read");
                locked(&self.outcomes.waiting).remove(path);
                return None;
            }
        };
        if now_ms().saturating_sub(since_ms) > OUTCOME_AGE_MS {
            return Some("its owner was away for thirty days".to_owned());
        }
        match self.try_outcome(&owner, &report).await {
            Tried::Taken(_) => {
                locked(&self.outcomes.waiting).owners.remove(&owner);
                Some(String::new())
            }
            Tried::Refused(error) => Some(error.message),
            tried @ (Tried::Later(_) | Tried::Away(_)) => {
                self.in_vain(tried, owner, path.to_owned());
                None
            }
        }
    }
}

/// True of refusals that sending it again does not change. A denial may end: rights, owners and pool keys change, and the owner's ledger may be
/// behind.
const fn is_final(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Invalid | ErrorCode::Unsupported)
}

/// Sends what waits, until `stop`.
pub(crate) async fn keep_sent(core: Arc<Core>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let done = tokio::select! {
            () = stop.cancelled() => return,
            done = core.send_waiting() => done,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "outcomes that wait are not sent");
        }
    }
}
