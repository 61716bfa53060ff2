//! `names`: the models on the ledger, as this node's own copy of it has them.

use serde_json::{Value, json};
use zero2ai_proto::{
    ModelName, NodeId,
    local::{HistoryCall, NameHistory, NamedModel, NamesCall, NamesList},
    state::Event,
    tx::{Accept, Offer, TxBody},
};

use crate::{
    cli::NamesCommand,
    exit::Outcome,
    output::{self, Output, Table},
    session::{QUICK, Session},
};

/// The command.
pub(crate) async fn names(session: &Session, command: NamesCommand, out: Output) -> Outcome {
    match command {
        NamesCommand::Ls { prefix } => list(session, prefix, out).await,
        NamesCommand::History { name } => history(session, name, out).await,
        NamesCommand::Offer { name, to, .. } => offer(session, name, to, out).await,
        NamesCommand::Accept { name } => accept(session, name, out).await,
    }
}

async fn list(session: &Session, prefix: String, out: Output) -> Outcome {
    let mut items = session.stream::<NamesList>(&NamesCall { prefix }, QUICK).await?;
    let mut all = Vec::new();
    while let Some(item) = items.next().await.transpose()? {
        all.push(item);
    }
    out.result(&all.iter().map(model_json).collect(), || {
        if all.is_empty() {
            return "No model of such a name is published in this pool: 'zero2ai publish' publishes one.".to_owned();
        }
        let mut table = Table::new(&["model", ">version", "channels", ">size", "score", "published (UTC)"]);
        for NamedModel { name, model, version, score, .. } in &all {
            let channels: Vec<String> = model.channels.iter().map(|(channel, v)| format!("{channel}={v}")).collect();
            let score = score.and_then(|s| s.score_ppm).map_or_else(|| "-".to_owned(), output::ppm);
            let withdrawn = if version.withdrawn { " (withdrawn)" } else { "" };
            table.row([
                name.to_string(),
                format!("{}{withdrawn}", model.latest),
                if channels.is_empty() { "-".to_owned() } else { channels.join(" ") },
                output::bytes(version.bytes),
                score,
                output::utc(version.time_ms),
            ]);
        }
        table.render(0)
    });
    Ok(())
}

fn model_json(named: &NamedModel) -> Value {
    let NamedModel { name, model, version, score, .. } = named;
    let channels: serde_json::Map<String, Value> = model.channels.iter().map(|(c, v)| (c.clone(), json!(v))).collect();
    json!({
        "name": name.to_string(), "owner": model.owner.to_string(), "latest": model.latest, "channels": channels,
        "events": model.events, "manifest": version.manifest.to_string(), "bytes": version.bytes,
        "published_ms": version.time_ms, "withdrawn": version.withdrawn,
        "score": score.and_then(|s| s.score_ppm).map(|s| f64::from(s) / 1e6),
    })
}

async fn offer(session: &Session, name: ModelName, to: Option<NodeId>, out: Output) -> Outcome {
    let named = name.to_string();
    let height = session.client.submit(TxBody::Offer(Offer { name, to })).await?.height.unwrap_or(0);
    out.result(&json!({ "name": named, "to": to.map(|to| to.to_string()), "height": height }), || match to {
        Some(to) => format!(
            "{named} is offered to {}, final in block {height}.\nNext, on its node: zero2ai names accept {named}",
            to.short()
        ),
        None => format!("Nobody may take {named} any more, final in block {height}."),
    });
    Ok(())
}

async fn accept(session: &Session, name: ModelName, out: Output) -> Outcome {
    let named = name.to_string();
    let height = session.client.submit(TxBody::Accept(Accept { name })).await?.height.unwrap_or(0);
    out.result(&json!({ "name": named, "height": height }), || format!("{named} is yours, final in block {height}."));
    Ok(())
}

async fn history(session: &Session, name: ModelName, out: Output) -> Outcome {
    let mut items = session.stream::<NameHistory>(&HistoryCall { name }, QUICK).await?;
    let mut all: Vec<Event> = Vec::new();
    while let Some(item) = items.next().await.transpose()? {
        all.push(item);
    }
    let json = |e: &Event| {
        json!({
            "what": e.kind.name(), "version": e.version, "account": e.account.to_string(), "tx": e.tx.to_string(),
            "height": e.height, "time_ms": e.time_ms,
        })
    };
    out.result(&all.iter().map(json).collect(), || {
        let mut table = Table::new(&["time (UTC)", ">block", "what", ">version", "by", "transaction"]);
        for e in &all {
            table.row([
                output::utc(e.time_ms),
                e.height.to_string(),
                e.kind.name().to_owned(),
                e.version.to_string(),
                e.account.short(),
                e.tx.to_string(),
            ]);
        }
        table.render(0)
    });
    Ok(())
}
