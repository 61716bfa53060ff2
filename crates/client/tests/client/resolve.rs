//! Resolving: what holds is taken, and a lying node is found out.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use zero2ai_client::{Client, ClientError, Wishes};
use zero2ai_ledger::LightError;
use zero2ai_proto::{SecretKey, rpc::ErrorCode, tx};

use crate::{
    chain::{Chain, MODEL, manifest, name},
    node::{Manners, client, config, start, start_as},
};

#[tokio::test]
async fn a_name_is_proved_and_its_endpoints_are_measured() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let (asked, serving) = (start(&chain, None, Manners::Honest), start(&chain, Some(1), Manners::Honest));
    let client = client(&chain, &asked).await;
    let found = client.resolve(&MODEL.parse().unwrap(), false).await.unwrap();
    assert_eq!((found.version, found.manifest), (1, manifest(1)));
    let [endpoint] = found.endpoints.as_slice() else { panic!("{found:?}") };
    assert_eq!(endpoint.node, serving.id);
    assert!(endpoint.rtt.is_some());
    assert!(found.record_age < crate::chain::LONG);
}

#[tokio::test]
async fn once_the_node_it_began_with_is_gone_providers_that_were_met_are_asked() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let (first, met) = (start(&chain, None, Manners::Honest), start(&chain, Some(1), Manners::Honest));
    let client = client(&chain, &first).await;
    let name = MODEL.parse().unwrap();
    assert_eq!(client.resolve(&name, false).await.unwrap().endpoints[0].node, met.id);
    first.stop.cancel();
    first.task.await.unwrap();
    assert_eq!(client.resolve(&name, true).await.unwrap().endpoints[0].node, met.id);
    client.head().await.unwrap();
    met.stop.cancel();
    met.task.await.unwrap();
    assert!(client.resolve(&name, true).await.is_err());
}

#[tokio::test]
async fn a_version_can_be_chosen_and_an_unknown_name_is_not_found() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    chain.lock().unwrap().publish(2);
    let node = start(&chain, Some(1), Manners::Honest);
    let client = client(&chain, &node).await;
    let latest = client.resolve(&MODEL.parse().unwrap(), false).await.unwrap();
    assert_eq!(latest.version, 2);
    assert!(latest.endpoints.is_empty(), "version 1 is served, not 2");
    let first = client.resolve(&format!("{MODEL}@1").parse().unwrap(), false).await.unwrap();
    assert_eq!((first.version, first.endpoints.len()), (1, 1));
    let unknown = client.resolve(&"lab/nothing".parse().unwrap(), false).await.unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::NotFound), "{unknown}");
}

#[tokio::test]
async fn a_withdrawn_version_is_said_to_be_withdrawn() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    {
        let mut chain = chain.lock().unwrap();
        chain.admin_does(tx::TxBody::Withdraw(tx::Withdraw { name: name(), version: 1 }));
        chain.block(&[]).unwrap();
    }
    let node = start(&chain, Some(1), Manners::Honest);
    let error = client(&chain, &node).await.resolve(&format!("{MODEL}@1").parse().unwrap(), false).await;
    assert!(matches!(error, Err(ClientError::Withdrawn { version: 1, .. })), "{error:?}");
}

#[tokio::test]
async fn a_change_of_signers_is_followed_by_its_step() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, Some(1), Manners::Honest);
    let client = client(&chain, &node).await;
    let before = client.head().await.unwrap().0.height;
    chain.lock().unwrap().grow_signers();
    assert!(client.head().await.unwrap().0.height > before);
    assert_eq!(client.trusted_chain().unwrap().steps().len(), 1, "the step is kept");
    client.resolve(&MODEL.parse().unwrap(), false).await.unwrap();
}

#[tokio::test]
async fn a_header_without_enough_signatures_is_refused() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, Some(1), Manners::Honest);
    let client = client(&chain, &node).await;
    chain.lock().unwrap().head.certificate.signatures.clear();
    let error = client.resolve(&MODEL.parse().unwrap(), false).await.unwrap_err();
    assert!(matches!(error, ClientError::Proof(LightError::Certificate { .. })), "{error}");
}

#[tokio::test]
async fn endpoints_that_do_not_hold_are_left_out() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, Some(1), Manners::Honest);
    {
        let mut chain = chain.lock().unwrap();
        let key = SecretKey::generate().unwrap();
        let other_version = chain.endpoint(&key, 2, &node.address);
        let other_pool = Chain::new().endpoint(&key, 1, &node.address);
        chain.endpoints.extend([other_version, other_pool]);
    }
    let found = client(&chain, &node).await.resolve(&MODEL.parse().unwrap(), false).await.unwrap();
    assert_eq!(found.endpoints.iter().map(|e| e.node).collect::<Vec<_>>(), [node.id]);
}

#[tokio::test]
async fn endpoints_are_chosen_by_what_the_caller_wishes() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let keys = [(); 2].map(|()| SecretKey::generate().unwrap());
    let nodes = keys.each_ref().map(|key| start_as(key.clone(), &chain, None, Manners::Honest));
    {
        let mut chain = chain.lock().unwrap();
        for ((key, node), offer) in keys.iter().zip(&nodes).zip([(Some("eu"), Some(5)), (Some("us"), None)]) {
            let record = chain.offer(key, 1, &node.address, offer);
            chain.endpoints.push(record);
        }
    }
    let client = client(&chain, &nodes[0]).await;
    let found = async |wishes: Wishes| {
        client.wish(wishes);
        let found = client.resolve(&MODEL.parse().unwrap(), false).await.unwrap();
        (found.endpoints.iter().map(|e| e.node).collect::<Vec<_>>(), found.left_out)
    };
    let [eu, us] = nodes.each_ref().map(|node| node.id);
    let only = |region: &str| Wishes { regions: BTreeSet::from([region.to_owned()]), ..Wishes::default() };
    let near = |region: &str| Wishes { near: Some(region.to_owned()), ..Wishes::default() };
    assert_eq!((found(only("eu")).await, found(only("asia")).await), ((vec![eu], 1), (vec![], 2)));
    assert_eq!((found(near("eu")).await, found(near("us")).await), ((vec![eu, us], 0), (vec![us, eu], 0)));
    assert_eq!(found(Wishes { price_cap: Some(4), ..Wishes::default() }).await, (vec![us], 1));
    assert_eq!(found(Wishes { unit_us: 100_000, ..Wishes::default() }).await, (vec![us, eu], 0));
    assert_eq!(found(Wishes { avoid: BTreeSet::from([us]), ..Wishes::default() }).await, (vec![eu], 1));
    assert_eq!(found(Wishes { prefer: BTreeSet::from([eu]), ..Wishes::default() }).await, (vec![eu, us], 0));
}

#[tokio::test]
async fn without_the_genesis_nothing_is_believed_and_a_foreign_one_is_refused() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, Some(1), Manners::Honest);
    let mut blind = config(&chain, &[&node]);
    blind.genesis = None;
    let error = Client::connect(blind).await.unwrap().resolve(&MODEL.parse().unwrap(), false).await.unwrap_err();
    assert!(matches!(error, ClientError::NoGenesis(_)), "{error}");
    let mut foreign = config(&chain, &[&node]);
    foreign.genesis = Some(Chain::new().genesis);
    let error = Client::connect(foreign).await.unwrap_err();
    assert!(matches!(error, ClientError::OtherPool { what: "genesis", .. }), "{error}");
}
