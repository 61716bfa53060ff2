//! `publish`: hands a file on this machine to the node, which cuts, seals, stores, replicates and publishes it.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use zero2ai_proto::{
    ModelName,
    local::{PublishCall, PublishItem, PublishPath, PublishReport},
    rpc::Method,
    tx::Thresholds,
};

use crate::{
    cli::PublishArgs,
    exit::{Exit, Failure, Outcome, file_error},
    output::{Output, bytes, facts, plural},
    progress::Progress,
    session::Session,
};

/// Longest publication: sealing is disk speed and replication network speed, so this only ends what hangs.
pub(crate) const LONG: Duration = Duration::from_secs(2 * 3600);

/// Publishes `path` as the next version of `name`.
pub(crate) async fn publish_file(
    session: &Session,
    path: &Path,
    name: &ModelName,
    replicas: u32,
    thresholds: Thresholds,
    progress: &mut Progress,
) -> Outcome<PublishReport> {
    let call = PublishCall { path: absolute(path)?, name: name.clone(), replicas, thresholds };
    follow::<PublishPath>(session, &call, progress).await
}

/// Calls a method that answers with steps and then a [`PublishReport`].
pub(crate) async fn follow<M: Method<Reply = PublishItem>>(
    session: &Session,
    call: &M::Request,
    progress: &mut Progress,
) -> Outcome<PublishReport> {
    let mut items = session.stream::<M>(call, LONG).await?;
    while let Some(item) = items.next().await {
        match item? {
            PublishItem::Step(step) => progress.step(&step),
            PublishItem::Done(report) => return Ok(report),
        }
    }
    Err(Failure::new(
        Exit::Internal,
        "The node ended its answer without a result. Look at its log, then run the command again.",
    ))
}

/// A path as the node understands it: absolute, of an existing file, and text.
pub(crate) fn absolute(path: &Path) -> Outcome<String> {
    let full = path.canonicalize().map_err(|e| file_error("read", path, &e))?;
    full.into_os_string().into_string().map_err(|odd| {
        Failure::new(Exit::Invalid, format!("The path {} is not UTF-8; rename the file.", odd.to_string_lossy()))
    })
}

/// A report as JSON.
pub(crate) fn report_json(report: &PublishReport) -> Value {
    json!({
        "name": report.name.to_string(), "version": report.version, "manifest": report.manifest.to_string(),
        "bytes": report.bytes, "chunks": report.chunks, "reused": report.reused, "height": report.height,
        "holders": report.holders.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// A report for people.
pub(crate) fn report_text(report: &PublishReport) -> String {
    let holders: Vec<String> = report.holders.iter().map(zero2ai_proto::PublicKey::short).collect();
    facts(&[
        ("model", format!("{}@{}", report.name, report.version)),
        ("manifest", report.manifest.to_string()),
        ("size", bytes(report.bytes)),
        ("chunks", format!("{} sealed, {} of them stored already", report.chunks, report.reused)),
        ("held by", format!("{}: {}", plural(holders.len() as u64, "node"), holders.join(", "))),
        ("block", report.height.to_string()),
    ])
}

/// The command.
pub(crate) async fn publish(session: &Session, args: PublishArgs, out: Output) -> Outcome {
    if args.reject > args.accept {
        return Err(Failure::new(
            Exit::Usage,
            "--reject must not be above --accept: an endorsement cannot count both ways.",
        ));
    }
    let thresholds = Thresholds { accept_ppm: args.accept, reject_ppm: args.reject };
    let mut progress = Progress::start(out, "publishing");
    let report = publish_file(session, &args.path, &args.name, args.replicas, thresholds, &mut progress).await?;
    drop(progress);
    out.result(&report_json(&report), || format!("{}\nNext: zero2ai resolve {}", report_text(&report), report.name));
    Ok(())
}
