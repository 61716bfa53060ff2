//! `validate`: the node fetches a model, runs it on the user's labelled samples and signs the counts as an endorsement.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use zero2ai_proto::{
    ModelRef,
    local::{ValidateCall, ValidateItem, ValidatePath, ValidateReport},
    state::{Endorsement, Verdict},
};

use super::publish::absolute;
use crate::{
    cli::ValidateArgs,
    exit::{Exit, Failure, Outcome},
    output::{Output, facts, ppm},
    progress::Progress,
    session::Session,
};

/// Longest validation: it only ends what hangs.
const LONG: Duration = Duration::from_secs(2 * 3600);

/// Validates `name` on the samples in `data`, and serves it afterwards if asked.
pub(crate) async fn validate_file(
    session: &Session,
    name: ModelRef,
    data: &Path,
    serve: bool,
    progress: &mut Progress,
) -> Outcome<ValidateReport> {
    let call = ValidateCall { name, samples: absolute(data)?, serve };
    let mut items = session.stream::<ValidatePath>(&call, LONG).await?;
    while let Some(item) = items.next().await {
        match item? {
            ValidateItem::Step(step) => progress.step(&step),
            ValidateItem::Done(report) => return Ok(*report),
        }
    }
    Err(Failure::new(
        Exit::Internal,
        "The node ended its answer without a result. Look at its log, then run the command again.",
    ))
}

/// A verdict as one word.
pub(crate) fn verdict(v: Verdict) -> &'static str {
    match v {
        Verdict::Positive => "positive",
        Verdict::Negative => "negative",
        Verdict::Abstain => "abstain",
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
    let report = validate_file(session, args.name, &args.data, args.serve, &mut progress).await?;
    drop(progress);
    let e = &report.endorsement;
    let json = json!({
        "endorsement": endorsement_json(&report.validator, e),
        "score": report.score.score_ppm.map(|s| f64::from(s) / 1e6),
    });
    out.result(&json, || {
        facts(&[
            ("model", format!("{}@{}", e.counts.name, e.counts.version)),
            ("samples", format!("{}, {} right", e.counts.samples, e.counts.correct)),
            ("precision", ppm(e.precision_ppm)),
            ("recall", ppm(e.recall_ppm)),
            ("F1", ppm(e.f1_ppm)),
            ("verdict", verdict(e.verdict).into()),
            ("block", e.height.to_string()),
            ("score", score_text(report.score.score_ppm, report.score.datasets)),
        ])
    });
    Ok(())
}

/// A score, or why there is none yet.
pub(crate) fn score_text(score_ppm: Option<u32>, datasets: u32) -> String {
    score_ppm.map_or_else(|| format!("none yet: {datasets} of 3 different datasets"), ppm)
}
