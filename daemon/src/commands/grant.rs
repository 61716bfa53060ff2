//! `grant`, `revoke`, `grants`: who may open this node's private models.

use std::time::Duration;

use serde_json::json;
use zero2ai_proto::local::{
    GrantModel, GrantModelCall, ModelGrants, ModelGrantsCall, RevokeItem, RevokeModel, RevokeModelCall, RevokeReport,
};

use crate::{
    cli::{GrantArgs, GrantsArgs, RevokeArgs},
    exit::{Exit, Failure, Outcome},
    output::{Output, Table},
    progress::Progress,
    session::{FINAL, QUICK, Session},
};

/// Longest revocation: sealing anew is disk speed, so this only ends what hangs.
const LONG: Duration = Duration::from_secs(2 * 3600);

/// `grant`.
pub(crate) async fn grant(session: &Session, args: GrantArgs, out: Output) -> Outcome {
    let GrantArgs { name, member } = args;
    let reply = session.call::<GrantModel>(&GrantModelCall { name: name.clone(), member }, FINAL).await?;
    out.result(&json!({ "name": name.to_string(), "member": member.to_string(), "height": reply.height }), || {
        format!(
            "{} may open the private versions of {name}, final in block {}.\nNext, on its node: zero2ai fetch {name} --serve",
            member.short(),
            reply.height
        )
    });
    Ok(())
}

/// `revoke`.
pub(crate) async fn revoke(session: &Session, args: RevokeArgs, out: Output) -> Outcome {
    let RevokeArgs { name, member, reseal } = args;
    let mut progress = Progress::start(out, "revoking");
    let call = RevokeModelCall { name: name.clone(), member, reseal };
    let mut items = session.stream::<RevokeModel>(&call, LONG).await?;
    let report = loop {
        match items.next().await {
            Some(Ok(RevokeItem::Step(step))) => progress.step(&step),
            Some(Ok(RevokeItem::Done(report))) => break report,
            Some(Err(error)) => return Err(error),
            None => {
                let why = "The node ended its answer without a result. Look at its log, then run the command again.";
                return Err(Failure::new(Exit::Internal, why));
            }
        }
    };
    drop(progress);
    let resealed: Vec<_> = report.resealed.iter().map(|(old, new)| json!({ "old": old, "new": new })).collect();
    let (named, who) = (name.to_string(), member.to_string());
    let json = json!({ "name": named, "member": who, "height": report.height, "resealed": resealed });
    out.result(&json, || text(&report, &named, &member.short(), reseal));
    Ok(())
}

fn text(report: &RevokeReport, name: &str, member: &str, reseal: bool) -> String {
    let mut text = match report.height {
        Some(height) => format!("{member} is given no key of {name} any more, final in block {height}.\n"),
        None => format!("{member} was revoked before.\n"),
    };
    for (old, new) in &report.resealed {
        text += &format!("{name}@{old} was sealed anew as {name}@{new}, and withdrawn.\n");
    }
    if reseal && report.resealed.is_empty() {
        text += "There was no live private version to seal anew.\n";
    }
    text + "What it was given before it keeps: see 'zero2ai revoke --help'."
}

/// `grants`.
pub(crate) async fn grants(session: &Session, args: GrantsArgs, out: Output) -> Outcome {
    let call = ModelGrantsCall { name: args.name.clone() };
    let mut items = session.stream::<ModelGrants>(&call, QUICK).await?;
    let (mut table, mut list) = (Table::new(&["member", "grant", ">block"]), Vec::new());
    while let Some(item) = items.next().await {
        let item = item?;
        let state = if item.grant.granted { "holds" } else { "revoked" };
        table.row([item.member.to_string(), state.to_owned(), item.grant.height.to_string()]);
        list.push(json!({
            "member": item.member.to_string(), "granted": item.grant.granted, "height": item.grant.height,
            "tx": item.grant.tx.to_string(),
        }));
    }
    let none = list.is_empty();
    out.result(&json!({ "name": args.name.to_string(), "grants": list }), || {
        if none { format!("Nobody was ever granted {}.", args.name) } else { table.render(0) }
    });
    Ok(())
}
