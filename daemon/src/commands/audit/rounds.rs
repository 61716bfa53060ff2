//! Rounds of an audited model, as JSON and as a table.

use serde_json::{Value, json};
use zero2ai_ledger::audit::{AuditReport, RoundRow};

use crate::{
    commands::{
        validate::{endorsement_json, verdict},
        validator::stake::selection,
    },
    output::{Table, ppm},
};

pub(super) fn json(row: &RoundRow) -> Value {
    let outcome = row.state.outcome;
    let revealed = row.entries.iter().filter_map(|entry| {
        let mut json = endorsement_json(&entry.validator, entry.entry.found.as_ref()?);
        json["opened"] = entry.entry.opened.into();
        json["contradicted_by"] = entry.contradiction.as_ref().map(|c| c.reporter.to_string()).into();
        Some(json)
    });
    json!({
        "version": row.version, "round": row.round, "opened": row.state.opened, "end": row.state.end(),
        "selection": selection(row.state.selection), "revealed": revealed.collect::<Vec<_>>(),
        "score": outcome.and_then(|o| o.score_ppm).map(|s| f64::from(s) / 1e6),
        "confidence": outcome.map(|o| f64::from(o.confidence_ppm) / 1e6),
    })
}

/// The rounds for people; empty if there are none.
pub(super) fn text(report: &AuditReport, indent: usize) -> String {
    if report.rounds.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[">version", ">round", "committee", "validated by", ">F1", "verdict", "stands up"]);
    for row in &report.rounds {
        for entry in &row.entries {
            let Some(found) = &entry.entry.found else { continue };
            let stands = if entry.contradiction.is_some() { "no: leaves contradict it" } else { "yes" };
            table.row([
                row.version.to_string(),
                row.round.to_string(),
                selection(row.state.selection).to_owned(),
                entry.validator.short(),
                ppm(found.f1_ppm),
                verdict(found.verdict).to_owned(),
                stands.to_owned(),
            ]);
        }
    }
    format!("\n{}", table.render(indent))
}
