//! `fetch`: brings a version into the node's store; with `--serve` the node loads and announces it.

use zero2ai_proto::{
    ModelRef,
    local::{FetchCall, FetchItem, FetchLive, PublishReport},
};

use super::publish::{LONG, report_json, report_text};
use crate::{
    cli::FetchArgs,
    exit::{Exit, Failure, Outcome},
    output::Output,
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

/// The command.
pub(crate) async fn fetch(session: &Session, args: FetchArgs, out: Output) -> Outcome {
    let mut progress = Progress::start(out, "fetching");
    let report = fetch_model(session, args.name, args.serve, &mut progress).await?;
    drop(progress);
    out.result(&report_json(&report), || {
        let next = match (args.serve, report.opened) {
            (true, _) => "It is loaded and announced.",
            (false, true) => "It is held; --serve would also serve it.",
            (false, false) => {
                "It is held as ciphertext only: this node was not granted its key. It can give the chunks to others; to run \
                 it, ask the publisher for 'zero2ai grant'."
            }
        };
        format!("{}\n{next}", report_text(&report))
    });
    Ok(())
}
