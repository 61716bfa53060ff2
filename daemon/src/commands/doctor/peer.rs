//! One node of the pool: whether it is a member, where it is said to be, and how far a connection to it gets.

use zero2ai_client::ConnectError;
use zero2ai_proto::{
    NodeId,
    calls::Empty,
    local::{PeerCall, PeerKnown, PoolShow},
    record::Address,
    state::Rights,
};

use super::{Finding, Report, dial_error, list, ping};
use crate::{
    exit::{Exit, Failure},
    output::{self, age, millis},
    session::{QUICK, Session},
};

/// See the module.
pub(super) async fn check(report: &mut Report, session: &Session, node: NodeId) {
    member(report, session, node).await;
    let known = match session.call::<PeerKnown>(&PeerCall { node }, QUICK).await {
        Ok(known) => known,
        Err(failure) => {
            report.add("address", Finding::Failed(failure));
            return skip(report, &["dial", "pool proof", "answer"], "needs an address");
        }
    };
    let heard = known
        .heard_ms_ago
        .map_or_else(|| "not heard of since this node started".into(), |ms| format!("last heard {} ago", age(ms)));
    let swarm = match (known.connected, known.relayed) {
        (true, true) => "connected in the swarm, through a relay",
        (true, false) => "connected in the swarm, directly",
        (false, _) => "not connected in the swarm",
    };
    if known.addresses.is_empty() {
        let says = format!(
            "nobody said where {} is, and it is {swarm}: is it running? A node announces itself every few seconds once it is.",
            node.short()
        );
        report.failed("address", Exit::NotFound, says);
        return skip(report, &["dial", "pool proof", "answer"], "needs an address");
    }
    report.ok("address", format!("{} ({heard}, {swarm})", list(&known.addresses)));
    match ping(session, node, &known.addresses).await {
        Ok((pong, rtt)) => {
            report.ok("dial", format!("{}, and the identity is the right one", way(session, node, &known.addresses)));
            report.ok("pool proof", "both ends proved the pool key");
            let says = format!("{:.2} ms, version {}, height {}", millis(rtt), pong.version, pong.height);
            report.ok("answer", says);
        }
        Err(error) => {
            let stage = match dial_error(&error) {
                Some(ConnectError::WrongPoolKey { .. }) => 1,
                Some(_) => 0,
                None => 2,
            };
            let stages = ["dial", "pool proof", "answer"];
            for check in stages.iter().take(stage) {
                report.ok(*check, "done");
            }
            report.add(stages[stage], Finding::Failed(Failure::from(error)));
            skip(report, &stages[stage + 1..], "comes after what failed");
        }
    }
}

/// The way of the connection that stands.
fn way(session: &Session, node: NodeId, addresses: &[Address]) -> &'static str {
    match session.client.is_direct(node, addresses) {
        Some(true) => "a direct connection stands",
        Some(false) => "a connection stands, by way of this node and the swarm",
        None => "a connection stood",
    }
}

async fn member(report: &mut Report, session: &Session, node: NodeId) {
    let pool = match session.call::<PoolShow>(&Empty {}, QUICK).await {
        Ok(pool) => pool,
        Err(failure) => return report.add("member", Finding::Failed(failure)),
    };
    match pool.members.iter().find(|(n, _)| *n == node) {
        Some((_, m)) if m.rights != Rights::default() => report.ok("member", output::rights(m.rights)),
        Some(_) => report.failed(
            "member",
            Exit::Denied,
            format!("{} was revoked: nobody in the pool talks to it.", node.short()),
        ),
        None => report.failed(
            "member",
            Exit::Denied,
            format!(
                "{} was never admitted to this pool: check the key with 'zero2ai status' on its machine.",
                node.short()
            ),
        ),
    }
}

fn skip(report: &mut Report, checks: &[&str], why: &str) {
    for check in checks {
        report.skipped(*check, why);
    }
}
