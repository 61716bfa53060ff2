//! An audit as Python's plain values.

use pyo3::{
    Bound, Py, PyAny, PyResult, Python,
    types::{PyBytes, PyDict, PyDictMethods as _, PyList, PyListMethods as _},
};
use zero2ai_client::{Audit, AuditReport};
use zero2ai_proto::{PublicKey, encode, state::Verdict};

use crate::{failure::Failure, shape::status};

/// What it proves, the bytes to check it again, and whose receipts are missing.
pub(crate) fn audit(py: Python<'_>, audit: &Audit) -> PyResult<Py<PyAny>> {
    let encoded = encode(&audit.export).map_err(|e| Failure::new("internal", e.to_string()).raise(py))?;
    let report = &audit.report;
    let dict = PyDict::new(py);
    dict.set_item("name", report.name.to_string())?;
    dict.set_item("owner", report.model.owner.to_string())?;
    dict.set_item("height", report.header.height)?;
    dict.set_item("time_ms", report.header.time_ms)?;
    dict.set_item("signatures", report.signatures)?;
    dict.set_item("versions", versions(py, report)?)?;
    dict.set_item("endorsements", endorsements(py, report)?)?;
    dict.set_item("events", events(py, report)?)?;
    dict.set_item("uses", uses(py, report)?)?;
    dict.set_item("missing", audit.missing.iter().map(PublicKey::to_string).collect::<Vec<_>>())?;
    dict.set_item("encoded", PyBytes::new(py, &encoded))?;
    Ok(dict.into_any().unbind())
}

fn versions<'py>(py: Python<'py>, report: &AuditReport) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (number, version) in &report.versions {
        let score = report.scores.iter().find(|(of, _)| of == number).and_then(|(_, s)| s.score_ppm);
        let dict = PyDict::new(py);
        dict.set_item("version", number)?;
        dict.set_item("manifest", version.manifest.to_string())?;
        dict.set_item("publisher", version.publisher.to_string())?;
        dict.set_item("bytes", version.bytes)?;
        dict.set_item("height", version.height)?;
        dict.set_item("time_ms", version.time_ms)?;
        dict.set_item("withdrawn", version.withdrawn)?;
        dict.set_item("score", score.map(part))?;
        list.append(dict)?;
    }
    Ok(list)
}

fn endorsements<'py>(py: Python<'py>, report: &AuditReport) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for row in &report.endorsements {
        let endorsement = &row.endorsement;
        let verdict = match endorsement.verdict {
            Verdict::Positive => "positive",
            Verdict::Negative => "negative",
            Verdict::Abstain => "abstain",
        };
        let dict = PyDict::new(py);
        dict.set_item("version", row.version)?;
        dict.set_item("validator", row.validator.to_string())?;
        dict.set_item("samples", endorsement.counts.samples)?;
        dict.set_item("precision", part(endorsement.precision_ppm))?;
        dict.set_item("recall", part(endorsement.recall_ppm))?;
        dict.set_item("f1", part(endorsement.f1_ppm))?;
        dict.set_item("verdict", verdict)?;
        dict.set_item("height", endorsement.height)?;
        list.append(dict)?;
    }
    Ok(list)
}

fn events<'py>(py: Python<'py>, report: &AuditReport) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for event in &report.events {
        let dict = PyDict::new(py);
        dict.set_item("kind", event.kind.name())?;
        dict.set_item("version", event.version)?;
        dict.set_item("account", event.account.to_string())?;
        dict.set_item("tx", event.tx.to_string())?;
        dict.set_item("height", event.height)?;
        dict.set_item("time_ms", event.time_ms)?;
        list.append(dict)?;
    }
    Ok(list)
}

fn uses<'py>(py: Python<'py>, report: &AuditReport) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for row in &report.receipts {
        let dict = PyDict::new(py);
        dict.set_item("account", row.account.to_string())?;
        dict.set_item("provider", row.provider.to_string())?;
        dict.set_item("index", row.index)?;
        dict.set_item("receipt", row.id.to_string())?;
        dict.set_item("version", row.version)?;
        dict.set_item("asked_ms", row.asked_ms)?;
        dict.set_item("answered_ms", row.answered_ms)?;
        dict.set_item("units", row.units)?;
        dict.set_item("status", status(row.status))?;
        list.append(dict)?;
    }
    Ok(list)
}

/// Millionths as a part of one.
fn part(ppm: u32) -> f64 {
    f64::from(ppm) / 1e6
}
