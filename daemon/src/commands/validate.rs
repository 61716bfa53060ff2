//! `validate`: the node fetches a model, runs it on the user's labelled data and signs the counts as an endorsement, unless data or
//! report rule that out.

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use zero2ai_proto::{
    Digest,
    keys::random_bytes,
    local::{ValidateCall, ValidateItem, ValidatePath, ValidateReport},
    state::{Endorsement, Verdict},
};

use zero2ai_trust::report::{Decision, Report};
use zero2ai_validator::report::page;

use super::write_file;
use crate::{
    cli::ValidateArgs,
    exit::{Exit, Failure, Outcome},
    output::{Output, facts, ppm},
    progress::Progress,
    session::Session,
};

/// Longest validation: it only ends what hangs.
const LONG: Duration = Duration::from_secs(2 * 3600);
/// Bytes of a report.
const REPORT: usize = 16 * 1024 * 1024;

/// Has the node validate, and gives what it did with the report, if one was asked for.
pub(crate) async fn validate_file(
    session: &Session,
    call: &ValidateCall,
    progress: &mut Progress,
) -> Outcome<(ValidateReport, Vec<u8>)> {
    let mut items = session.stream::<ValidatePath>(call, LONG).await?;
    let mut report = Vec::new();
    while let Some(item) = items.next().await {
        match item? {
            ValidateItem::Step(step) => progress.step(&step),
            ValidateItem::Report(piece) if report.len().saturating_add(piece.len()) <= REPORT => {
                report.extend_from_slice(&piece);
            }
            ValidateItem::Report(_) => {
                return Err(Failure::new(Exit::Internal, format!("The node's report is longer than {REPORT} bytes.")));
            }
            ValidateItem::Done(done) => return Ok((*done, report)),
        }
    }
    Err(Failure::new(
        Exit::Internal,
        "The node ended its answer without a result. Look at its log, then run the command again.",
    ))
}

/// Writes the report to each file, as a page or as it came.
fn write_report(files: &[PathBuf], bytes: &[u8]) -> Outcome<Report> {
    let damaged = |e| Failure::new(Exit::Internal, format!("The node's report cannot be read: {e}."));
    let report: Report = serde_json::from_slice(bytes).map_err(damaged)?;
    for file in files {
        let is_page = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("html"));
        let text = if is_page { page(&report).into_bytes() } else { bytes.to_vec() };
        write_file("write the report to", file, &text)?;
    }
    Ok(report)
}

/// A verdict as one word.
pub(crate) fn verdict(v: Verdict) -> &'static str {
    match v {
        Verdict::Positive => "positive",
        Verdict::Negative => "negative",
        Verdict::Abstain => "abstain",
    }
}

/// A report's grade as one word.
pub(crate) fn grade_word(decision: Decision) -> &'static str {
    match decision {
        Decision::Positive => "positive",
        Decision::Negative => "negative",
        Decision::Abstain => "undecided",
        Decision::Void => "void",
        Decision::Ungraded => "not graded",
    }
}

/// An endorsement as JSON.
pub(crate) fn endorsement_json(validator: &zero2ai_proto::NodeId, e: &Endorsement) -> Value {
    json!({
        "validator": validator.to_string(), "samples": e.counts.samples, "correct": e.counts.correct,
        "precision": f64::from(e.precision_ppm) / 1e6, "recall": f64::from(e.recall_ppm) / 1e6,
        "f1": f64::from(e.f1_ppm) / 1e6, "verdict": verdict(e.verdict), "height": e.height,
        "p50_us": e.counts.p50_us, "dataset": e.counts.dataset_root.to_string(), "tx": e.tx.to_string(),
        "committed": e.committed.map(|place| place.height),
    })
}

/// The command.
pub(crate) async fn validate(session: &Session, args: ValidateArgs, out: Output) -> Outcome {
    let mut progress = Progress::start(out, "validating");
    let seed = match args.seed {
        None if args.report.is_empty() => None,
        None => Some(Digest(random_bytes().map_err(|e| Failure::new(Exit::Internal, format!("No seed: {e}.")))?)),
        given => given,
    };
    // The endorsement is made once: a file that cannot be written is found before it, not after.
    for file in &args.report {
        write_file("write the report to", file, b"")?;
    }
    let samples = args.columns.of(&args.data)?;
    let model = args.name.to_string();
    let call = ValidateCall { name: args.name, samples, serve: args.serve, report: seed, load: args.load };
    let (done, bytes) = validate_file(session, &call, &mut progress).await?;
    drop(progress);
    let report = seed.map(|_| write_report(&args.report, &bytes)).transpose()?;
    let grade = report.as_ref().map(|r| &r.grade);
    let score = done.score.as_ref();
    let json = json!({
        "endorsement": done.endorsement.as_ref().map(|e| endorsement_json(&done.validator, e)),
        "score": score.and_then(|s| s.score_ppm).map(|s| f64::from(s) / 1e6),
        "grade": grade, "seed": seed.map(|seed| seed.to_string()), "withheld": done.withheld, "round": done.committed,
    });
    out.result(&json, || {
        let mut rows = match &done.endorsement {
            Some(e) => endorsed(e),
            None => vec![("model", model)],
        };
        if let Some(score) = score {
            rows.push(("score", score_text(score.score_ppm, score.datasets)));
        }
        if let Some(round) = done.committed {
            rows.push((
                "committed",
                format!("in round {round}; the node shows it by itself (zero2ai validator rounds NAME)"),
            ));
        }
        if let Some(why) = &done.withheld {
            rows.push(("not endorsed", why.clone()));
        }
        if let Some(grade) = grade {
            rows.push(("report", args.report.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")));
            rows.push(("its grade", format!("{}: {}", grade_word(grade.decision), grade.reasons.join(" "))));
        }
        facts(&rows)
    });
    Ok(())
}

/// What the ledger holds of it.
fn endorsed(e: &Endorsement) -> Vec<(&'static str, String)> {
    vec![
        ("model", format!("{}@{}", e.counts.name, e.counts.version)),
        ("samples", format!("{}, {} right", e.counts.samples, e.counts.correct)),
        ("precision", ppm(e.precision_ppm)),
        ("recall", ppm(e.recall_ppm)),
        ("F1", ppm(e.f1_ppm)),
        ("verdict", verdict(e.verdict).into()),
        ("block", e.height.to_string()),
    ]
}

/// A score, or why there is none yet.
pub(crate) fn score_text(score_ppm: Option<u32>, datasets: u32) -> String {
    score_ppm.map_or_else(|| format!("none yet: {datasets} of 3 different datasets"), ppm)
}
