//! The account: admission, transactions, and nodes to begin with.

use std::sync::{Arc, Mutex};

use zero2ai_client::{Client, ClientError, Membership};
use zero2ai_proto::{
    SealingKey,
    pool::PoolKey,
    rpc::ErrorCode,
    state::{Handle, Member, Rights, key},
    tx::{ClaimHandle, TxBody},
};

use crate::{
    chain::Chain,
    node::{Manners, client, config, start},
};

fn claim(handle: &str) -> TxBody {
    TxBody::ClaimHandle(ClaimHandle { handle: handle.into() })
}

#[tokio::test]
async fn an_invite_admits_gives_the_genesis_and_transactions_follow() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, None, Manners::Honest);
    let mut newcomer = config(&chain, &[&node]);
    newcomer.genesis = None;
    let client = Client::connect(newcomer.clone()).await.unwrap();
    let invite = chain.lock().unwrap().invite(Rights::MEMBER);
    let admission = client.redeem(&invite, SealingKey([7; 32])).await.unwrap();
    assert_eq!(admission.genesis, chain.lock().unwrap().genesis);
    let member: Member = client.entry(&key::member(&client.id())).await.unwrap().unwrap();
    assert_eq!((member.rights, member.admitted), (Rights::MEMBER, admission.height));
    // The newest header never proves the newest nonce: the client knows its own, and a second client of the account finds it.
    client.submit(claim("one")).await.unwrap();
    client.submit(claim("two")).await.unwrap();
    newcomer.genesis = Some(admission.genesis);
    let second = Client::connect(newcomer).await.unwrap();
    let done = second.submit(claim("three")).await.unwrap();
    assert_eq!(done.height, Some(chain.lock().unwrap().ledger.height()));
    chain.lock().unwrap().block(&[]).unwrap();
    let handle: Handle = client.entry(&key::handle("three")).await.unwrap().unwrap();
    assert_eq!(handle.owner, client.id());
    let taken = client.submit(claim("lab")).await.unwrap_err();
    assert_eq!(taken.code(), Some(ErrorCode::Invalid), "{taken}");
}

#[tokio::test]
async fn who_is_not_admitted_is_told_so() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, None, Manners::Honest);
    let error = client(&chain, &node).await.submit(claim("mine")).await.unwrap_err();
    assert!(matches!(error, ClientError::NotAdmitted(_)), "{error}");
    let foreign = Chain::new().invite(Rights::MEMBER);
    let error = client(&chain, &node).await.redeem(&foreign, SealingKey([7; 32])).await.unwrap_err();
    assert!(matches!(error, ClientError::OtherPool { what: "invite", .. }), "{error}");
}

#[tokio::test]
async fn the_next_node_is_asked_when_the_first_is_gone_and_a_wrong_key_is_named() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let (first, second) = (start(&chain, None, Manners::Honest), start(&chain, None, Manners::Honest));
    let both = config(&chain, &[&first, &second]);
    let client = Client::connect(both.clone()).await.unwrap();
    client.head().await.unwrap();
    first.stop.cancel();
    first.task.await.unwrap();
    client.head().await.unwrap();
    let mut stranger = config(&chain, &[&second]);
    stranger.pool_key = PoolKey::generate().unwrap();
    let error = Client::connect(stranger).await.unwrap_err();
    assert!(error.to_string().contains("wrong pool key"), "{error}");
    let mut nowhere = both;
    nowhere.bootstrap.clear();
    assert!(matches!(Client::connect(nowhere).await, Err(ClientError::NoBootstrap(_))));
}

#[tokio::test]
async fn a_membership_in_a_file_uses_its_invite_once() {
    let chain = Arc::new(Mutex::new(Chain::new()));
    let node = start(&chain, None, Manners::Honest);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("me");
    let mut invite = chain.lock().unwrap().invite(Rights::MEMBER);
    invite.bootstrap = vec![zero2ai_proto::pool::Bootstrap { node: node.id, addresses: vec![node.address.clone()] }];
    assert!(matches!(Client::open(&path, None).await.unwrap_err(), ClientError::Membership { .. }));
    let first = Client::open(&path, Some(&invite)).await.unwrap();
    let member: Member = first.entry(&key::member(&first.id())).await.unwrap().unwrap();
    assert_eq!(member.rights, Rights::MEMBER);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for invite in [None, Some(&invite)] {
        assert_eq!(Client::open(&path, invite).await.unwrap().id(), first.id(), "the same account, no ticket used");
    }
    let foreign = Chain::new().invite(Rights::MEMBER);
    let error = Client::open(&path, Some(&foreign)).await.unwrap_err();
    assert!(matches!(error, ClientError::OtherPool { what: "invite", .. }), "{error}");
    std::fs::write(&path, b"something else").unwrap();
    assert!(matches!(Membership::load(&path).unwrap_err(), ClientError::Membership { .. }));
}
