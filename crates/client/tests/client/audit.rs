//! Audits: checked by the client itself, whatever the node says.

use std::sync::{Arc, Mutex, atomic::Ordering};

use zero2ai_client::{ClientError, ErrorKind};
use zero2ai_proto::tx::{Anchor, TxBody};

use crate::{
    chain::{Chain, LONG, manifest, name},
    node::{Manners, client, start, start_as},
};

#[tokio::test]
async fn an_audit_tells_every_version_and_is_proved_over_a_change_of_signers() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    {
        let mut chain = chain.lock().unwrap();
        chain.publish(2);
        chain.grow_signers();
    }
    let node = start(&chain, None, Manners::Honest);
    let audit = client(&chain, &node).await.audit(&name(), LONG).await.unwrap();
    let versions: Vec<_> = audit.report.versions.iter().map(|(n, v)| (*n, v.manifest)).collect();
    assert_eq!(versions, [(1, manifest(1)), (2, manifest(2))]);
    assert_eq!(audit.report.signatures.1, 2);
    assert!(audit.report.receipts.is_empty() && audit.missing.is_empty());
}

#[tokio::test]
async fn an_audit_that_leaves_something_out_is_refused() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, None, Manners::Hides);
    let client = client(&chain, &node).await;
    let error = client.audit(&name(), LONG).await.unwrap_err();
    assert!(matches!(error, ClientError::Audit(_)), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unverified);
    assert_eq!(client.audit(&"lab/nothing".parse().unwrap(), LONG).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// A provider that is a block behind is asked again; one that has nothing to show is missing at once.
#[tokio::test]
async fn a_provider_a_block_behind_is_not_missing() {
    for (manners, calls) in [(Manners::Behind, 3), (Manners::Forgot, 1)] {
        let chain = Arc::new(Mutex::new(Chain::new()));
        let admin = {
            let mut chain = chain.lock().unwrap();
            let root = zero2ai_proto::Digest([7; 32]);
            chain.admin_does(TxBody::Anchor(Anchor { seq: 1, size: 1, root, consistency: vec![] }));
            chain.block(&[]).unwrap();
            chain.admin.clone()
        };
        let node = start_as(admin, &chain, None, manners);
        let audit = client(&chain, &node).await.audit(&name(), LONG).await.unwrap();
        let missing = if manners == Manners::Behind { vec![] } else { vec![node.id] };
        assert_eq!(audit.missing, missing);
        assert_eq!(node.served.receipt_calls.load(Ordering::SeqCst), calls);
    }
}
