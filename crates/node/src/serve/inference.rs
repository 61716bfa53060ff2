//! Predictions. The order is what makes a receipt worth something: the caller's signature is checked before anything
//! runs, and the provider's answer leaves only after its receipt is on disk.

use std::{sync::Arc, time::Duration};

use zero2ai_proto::{
    Signed,
    calls::{DescribeCall, PredictCall, Predicted, Prepared},
    encode,
    limits::{CLOCK_SKEW_MS, REQUEST_HORIZON_MS, TENSORS},
    manifest::Task,
    receipt::{Receipt, Request, Response, Status, commit, request_hash},
    rpc::{ErrorCode, RpcError},
    state::Rights,
    tensor::{self, Tensor},
    worker::ModelInfo,
};

use crate::{
    clock::now_ms,
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
    pub(super) serving: Arc<Serving>,
    /// Until the request's deadline.
    pub(super) left: Duration,
    _place: Place,
}

/// Checks everything about a request but its input's shape. `input` is what the request committed to; `text` tells a
/// generation from a prediction.
pub(super) fn admit(
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
    let serving = core.models.get(&request.name, request.version).filter(|s| s.held.manifest == request.manifest);
    let serving = serving.ok_or_else(|| {
        not_found(format!("{}@{} is not served here: resolve the name again", request.name, request.version))
    })?;
    if text != matches!(serving.info.task, Task::Generate { .. }) {
        let how = match serving.info.task {
            Task::Embed { .. } => "embeds texts: use embed",
            _ if text => "takes tensors: use predict",
            _ => "writes text: use run",
        };
        return Err(invalid(format!("{}@{} {how}", request.name, request.version)));
    }
    if core.chain.read(|l| l.version(&request.name, request.version)).is_none_or(|v| v.withdrawn) {
        return Err(not_found(format!("{}@{} was withdrawn by its owner", request.name, request.version)));
    }
    // The place first: a request that only hears `Busy` is not used up.
    let place = serving.enter().ok_or_else(busy)?;
    spent.take(account, &request, now_ms())?;
    let left = Duration::from_millis(request.deadline_ms.saturating_sub(now_ms()));
    Ok(Admitted { signed, salt, serving, left, _place: place })
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
    /// Signs the provider's half.
    pub(super) fn respond(
        &self,
        core: &Core,
        output: &[u8],
        units: u64,
        status: Status,
    ) -> Result<Signed<Response>, RpcError> {
        let request = request_hash(&self.signed).map_err(internal)?;
        let commitment = commit(&self.salt, output);
        let response = Response { request, commitment, units, status, time_ms: now_ms() };
        Signed::sign(&response, &core.pool, &core.key).map_err(internal)
    }

    /// Puts the receipt on disk.
    pub(super) async fn keep(&self, core: &Core, response: &Signed<Response>) -> Result<(), RpcError> {
        core.receipts.append(&Receipt { request: self.signed.clone(), response: response.clone() }).await
    }

    /// Turns a dead worker into an error that sends the caller elsewhere, and lets the keeper start another.
    pub(super) fn failed(&self, core: &Core, error: zero2ai_engine::EngineError) -> RpcError {
        if self.serving.is_dead() {
            core.models.remove(&self.serving.held.name, self.serving.held.version);
        }
        engine_error(error)
    }
}

fn busy() -> RpcError {
    RpcError::new(ErrorCode::Busy, "this node has as much work on this model as it takes: ask another, or later")
}

/// What is served here under a name and version.
fn served(core: &Core, call: &DescribeCall) -> Result<Arc<Serving>, RpcError> {
    let serving = core.models.get(&call.name, call.version);
    serving.ok_or_else(|| not_found(format!("{}@{} is not served here", call.name, call.version)))
}

pub(super) fn describe(core: &Core, call: &DescribeCall) -> Result<ModelInfo, RpcError> {
    served(core, call).map(|s| s.info.clone())
}

pub(super) fn prepare(core: &Core, call: &DescribeCall) -> Result<Prepared, RpcError> {
    served(core, call).map(|s| Prepared { preparation: s.preparation.clone() })
}

pub(super) async fn predict(core: &Core, spent: &Spent, call: PredictCall) -> Result<Predicted, RpcError> {
    if call.inputs.is_empty() || call.inputs.len() > TENSORS {
        return Err(invalid(format!("{} input tensors; 1 to {TENSORS} are allowed", call.inputs.len())));
    }
    call.inputs.iter().try_for_each(Tensor::check).map_err(invalid)?;
    let input = encode(&call.inputs).map_err(internal)?;
    let admitted = admit(core, spent, call.request, &call.salt, &input, false)?;
    let units = tensor::units(&call.inputs);
    let outputs = admitted
        .serving
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
