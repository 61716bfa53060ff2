//! `publish`: hands a file or folder on this machine to the node, which cuts, seals, stores, replicates and publishes it. What
//! lies on a model hub is downloaded first.

mod grade;

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use zero2ai_proto::{
    ModelName,
    local::{PublishCall, PublishItem, PublishPath, PublishReport},
    manifest::{ConformanceSample, Domain},
    rpc::Method,
    tx::Thresholds,
};

use super::read_file;
use crate::{
    cli::{Columns, PublishArgs},
    exit::{Exit, Failure, Outcome, file_error},
    hub::{self, Place},
    output::{Output, bytes, facts, plural},
    progress::Progress,
    samples::{SAMPLE_BYTES, samples},
    session::Session,
};

/// Longest publication: sealing is disk speed and replication network speed, so this only ends what hangs.
pub(crate) const LONG: Duration = Duration::from_secs(2 * 3600);

/// Publishes `path` as the next version of `name`.
pub(crate) async fn publish_file(
    session: &Session,
    path: &Path,
    name: &ModelName,
    domain: Domain,
    replicas: u32,
    thresholds: Thresholds,
    progress: &mut Progress,
) -> Outcome<PublishReport> {
    let (path, name, conformance) = (absolute(path)?, name.clone(), Vec::new());
    let call = PublishCall {
        path,
        name,
        domain,
        replicas,
        thresholds,
        store_only: false,
        base: None,
        conformance,
        preparation: None,
        training: None,
    };
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
        "bytes": report.bytes, "chunks": report.chunks, "reused": report.reused, "opened": report.opened, "height": report.height,
        "holders": report.holders.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "files": report.files, "not_served": report.not_served, "deltas": report.deltas, "saved": report.saved,
        "seal_ms": report.seal_ms,
    })
}

/// A report for people.
pub(crate) fn report_text(report: &PublishReport) -> String {
    let holders: Vec<String> = report.holders.iter().map(zero2ai_proto::PublicKey::short).collect();
    let mut rows = vec![
        ("model", format!("{}@{}", report.name, report.version)),
        ("manifest", report.manifest.to_string()),
        ("size", size_text(report)),
        ("chunks", format!("{} sealed, {} of them stored already", report.chunks, report.reused)),
    ];
    if report.deltas > 0 {
        let deltas = plural(u64::from(report.deltas), "chunk");
        rows.push(("differences", format!("{deltas} stored as differences, {} shorter", bytes(report.saved))));
    }
    rows.push(("held by", format!("{}: {}", plural(holders.len() as u64, "node"), holders.join(", "))));
    rows.push(("block", report.height.to_string()));
    if let Some(why) = &report.not_served {
        rows.push(("not served", why.clone()));
    }
    facts(&rows)
}

/// The samples in a file.
pub(crate) fn read_samples(path: &Path) -> Outcome<Vec<ConformanceSample>> {
    let bytes = read_file("read the samples", path, SAMPLE_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::new(Exit::Invalid, "The samples are not text: give the JSON of testnet/samples/record.py.")
    })?;
    samples(&text)
}

/// Bytes, files if there are several, and how fast they were sealed.
fn size_text(report: &PublishReport) -> String {
    let files =
        if report.files > 1 { format!(" in {}", plural(u64::from(report.files), "file")) } else { String::new() };
    let rate =
        report.bytes.checked_mul(1_000).and_then(|b| b.checked_div(report.seal_ms)).filter(|_| report.seal_ms >= 100);
    let rate = rate.map_or(String::new(), |r| format!(", sealed at {}/s", bytes(r)));
    format!("{}{files}{rate}", bytes(report.bytes))
}

/// The command.
pub(crate) async fn publish(home: &Path, args: PublishArgs, out: Output) -> Outcome {
    let session = Session::open(home).await?;
    if args.reject >= args.accept {
        return Err(Failure::new(
            Exit::Usage,
            "--reject must be below --accept: an endorsement cannot count both ways.",
        ));
    }
    let thresholds = Thresholds { accept_ppm: args.accept, reject_ppm: args.reject };
    let place = Place::read(&args.path)?;
    if place.is_none() && (!args.only.is_empty() || args.keep_download) {
        return Err(Failure::new(Exit::Usage, "--only and --keep-download are about downloads: give hf:ORG/REPO."));
    }
    // Before anything is downloaded or run: a mistake in the file is told at once.
    let conformance = args.samples.as_deref().map_or(Ok(Vec::new()), read_samples)?;
    let preparation = args.image.clone().or_else(|| args.audio.clone());
    let reproduced = conformance.len() as u64;
    let mut progress = Progress::start(out, "publishing");
    let columns = Columns { label: args.train_label.clone(), ..Columns::default() };
    let training = args.train_data.as_deref().map(|path| columns.of(path)).transpose()?;
    let wait = if args.no_wait { 0 } else { args.wait };
    let PublishArgs { path, name, domain, replicas, store_only, base, only, hub: endpoint, keep_download, .. } = args;
    let download = match place {
        Some(place) => {
            let wanted = hub::Wanted { place, endpoint, only, home: home.to_owned() };
            Some(hub::download(wanted, &mut progress).await?)
        }
        None => None,
    };
    let path = absolute(download.as_ref().map_or(path.as_path(), hub::Downloaded::path))?;
    let domain = domain.into();
    #[rustfmt::skip]
    let call = PublishCall { path, name, domain, replicas, thresholds, store_only, base, conformance, preparation, training };
    let report = follow::<PublishPath>(&session, &call, &mut progress).await?;
    // The version stands: what goes wrong while its grade is waited for is no failure of the publication.
    let grade = grade::wait(&session, &report, Duration::from_secs(wait), &mut progress).await;
    drop(progress);
    let mut json = report_json(&report);
    let mut text = report_text(&report);
    json["samples"] = reproduced.into();
    if reproduced > 0 && report.not_served.is_none() {
        text += &format!("\nIt reproduced {}; every node must, before it serves.", plural(reproduced, "sample"));
    }
    if let Some(download) = download {
        json["source"] = download.source.clone().into();
        text += &format!("\nIt is {}, each file as the hub lists it.", download.source);
        if !keep_download {
            // What it could not remove it told; the publication stands all the same.
            let _ = tokio::task::spawn_blocking(move || download.remove()).await;
        }
    }
    json["grade"] = grade.json();
    text += &format!("\n{}", grade.text());
    let next = if report.not_served.is_some() { "fetch" } else { "resolve" };
    out.result(&json, || format!("{text}\nNext: zero2ai {next} {}", report.name));
    Ok(())
}
