//! The audit: what it proves offline from the genesis, and which part a changed byte is found by.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{Pool, audited, id, name};
use zero2ai_ledger::{AuditError, LightError, verify_audit};
use zero2ai_proto::{
    PoolId, decode, encode,
    receipt::{AuditExport, ReceiptError, Status},
    state::{EventKind, Verdict},
};

const MAX: usize = 1 << 20;

#[test]
fn who_published_graded_and_used_it() {
    let (pool, export) = audited();
    let report = verify_audit(&pool.ledger.pool(), &export).unwrap();
    assert_eq!(report.signatures, (4, 4));
    assert_eq!((report.versions.len(), report.versions[0].1.publisher), (1, id(1)));
    assert_eq!(report.endorsements.len(), 3);
    assert!(report.endorsements.iter().all(|e| e.endorsement.verdict == Verdict::Positive));
    assert_eq!(report.scores[0].1.score_ppm, Some(980_000));
    let kinds: Vec<_> = report.events.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::Published, EventKind::Endorsed, EventKind::Endorsed, EventKind::Endorsed]);
    assert_eq!(report.receipts.len(), 5);
    let first = &report.receipts[0];
    assert_eq!((first.account, first.provider, first.units, first.status), (id(5), id(3), 1, Status::Complete));
}

/// "A byte flipped in … a receipt, an endorsement … is detected, and the test says by what."
#[test]
fn a_flipped_byte_anywhere_is_found_and_named() {
    let (pool, export) = audited();
    let bytes = encode(&export).unwrap();
    let mut found = BTreeMap::<&str, u32>::new();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let by = match decode::<AuditExport>(&flipped, MAX).map(|e| verify_audit(&pool.ledger.pool(), &e)) {
            Err(_) => "the codec",
            Ok(Ok(_)) => panic!("byte {at} was changed and nothing noticed"),
            Ok(Err(why)) => part(&why),
        };
        *found.entry(by).or_default() += 1;
    }
    for by in ["the codec", "pool", "path", "certificate", "header", "state proof", "anchor", "log proof"] {
        assert!(found.contains_key(by), "nothing was found by {by}: {found:?}");
    }
}

fn part(why: &AuditError) -> &'static str {
    match why {
        AuditError::Version(_) => "version",
        AuditError::OtherPool { .. } => "pool",
        AuditError::Path(_) => "path",
        AuditError::Header(LightError::Certificate { .. }) => "certificate",
        AuditError::Header(_) => "header",
        AuditError::Entry(LightError::State { .. } | LightError::OtherKey { .. } | LightError::Value { .. }) => {
            "state proof"
        }
        AuditError::Entry(_) => "entry",
        AuditError::Missing(_) | AuditError::Extra(_) | AuditError::Contradiction { .. } => "history",
        AuditError::Anchor { .. } => "anchor",
        AuditError::Log { .. } => "log proof",
        AuditError::Receipt { .. } => "receipt",
        AuditError::Foreign { .. } => "another place",
    }
}

#[test]
fn each_part_is_named_when_it_is_wrong() {
    let (pool, export) = audited();
    let refused = |change: &dyn Fn(&mut AuditExport)| {
        let mut other = export.clone();
        change(&mut other);
        verify_audit(&pool.ledger.pool(), &other).unwrap_err()
    };
    assert!(matches!(verify_audit(&PoolId([0; 32]), &export), Err(AuditError::OtherPool { .. })));
    assert_eq!(refused(&|e| e.version = 2), AuditError::Version(2));
    assert!(matches!(refused(&|e| e.steps.clear()), AuditError::Header(LightError::OtherSigners { .. })));
    assert!(matches!(refused(&|e| e.header.certificate.signatures.truncate(2)), AuditError::Header(_)));
    // Leaving out the last endorsement, or hiding an event, cannot be done: the history is counted.
    assert!(matches!(refused(&|e| drop(e.entries.pop())), AuditError::Missing(_)));
    assert!(matches!(refused(&|e| drop(e.entries.remove(3))), AuditError::Entry(LightError::OtherKey { .. })));
    assert!(matches!(refused(&|e| e.entries.push(e.entries[0].clone())), AuditError::Extra(_)));
    // The endorsement's own bytes.
    let endorsement = refused(&|e| e.entries.last_mut().unwrap().value.as_mut().unwrap()[40] ^= 1);
    assert!(endorsement.to_string().contains("endorsement/lab/digits@1/"), "{endorsement}");
    // A receipt: in the log it stands as it was signed; outside of the log its signatures speak.
    let provider = id(3);
    let swap = refused(&|e| {
        let (a, b) = (e.providers[0].receipts[0].receipt.clone(), e.providers[0].receipts[1].receipt.clone());
        (e.providers[0].receipts[0].receipt, e.providers[0].receipts[1].receipt) = (b, a);
    });
    assert!(matches!(swap, AuditError::Log { index: 0, .. }), "{swap}");
    let twice = refused(&|e| {
        let first = e.providers[0].receipts[0].clone();
        e.providers[0].receipts.insert(0, first);
    });
    assert!(matches!(twice, AuditError::Foreign { index: 0, .. }), "{twice}");
    let again = refused(&|e| e.providers.push(e.providers[0].clone()));
    assert!(matches!(again, AuditError::Anchor { provider: p, .. } if p == provider), "{again}");
    let unanchored = refused(&|e| e.providers[0].provider = id(4));
    assert!(matches!(unanchored, AuditError::Anchor { .. }), "{unanchored}");
    let other = refused(&|e| e.name = name("lab/letters"));
    assert!(matches!(other, AuditError::Entry(LightError::OtherKey { .. })), "{other}");
}

#[test]
fn a_request_that_was_logged_twice_is_found() {
    let (pool, export) = common::audited_with(&[0, 1, 2, 1]);
    let twice = verify_audit(&pool.ledger.pool(), &export).unwrap_err();
    assert!(matches!(twice, AuditError::Foreign { index: 3, .. }), "{twice}");
    assert!(twice.to_string().contains("answered before"), "{twice}");
}

/// A flipped byte of a receipt is caught by its own signatures too, without any log.
#[test]
fn a_flipped_byte_of_a_receipt_is_found_by_its_signatures() {
    let pool = Pool::with_members(5);
    let receipt = common::receipt(&pool, 5, 3, "lab/digits", 1);
    let bytes = encode(&receipt).unwrap();
    let mut found = BTreeMap::<&str, u32>::new();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let by = match decode::<zero2ai_proto::receipt::Receipt>(&flipped, MAX) {
            Err(_) => "the codec",
            Ok(other) => match other.verify(&pool.ledger.pool()).unwrap_err() {
                ReceiptError::Request(_) => "the caller's signature",
                ReceiptError::Response(_) => "the provider's signature",
                other => panic!("byte {at}: {other}"),
            },
        };
        *found.entry(by).or_default() += 1;
    }
    assert_eq!(found.len(), 3, "{found:?}");
}
