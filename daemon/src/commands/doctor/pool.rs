//! What the node's own pool looks like from here: clock against peers, connections, chain, own rights.

use std::time::Duration;

use futures::future::join_all;
use zero2ai_clock::now_ms;
use zero2ai_proto::{
    NodeId,
    calls::{Empty, Pong},
    limits::CLOCK_SKEW_MS,
    local::{NodeStatusReply, PeerCall, PeerKnown, PoolShow, Reach},
    state::Rights,
};

use super::{Report, ping};
use crate::{
    commands::status::reached,
    exit::Exit,
    output::{self, age, plural},
    session::{QUICK, Session},
};

/// Peers whose clocks are asked.
const PEERS: usize = 4;
/// How much older than its heartbeat the newest block may be: a signer that died costs a few rounds.
const SLACK: Duration = Duration::from_secs(60);
/// Blocks that this node may lie behind a peer; they come a batch at a time.
const BEHIND: u64 = 64;

/// See the module.
pub(super) async fn check(report: &mut Report, session: &Session, status: &NodeStatusReply, heartbeat: Duration) {
    let pongs = join_all(status.peers.iter().take(PEERS).map(|peer| pong(session, *peer))).await;
    let pongs: Vec<(NodeId, Pong, i128)> = pongs.into_iter().flatten().collect();
    clock(report, &pongs);
    peers(report, session, status, pongs.len()).await;
    reach(report, status);
    chain(report, status, heartbeat, &pongs);
    if status.rights == Rights::default() {
        report.failed(
            "rights",
            Exit::Denied,
            "this node is not admitted to the pool, or was revoked: ask an administrator for 'zero2ai pool rights'.",
        );
    } else {
        report.ok("rights", output::rights(status.rights));
    }
}

/// A peer's answer, and how far its clock is ahead of ours, milliseconds.
async fn pong(session: &Session, node: NodeId) -> Option<(NodeId, Pong, i128)> {
    let known = session.call::<PeerKnown>(&PeerCall { node }, QUICK).await.ok()?;
    let (pong, rtt) = ping(session, node, &known.addresses).await.ok()?;
    let then = i128::from(now_ms()) - i128::try_from(rtt.as_millis() / 2).unwrap_or(0);
    let ahead = i128::from(pong.time_ms) - then;
    Some((node, pong, ahead))
}

/// The median of the peers decides: one of them may be wrong.
fn clock(report: &mut Report, pongs: &[(NodeId, Pong, i128)]) {
    let mut ahead: Vec<i128> = pongs.iter().map(|p| p.2).collect();
    ahead.sort_unstable();
    let Some(median) = ahead.get(ahead.len() / 2) else {
        return report.skipped("clock", "no peer answers to compare with");
    };
    let (off, which) = (median.unsigned_abs(), if *median > 0 { "behind" } else { "ahead of" });
    if off > u128::from(CLOCK_SKEW_MS) {
        let says = format!(
            "this machine's clock is {} {which} its peers': blocks and requests are refused beyond {}. Set it, best by NTP.",
            age(u64::try_from(off).unwrap_or(u64::MAX)),
            age(CLOCK_SKEW_MS)
        );
        report.failed("clock", Exit::Clock, says);
    } else {
        report.ok("clock", format!("{off} ms {which} {}", plural(ahead.len() as u64, "peer")));
    }
}

async fn peers(report: &mut Report, session: &Session, status: &NodeStatusReply, answered: usize) {
    let others = match session.call::<PoolShow>(&Empty {}, QUICK).await {
        Ok(pool) => pool.members.iter().filter(|(n, m)| *n != status.node && m.rights != Rights::default()).count(),
        Err(_) => 0,
    };
    let (connected, members) = (status.peers.len() as u64, plural(others as u64, "other member"));
    if connected == 0 && others > 0 {
        let says = format!(
            "no peer is connected, and the pool has {members}. Check that they run, and that UDP passes between the machines \
             (listen_rpc and listen_swarm in config.toml are loopback unless set)."
        );
        report.failed("peers", Exit::Unreachable, says);
    } else if connected > 0 && answered == 0 {
        let says = "the swarm is connected, but no peer answers peer RPC: check that its UDP port passes too.";
        report.failed("peers", Exit::Unreachable, says);
    } else if others == 0 {
        report.ok("peers", "the only member of its pool");
    } else {
        report.ok("peers", format!("{connected} connected, {members}"));
    }
}

/// What AutoNAT found. A NAT is no failure while a relay stands in for it.
fn reach(report: &mut Report, status: &NodeStatusReply) {
    let placed = &status.placed;
    if placed.reach == Reach::Behind && placed.relays.is_empty() {
        let says = format!(
            "peers see this node at another address than its own, cannot dial it there, and none of the {} relays for it:              other members behind NATs cannot call it. Forward its two UDP ports in the router (listen_rpc and listen_swarm in              config.toml), or run a member of this pool on a machine that can be reached: it relays by itself.",
            plural(status.peers.len() as u64, "connected peer")
        );
        return report.failed("reach", Exit::Unreachable, says);
    }
    report.ok("reach", reached(placed));
}

fn chain(report: &mut Report, status: &NodeStatusReply, heartbeat: Duration, pongs: &[(NodeId, Pong, i128)]) {
    let (height, head) = (status.height, age(status.head_age_ms));
    let highest = pongs.iter().map(|p| p.1.height).max().unwrap_or(0);
    let limit = heartbeat.saturating_mul(3).saturating_add(SLACK);
    let says = if status.halted {
        format!(
            "halted at height {height}: {} and no block comes. More than two thirds of the signers must be up (zero2ai pool show).",
            plural(u64::from(status.mempool), "transaction") + " waiting"
        )
    } else if highest > height.saturating_add(BEHIND) {
        format!("height {height}, and a peer is at {highest}: this node is catching up. Wait, and look again.")
    } else if u128::from(status.head_age_ms) > limit.as_millis() {
        format!("the newest block, {height}, is {head} old: the signers are not up, or this node hears none of them.")
    } else {
        return report.ok("chain", format!("height {height}, newest block {head} old"));
    };
    report.failed("chain", Exit::Unavailable, says);
}
