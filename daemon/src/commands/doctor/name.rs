//! One model: its entry on the ledger, its record in the DHT and the proof in it, and whoever serves it.

use zero2ai_client::Resolution;
use zero2ai_proto::{
    ModelRef,
    calls::Source,
    local::NodeStatusReply,
    state::{Model, key},
};

use super::{Finding, Report, list, ping};
use crate::{
    exit::{Exit, Failure},
    output::{age, millis, plural},
    session::Session,
};

/// Endpoints that are dialled.
const ENDPOINTS: usize = 16;

/// See the module.
pub(super) async fn check(report: &mut Report, session: &Session, status: &NodeStatusReply, name: &ModelRef) {
    match session.client.entry::<Model>(&key::model(&name.name)).await {
        Ok(Some(model)) => {
            let says = format!("{} is proved, newest version {}", name.name, model.latest);
            report.ok("ledger", says);
        }
        Ok(None) => {
            let says = format!(
                "the ledger proves that no model '{}' was published in this pool: is the name spelled right? (One that was \
                 published this second is proved by the next block.)",
                name.name
            );
            report.failed("ledger", Exit::NotFound, says);
        }
        Err(error) => report.add("ledger", Finding::Failed(error.into())),
    }
    let found = match session.client.resolve(name, true).await {
        Ok(found) => found,
        Err(error) => {
            report.add("record", Finding::Failed(Failure::from(error).during(name)));
            return report.skipped("endpoints", "needs the record");
        }
    };
    record(report, &found, status);
    if found.endpoints.is_empty() {
        let says = format!(
            "no node announces that it serves {}@{}. On a provider: zero2ai fetch {} --serve.",
            found.name, found.version, found.name
        );
        return report.failed("endpoints", Exit::NotFound, says);
    }
    report.ok("endpoints", format!("{} announced", plural(found.endpoints.len() as u64, "endpoint")));
    for e in found.endpoints.iter().take(ENDPOINTS) {
        let check = format!("endpoint {}", e.node.short());
        match ping(session, e.node, &e.addresses).await {
            Ok((pong, rtt)) => {
                let says =
                    format!("{:.2} ms, version {}, {} calls in its queue", millis(rtt), pong.version, pong.queue);
                report.ok(check, says);
            }
            Err(error) => {
                let failure = Failure::from(error).after(&format!("It announces {}.", list(&e.addresses)));
                report.add(check, Finding::Failed(failure));
            }
        }
    }
}

fn record(report: &mut Report, found: &Resolution, status: &NodeStatusReply) {
    let record_age = u64::try_from(found.record_age.as_millis()).unwrap_or(u64::MAX);
    let says = format!(
        "{}@{} proved under height {}, record {} old",
        found.name,
        found.version,
        found.height,
        age(record_age)
    );
    match found.source {
        Source::Dht | Source::Cache => report.ok("record", format!("in Kademlia: {says}")),
        Source::Ledger if status.peers.is_empty() => {
            report.ok("record", format!("from this node's ledger, since there is no peer to ask: {says}"));
        }
        Source::Ledger => report.failed(
            "record",
            Exit::NotFound,
            format!(
                "Kademlia has no record of {}: others must ask a node that knows the ledger. Whoever serves it renews the record \
                 within the minute; if nobody does, serve it: zero2ai fetch {} --serve.",
                found.name, found.name
            ),
        ),
    }
}
