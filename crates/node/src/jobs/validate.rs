//! A validator's job: fetch the version, run it on data of its own in a worker, judge data and answers, and, where they are sound,
//! commit to what was found and show it.

use std::path::Path;

use zero2ai_engine::Worker;
use zero2ai_ledger::commitment;
use zero2ai_proto::{
    ByteBuf, Digest, ModelName, ModelRef,
    keys::random_bytes,
    limits::SHOWN_BYTES,
    local::{LocalData, ValidateCall, ValidateReport},
    prepare::Preparation,
    rpc::RpcError,
    state::{Rights, Verdict, Version},
    tx::{Commit, Endorse, Reveal, TxBody},
    worker::ModelInfo,
};
use zero2ai_trust::{
    gate::{Check, Criterion, Gate, judge, listed},
    report::{Decision, Domain, Report},
};
use zero2ai_validator::{
    Dataset, Findings, Subject,
    assess::{Run, criteria},
    domain::domain,
    prints::{self, Prints},
    shown,
};

use crate::{
    account::PATIENCE,
    core::Core,
    jobs::{
        Tell,
        demand::busy,
        fetch::{Brought, Watch},
        load::piece,
        load_test,
        report::{Local, report},
        tell,
    },
    serve::errors::{denied, internal, invalid, not_found},
};

/// What a run is to find, and of what.
struct Wanted<'a> {
    entry: &'a Version,
    name: String,
    /// A report is wanted, from this seed.
    seed: Option<Digest>,
    /// With a test under load.
    load: bool,
    /// What the data are called.
    file: String,
    prints: Option<Prints>,
}

/// A loaded model, as a run needs it.
struct Loaded<'a> {
    worker: &'a Worker,
    info: &'a ModelInfo,
    preparation: Option<&'a Preparation>,
}

/// What a run came to.
struct Outcome {
    findings: Findings,
    report: Option<Vec<u8>>,
    /// Why the figures do not belong on the ledger.
    withheld: Option<String>,
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
        let mut endorsed = self.may_grade(&name, version, call.report.is_some())?;
        let round = match if endorsed { Ok(None) } else { self.round_to_take(&name, version) } {
            // A report is worth making where no round is open, too.
            Err(_) if call.report.is_some() => {
                endorsed = true;
                None
            }
            round => round?,
        };
        let file = Path::new(&call.samples.path).file_name().map(|f| f.to_string_lossy().into_owned());
        let samples = call.samples.clone();
        let data = self.read_data(call.samples).await?;
        if round.is_some() {
            showable(&data)?;
        }
        let using = self.upkeep.using().await;
        let Brought { entry, opened, .. } = self.bring(&name, version, None, Watch::steps(progress), true).await?;
        let prints = self.fingerprints(&entry).await?;
        let (seed, file) = (call.report, file.unwrap_or_default());
        let wanted = Wanted { entry: &entry, name: format!("{name}@{version}"), seed, load: call.load, file, prints };
        let loaded = self.models.use_now(&name, version);
        let found = if let Some(place) = loaded {
            self.run_samples(place.serving().into(), data, wanted, progress).await?
        } else if call.serve {
            let place = self.serve_opened(&name, version, opened).await?.ok_or_else(busy)?;
            self.run_samples(place.serving().into(), data, wanted, progress).await?
        } else {
            let loaded = self.load_for_once(&name, version, &entry, opened).await?;
            let (info, preparation) = (&loaded.info, loaded.preparation.as_ref());
            let loaded = Loaded { worker: &loaded.worker, info, preparation };
            self.run_samples(loaded, data, wanted, progress).await?
        };
        // What follows may take as long as a committee's draw.
        drop(using);
        match round {
            _ if found.withheld.is_some() => {}
            Some(round) => self.grade_in_round((&found.findings, samples), (&name, version, round), progress).await?,
            None if !endorsed => self.endorse(found.findings.endorse(name.clone(), version), progress).await?,
            None => {}
        }
        let me = self.id;
        self.chain.read(|ledger| {
            let all = ledger.endorsements(&name, version);
            let endorsement = all.into_iter().find(|(v, _)| *v == me).map(|(_, e)| e);
            let committed = round.filter(|_| found.withheld.is_none() && endorsement.is_none());
            if endorsement.is_none() && found.withheld.is_none() && committed.is_none() && !endorsed {
                return Err(internal("the endorsement is final and yet not in the state"));
            }
            let score = ledger.score(&name, version);
            let report = ValidateReport { validator: me, endorsement, score, withheld: found.withheld, committed };
            Ok((report, found.report))
        })
    }

    /// Reads labelled data of this node's own user.
    pub(crate) async fn read_data(&self, data: LocalData) -> Result<Dataset, RpcError> {
        self.blocking(move || Dataset::read(&data).map_err(invalid)).await
    }

    /// What the publisher left of his data, if he did. What cannot be read is told, and counts as nothing.
    async fn fingerprints(&self, entry: &Version) -> Result<Option<Prints>, RpcError> {
        let manifest = self.manifest(&entry.manifest)?;
        let Some(file) = manifest.files.iter().find(|f| f.path == prints::FILE).cloned() else { return Ok(None) };
        if file.size > prints::BYTES as u64 {
            return Ok(None);
        }
        let store = self.store.clone();
        self.blocking(move || {
            let mut bytes = Vec::new();
            for chunk in file.parts.iter().flat_map(|p| &p.chunks) {
                bytes.extend(piece(&store, &manifest, chunk)?);
            }
            let read = Prints::read(&bytes);
            Ok(read
                .inspect_err(|error| tracing::warn!(%error, "what the publisher left of his data cannot be read"))
                .ok())
        })
        .await
    }

    /// Whether the ledger would take figures of this node, asked before a run that may take hours: true if it has some already, and
    /// only a report is wanted.
    fn may_grade(&self, name: &ModelName, version: u32, report: bool) -> Result<bool, RpcError> {
        let me = self.id;
        self.chain.read(|ledger| {
            ledger.may_grade(name, version, &me).map_err(invalid)?;
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
        loaded: Loaded<'_>,
        data: Dataset,
        wanted: Wanted<'_>,
        progress: &Tell,
    ) -> Result<Outcome, RpcError> {
        let domain = domain(loaded.info, loaded.preparation)
            .map_err(|why| invalid(format!("{} is not graded: {why}", wanted.name)))?;
        let preparation = loaded.preparation.cloned();
        // The ledger's word, since counts are held to it.
        let subject = Subject { name: wanted.name, domain, task: wanted.entry.task, preparation };
        let watch = |done, total| tell(progress, "samples predicted", done as u64, total as u64);
        let findings =
            zero2ai_validator::run(&Local::new(loaded.worker), &subject, &data, watch).await.map_err(invalid)?;
        let Some(seed) = wanted.seed else {
            let withheld = self.sound(data, subject, &findings, wanted.prints).await?;
            return Ok(Outcome { findings, report: None, withheld });
        };
        let load = match wanted.load {
            true => load_test::run(loaded.worker, &subject, &data, &findings, seed.0, progress).await?,
            false => (Vec::new(), None),
        };
        let run = Run {
            subject,
            dataset: wanted.file,
            data,
            findings: findings.clone(),
            seed: seed.0,
            thresholds: wanted.entry.thresholds,
            // The node has other work, and each thread holds the scores of all samples.
            threads: std::thread::available_parallelism().map_or(1, Into::into).min(2),
            prints: wanted.prints,
            load,
        };
        tell(progress, "computing intervals", 0, 0);
        let report = report(run, loaded.worker, progress).await?;
        let withheld = worse_than_counts(&report, &findings, wanted.entry);
        Ok(Outcome { findings, report: Some(serde_json::to_vec(&report).map_err(internal)?), withheld })
    }

    /// Why the data or the answers rule out an endorsement, by the checks that need no attack.
    async fn sound(
        &self,
        data: Dataset,
        subject: Subject,
        findings: &Findings,
        prints: Option<Prints>,
    ) -> Result<Option<String>, RpcError> {
        let findings = findings.clone();
        self.blocking(move || {
            let checks = criteria::dataset(&data, &subject, findings.classes, prints.as_ref());
            if let Gate::Void(failed) = judge(&checks) {
                return Ok(Some(failed_gate(&failed, &checks)));
            }
            let failed = criteria::answers(&data, &findings).into_iter().find(Check::failed);
            Ok(failed
                .map(|check| format!("the model's answers fail the check for {}{}", check.criterion, figures(&check))))
        })
        .await
    }
}

impl<'a> From<&'a std::sync::Arc<crate::models::Serving>> for Loaded<'a> {
    fn from(serving: &'a std::sync::Arc<crate::models::Serving>) -> Self {
        Self { worker: &serving.worker, info: &serving.info, preparation: serving.preparation.as_ref() }
    }
}

/// Refuses data of which a jury could not be shown every sample, before its validator has anything to lose.
fn showable(data: &Dataset) -> Result<(), RpcError> {
    match shown::too_long(data) {
        None => Ok(()),
        Some(sample) => Err(invalid(format!(
            "sample {sample} has more than {} MiB, which is as much as a jury can be shown if its answer is disputed: leave it out",
            SHOWN_BYTES / 1024 / 1024
        ))),
    }
}

fn failed_gate(failed: &[Criterion], checks: &[Check]) -> String {
    let figures: String = checks.iter().filter(|c| c.failed()).map(figures).collect();
    format!("the data fail their gate ({}){figures}: nothing follows for the model", listed(failed))
}

/// The numbers that failed a check.
fn figures(check: &Check) -> String {
    let beyond = check.figures.iter().filter(|f| f.limit.is_some());
    let each: Vec<String> =
        beyond.map(|f| format!("{} {:.3}, limit {}", f.name, f.value, f.limit.unwrap_or_default())).collect();
    if each.is_empty() { String::new() } else { format!(" ({})", each.join("; ")) }
}

/// Why a report's figures stay off the ledger: counts cannot say that data are void or that a gate failed, and alone would speak
/// better of the model than the report does.
fn worse_than_counts(report: &Report, findings: &Findings, entry: &Version) -> Option<String> {
    debug_assert!(report.subject.domain != Domain::Unknown, "such a model is not run");
    let reason = || report.grade.reasons.first().cloned().unwrap_or_default();
    let counted =
        zero2ai_trust::macro_scores(&findings.counts).map(|m| zero2ai_trust::verdict(m.f1_ppm, entry.thresholds));
    match (report.grade.decision, counted) {
        (Decision::Void, _) => {
            let Gate::Void(failed) = &report.gate else { return Some(reason()) };
            Some(failed_gate(failed, &report.dataset_checks))
        }
        (Decision::Ungraded, _) => Some(reason()),
        (Decision::Negative, Some(Verdict::Positive | Verdict::Abstain)) => {
            let broken =
                report.grade.reasons.iter().any(|r| r.contains("misses the gate") || r.contains("fail the check"));
            broken.then(|| format!("the report grades it negative, which its counts alone do not show: {}", reason()))
        }
        _ => None,
    }
}
