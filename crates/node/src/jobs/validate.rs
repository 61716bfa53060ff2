//! A validator's job: fetch the version, run it on samples of its own in a worker, commit to what was found, and show it.

use std::path::PathBuf;

use zero2ai_engine::Worker;
use zero2ai_ledger::commitment;
use zero2ai_proto::{
    ByteBuf, Digest, ModelName, ModelRef,
    keys::random_bytes,
    limits::CLASSES,
    local::{ValidateCall, ValidateReport},
    manifest::Task,
    rpc::RpcError,
    state::{Rights, Score, Version},
    tensor::Tensor,
    tx::{Commit, Endorse, Reveal, TxBody},
};
use zero2ai_validator::{Dataset, Findings, Predictor, assess::Run};

use crate::{
    account::PATIENCE,
    core::Core,
    jobs::{
        Tell,
        demand::busy,
        fetch::{Brought, Watch},
        report::report,
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
    pub(crate) async fn validate(
        &self,
        call: ValidateCall,
        progress: &Tell,
    ) -> Result<(ValidateReport, Option<Vec<u8>>), RpcError> {
        let (name, version) = (call.name.name.clone(), self.pick_version(&call.name)?);
        let rights = self.chain.read(|l| l.member(&self.id)).map_or(Rights(0), |m| m.rights);
        if !rights.has(Rights::VALIDATOR) {
            return Err(denied("this node has no right to validate in the pool: ask an administrator for 'validator'"));
        }
        let endorsed = self.may_grade(&name, version, call.report.is_some())?;
        let round = if endorsed { None } else { self.round_to_take(&name, version)? };
        let path = PathBuf::from(call.samples);
        let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        let data = self.blocking(move || read_samples(&path)).await?;
        let _using = self.upkeep.using().await;
        let Brought { entry, opened, .. } = self.bring(&name, version, None, Watch::steps(progress), true).await?;
        let Task::Classify { classes } = entry.task else {
            return Err(invalid(format!("{name}@{version} is no classifier: only classifiers can be graded so far")));
        };
        if usize::from(classes) > CLASSES {
            return Err(invalid(format!("{name}@{version} has {classes} classes; at most {CLASSES} can be graded")));
        }
        let wanted = Wanted { classes, seed: call.report, model: format!("{name}@{version}"), file, entry: &entry };
        let loaded = self.models.use_now(&name, version);
        let (found, report) = if let Some(place) = loaded {
            self.run_samples(&place.serving().worker, data, wanted, progress).await?
        } else if call.serve {
            let place = self.serve_opened(&name, version, opened).await?.ok_or_else(busy)?;
            self.run_samples(&place.serving().worker, data, wanted, progress).await?
        } else {
            let loaded = self.load_for_once(&name, version, &entry, opened).await?;
            self.run_samples(&loaded.worker, data, wanted, progress).await?
        };
        match round {
            Some(round) => self.grade_in_round(found, (&name, version, round), progress).await?,
            None if !endorsed => self.endorse(found.endorse(name.clone(), version), progress).await?,
            None => {}
        }
        let me = self.id;
        self.chain.read(|ledger| {
            let all = ledger.endorsements(&name, version);
            let endorsement = all.into_iter().find(|(v, _)| *v == me).map(|(_, e)| e);
            let endorsement =
                endorsement.ok_or_else(|| internal("the endorsement is final and yet not in the state"))?;
            // A round's score comes when it is settled.
            let none = Score { score_ppm: None, verdicts: [0; 3], datasets: 0, samples: 0, height: 0 };
            let score = ledger.score(&name, version).or(round.map(|_| none));
            let score = score.ok_or_else(|| internal("there is no score after an endorsement"))?;
            Ok((ValidateReport { validator: me, endorsement, score }, report))
        })
    }

    /// Whether the ledger would take figures of this node, asked before a run that may take hours: true if it has some already, and
    /// only a report is wanted.
    fn may_grade(&self, name: &ModelName, version: u32, report: bool) -> Result<bool, RpcError> {
        let me = self.id;
        self.chain.read(|ledger| {
            let published = ledger.version(name, version).is_some_and(|v| v.publisher == me);
            if published || ledger.model(name).is_some_and(|m| m.owner == me) {
                return Err(invalid("neither the publisher of a version nor the model's owner can endorse it"));
            }
            let endorsed = match ledger.rounds(name, version) {
                0 => ledger.endorsements(name, version).iter().any(|(validator, _)| *validator == me),
                newest => ledger.entry(name, version, newest, &me).is_some(),
            };
            if endorsed && !report {
                return Err(invalid(format!(
                    "this node has endorsed {name}@{version} already, and does so once; '--report FILE' makes a report without"
                )));
            }
            Ok(endorsed)
        })
    }

    /// Commits to the figures, and shows them once that is final: nobody who sees them can have been before.
    async fn endorse(&self, endorse: Endorse, progress: &Tell) -> Result<(), RpcError> {
        tell(progress, "committing to the figures", 0, 0);
        let salt = random_bytes::<32>().map_err(internal)?;
        let commitment = commitment(&self.pool, &self.id, &endorse, &salt).map_err(internal)?;
        let Endorse { name, version, .. } = endorse.clone();
        self.account.submit(TxBody::Commit(Commit { name, version, commitment }), PATIENCE).await?;
        tell(progress, "showing them", 0, 0);
        let reveal = Reveal { endorse, salt: ByteBuf::from(salt.to_vec()) };
        self.account.submit(TxBody::Reveal(reveal), PATIENCE).await.map(|_| ())
    }

    async fn run_samples(
        &self,
        worker: &Worker,
        data: Dataset,
        wanted: Wanted<'_>,
        progress: &Tell,
    ) -> Result<(Findings, Option<Vec<u8>>), RpcError> {
        let watch = |done, total| tell(progress, "samples predicted", done as u64, total as u64);
        let findings =
            zero2ai_validator::run(&Local(worker), &data, wanted.classes, wanted.seed.is_some(), watch).await;
        let findings = findings.map_err(invalid)?;
        let Some(seed) = wanted.seed else { return Ok((findings, None)) };
        let run = Run {
            model: wanted.model,
            dataset: wanted.file,
            data,
            findings: findings.clone(),
            seed: seed.0,
            thresholds: wanted.entry.thresholds,
            // The node has other work, and each thread holds the scores of all samples.
            threads: std::thread::available_parallelism().map_or(1, Into::into).min(2),
        };
        tell(progress, "computing intervals", 0, 0);
        let report = report(run, worker, progress).await?;
        Ok((findings, Some(serde_json::to_vec(&report).map_err(internal)?)))
    }
}

/// What a run is to find, and of what.
struct Wanted<'a> {
    classes: u16,
    /// A report is wanted, from this seed.
    seed: Option<Digest>,
    model: String,
    file: String,
    entry: &'a Version,
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
