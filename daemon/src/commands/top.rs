//! `top`: peers, transfers and calls of a node as they change; `status --peers`: the peers once.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use zero2ai_proto::{
    ModelName,
    calls::Empty,
    local::{ActivityReply, ActivityShow, PeerActivity},
};

use crate::{
    cli::TopArgs,
    commands::models::state_word,
    exit::Outcome,
    output::{self, Output, Table, print_line, print_piece},
    session::{QUICK, Session},
};

/// Moves to the first cell of a terminal; what follows is cleared line by line, so that nothing flickers.
const HOME: &str = "\x1b[H";
const CLEAR: &str = "\x1b[2J";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
/// Peers in one picture.
const PEERS: usize = 20;

async fn ask(session: &Session) -> Outcome<ActivityReply> {
    session.call::<ActivityShow>(&Empty {}, QUICK).await
}

/// `status --peers`.
pub(crate) async fn peers(session: &Session, out: Output) -> Outcome {
    let now = ask(session).await?;
    out.result(
        &json!({ "waiting": now.waiting, "peers": now.peers.iter().map(peer_json).collect::<Vec<_>>() }),
        || {
            let waiting = now.waiting.as_ref().map(|what| format!("Waiting for {what}.\n")).unwrap_or_default();
            format!("{waiting}{}", peers_table(&now.peers))
        },
    );
    Ok(())
}

/// The command. Ends with Ctrl-C, or after as many pictures as were asked for.
pub(crate) async fn top(session: &Session, args: &TopArgs, out: Output) -> Outcome {
    let live = std::io::stdout().is_terminal() && !out.json;
    let count = args.count.unwrap_or(if live { u32::MAX } else { 1 });
    let every = Duration::from_secs_f64(args.interval);
    let mut before: Option<(Instant, ActivityReply)> = None;
    if live {
        print_piece(CLEAR);
    }
    for picture in 0..count {
        if picture > 0 {
            tokio::time::sleep(every).await;
        }
        let now = ask(session).await?;
        let rates = Rates::between(before.as_ref(), &now);
        if out.json {
            print_line(&activity_json(&now, &rates).to_string());
        } else if live {
            let text: String = draw(&now, &rates).lines().map(|line| format!("{line}{CLEAR_LINE}\n")).collect();
            print_piece(&format!("{HOME}{text}{CLEAR_BELOW}"));
        } else {
            print_line(draw(&now, &rates).trim_end());
        }
        before = Some((Instant::now(), now));
    }
    Ok(())
}

/// What changed a second since the picture before; nothing in the first one.
#[derive(Debug, Default, PartialEq)]
struct Rates {
    sent: u64,
    received: u64,
    calls: BTreeMap<(ModelName, u32), f64>,
}

impl Rates {
    fn between(before: Option<&(Instant, ActivityReply)>, now: &ActivityReply) -> Self {
        let Some((at, old)) = before else { return Self::default() };
        Self::over(at.elapsed().as_secs_f64().max(1e-3), old, now)
    }

    fn over(seconds: f64, old: &ActivityReply, now: &ActivityReply) -> Self {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // shown rounded
        let rate = |new: u64, old: u64| (new.saturating_sub(old) as f64 / seconds) as u64;
        let earlier = |name: &ModelName, version: u32| {
            old.models.iter().find(|m| m.name == *name && m.version == version).map_or(0, |m| m.calls)
        };
        #[allow(clippy::cast_precision_loss)] // shown with one digit
        let calls = now.models.iter().map(|m| {
            let more = m.calls.saturating_sub(earlier(&m.name, m.version)) as f64;
            ((m.name.clone(), m.version), more / seconds)
        });
        Self { sent: rate(now.sent, old.sent), received: rate(now.received, old.received), calls: calls.collect() }
    }
}

fn draw(now: &ActivityReply, rates: &Rates) -> String {
    let connected = now.peers.iter().filter(|p| p.swarm).count();
    let mut text = format!(
        "height {}, newest block {} old   {connected} of {} connected   chunks out {}/s, in {}/s (all: {}, {})\n",
        now.height,
        output::age(now.head_age_ms),
        output::plural(now.peers.len() as u64, "known member"),
        output::bytes(rates.sent),
        output::bytes(rates.received),
        output::bytes(now.sent),
        output::bytes(now.received),
    );
    if let Some(what) = &now.waiting {
        text += &format!("waiting for {what}\n");
    }
    text.push('\n');
    if !now.models.is_empty() {
        text += &models_table(now, rates);
        text.push('\n');
    }
    if !now.transfers.is_empty() {
        text += &transfers_table(now);
        text.push('\n');
    }
    text += &peers_table(now.peers.get(..PEERS).unwrap_or(&now.peers));
    if now.peers.len() > PEERS {
        text += &format!("and {} more: zero2ai status --peers\n", now.peers.len().saturating_sub(PEERS));
    }
    text
}

fn models_table(now: &ActivityReply, rates: &Rates) -> String {
    let mut table = Table::new(&["model", "state", ">in hand", ">calls/s", ">calls", ">memory"]);
    for m in &now.models {
        let rate = rates.calls.get(&(m.name.clone(), m.version)).copied().unwrap_or(0.0);
        table.row([
            format!("{}@{}", m.name, m.version),
            state_word(m.state).to_owned(),
            m.in_hand.to_string(),
            format!("{rate:.1}"),
            m.calls.to_string(),
            output::bytes(m.bytes),
        ]);
    }
    table.render(0)
}

fn transfers_table(now: &ActivityReply) -> String {
    let mut table = Table::new(&["transfer", ">chunks", ">of", ">done"]);
    for t in &now.transfers {
        let name = t.model.as_ref().map_or_else(|| t.manifest.to_string(), |(name, v)| format!("{name}@{v}"));
        let done = u64::from(t.held) * 100 / u64::from(t.chunks).max(1);
        table.row([name, t.held.to_string(), t.chunks.to_string(), format!("{done} %")]);
    }
    table.render(0)
}

fn peers_table(peers: &[PeerActivity]) -> String {
    if peers.is_empty() {
        return "No other member is known: 'zero2ai pool invite' lets one in.\n".to_owned();
    }
    let mut table = Table::new(&["peer", "swarm", ">rpc rtt ms", ">heard", "address", "rights"]);
    for p in peers {
        #[allow(clippy::cast_precision_loss)] // shown with two digits
        let rtt = p.rtt_us.map_or_else(|| "-".to_owned(), |us| format!("{:.2}", us as f64 / 1e3));
        table.row([
            p.node.short(),
            way(p).to_owned(),
            rtt,
            p.heard_ms_ago.map_or_else(|| "never".to_owned(), |ms| format!("{} ago", output::age(ms))),
            p.address.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            output::rights(p.rights),
        ]);
    }
    table.render(0)
}

/// How the swarm is connected to a peer.
fn way(p: &PeerActivity) -> &'static str {
    match (p.swarm, p.relayed) {
        (false, _) => "-",
        (true, false) => "connected",
        (true, true) => "through a relay",
    }
}

fn peer_json(p: &PeerActivity) -> Value {
    json!({
        "node": p.node.to_string(), "swarm": p.swarm, "relayed": p.relayed, "rtt_us": p.rtt_us, "heard_ms_ago": p.heard_ms_ago,
        "address": p.address.as_ref().map(ToString::to_string), "rights": p.rights.names(),
    })
}

fn activity_json(now: &ActivityReply, rates: &Rates) -> Value {
    let models = now.models.iter().map(|m| {
        json!({
            "name": m.name.to_string(), "version": m.version, "state": state_word(m.state), "in_hand": m.in_hand,
            "calls": m.calls, "calls_per_s": rates.calls.get(&(m.name.clone(), m.version)).copied().unwrap_or(0.0),
            "bytes": m.bytes,
        })
    });
    let transfers = now.transfers.iter().map(|t| {
        json!({
            "manifest": t.manifest.to_string(), "held": t.held, "chunks": t.chunks,
            "model": t.model.as_ref().map(|(name, version)| format!("{name}@{version}")),
        })
    });
    json!({
        "at_ms": now.at_ms, "height": now.height, "head_age_ms": now.head_age_ms, "waiting": now.waiting,
        "sent": now.sent, "received": now.received, "sent_per_s": rates.sent, "received_per_s": rates.received,
        "models": models.collect::<Vec<_>>(), "transfers": transfers.collect::<Vec<_>>(),
        "peers": now.peers.iter().map(peer_json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::{ManifestId, SecretKey, local::TransferActivity, state::Rights};

    use super::*;

    fn activity(peers: u8) -> ActivityReply {
        let peer = |n: u8| PeerActivity {
            node: SecretKey::from_bytes(&[n; 32]).public(),
            rights: Rights::MEMBER,
            swarm: n == 0,
            relayed: false,
            rtt_us: (n == 0).then_some(1_500),
            address: None,
            heard_ms_ago: None,
        };
        let manifest = ManifestId([7; 32]);
        ActivityReply {
            at_ms: 1,
            height: 5,
            head_age_ms: 100,
            waiting: None,
            peers: (0..peers).map(peer).collect(),
            transfers: vec![TransferActivity { manifest, model: None, held: 3, chunks: 4 }],
            models: vec![],
            sent: 3_000_000,
            received: 0,
        }
    }

    #[test]
    fn a_picture_names_what_flows_and_whom_it_leaves_out() {
        let text = draw(&activity(25), &Rates::default());
        assert!(text.contains("1 of 25 known members connected"), "{text}");
        assert!(text.contains("75 %") && text.contains("1.50") && text.contains("and 5 more"), "{text}");
        assert!(draw(&activity(0), &Rates::default()).contains("zero2ai pool invite"));
    }

    #[test]
    fn rates_are_of_what_changed() {
        let (old, mut new) = (activity(1), activity(1));
        new.sent += 2_000;
        let rates = Rates::over(2.0, &old, &new);
        assert_eq!((rates.sent, rates.received), (1_000, 0));
        new.sent = 0;
        assert_eq!(Rates::over(2.0, &old, &new).sent, 0, "a node that was restarted");
    }
}
