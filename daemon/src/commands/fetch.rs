//! `fetch`: brings a version into the node's store; with `--serve` the node loads and announces it, with `--out` this command
//! writes its plaintext into a folder.

mod plain;

use std::path::Path;

use tokio::sync::mpsc;
use zero2ai_proto::{
    ByteBuf, ModelRef,
    local::{FetchCall, FetchItem, FetchLive, OpenCall, OpenFiles, OpenItem, Progress as Step, PublishReport},
};

use self::plain::Plain;
use super::publish::{LONG, report_json, report_text};
use crate::{
    cli::FetchArgs,
    exit::{Exit, Failure, Outcome},
    output::{Output, bytes, plural},
    progress::Progress,
    session::Session,
};

/// Fetches `name`, and serves it if asked.
pub(crate) async fn fetch_model(
    session: &Session,
    name: ModelRef,
    serve: bool,
    progress: &mut Progress,
) -> Outcome<PublishReport> {
    let mut items = session.stream::<FetchLive>(&FetchCall { name, serve }, LONG).await?;
    while let Some(item) = items.next().await {
        match item? {
            FetchItem::Step(step) => progress.step(&step),
            FetchItem::Picture(picture) => progress.picture(&picture),
            FetchItem::Done(report) => return Ok(report),
        }
    }
    Err(Failure::new(
        Exit::Internal,
        "The node ended its answer without a result. Look at its log, then run the command again.",
    ))
}

/// Pieces that wait to be written; while they do, the node opens no more.
const AHEAD: usize = 4;

/// What [`write_out`] wrote.
struct Written {
    files: usize,
    bytes: u64,
}

/// Writes the files of a version that this node holds and may open into `folder`.
async fn write_out(
    session: &Session,
    report: &PublishReport,
    folder: &Path,
    force: bool,
    progress: &mut Progress,
) -> Outcome<Written> {
    let call = OpenCall { name: report.name.clone(), version: report.version };
    let mut items = session.stream::<OpenFiles>(&call, LONG).await?;
    let odd = || Failure::new(Exit::Internal, "The node answered out of order. Look at its log, then try again.");
    let list = match items.next().await.transpose()? {
        Some(OpenItem::List(list)) => list,
        _ => return Err(odd()),
    };
    let (files, to) = (list.len(), folder.to_owned());
    let mut plain = blocking(move || Plain::begin(&to, force, list)).await?;
    let (mut done, total) = (0u64, plain.total());
    let (give, mut taken) = mpsc::channel::<ByteBuf>(AHEAD);
    let writing = tokio::spawn(blocking(move || {
        while let Some(bytes) = taken.blocking_recv() {
            plain.take(&bytes)?;
        }
        // Not all that was listed: it leaves nothing.
        plain.finish()
    }));
    let sent = loop {
        let bytes = match items.next().await.transpose() {
            Ok(Some(OpenItem::Bytes(bytes))) => bytes,
            Ok(None) => break Ok(()),
            Ok(Some(OpenItem::List(_))) => break Err(odd()),
            Err(failure) => break Err(failure),
        };
        done = done.saturating_add(bytes.len() as u64);
        if give.send(bytes).await.is_err() {
            break Ok(()); // The writer says why it stopped.
        }
        progress.step(&Step { what: "bytes written".into(), done, total });
    };
    drop(give);
    let written = writing.await.unwrap_or_else(|e| Err(ended(&e)));
    sent.and(written)?;
    Ok(Written { files, bytes: done })
}

/// Runs work on the disk off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(ended(&e)))
}

fn ended(error: &tokio::task::JoinError) -> Failure {
    Failure::new(Exit::Internal, format!("Writing ended unexpectedly: {error}."))
}

/// The command.
pub(crate) async fn fetch(session: &Session, args: FetchArgs, out: Output) -> Outcome {
    let mut progress = Progress::start(out, "fetching");
    let report = fetch_model(session, args.name, args.serve, &mut progress).await?;
    let mut json = report_json(&report);
    let mut written = String::new();
    if let Some(folder) = &args.out {
        let wrote = write_out(session, &report, folder, args.force, &mut progress).await?;
        json["written"] = serde_json::json!({ "folder": folder, "files": wrote.files, "bytes": wrote.bytes });
        let (files, size) = (plural(wrote.files as u64, "file"), bytes(wrote.bytes));
        written = format!("\n{files} in the clear, {size}, in {}: readable by you alone.", folder.display());
    }
    drop(progress);
    out.result(&json, || {
        let next = match (args.serve, report.opened) {
            (true, _) => "It is loaded and announced.",
            (false, true) => "It is held; --serve would also serve it.",
            (false, false) => {
                "It is held as ciphertext only: this node was not granted its key. It can give the chunks to others; to run \
                 it, ask the publisher for 'zero2ai grant'."
            }
        };
        format!("{}\n{next}{written}", report_text(&report))
    });
    Ok(())
}
