//! Runs an input again on this machine, so that its node's user can compare what comes out with what a provider signed. No
//! request is signed, no receipt is written and nothing is announced: it is nobody's use of the model but a check.

use std::time::Duration;

use zero2ai_engine::{GenEvent, Worker};
use zero2ai_proto::{
    ModelName,
    calls::GenerateInput,
    kept::{CallInput, CallOutput},
    limits::{REQUEST_HORIZON_MS, TENSORS},
    local::{RerunCall, RerunReport},
    rpc::RpcError,
    state::Version,
    tensor::Tensor,
};

use crate::{
    core::Core,
    jobs::{Tell, fetch::Watch, open::Opened, tell},
    models::Loaded,
    serve::{
        errors::{engine_error, internal, invalid},
        generate,
    },
};

/// As long as the call may have taken at its provider.
const PATIENCE: Duration = Duration::from_millis(REQUEST_HORIZON_MS);
/// The worker's name for who asks: pages kept of callers' texts are not used for a check, nor the other way round.
const CALLER: &[u8] = b"audit re-run";

impl Core {
    /// See the module. A version that is served here runs in its own worker; another one is fetched if it is not held, and
    /// loaded for this alone. A withdrawn one runs where it is held whole.
    pub(crate) async fn rerun(&self, call: RerunCall, progress: &Tell) -> Result<RerunReport, RpcError> {
        let RerunCall { name, version, manifest, input } = call;
        check(&input)?;
        let _using = self.upkeep.using().await;
        let entry = self.version(&name, version).await?;
        if entry.manifest != manifest {
            return Err(invalid(format!(
                "the ledger's {name}@{version} has another manifest than the call was answered by"
            )));
        }
        if let Some(place) = self.models.use_now(&name, version) {
            let serving = place.serving();
            tell(progress, "running it in the worker that serves it here", 0, 0);
            let output = run(&serving.worker, input).await?;
            return Ok(RerunReport { runtime: serving.info.runtime.clone(), output });
        }
        let opened = match entry.withdrawn {
            true => Some(self.open_withdrawn(&name, version, &entry).await?),
            false => self.bring(&name, version, None, Watch::steps(progress), true).await?.opened,
        };
        tell(progress, "loading it", 0, 0);
        let Loaded { worker, info, room, .. } = self.load_for_once(&name, version, &entry, opened).await?;
        tell(progress, "running it", 0, 0);
        let output = run(&worker, input).await;
        worker.stop().await;
        drop(room);
        Ok(RerunReport { runtime: info.runtime, output: output? })
    }

    /// What was withdrawn is given by nobody any more, neither chunks nor key: a check is made with what lies here.
    pub(super) async fn open_withdrawn(
        &self,
        name: &ModelName,
        version: u32,
        entry: &Version,
    ) -> Result<Opened, RpcError> {
        self.open_version(name, version, entry, None).await.map_err(|error| {
            let only = "so it is run again only on a node that still holds all of it, with its key";
            let why = format!("{name}@{version} was withdrawn by its owner, {only}: {}", error.message);
            RpcError::new(error.code, why)
        })
    }
}

/// The bounds of the call itself.
fn check(input: &CallInput) -> Result<(), RpcError> {
    match input {
        CallInput::Tensors(tensors) if tensors.is_empty() || tensors.len() > TENSORS => {
            Err(invalid(format!("{} input tensors; 1 to {TENSORS} are allowed", tensors.len())))
        }
        CallInput::Tensors(tensors) => tensors.iter().try_for_each(Tensor::check).map_err(invalid),
        CallInput::Text(input) => generate::check(input),
    }
}

async fn run(worker: &Worker, input: CallInput) -> Result<CallOutput, RpcError> {
    match input {
        CallInput::Tensors(inputs) => {
            worker.predict_within(inputs, PATIENCE).await.map(CallOutput::Tensors).map_err(engine_error)
        }
        CallInput::Text(input) => text(worker, input).await.map(CallOutput::Tokens),
    }
}

async fn text(worker: &Worker, input: GenerateInput) -> Result<Vec<u32>, RpcError> {
    let mut stream = worker.generate_within(CALLER, input, PATIENCE).await.map_err(engine_error)?;
    let mut tokens = Vec::new();
    while let Some(event) = stream.next().await {
        match event.map_err(engine_error)? {
            GenEvent::Token(piece) => tokens.push(piece.id),
            GenEvent::End { .. } => return Ok(tokens),
        }
    }
    Err(internal("the worker ended a stream without a word"))
}
