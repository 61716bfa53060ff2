//! `validator run`: looks at the ledger, grades each version that there is data for, and again after some time. One job at a time; what was
//! graded is known by its report on disk, so that a restart goes on where it was; what failed is tried again, ever more rarely.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use zero2ai_proto::{
    Digest, ModelName, ModelRef,
    keys::random_bytes,
    local::{LocalData, NamedModel, NamesCall, NamesList, ValidateCall},
};
use zero2ai_trust::report::{Decision, Report};
use zero2ai_validator::report::page;

use super::folder::data_for;
use crate::{
    cli::ValidatorRunArgs,
    commands::{
        validate::{grade_word, validate_file},
        write_private,
    },
    exit::{Exit, Failure, Outcome, file_error},
    output::{self, Output},
    progress::Progress,
    session::{QUICK, Session},
};

/// Pause after the first failure of a job; each further one doubles it.
const PAUSE: Duration = Duration::from_secs(10);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(3600);
/// Bytes of an earlier report.
const REPORT: u64 = 16 * 1024 * 1024;

/// One thing to do.
struct Job {
    name: ModelName,
    version: u32,
    data: LocalData,
    report: PathBuf,
}

/// Jobs that failed: how often, and when they are tried again.
#[derive(Default)]
struct Failed(BTreeMap<(ModelName, u32), (u32, Instant)>);

impl Failed {
    fn rests(&self, key: &(ModelName, u32)) -> bool {
        self.0.get(key).is_some_and(|(_, again)| *again > Instant::now())
    }

    fn add(&mut self, key: (ModelName, u32)) {
        let times = self.0.get(&key).map_or(0, |(times, _)| times.saturating_add(1));
        let pause = PAUSE.saturating_mul(2u32.saturating_pow(times.min(16))).min(LONGEST);
        let now = Instant::now();
        self.0.insert(key, (times, now.checked_add(pause).unwrap_or(now)));
    }
}

/// The command.
pub(super) async fn run(home: &Path, args: &ValidatorRunArgs, out: Output) -> Outcome {
    if !args.data.is_dir() {
        let why = format!("{} is no folder: see 'zero2ai validator run --help'.", args.data.display());
        return Err(Failure::new(Exit::Usage, why));
    }
    let reports = args.reports.clone().unwrap_or_else(|| home.join("reports"));
    let mut failed = Failed::default();
    let mut session = Some(Session::open(home).await?);
    loop {
        let looked = match &session {
            Some(session) => round(session, args, &reports, &mut failed, out).await,
            None => Ok(()),
        };
        match looked {
            Ok(()) if args.once && failed.0.is_empty() => return Ok(()),
            Ok(()) if args.once => {
                return Err(Failure::new(Exit::Model, "Not every version could be graded: see the lines above."));
            }
            Ok(()) => {}
            Err(failure) if args.once => return Err(failure),
            // The node was stopped or started anew: whoever runs this beside it wants it to go on.
            Err(failure) => {
                line(out, &json!({ "waiting": failure.message }), &format!("waiting: {}", failure.message));
                session = None;
            }
        }
        tokio::time::sleep(Duration::from_secs(args.every)).await;
        if session.is_none() {
            session = Session::open(home).await.ok();
        }
    }
}

/// Grades everything that waits.
async fn round(
    session: &Session,
    args: &ValidatorRunArgs,
    reports: &Path,
    failed: &mut Failed,
    out: Output,
) -> Outcome {
    for named in models(session, String::new()).await? {
        let key = (named.name.clone(), named.model.latest);
        if failed.rests(&key) {
            continue;
        }
        let job = match wanted(session, args, reports, &named) {
            Ok(Some(job)) => job,
            Ok(None) => continue,
            Err(failure) => {
                told(out, &key, &failure);
                failed.add(key);
                continue;
            }
        };
        match grade(session, &job, args.load, out).await {
            Ok(()) => drop(failed.0.remove(&key)),
            Err(failure) if failure.exit == Exit::Unreachable => return Err(failure),
            Err(failure) => {
                told(out, &key, &failure);
                failed.add(key);
            }
        }
    }
    Ok(())
}

fn told(out: Output, (name, version): &(ModelName, u32), failure: &Failure) {
    let json = json!({ "model": format!("{name}@{version}"), "failed": failure.message });
    line(out, &json, &format!("{name}@{version}  not graded: {}", failure.message));
}

/// The models on the ledger whose names begin so.
pub(crate) async fn models(session: &Session, prefix: String) -> Outcome<Vec<NamedModel>> {
    let mut items = session.stream::<NamesList>(&NamesCall { prefix }, QUICK).await?;
    let mut all = Vec::new();
    while let Some(item) = items.next().await.transpose()? {
        all.push(item);
    }
    Ok(all)
}

/// What is to be done about a model, if anything: there is data for it, it is another's, and no report of late.
fn wanted(session: &Session, args: &ValidatorRunArgs, reports: &Path, named: &NamedModel) -> Outcome<Option<Job>> {
    let NamedModel { name, model, version, .. } = named;
    if version.withdrawn || model.owner == session.node || version.publisher == session.node {
        return Ok(None);
    }
    let report = reports.join(name.publisher()).join(format!("{}@{}.json", name.model(), model.latest));
    if let Ok(made) = std::fs::metadata(&report).and_then(|m| m.modified()) {
        let age = SystemTime::now().duration_since(made).unwrap_or_default();
        let due = Duration::from_secs(args.recheck.saturating_mul(24 * 3600));
        // A round that is open waits for this node, however fresh its report is.
        if named.round.is_none() && (args.recheck == 0 || age < due) {
            return Ok(None);
        }
    }
    let data = data_for(&args.data, name, version.task)?;
    Ok(data.map(|data| Job { name: name.clone(), version: model.latest, data, report }))
}

async fn grade(session: &Session, job: &Job, load: bool, out: Output) -> Outcome {
    let Job { name, version, data, report } = job;
    let seed = random_bytes().map_err(|e| Failure::new(Exit::Internal, format!("No seed: {e}.")))?;
    let label = format!("{name}@{version}");
    let reference: ModelRef = label.parse().map_err(|e| Failure::new(Exit::Internal, format!("{label}: {e}")))?;
    let call = ValidateCall { name: reference, samples: data.clone(), serve: false, report: Some(Digest(seed)), load };
    let mut progress = Progress::start(out, &format!("grading {label}"));
    let (done, bytes) = validate_file(session, &call, &mut progress).await?;
    drop(progress);
    let damaged = |e| Failure::new(Exit::Internal, format!("The node's report cannot be read: {e}."));
    let made: Report = serde_json::from_slice(&bytes).map_err(damaged)?;
    let before = earlier(report);
    let folder = report.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|e| file_error("make the folder", folder, &e))?;
    write_private("write the report to", &report.with_extension("html"), page(&made).as_bytes())?;
    // Last: it is what says that the job is done.
    write_private("write the report to", report, &bytes)?;
    let word = grade_word(made.grade.decision);
    let place = done.endorsement.as_ref().map(|e| e.height);
    let json = json!({
        "model": label, "grade": made.grade, "before": before.map(grade_word), "block": place, "withheld": done.withheld, "round": done.committed,
        "report": report.display().to_string(),
    });
    let quality = made.grade.quality_ppm.map_or_else(String::new, |q| format!(" {}", output::ppm(q)));
    let changed =
        before.filter(|b| *b != made.grade.decision).map_or_else(String::new, |b| format!(" (was {})", grade_word(b)));
    let said = match (&done.withheld, place) {
        (Some(why), _) => format!("not endorsed: {why}"),
        (None, Some(height)) => format!("endorsed in block {height}"),
        (None, None) => {
            done.committed.map_or_else(|| "not endorsed".to_owned(), |round| format!("committed to in round {round}"))
        }
    };
    line(out, &json, &format!("{label}  {word}{quality}{changed}  {said}"));
    Ok(())
}

/// What an earlier report of the same version said.
fn earlier(report: &Path) -> Option<Decision> {
    let bytes = super::super::read_file("read the report", report, REPORT).ok()?;
    serde_json::from_slice::<Report>(&bytes).ok().map(|r| r.grade.decision)
}

/// One line a job.
fn line(out: Output, json: &Value, text: &str) {
    out.result(json, || text.to_owned());
}
