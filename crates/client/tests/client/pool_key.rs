//! A client outlives the pool key it was made with, and takes no other than the ledger's.

use std::sync::{Arc, Mutex};

use zero2ai_client::{Client, ClientError, Membership};
use zero2ai_proto::{pool::Bootstrap, state::Rights, tensor::Tensor};

use crate::{
    chain::{Chain, LONG, MODEL},
    node::{Manners, config, start},
};

fn chain() -> Arc<Mutex<Chain>> {
    Arc::new(Mutex::new(Chain::new()))
}

#[tokio::test]
async fn an_older_key_is_renewed_and_everything_goes_on() {
    let chain = chain();
    let node = start(&chain, Some(1), Manners::Honest);
    let old = config(&chain, &[&node]);
    let before = Client::connect(old.clone()).await.unwrap();
    chain.lock().unwrap().rotate();
    chain.lock().unwrap().rotate();
    let late = Client::connect(old).await.unwrap();
    assert_eq!(late.pool_key(), chain.lock().unwrap().pool_keys.current());
    // One that was connected before meets a provider that came later.
    let second = start(&chain, Some(1), Manners::Honest);
    for client in [&late, &before] {
        let found = client.resolve(&MODEL.parse().unwrap(), false).await.unwrap();
        assert_eq!(found.endpoints.len(), 2);
        client.predict(&found, vec![Tensor::f32("", &[1, 2], &[1.0, 2.0])], LONG).await.unwrap();
    }
    let address = second.address.clone();
    before.call::<zero2ai_proto::calls::Head>(second.id, &[address], &Default::default(), LONG).await.unwrap();
    assert_eq!(before.pool_key().epoch, 2);
    assert!(!before.renew_key().await.unwrap(), "there is no newer one");
}

#[tokio::test]
async fn another_key_than_the_ledger_s_is_not_taken() {
    let chain = chain();
    let node = start(&chain, None, Manners::OtherKey);
    let old = config(&chain, &[&node]);
    chain.lock().unwrap().rotate();
    let client = Client::connect(old).await.unwrap();
    let error = client.renew_key().await.unwrap_err();
    assert!(matches!(error, ClientError::Untrue { .. }) && error.to_string().contains("pool key"), "{error}");
    assert_eq!(client.pool_key().epoch, 0);
}

#[tokio::test]
async fn a_membership_s_file_keeps_the_newest_key() {
    let chain = chain();
    let node = start(&chain, None, Manners::Honest);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("me");
    let mut invite = chain.lock().unwrap().invite(Rights::MEMBER);
    invite.bootstrap = vec![Bootstrap { node: node.id, addresses: vec![node.address.clone()] }];
    Client::open(&path, Some(&invite)).await.unwrap();
    chain.lock().unwrap().rotate();
    Client::open(&path, None).await.unwrap();
    let kept = Membership::load(&path).unwrap().unwrap().config().pool_key;
    assert_eq!(kept, chain.lock().unwrap().pool_keys.current());
}
