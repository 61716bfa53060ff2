//! `models ...`: what is in this node's memory, what stays there and what goes.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    calls::Empty,
    local::{ModelCall, ModelPin, ModelState, ModelUnload, ModelsReply, ModelsShow, PinCall, ResidentModel},
};

use crate::{
    cli::{ModelsCommand, VersionName},
    exit::Outcome,
    output::{self, Output, Table, bytes, facts},
    session::{QUICK, Session},
};

/// Patience for a model to be loaded: the node's own, and some more.
const LOAD: Duration = Duration::from_secs(330);

/// The command.
pub(crate) async fn models(home: &Path, command: ModelsCommand, out: Output) -> Outcome {
    let session = Session::open(home).await?;
    match command {
        ModelsCommand::Ls => {
            let reply = session.call::<ModelsShow>(&Empty {}, QUICK).await?;
            out.result(&reply_json(&reply), || reply_text(&reply));
            Ok(())
        }
        ModelsCommand::Pin { name } => pin(&session, name, true, out).await,
        ModelsCommand::Unpin { name } => pin(&session, name, false, out).await,
        ModelsCommand::Unload { name: VersionName { name, version } } => {
            let call = ModelCall { name: name.clone(), version };
            session.call::<ModelUnload>(&call, QUICK).await?;
            out.result(&json!({ "name": name.to_string(), "version": version, "unloaded": true }), || {
                format!("{name}@{version} is out of memory; the next call loads it again.")
            });
            Ok(())
        }
    }
}

async fn pin(session: &Session, VersionName { name, version }: VersionName, pinned: bool, out: Output) -> Outcome {
    let call = PinCall { name: name.clone(), version, pinned };
    session.call::<ModelPin>(&call, LOAD).await?;
    out.result(&json!({ "name": name.to_string(), "version": version, "pinned": pinned }), || {
        let what =
            if pinned { "in memory and pinned there: it is never evicted" } else { "no longer pinned in memory" };
        format!("{name}@{version} is {what}.")
    });
    Ok(())
}

/// The word for where a model is.
pub(crate) const fn state_word(state: ModelState) -> &'static str {
    match state {
        ModelState::Resident => "resident",
        ModelState::Evicted => "evicted",
        ModelState::Loading => "loading",
        ModelState::Failed => "failed",
        ModelState::Waiting => "waiting",
        ModelState::Stored => "stored",
    }
}

fn reply_json(reply: &ModelsReply) -> Value {
    let one = |m: &ResidentModel| {
        json!({
            "name": m.name.to_string(), "version": m.version, "state": state_word(m.state), "why": m.why, "bytes": m.bytes,
            "last_bytes": m.last_bytes, "last_use_ms": m.last_use_ms, "pinned": m.pinned, "calls": m.calls,
            "in_hand": m.in_hand,
        })
    };
    let ModelsReply { budget, taken, loads, failures, evictions, models } = reply;
    json!({
        "budget": budget, "taken": taken, "loads": loads, "failures": failures, "evictions": evictions,
        "models": models.iter().map(one).collect::<Vec<_>>(),
    })
}

fn reply_text(reply: &ModelsReply) -> String {
    let budget = if reply.budget == u64::MAX { "no bound".to_owned() } else { bytes(reply.budget) };
    let mut text = facts(&[
        ("memory", format!("{} of {budget} taken", bytes(reply.taken))),
        ("loads", format!("{}, and {} failed", reply.loads, reply.failures)),
        ("evictions", reply.evictions.to_string()),
    ]);
    if reply.models.is_empty() {
        return text + "\nThis node holds no model. zero2ai fetch NAME --serve brings one.";
    }
    let mut table = Table::new(&["model", "state", ">memory", "pinned", ">calls", ">in hand", "last used"]);
    for m in &reply.models {
        let memory = match m.last_bytes {
            _ if m.bytes > 0 => bytes(m.bytes),
            Some(last) => format!("({})", bytes(last)),
            None => "-".into(),
        };
        let ago = |ms: u64| output::age(now_ms().saturating_sub(ms)) + " ago";
        table.row([
            format!("{}@{}", m.name, m.version),
            state_word(m.state).into(),
            memory,
            if m.pinned { "yes" } else { "no" }.into(),
            m.calls.to_string(),
            m.in_hand.to_string(),
            m.last_use_ms.map_or_else(|| "-".into(), ago),
        ]);
    }
    text.push('\n');
    text += &table.render(0);
    for m in &reply.models {
        if let Some(why) = &m.why {
            text += &format!("{}@{} is not served at the moment: {why}\n", m.name, m.version);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_served_says_why() {
        let model = ResidentModel {
            name: "lab/m".parse().unwrap(),
            version: 2,
            state: ModelState::Failed,
            why: Some("a chunk is missing".into()),
            bytes: 0,
            last_bytes: Some(3 << 20),
            last_use_ms: None,
            pinned: false,
            calls: 7,
            in_hand: 0,
        };
        let reply = ModelsReply { budget: 1 << 30, taken: 0, loads: 1, failures: 2, evictions: 0, models: vec![model] };
        let text = reply_text(&reply);
        assert!(text.contains("lab/m@2 is not served at the moment: a chunk is missing"), "{text}");
        assert!(text.contains("failed") && text.contains("(3"), "{text}");
        assert_eq!(reply_json(&reply)["models"][0]["state"], "failed");
    }
}
