//! `fetch`: brings a version into the node's store; with `--serve` the node loads and announces it.

use zero2ai_proto::{
    ModelRef,
    local::{Fetch, FetchCall, PublishReport},
};

use super::publish::{follow, report_json, report_text};
use crate::{cli::FetchArgs, exit::Outcome, output::Output, progress::Progress, session::Session};

/// Fetches `name`, and serves it if asked.
pub(crate) async fn fetch_model(
    session: &Session,
    name: ModelRef,
    serve: bool,
    progress: &mut Progress,
) -> Outcome<PublishReport> {
    follow::<Fetch>(session, &FetchCall { name, serve }, progress).await
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
