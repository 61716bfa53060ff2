//! This node's own outcomes on their way to the owners of the models it called. What an owner cannot take now is kept, and sent when it
//! is there again.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use zero2ai_chunk::{Sealed, seal_to};
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    NodeId, Signed,
    calls::{OutcomeCall, OutcomeTaken, TellOutcome},
    encode,
    limits::{OUTCOME_AGE_MS, OUTCOME_BYTES},
    local::{OutcomeSendCall, OutcomeSent},
    outcome::{Outcome, OutcomeInfo, OutcomeReport},
    rpc::{ErrorCode, RpcError},
    state::Rights,
};
use zero2ai_rpc::CallError;

use super::{files, storage};
use crate::{
    core::Core,
    serve::errors::{denied, internal, invalid, not_found},
};

/// Outcomes that wait here at most, over all owners: more are refused.
const WAITING: usize = 1_000;
/// Bytes of them.
const WAITING_BYTES: u64 = 256 * 1024 * 1024;
/// Patience with one owner for one outcome.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often those that wait are tried again.
const EVERY: Duration = Duration::from_secs(5);

/// One that waits.
#[derive(Serialize, Deserialize)]
struct Waiting {
    since_ms: u64,
    report: OutcomeReport,
}

/// What became of one try.
enum Tried {
    Taken(OutcomeTaken),
    /// The owner will never take it.
    Refused(RpcError),
    /// It may take it later.
    Away(String),
}

impl Core {
    /// Signs what was true of a call of this node's account, and sends it; kept if the owner is away.
    pub(crate) async fn send_outcome(&self, call: OutcomeSendCall) -> Result<OutcomeSent, RpcError> {
        let OutcomeSendCall { receipt, truths, salt, input, output } = call;
        if receipt.request.signer() != self.id {
            return Err(denied("another account made this call: only it can say what was true of it"));
        }
        let id = receipt.id().map_err(internal)?;
        let outcome = Outcome { receipt: id, truths, time_ms: now_ms() };
        let outcome = Signed::sign(&outcome, &self.pool, &self.key).map_err(invalid)?;
        let report = OutcomeReport::new(outcome, receipt, salt, input, output);
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
        match self.try_outcome(&owner, &report).await {
            Tried::Taken(taken) => {
                Ok(OutcomeSent { owner, fresh: Some(taken.fresh), why: None, waiting: self.waiting_outcomes().await })
            }
            Tried::Refused(error) => Err(error),
            Tried::Away(why) => {
                self.keep_waiting(files::out_folder(&self.home).join(format!("{id}.cbor")), report).await?;
                Ok(OutcomeSent { owner, fresh: None, why: Some(why), waiting: self.waiting_outcomes().await })
            }
        }
    }

    async fn waiting_outcomes(&self) -> u32 {
        let folder = files::out_folder(&self.home);
        let count = self.blocking(move || Ok(files::list(&folder, "cbor").len())).await.unwrap_or_default();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    async fn keep_waiting(&self, path: PathBuf, report: OutcomeReport) -> Result<(), RpcError> {
        let folder = files::out_folder(&self.home);
        self.blocking(move || {
            let all = files::list(&folder, "cbor");
            let bytes = |p: &PathBuf| p.metadata().map_or(0, |m| m.len());
            if !all.contains(&path) && (all.len() >= WAITING || all.iter().map(bytes).sum::<u64>() >= WAITING_BYTES) {
                let why = format!("{} outcomes wait here already, which is as many as there may be", all.len());
                return Err(RpcError::new(ErrorCode::Busy, why));
            }
            files::write(&path, &Waiting { since_ms: now_ms(), report }).map(drop).map_err(storage)
        })
        .await
    }

    /// Seals a report to its owner as of now, and sends it.
    async fn try_outcome(&self, owner: &NodeId, report: &OutcomeReport) -> Tried {
        if *owner == self.id {
            return match self.take_outcome(&self.id, report.clone()).await {
                Ok(taken) => Tried::Taken(taken),
                Err(error) => Tried::Refused(error),
            };
        }
        let Some(member) = self.chain.read(|l| l.member(owner)).filter(|m| m.rights != Rights::default()) else {
            return Tried::Refused(not_found("the model's owner is no member of the pool any more"));
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
            Ok(Err(error)) => Tried::Away(error.to_string()),
            Err(_) => Tried::Away(format!("no answer within {PATIENCE:?}")),
        }
    }

    /// Tries what waits, each owner until it turns out to be away.
    async fn send_waiting(&self) -> Result<(), RpcError> {
        let folder = files::out_folder(&self.home);
        let paths = self.blocking(move || Ok(files::list(&folder, "cbor"))).await?;
        let mut away = BTreeSet::new();
        for path in paths {
            // One at a time, so that a command waits for one only.
            let _turn = self.outcomes.sending.lock().await;
            let from = path.clone();
            let read = self.blocking(move || files::read::<Waiting>(&from, 2 * OUTCOME_BYTES).map_err(storage)).await;
            let gone = match read {
                Ok(Waiting { since_ms, .. }) if now_ms().saturating_sub(since_ms) > OUTCOME_AGE_MS => {
                    Some("its owner was away for thirty days".to_owned())
                }
                Ok(Waiting { report, .. }) => self.again(&report, &mut away).await,
                // A disk that cannot be read now may be read later.
                Err(error) => {
                    tracing::warn!(file = %path.display(), error = error.message, "an outcome that waits is not read");
                    None
                }
            };
            if let Some(why) = gone {
                if !why.is_empty() {
                    tracing::warn!(file = %path.display(), why, "an outcome that waited is given up");
                }
                self.blocking(move || files::remove(&path).map_err(storage)).await?;
            }
        }
        Ok(())
    }

    /// Sends one that waits; `Some` once it waits no longer, with why if it was not taken.
    async fn again(&self, report: &OutcomeReport, away: &mut BTreeSet<NodeId>) -> Option<String> {
        let Ok(request) = report.receipt.request.read_unverified() else { return Some("it cannot be read".to_owned()) };
        let Some(model) = self.chain.read(|l| l.model(&request.name)) else {
            return Some("its model is gone".to_owned());
        };
        if away.contains(&model.owner) {
            return None;
        }
        match self.try_outcome(&model.owner, report).await {
            Tried::Taken(_) => Some(String::new()),
            Tried::Refused(error) => Some(error.message),
            Tried::Away(_) => {
                away.insert(model.owner);
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
