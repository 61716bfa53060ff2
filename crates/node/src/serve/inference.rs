//! Predictions. The order is what makes a receipt worth something: the caller's signature is checked before anything
//! runs, and the provider's answer leaves only after its receipt is on disk.

use std::{sync::Arc, time::Duration};

use zero2ai_clock::now_ms;
use zero2ai_proto::{
    Signed,
    calls::{DescribeCall, PredictCall, Predicted, Prepared},
    encode,
    limits::{CLOCK_SKEW_MS, REQUEST_HORIZON_MS, TENSORS},
    manifest::Task,
    prepare::Preparation,
    receipt::{Receipt, Request, Response, Status, commit, commit_output, request_hash},
    rpc::{ErrorCode, RpcError},
    state::Rights,
    tensor::{self, Tensor},
    worker::ModelInfo,
};

use crate::{
    core::Core,
    models::{Place, Serving},
    serve::{
        errors::{denied, engine_error, internal, invalid, not_found},
        spent::Spent,
    },
};

/// A request that may be run.
pub(super) struct Admitted {
    pub(super) signed: Signed<Request>,
    pub(super) salt: [u8; 32],
    /// Until the request's deadline.
    pub(super) left: Duration,
    place: Place,
}

/// Checks everything about a request but its input's shape, and loads its model if that is not in memory. `input` is what the
/// request committed to; `text` tells a generation from a prediction.
pub(super) async fn admit(
    core: &Core,
    spent: &Spent,
    signed: Signed<Request>,
    salt: &[u8],
    input: &[u8],
    text: bool,
) -> Result<Admitted, RpcError> {
    let request = signed.verify(&core.pool).map_err(|e| invalid(format!("the request's signature: {e}")))?;
    let account = signed.signer();
    let rights = core.chain.read(|l| l.member(&account)).map_or(Rights(0), |m| m.rights);
    if !rights.has(Rights::USER) {
        return Err(denied("this account may not use models in the pool: ask an administrator for the right 'user'"));
    }
    if request.provider != core.id {
        return Err(invalid("the request names another provider"));
    }
    check_times(&request, now_ms())?;
    let salt = <[u8; 32]>::try_from(salt).map_err(|_| invalid("the salt must be 32 bytes"))?;
    if commit(&salt, input) != request.commitment {
        return Err(invalid("the request commits to another input than was sent"));
    }
    if core.chain.read(|l| l.version(&request.name, request.version)).is_none_or(|v| v.withdrawn) {
        return Err(not_found(format!("{}@{} was withdrawn by its owner", request.name, request.version)));
    }
    let key = (request.name.clone(), request.version);
    if core.models.to_serve(&key).is_none_or(|held| held.manifest != request.manifest) {
        let why = format!("{}@{} is not served here: resolve the name again", request.name, request.version);
        return Err(not_found(why));
    }
    // The place first: a request that only hears `Busy` is not used up.
    let mut place = core.place(&key, left(&request)).await?;
    let serving = place.serving();
    if text != matches!(serving.info.task, Task::Generate { .. }) {
        let how = match serving.info.task {
            Task::Embed { .. } => "embeds texts: use embed",
            _ if text => "takes tensors: use predict",
            _ => "writes text: use run",
        };
        return Err(invalid(format!("{}@{} {how}", request.name, request.version)));
    }
    spent.take(account, &request, now_ms())?;
    place.begin();
    let left = left(&request);
    Ok(Admitted { signed, salt, left, place })
}

/// Time until a request's deadline.
fn left(request: &Request) -> Duration {
    Duration::from_millis(request.deadline_ms.saturating_sub(now_ms()))
}

fn check_times(request: &Request, now: u64) -> Result<(), RpcError> {
    let skew = request.time_ms.abs_diff(now);
    if skew > CLOCK_SKEW_MS.saturating_add(REQUEST_HORIZON_MS) || request.time_ms > now.saturating_add(CLOCK_SKEW_MS) {
        let seconds = skew / 1000;
        let why =
            format!("the caller's clock and this node's differ by {seconds} s: set the clocks (NTP) and try again");
        return Err(RpcError::new(ErrorCode::Clock, why));
    }
    if request.deadline_ms <= now {
        return Err(RpcError::new(ErrorCode::Timeout, "the request's deadline has passed"));
    }
    if request.deadline_ms > now.saturating_add(REQUEST_HORIZON_MS).saturating_add(CLOCK_SKEW_MS) {
        return Err(invalid("the request's deadline is more than ten minutes away"));
    }
    Ok(())
}

impl Admitted {
    pub(super) fn serving(&self) -> &Arc<Serving> {
        self.place.serving()
    }

    /// Signs the provider's half.
    pub(super) fn respond(
        &self,
        core: &Core,
        output: &[u8],
        units: u64,
        status: Status,
    ) -> Result<Signed<Response>, RpcError> {
        let request = request_hash(&self.signed).map_err(internal)?;
        let commitment = commit_output(&self.salt, output);
        let response = Response { request, commitment, units, status, time_ms: now_ms() };
        Signed::sign(&response, &core.pool, &core.key).map_err(internal)
    }

    /// Puts the receipt on disk.
    pub(super) async fn keep(&self, core: &Core, response: &Signed<Response>) -> Result<(), RpcError> {
        core.receipts.append(&Receipt { request: self.signed.clone(), response: response.clone() }).await
    }

    /// Turns a dead worker into an error that sends the caller elsewhere, and lets the keeper start another.
    pub(super) fn failed(&self, core: &Core, error: zero2ai_engine::EngineError) -> RpcError {
        if self.serving().is_dead() {
            core.models.table.remove_dead(self.serving());
        }
        engine_error(error)
    }
}

/// Patience of who asks what a model is while that is loaded; the load goes on without them.
const LOOK: Duration = Duration::from_secs(60);

/// What a model takes and gives, and how callers prepare its input. Of one that was in memory before nothing needs to be loaded
/// to say so.
async fn facts(core: &Core, call: &DescribeCall) -> Result<(ModelInfo, Option<Preparation>), RpcError> {
    let key = (call.name.clone(), call.version);
    // Saying so is no call: it takes no place, and is no use that keeps a model in memory.
    if let Some(serving) = core.models.get(&call.name, call.version) {
        return Ok((serving.info.clone(), serving.preparation.clone()));
    }
    if core.models.is_served(&key)
        && let Some(known) = core.models.table.known(&key)
    {
        return Ok((known.info, known.preparation));
    }
    let place = core.place(&key, LOOK).await?;
    Ok((place.serving().info.clone(), place.serving().preparation.clone()))
}

pub(super) async fn describe(core: &Core, call: &DescribeCall) -> Result<ModelInfo, RpcError> {
    Ok(facts(core, call).await?.0)
}

pub(super) async fn prepare(core: &Core, call: &DescribeCall) -> Result<Prepared, RpcError> {
    Ok(Prepared { preparation: facts(core, call).await?.1 })
}

pub(super) async fn predict(core: &Core, spent: &Spent, call: PredictCall) -> Result<Predicted, RpcError> {
    if call.inputs.is_empty() || call.inputs.len() > TENSORS {
        return Err(invalid(format!("{} input tensors; 1 to {TENSORS} are allowed", call.inputs.len())));
    }
    call.inputs.iter().try_for_each(Tensor::check).map_err(invalid)?;
    let input = encode(&call.inputs).map_err(internal)?;
    let admitted = admit(core, spent, call.request, &call.salt, &input, false).await?;
    let units = tensor::units(&call.inputs);
    let outputs = admitted
        .serving()
        .worker
        .predict_within(call.inputs, admitted.left)
        .await
        .map_err(|e| admitted.failed(core, e))?;
    let output = encode(&outputs).map_err(internal)?;
    let response = admitted.respond(core, &output, units, Status::Complete)?;
    admitted.keep(core, &response).await?;
    Ok(Predicted { response, outputs })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::serve::spent::tests::request;

    #[test]
    fn a_clock_an_hour_off_is_told_as_such() {
        let (now, hour) = (1_800_000_000_000, 3_600_000);
        for caller in [now - hour, now + hour] {
            let error = check_times(&request(0, caller, caller + 30_000), now).unwrap_err();
            assert_eq!(error.code, ErrorCode::Clock);
            assert!(error.message.contains("3600 s"), "{}", error.message);
        }
        assert!(check_times(&request(0, now - 2_000, now + 30_000), now).is_ok());
        assert_eq!(check_times(&request(0, now - 2_000, now - 1), now).unwrap_err().code, ErrorCode::Timeout);
        assert_eq!(check_times(&request(0, now, now + hour), now).unwrap_err().code, ErrorCode::Invalid);
    }
}
