//! Which part of a checked audit is shown, and how it looks as comma-separated values.

use zero2ai_ledger::{AuditReport, audit::ReceiptRow};
use zero2ai_proto::state::{Event, EventKind};

use super::{status, verdict};
use crate::{cli::Shown, output::utc};

/// The head of the values: empty where a line has nothing to say.
const HEAD: &str = "what,time_ms,time_utc,version,account,provider,height,id,units,status,samples,precision_ppm,recall_ppm,\
                    f1_ppm,verdict,input,output";

/// Takes out what is not to be shown. The model and its versions stay.
pub(crate) fn narrow(report: &mut AuditReport, shown: &Shown) {
    let when = |ms: u64| shown.from.is_none_or(|from| ms >= from) && shown.to.is_none_or(|to| ms < to);
    report.events.retain(|e| when(e.time_ms) && shown.account.is_none_or(|who| e.account == who));
    let events = &report.events;
    let told = |tx| events.iter().any(|e| e.kind == EventKind::Endorsed && e.tx == tx);
    report.endorsements.retain(|row| told(row.endorsement.tx));
    let took_part = |row: &ReceiptRow| shown.account.is_none_or(|who| row.account == who || row.provider == who);
    report.receipts.retain(|row| when(row.answered_ms) && took_part(row));
}

/// One line for each thing that happened: the history first, then the uses. Every value is a number, a key, a hash or a word
/// of this program: none needs quotes.
pub(crate) fn csv(report: &AuditReport) -> String {
    let history = report.events.iter().map(|e| event_line(report, e));
    let uses = report.receipts.iter().map(use_line);
    let lines: String = history.chain(uses).map(|line| line + "\n").collect();
    format!("{HEAD}\n{lines}")
}

fn event_line(report: &AuditReport, e: &Event) -> String {
    let graded = report.endorsements.iter().find(|row| row.endorsement.tx == e.tx && e.kind == EventKind::Endorsed);
    let figures = graded.map_or_else(
        || ",,,,".to_owned(),
        |row| {
            let e = &row.endorsement;
            let figures = [e.counts.samples, e.precision_ppm, e.recall_ppm, e.f1_ppm].map(|n| n.to_string());
            format!("{},{}", figures.join(","), verdict(e.verdict))
        },
    );
    let (what, when) = (e.kind.name(), utc(e.time_ms));
    format!("{what},{},{when},{},{},,{},{},,,{figures},,", e.time_ms, e.version, e.account, e.height, e.tx)
}

fn use_line(row: &ReceiptRow) -> String {
    let (ms, when) = (row.answered_ms, utc(row.answered_ms));
    format!(
        "used,{ms},{when},{},{},{},,{},{},{},,,,,,{},{}",
        row.version,
        row.account,
        row.provider,
        row.id,
        row.units,
        status(row.status),
        row.input,
        row.output
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use zero2ai_proto::{
        BlockId, Digest, ManifestId, NodeId, PoolId, SecretKey, TxId,
        block::Header,
        manifest::{Domain, Format, Task},
        receipt::Status,
        state::{Model, Verdict, Version},
        tx::Thresholds,
    };

    use super::*;

    fn id(n: u8) -> NodeId {
        SecretKey::from_bytes(&[n; 32]).public()
    }

    /// Published by 1 at 1,000, used by 2 of provider 3 at 2,000 and by 4 of provider 3 at 3,000.
    fn report() -> AuditReport {
        let pool = PoolId([1; 32]);
        let zero = Digest([0; 32]);
        let header = Header {
            version: 1,
            rules_version: 1,
            pool,
            height: 9,
            time_ms: 9_000,
            parent: BlockId([0; 32]),
            txs_root: zero,
            app_hash: zero,
            signers_hash: zero,
            next_signers_hash: zero,
            proposer: id(1),
        };
        let version = Version {
            manifest: ManifestId([1; 32]),
            publisher: id(1),
            format: Format::Onnx,
            task: Task::Tensors,
            domain: Domain::Pool,
            bytes: 1,
            chunks: 1,
            base: None,
            thresholds: Thresholds::default(),
            height: 2,
            time_ms: 1_000,
            withdrawn: false,
        };
        let tx = TxId([5; 32]);
        let published = Event { kind: EventKind::Published, version: 1, account: id(1), tx, height: 2, time_ms: 1_000 };
        let used = |account: u8, ms: u64| ReceiptRow {
            account: id(account),
            provider: id(3),
            index: ms,
            id: zero,
            version: 1,
            asked_ms: ms - 1,
            answered_ms: ms,
            units: 7,
            status: Status::Complete,
            input: zero,
            output: zero,
        };
        AuditReport {
            pool,
            name: "lab/m".parse().unwrap(),
            header,
            signatures: (1, 1),
            model: Model { owner: id(1), latest: 1, channels: vec![], events: 1 },
            versions: vec![(1, version)],
            endorsements: vec![],
            rounds: vec![],
            scores: vec![],
            events: vec![published],
            receipts: vec![used(2, 2_000), used(4, 3_000)],
        }
    }

    #[test]
    fn what_is_shown_is_an_accounts_or_a_times() {
        let counts = |shown: Shown| {
            let mut report = report();
            narrow(&mut report, &shown);
            assert_eq!(report.versions.len(), 1);
            (report.events.len(), report.receipts.len())
        };
        let all = Shown::default();
        assert_eq!(counts(all), (1, 2));
        assert_eq!(counts(Shown { account: Some(id(1)), ..all }), (1, 0));
        assert_eq!(counts(Shown { account: Some(id(2)), ..all }), (0, 1));
        assert_eq!(counts(Shown { account: Some(id(3)), ..all }), (0, 2), "it answered both");
        assert_eq!(counts(Shown { from: Some(1_001), ..all }), (0, 2));
        assert_eq!(counts(Shown { from: Some(1_000), to: Some(3_000), ..all }), (1, 1));
        assert_eq!(counts(Shown { account: Some(id(4)), to: Some(3_000), ..all }), (0, 0));
    }

    #[test]
    fn every_line_has_as_many_values_as_the_head() {
        let mut report = report();
        let tx = TxId([6; 32]);
        let event = Event { kind: EventKind::Endorsed, version: 1, account: id(2), tx, height: 3, time_ms: 1_500 };
        report.events.push(event);
        let counts = zero2ai_proto::tx::Endorse {
            name: "lab/m".parse().unwrap(),
            version: 1,
            classes: vec![],
            samples: 100,
            correct: 98,
            p50_us: 1,
            dataset_root: Digest([0; 32]),
            predictions_root: Digest([0; 32]),
        };
        let endorsement = zero2ai_proto::state::Endorsement {
            counts,
            precision_ppm: 1,
            recall_ppm: 2,
            f1_ppm: 3,
            quality_ppm: 3,
            verdict: Verdict::Abstain,
            height: 3,
            tx,
            committed: None,
        };
        let row = zero2ai_ledger::audit::EndorsementRow { version: 1, validator: id(2), endorsement };
        report.endorsements.push(row);
        let text = csv(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        let columns = |line: &str| line.split(',').count();
        assert!(lines.iter().all(|line| columns(line) == columns(HEAD)), "{text}");
        assert!(lines[2].starts_with("endorsed,1500,1970-01-01 00:00:01,1,"), "{}", lines[2]);
        assert!(lines[2].ends_with(",,,100,1,2,3,abstain,,"), "{}", lines[2]);
        assert!(lines[3].starts_with("used,2000,") && lines[3].contains(",7,complete,"), "{}", lines[3]);
    }
}
