//! Step 6: the audit. Who published, who validated with what figures, who used it, when, with which results; verified with
//! nothing but the genesis.

use std::time::Duration;

use zero2ai_proto::encode;

use super::{Demo, cluster::USER, report, wait::until};
use crate::{
    commands::{
        audit::{check, gather, report_text},
        write_file,
    },
    exit::{Exit, Failure, Outcome, file_error},
};

/// Every provider's receipts can be had within this after the halt: the anchors are final already.
const GATHER: Duration = Duration::from_secs(30);

/// The step.
pub(crate) async fn run(demo: &mut Demo) -> Outcome {
    demo.heading("6. The audit: gathered by the user's node, verified offline from the genesis alone");
    let used = demo.report.predict.as_ref().map_or(0, |p| p.requests) + demo.report.halted.as_ref().map_or(0, |h| h.ok);
    let session = demo.session(USER)?;
    let progress = demo.progress("gathering entries, proofs and receipts");
    let (export, audit) = until("the audit holds every receipt", GATHER, async || {
        let export = gather(session, &demo.model).await?;
        let audit = check(session.genesis(), &export)?;
        Ok((audit.receipts.len() >= used).then_some((export, audit)))
    })
    .await?;
    drop(progress);
    demo.say(&report_text(&audit, 3));

    // The same bytes, as a program would hold them that has two files and no network.
    let bytes = encode(&export)?;
    let folder = demo.export.clone().unwrap_or_else(|| demo.cluster.root.clone());
    std::fs::create_dir_all(&folder).map_err(|e| file_error("make the folder", &folder, &e))?;
    let (audit_file, genesis_file) = (folder.join("audit.cbor"), folder.join("genesis.cbor"));
    write_file("write the audit to", &audit_file, &bytes)?;
    write_file("write the genesis to", &genesis_file, session.genesis())?;
    let program = std::env::current_exe()
        .map_err(|e| Failure::new(Exit::Internal, format!("This program cannot find its own file: {e}.")))?;
    let verifier = tokio::process::Command::new(&program)
        .args(["audit", "verify", "--json", "--home", "/nonexistent", "--genesis"])
        .arg(&genesis_file)
        .arg(&audit_file)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(GATHER, verifier)
        .await
        .map_err(|_| Failure::new(Exit::Timeout, "the offline verifier did not end"))?
        .map_err(|e| file_error("start", &program, &e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::new(Exit::Unverified, format!("the offline verifier refused the audit: {said}")));
    }
    let place = if demo.export.is_some() { format!(" ({})", folder.display()) } else { String::new() };
    demo.say(&format!(
        "   verified by a second process that holds two files alone{place}: certificate -> header -> state and log proofs -> receipts"
    ));
    demo.report.audit = Some(report::Audit { verified: true, receipts: audit.receipts.len() });
    Ok(())
}
