//! `doctor`: why can't I reach this? Checks one thing after the other, stops at nothing, and says a line each; the exit
//! code is the first failure's.
//!
//! | module | owns |
//! |---|---|
//! | [`machine`] | the home, the configuration, the running node |
//! | [`pool`] | clock, peers, chain, own rights |
//! | [`name`] | one model: ledger, record, endpoints |
//! | [`peer`] | one node: membership, address, dial, proof, answer |

mod machine;
mod name;
mod peer;
mod pool;

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use zero2ai_client::{CallError, ConnectError};
use zero2ai_proto::{
    NodeId,
    calls::{Empty, Ping, Pong},
    record::Address,
};

use crate::{
    cli::Patient,
    exit::{Exit, Failure, Outcome},
    output::{Output, Table},
    session::Session,
};

/// Patience with one node that may not be there.
const PATIENCE: Duration = Duration::from_secs(5);

/// How one check came out.
enum Finding {
    Ok(String),
    Failed(Failure),
    /// It could not be made, or there was nothing to check.
    Skipped(String),
}

/// All checks so far, in order.
#[derive(Default)]
struct Report {
    rows: Vec<(String, Finding)>,
}

impl Report {
    fn add(&mut self, check: impl Into<String>, finding: Finding) {
        self.rows.push((check.into(), finding));
    }

    fn ok(&mut self, check: impl Into<String>, says: impl Into<String>) {
        self.add(check, Finding::Ok(says.into()));
    }

    fn failed(&mut self, check: impl Into<String>, exit: Exit, says: impl Into<String>) {
        self.add(check, Finding::Failed(Failure::new(exit, says)));
    }

    fn skipped(&mut self, check: impl Into<String>, why: impl Into<String>) {
        self.add(check, Finding::Skipped(why.into()));
    }

    fn first_failure(&self) -> Option<(&str, &Failure)> {
        self.rows.iter().find_map(|(check, finding)| match finding {
            Finding::Failed(failure) => Some((check.as_str(), failure)),
            _ => None,
        })
    }

    fn json(&self) -> Value {
        let row = |(check, finding): &(String, Finding)| match finding {
            Finding::Ok(says) => json!({ "check": check, "result": "ok", "says": says }),
            Finding::Failed(failure) => {
                json!({ "check": check, "result": "failed", "says": failure.message, "code": failure.exit.name() })
            }
            Finding::Skipped(why) => json!({ "check": check, "result": "skipped", "says": why }),
        };
        let first = self.first_failure().map(|(check, _)| check);
        json!({ "first_failure": first, "checks": self.rows.iter().map(row).collect::<Vec<_>>() })
    }

    fn text(&self) -> String {
        let mut table = Table::new(&["check", "", "what was found"]);
        for (check, finding) in &self.rows {
            let (mark, says) = match finding {
                Finding::Ok(says) => ("ok", says),
                Finding::Failed(failure) => ("FAILS", &failure.message),
                Finding::Skipped(why) => ("-", why),
            };
            table.row([check.clone(), mark.to_owned(), says.replace('\n', " ")]);
        }
        table.render(0)
    }
}

/// A node's answer to a ping over an open connection, and how long it took.
async fn ping(session: &Session, node: NodeId, addresses: &[Address]) -> Result<(Pong, Duration), CallError> {
    // The first one dials; the second measures.
    session.client.call::<Ping>(node, addresses, &Empty {}, PATIENCE).await?;
    let start = std::time::Instant::now();
    let pong = session.client.call::<Ping>(node, addresses, &Empty {}, PATIENCE).await?;
    Ok((pong, start.elapsed()))
}

/// The dial's own error, if the call came to nothing because of it.
fn dial_error(error: &CallError) -> Option<&ConnectError> {
    match error {
        CallError::Connect(error) => Some(error),
        _ => None,
    }
}

fn list(addresses: &[Address]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The command.
pub(crate) async fn doctor(home: &Path, patient: Option<Patient>, out: Output) -> Outcome {
    let mut report = Report::default();
    machine::check_files(&mut report, home);
    let config = machine::check_config(&mut report, home);
    let node = machine::check_node(&mut report, home).await;
    if let Some((session, status)) = &node {
        let heartbeat = Duration::from_millis(config.unwrap_or_default().heartbeat_ms);
        pool::check(&mut report, session, status, heartbeat).await;
        match &patient {
            Some(Patient::Name(name)) => name::check(&mut report, session, status, name).await,
            Some(Patient::Peer(peer)) => peer::check(&mut report, session, *peer).await,
            None => {}
        }
    } else {
        let why = "needs the running node";
        for check in ["clock", "peers", "reach", "chain", "rights"] {
            report.skipped(check, why);
        }
        if let Some(patient) = &patient {
            report.skipped(patient.to_string(), why);
        }
    }
    out.result(&report.json(), || report.text());
    let Some((check, failure)) = report.first_failure() else { return Ok(()) };
    Err(Failure::new(failure.exit, format!("First failure, at '{check}': {}", failure.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_counts_and_everything_is_told() {
        let mut report = Report::default();
        report.ok("a", "fine");
        report.skipped("b", "nothing there");
        assert!(report.first_failure().is_none() && report.json()["first_failure"].is_null());
        report.failed("c", Exit::Clock, "an hour\nahead");
        report.failed("d", Exit::Denied, "no rights");
        assert_eq!(report.first_failure().map(|(check, f)| (check, f.exit)), Some(("c", Exit::Clock)));
        let json = report.json();
        assert_eq!((&json["first_failure"], json["checks"].as_array().map(Vec::len)), (&"c".into(), Some(4)));
        assert_eq!(json["checks"][3]["code"], "denied");
        let text = report.text();
        assert!(text.contains("c      FAILS  an hour ahead") && text.lines().count() == 5, "{text}");
    }
}
