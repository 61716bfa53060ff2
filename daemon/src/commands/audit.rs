//! `audit`: who published, graded and used a model. What the node gathers is checked here, from the genesis alone, before
//! a line of it is shown; `audit verify` does the same from two files, without any node. `audit re-run` is in `rerun`, which part
//! is shown in `shown`.

pub(crate) mod rerun;
mod rounds;
mod shown;

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use zero2ai_ledger::{AuditReport, verify_audit};
use zero2ai_proto::{
    ModelName, PoolId, decode, encode,
    limits::SIGNED_BYTES,
    local::{Audit, AuditCall},
    pool::Genesis,
    receipt::{AuditExport, Status},
};

use super::{
    read_file,
    validate::{endorsement_json, score_text, verdict},
    write_file,
};
use crate::{
    cli::Shown,
    exit::{Exit, Failure, Outcome},
    output::{self, Output, Table, facts, plural, ppm},
    session::Session,
};

/// Patience for an audit: the node asks every provider for its receipts, page by page.
const GATHER: Duration = Duration::from_secs(120);
/// Bytes of an exported audit that are read: a receipt with its proof takes about 2 kB, so this is 100,000 of them.
const EXPORT_BYTES: u64 = 256 * 1024 * 1024;
/// Receipts shown as text; `--json` gives all.
const SHOWN_RECEIPTS: usize = 12;

/// Asks the node for everything the ledger and the providers hold on a model.
pub(crate) async fn gather(session: &Session, name: &ModelName) -> Outcome<AuditExport> {
    let mut pieces = session.stream::<Audit>(&AuditCall { name: name.clone() }, GATHER).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await.transpose()? {
        bytes.extend_from_slice(&piece.data);
        if bytes.len() as u64 > EXPORT_BYTES {
            return Err(Failure::new(Exit::Invalid, format!("The audit is longer than {EXPORT_BYTES} bytes.")));
        }
    }
    Ok(decode(&bytes, bytes.len())?)
}

/// Checks an audit with nothing but an encoded genesis: signer sets, header, entries, anchors, receipts.
pub(crate) fn check(genesis: &[u8], export: &AuditExport) -> Outcome<AuditReport> {
    verify_audit(&PoolId::of(genesis), export).map_err(|e| {
        Failure::new(
            Exit::Unverified,
            format!("The audit does not hold: {e}. Whoever gave it altered it, or it was damaged on the way; ask another node."),
        )
    })
}

/// The command.
pub(crate) async fn audit(
    session: &Session,
    name: ModelName,
    export: Option<&Path>,
    shown: &Shown,
    out: Output,
) -> Outcome {
    let gathered = gather(session, &name).await?;
    let mut report = check(session.genesis(), &gathered)?;
    shown::narrow(&mut report, shown);
    if let Some(path) = export {
        write_file("write the audit to", path, &encode(&gathered)?)?;
    }
    out.result(&report_json(&report), || {
        if shown.csv {
            return shown::csv(&report);
        }
        let kept = export.map(|p| format!("\nThe audit with its proofs is in {}.", p.display())).unwrap_or_default();
        format!("{}{kept}", report_text(&report, 0))
    });
    Ok(())
}

/// Reads an exported audit and checks it from the genesis in another file.
pub(crate) fn read_files(file: &Path, genesis: &Path) -> Outcome<AuditReport> {
    let bytes = read_file("read the audit in", file, EXPORT_BYTES)?;
    let genesis = read_file("read the genesis in", genesis, SIGNED_BYTES as u64)?;
    let invalid = |what: &str, e: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Invalid,
            format!("The {what} file cannot be read: {e}. Was it exported by this program, and copied whole?"),
        )
    };
    Genesis::read(&genesis).map_err(|e| invalid("genesis", &e))?;
    let export: AuditExport = decode(&bytes, bytes.len()).map_err(|e| invalid("audit", &e))?;
    check(&genesis, &export)
}

/// `audit verify`: the same check from two files.
pub(crate) fn verify_files(file: &Path, genesis: &Path, shown: &Shown, out: Output) -> Outcome {
    let mut report = read_files(file, genesis)?;
    shown::narrow(&mut report, shown);
    out.result(&report_json(&report), || {
        if shown.csv {
            return shown::csv(&report);
        }
        format!("VERIFIED offline, from the genesis alone.\n\n{}", report_text(&report, 0))
    });
    Ok(())
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Complete => "complete",
        Status::Checkpoint => "checkpoint",
        Status::Cancelled => "cancelled",
    }
}

/// The report as JSON.
pub(crate) fn report_json(r: &AuditReport) -> Value {
    let versions = r.versions.iter().map(|(number, v)| {
        let score = r.scores.iter().find(|(of, _)| of == number).and_then(|(_, s)| s.score_ppm);
        json!({
            "version": number, "publisher": v.publisher.to_string(), "manifest": v.manifest.to_string(), "bytes": v.bytes,
            "height": v.height, "time_ms": v.time_ms, "withdrawn": v.withdrawn,
            "score": score.map(|s| f64::from(s) / 1e6),
        })
    });
    let endorsements = r.endorsements.iter().map(|row| {
        let mut json = endorsement_json(&row.validator, &row.endorsement);
        json["version"] = row.version.into();
        json
    });
    let events = r.events.iter().map(|e| {
        json!({ "kind": e.kind.name(), "version": e.version, "account": e.account.to_string(), "height": e.height, "time_ms": e.time_ms, "tx": e.tx.to_string() })
    });
    let receipts = r.receipts.iter().map(|row| {
        json!({
            "account": row.account.to_string(), "provider": row.provider.to_string(), "index": row.index,
            "id": row.id.to_string(), "version": row.version, "asked_ms": row.asked_ms, "answered_ms": row.answered_ms,
            "units": row.units, "status": status(row.status), "input": row.input.to_string(), "output": row.output.to_string(),
        })
    });
    json!({
        "verified": true, "pool": r.pool.to_string(), "name": r.name.to_string(), "height": r.header.height,
        "signatures": r.signatures.0, "signers": r.signatures.1, "owner": r.model.owner.to_string(),
        "versions": versions.collect::<Vec<_>>(), "endorsements": endorsements.collect::<Vec<_>>(),
        "rounds": r.rounds.iter().map(rounds::json).collect::<Vec<_>>(),
        "events": events.collect::<Vec<_>>(), "receipts": receipts.collect::<Vec<_>>(),
    })
}

/// The report for people, behind `indent` spaces.
pub(crate) fn report_text(r: &AuditReport, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let block = |text: String| text.lines().map(|l| format!("{pad}{l}\n")).collect::<String>();
    let mut text = block(facts(&[
        ("model", r.name.to_string()),
        ("pool", r.pool.to_string()),
        ("as of", format!("block {}, {} UTC", r.header.height, output::utc(r.header.time_ms))),
        ("certified by", format!("{} of {} signers", r.signatures.0, r.signatures.1)),
    ]));

    let mut versions = Table::new(&[">version", "published by", "when (UTC)", ">block", ">bytes", "score"]);
    for (number, v) in &r.versions {
        let score = r.scores.iter().find(|(of, _)| of == number).map(|(_, s)| score_text(s.score_ppm, s.datasets));
        let withdrawn = if v.withdrawn { ", withdrawn" } else { "" };
        versions.row([
            number.to_string(),
            v.publisher.short(),
            output::utc(v.time_ms),
            v.height.to_string(),
            v.bytes.to_string(),
            format!("{}{withdrawn}", score.unwrap_or_else(|| "none yet".into())),
        ]);
    }
    text += &format!("\n{}", versions.render(indent));

    if !r.endorsements.is_empty() {
        let mut table =
            Table::new(&[">version", "validated by", ">samples", ">precision", ">recall", ">F1", "verdict", ">block"]);
        for row in &r.endorsements {
            let e = &row.endorsement;
            table.row([
                row.version.to_string(),
                row.validator.short(),
                e.counts.samples.to_string(),
                ppm(e.precision_ppm),
                ppm(e.recall_ppm),
                ppm(e.f1_ppm),
                verdict(e.verdict).into(),
                e.height.to_string(),
            ]);
        }
        text += &format!("\n{}", table.render(indent));
    }
    text + &rounds::text(r, indent) + &receipts_text(r, indent)
}

fn receipts_text(r: &AuditReport, indent: usize) -> String {
    let pad = " ".repeat(indent);
    if r.receipts.is_empty() {
        return format!("\n{pad}No anchored receipt of a use is shown to this account.\n");
    }
    let mut table =
        Table::new(&["used by", "answered by", ">version", "when (UTC)", ">units", "ended", "result (hash)"]);
    for row in r.receipts.iter().take(SHOWN_RECEIPTS) {
        let hash: String = row.output.to_string().chars().take(16).collect();
        table.row([
            row.account.short(),
            row.provider.short(),
            row.version.to_string(),
            output::utc(row.answered_ms),
            row.units.to_string(),
            status(row.status).into(),
            hash,
        ]);
    }
    let mut text = format!("\n{}", table.render(indent));
    let count = r.receipts.len();
    if count > SHOWN_RECEIPTS {
        text += &format!("{pad}... and {} more: --json shows all\n", count - SHOWN_RECEIPTS);
    }
    let units: u64 = r.receipts.iter().map(|row| row.units).fold(0, u64::saturating_add);
    text + &format!("{pad}{}, {} in all\n", plural(count as u64, "receipt"), plural(units, "unit"))
}
