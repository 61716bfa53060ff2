//! `resolve`: looks a name up, checks every proof, and measures who serves it.

use std::fmt::Write as _;

use serde_json::{Value, json};
use zero2ai_client::Resolution;
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    ModelRef,
    calls::Source,
    state::{Score, key},
};

use crate::{
    cli::ResolveArgs,
    commands::validate::score_text,
    exit::{Exit, Failure, Outcome},
    output::{Output, Table, age, facts, millis},
    session::Session,
};

/// Looks `name` up through the node, with every proof checked here.
pub(crate) async fn lookup(session: &Session, name: &ModelRef, fresh: bool) -> Outcome<Resolution> {
    Ok(session.client.resolve(name, fresh).await?)
}

/// The same, but a name that nobody serves is a failure.
pub(crate) async fn lookup_served(session: &Session, name: &ModelRef) -> Outcome<Resolution> {
    let found = lookup(session, name, false).await?;
    let name = &found.name;
    if found.endpoints.is_empty() && found.left_out > 0 {
        return Err(Failure::new(
            Exit::NotFound,
            format!(
                "{name}@{} is served by {} nodes, none of which [calls] in config.toml allows.",
                found.version, found.left_out
            ),
        ));
    }
    if found.endpoints.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            format!(
                "{name}@{} is published, but no node serves it at the moment. Serve it: zero2ai fetch {name} --serve, on any node with the right 'provider'.",
                found.version
            ),
        ));
    }
    Ok(found)
}

/// Where an answer came from, in words.
pub(crate) fn source(source: Source) -> &'static str {
    match source {
        Source::Cache => "the node's cache",
        Source::Ledger => "the node's ledger",
        Source::Dht => "Kademlia",
    }
}

/// The endpoints as JSON.
pub(crate) fn endpoints_json(found: &Resolution) -> Vec<Value> {
    let one = |e: &zero2ai_client::ResolvedEndpoint| {
        json!({
            "node": e.node.to_string(), "rtt_ms": e.rtt.map(millis), "queue_us": e.queue_us, "expires_ms": e.expires_ms,
            "region": e.region, "price": e.price,
            "addresses": e.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    found.endpoints.iter().map(one).collect()
}

/// The endpoints as a table, nearest first.
pub(crate) fn endpoints_table(found: &Resolution, indent: usize) -> String {
    let mut table = Table::new(&["endpoint", ">rtt ms", ">queue ms", ">price", "region", ">valid for", "address"]);
    let now = now_ms();
    for e in &found.endpoints {
        let rtt = e.rtt.map_or_else(|| "no answer".into(), |rtt| format!("{:.2}", millis(rtt)));
        #[allow(clippy::cast_precision_loss)] // shown with two digits
        let queue = format!("{:.2}", e.queue_us as f64 / 1e3);
        let address = e.addresses.first().map(ToString::to_string).unwrap_or_default();
        let (price, region) = (e.price.to_string(), e.region.clone().unwrap_or_else(|| "-".to_owned()));
        table.row([e.node.short(), rtt, queue, price, region, age(e.expires_ms.saturating_sub(now)), address]);
    }
    table.render(indent)
}

/// The command.
pub(crate) async fn resolve(session: &Session, args: ResolveArgs, out: Output) -> Outcome {
    let found = lookup(session, &args.name, args.fresh).await?;
    // Proven absence: nobody has graded it yet.
    let score: Option<Score> = session.client.entry(&key::score(&found.name, found.version)).await?;
    let (score_ppm, datasets) = score.map_or((None, 0), |score| (score.score_ppm, score.datasets));
    let record_age_ms = u64::try_from(found.record_age.as_millis()).unwrap_or(u64::MAX);
    let json = json!({
        "name": found.name.to_string(), "version": found.version, "manifest": found.manifest.to_string(),
        "source": source(found.source), "ms": millis(found.took), "endpoints": endpoints_json(&found),
        "left_out": found.left_out, "record_age_ms": record_age_ms, "height": found.height, "score_ppm": score_ppm, "datasets": datasets,
    });
    out.result(&json, || {
        let mut text = facts(&[
            ("model", format!("{}@{}", found.name, found.version)),
            ("manifest", found.manifest.to_string()),
            ("answered by", format!("{} in {:.1} ms", source(found.source), millis(found.took))),
            (
                "proved",
                format!(
                    "to this program, under the header of height {}; its record is {} old",
                    found.height,
                    age(record_age_ms)
                ),
            ),
            ("score", score_text(score_ppm, datasets)),
        ]);
        text.push('\n');
        if found.left_out > 0 {
            let _ = writeln!(text, "{} more serve it, which [calls] in config.toml leaves out.", found.left_out);
        } else if found.endpoints.is_empty() {
            text += "Nobody serves it at the moment: zero2ai fetch NAME --serve does.";
        }
        if !found.endpoints.is_empty() {
            text += &endpoints_table(&found, 0);
        }
        text
    });
    Ok(())
}
