//! `status`: what the node is, holds and does.

use serde_json::{Value, json};
use zero2ai_proto::{
    NodeId,
    calls::Empty,
    local::{NodeStatus, NodeStatusReply, Placed, Reach},
};

use crate::{
    exit::Outcome,
    output::{self, Output, Table, facts},
    session::{QUICK, Session},
};

/// Asks the node.
pub(crate) async fn node_status(session: &Session) -> Outcome<NodeStatusReply> {
    session.call::<NodeStatus>(&Empty {}, QUICK).await
}

fn status_json(s: &NodeStatusReply) -> Value {
    let models: Vec<Value> = s
        .models
        .iter()
        .map(|m| json!({ "name": m.name.to_string(), "version": m.version, "serving": m.serving, "calls": m.calls }))
        .collect();
    let contradicted =
        s.contradicted.iter().map(|(signer, height)| json!({ "signer": signer.to_string(), "height": height }));
    json!({
        "node": s.node.to_string(), "pool": s.pool.to_string(), "version": s.version, "rights": s.rights.names(),
        "addresses": s.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "height": s.height, "head_age_ms": s.head_age_ms, "halted": s.halted, "waiting": s.waiting, "mempool": s.mempool,
        "peers": s.peers.iter().map(ToString::to_string).collect::<Vec<_>>(), "models": models,
        "chunks": s.chunks, "store_bytes": s.store_bytes, "receipts": s.receipts, "anchored": s.anchored,
        "contradicted": contradicted.collect::<Vec<_>>(),
        "reach": reach_name(s.placed.reach), "external": s.placed.external, "relaying": s.placed.relaying,
        "relays": s.placed.relays.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "alarms": s.alarms.iter().map(|(name, version)| format!("{name}@{version}")).collect::<Vec<_>>(),
        "relayed_peers": s.placed.relayed.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// The word for it in JSON.
const fn reach_name(reach: Reach) -> &'static str {
    match reach {
        Reach::Unknown => "unknown",
        Reach::Open => "open",
        Reach::Behind => "behind",
    }
}

/// How the node is reached from outside its network, in words.
pub(crate) fn reached(placed: &Placed) -> String {
    let relays = placed.relays.iter().map(NodeId::short).collect::<Vec<_>>().join(", ");
    let relaying = if placed.relaying { "; relays for others" } else { "" };
    match placed.reach {
        Reach::Unknown => format!("from its own network; not tested from outside yet{relaying}"),
        Reach::Open => format!("directly, at {}{relaying}", placed.external.join(", ")),
        Reach::Behind if relays.is_empty() => "behind a NAT, and by no relay: only whom it calls itself".to_owned(),
        Reach::Behind => format!("behind a NAT, by way of relay {relays}{relaying}"),
    }
}

fn peers(s: &NodeStatusReply) -> String {
    match s.placed.relayed.len() {
        0 => s.peers.len().to_string(),
        relayed => format!("{}, {relayed} of them through a relay", s.peers.len()),
    }
}

fn status_text(s: &NodeStatusReply) -> String {
    let addresses: Vec<String> = s.addresses.iter().map(ToString::to_string).collect();
    let halted = if s.halted { "  HALTED: transactions wait, no block comes" } else { "" };
    let age = output::age(s.head_age_ms);
    let mut text = facts(&[
        ("node", s.node.to_string()),
        ("pool", s.pool.to_string()),
        ("version", s.version.clone()),
        ("rights", output::rights(s.rights)),
        ("addresses", addresses.join(", ")),
        ("chain", format!("height {}, newest block {age} old, {} waiting{halted}", s.height, s.mempool)),
        ("reached", reached(&s.placed)),
        ("peers", peers(s)),
        ("store", format!("{} chunks, {} sealed", s.chunks, output::bytes(s.store_bytes))),
        ("receipts", format!("{}, {} of them anchored", s.receipts, s.anchored)),
    ]);
    if let Some(what) = &s.waiting {
        text += &facts(&[("waiting for", what.clone())]);
    }
    if !s.models.is_empty() {
        let mut table = Table::new(&["model", ">version", "serving", ">calls"]);
        for m in &s.models {
            let serving = if m.serving { "yes" } else { "no" };
            table.row([m.name.to_string(), m.version.to_string(), serving.into(), m.calls.to_string()]);
        }
        text.push('\n');
        text += &table.render(0);
    }
    for (name, version) in &s.alarms {
        text += &format!(
            "\nCallers say that {name}@{version} answers worse than it did: 'zero2ai outcomes {name}' shows it"
        );
    }
    for (signer, height) in &s.contradicted {
        text += &format!(
            "\nSigner {} signed two different things at height {height}: 'zero2ai ledger evidence' shows it",
            signer.short()
        );
    }
    text
}

/// The command.
pub(crate) async fn status(session: &Session, out: Output) -> Outcome {
    let reply = node_status(session).await?;
    out.result(&status_json(&reply), || status_text(&reply));
    Ok(())
}
