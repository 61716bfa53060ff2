//! A validator's job: fetch the version, run it on samples of its own in a worker, endorse what was found.

use std::path::PathBuf;

use zero2ai_engine::Worker;
use zero2ai_proto::{
    ModelRef,
    local::{ValidateCall, ValidateReport},
    manifest::Task,
    rpc::RpcError,
    state::Rights,
    tensor::Tensor,
    tx::TxBody,
};
use zero2ai_validator::{Dataset, Predictor};

use crate::{
    account::PATIENCE,
    core::Core,
    jobs::{
        Tell,
        demand::busy,
        fetch::{Brought, Watch},
        tell,
    },
    serve::errors::{denied, internal, invalid, not_found},
};

/// Bytes of a sample file.
const FILE_BYTES: u64 = 256 * 1024 * 1024;

struct Local<'a>(&'a Worker);

impl Predictor for Local<'_> {
    async fn predict(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        self.0.predict(inputs).await.map_err(|e| e.to_string())
    }
}

impl Core {
    /// The version number that a name stands for, by the ledger.
    pub(crate) fn pick_version(&self, name: &ModelRef) -> Result<u32, RpcError> {
        let found = self.chain.read(|l| l.resolve(name)).map(|(version, _)| version);
        found.ok_or_else(|| not_found(format!("no model '{name}' is on the ledger: is the name spelled right?")))
    }

    /// See the module.
    pub(crate) async fn validate(&self, call: ValidateCall, progress: &Tell) -> Result<ValidateReport, RpcError> {
        let (name, version) = (call.name.name.clone(), self.pick_version(&call.name)?);
        let rights = self.chain.read(|l| l.member(&self.id)).map_or(Rights(0), |m| m.rights);
        if !rights.has(Rights::VALIDATOR) {
            return Err(denied("this node has no right to validate in the pool: ask an administrator for 'validator'"));
        }
        let data = self.blocking(move || read_samples(&PathBuf::from(call.samples))).await?;
        let _using = self.upkeep.using().await;
        let Brought { entry, opened, .. } = self.bring(&name, version, None, Watch::steps(progress), true).await?;
        let Task::Classify { classes } = entry.task else {
            return Err(invalid(format!("{name}@{version} is no classifier: only classifiers can be graded so far")));
        };
        let loaded = self.models.use_now(&name, version);
        let found = if let Some(place) = loaded {
            self.run_samples(&place.serving().worker, &data, classes, progress).await?
        } else if call.serve {
            let place = self.serve_opened(&name, version, opened).await?.ok_or_else(busy)?;
            self.run_samples(&place.serving().worker, &data, classes, progress).await?
        } else {
            let loaded = self.load_for_once(&name, version, &entry, opened).await?;
            self.run_samples(&loaded.worker, &data, classes, progress).await?
        };
        tell(progress, "endorsing", 0, 0);
        self.account.submit(TxBody::Endorse(found.endorse(name.clone(), version)), PATIENCE).await?;
        let me = self.id;
        self.chain.read(|ledger| {
            let all = ledger.endorsements(&name, version);
            let endorsement = all.into_iter().find(|(v, _)| *v == me).map(|(_, e)| e);
            let endorsement =
                endorsement.ok_or_else(|| internal("the endorsement is final and yet not in the state"))?;
            let score =
                ledger.score(&name, version).ok_or_else(|| internal("there is no score after an endorsement"))?;
            Ok(ValidateReport { validator: me, endorsement, score })
        })
    }

    async fn run_samples(
        &self,
        worker: &Worker,
        data: &Dataset,
        classes: u16,
        progress: &Tell,
    ) -> Result<zero2ai_validator::Findings, RpcError> {
        let watch = |done, total| tell(progress, "samples predicted", done as u64, total as u64);
        zero2ai_validator::run(&Local(worker), data, classes, watch).await.map_err(invalid)
    }
}

fn read_samples(path: &std::path::Path) -> Result<Dataset, RpcError> {
    let fail = |why: String| invalid(format!("{}: {why}", path.display()));
    let meta = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?;
    if meta.len() > FILE_BYTES {
        return Err(fail(format!("longer than {FILE_BYTES} bytes: split it")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
    Dataset::labelled(&text).map_err(|e| fail(e.to_string()))
}
