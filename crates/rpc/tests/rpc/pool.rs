//! Who may connect: the pool proof and the identities.

use std::{
    sync::atomic::Ordering,
    time::{SystemTime, UNIX_EPOCH},
};

use zero2ai_proto::{PoolId, pool::Keyring};
use zero2ai_rpc::{ConnectError, Endpoint, EndpointConfig};

use crate::support::{LONG, Pool, Stale, Whoami};

#[tokio::test]
async fn the_same_key_connects_and_both_know_each_other() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let peer = client.connect(server.addr, Some(server.id)).await.unwrap();
    assert_eq!(peer.id(), server.id);
    assert_eq!(peer.remote_addr(), server.addr);
    assert_eq!(peer.call::<Whoami>(&0, LONG).await.unwrap(), client.id());
    assert!(!peer.is_closed());
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_reaches_no_handler() {
    let pool = Pool::new();
    let (server, stranger) = (pool.server(), Pool::new().endpoint());
    let error = stranger.connect(server.addr, None).await.unwrap_err();
    assert!(matches!(error, ConnectError::WrongPoolKey { .. }), "{error}");
    assert!(error.to_string().contains("wrong pool key"), "{error}");
    assert_eq!(server.answers.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_right_key_in_another_pool_is_refused() {
    let pool = Pool::new();
    let server = pool.server();
    let error = Pool { id: PoolId([9; 32]), key: pool.key.clone() }.endpoint().connect(server.addr, None).await;
    assert!(matches!(error, Err(ConnectError::WrongPoolKey { .. })), "{error:?}");
}

#[tokio::test]
async fn another_epoch_is_refused_by_name() {
    let pool = Pool::new();
    let (server, mut rotated) = (pool.server(), pool.clone());
    rotated.key.epoch = 3;
    let error = rotated.endpoint().connect(server.addr, None).await.unwrap_err();
    assert!(error.to_string().contains("epoch 3"), "{error}");
}

/// The pool with its next key: the one before is good until `until_ms`.
fn rotated(pool: &Pool, until_ms: u64) -> Keyring {
    let keys = Keyring::from(pool.key.clone());
    assert!(keys.renew(pool.key.next().unwrap(), until_ms));
    keys
}

fn in_an_hour() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 + 3_600_000
}

#[tokio::test]
async fn during_the_grace_either_end_may_be_an_epoch_behind() {
    let pool = Pool::new();
    let (ahead, behind) = (pool.server_with(rotated(&pool, in_an_hour())), pool.server());
    let old = pool.endpoint().connect(ahead.addr, Some(ahead.id)).await.unwrap();
    assert_eq!(old.key_epoch(), 1, "it is told that there is a newer key");
    assert!(!old.call::<Stale>(&0, LONG).await.unwrap());
    // Nor are strangers turned away, who may have an invite from before.
    let stranger = ahead.stranger(&pool).connect(ahead.addr, Some(ahead.id)).await.unwrap();
    assert!(!stranger.call::<Stale>(&0, LONG).await.unwrap());

    let new = pool.endpoint_with(rotated(&pool, in_an_hour())).connect(behind.addr, Some(behind.id)).await.unwrap();
    assert_eq!(new.key_epoch(), 0);
    assert!(!new.call::<Stale>(&0, LONG).await.unwrap());
}

#[tokio::test]
async fn after_the_grace_an_old_key_is_told_to_the_handler_and_lets_no_stranger_in() {
    let pool = Pool::new();
    let keys = rotated(&pool, 0);
    let server = pool.server_with(keys.clone());
    let member = pool.endpoint();
    let peer = member.connect(server.addr, Some(server.id)).await.unwrap();
    assert!(peer.call::<Stale>(&0, LONG).await.unwrap());
    // Once it has the newer key, all is as before.
    let renewed = pool.endpoint_with(keys.clone()).connect(server.addr, Some(server.id)).await.unwrap();
    assert!(!renewed.call::<Stale>(&0, LONG).await.unwrap());

    // The old key with another identity, and an identity that is revoked while it is connected.
    let calls = || server.answers.calls.load(Ordering::SeqCst);
    let before = calls();
    let stranger = server.stranger(&pool).connect(server.addr, Some(server.id)).await;
    if let Ok(peer) = stranger {
        assert!(peer.call::<Stale>(&0, LONG).await.is_err());
    }
    server.answers.strangers.lock().unwrap().insert(member.id());
    assert!(peer.call::<Stale>(&0, LONG).await.is_err());
    assert_eq!(calls(), before, "nothing reached the handler");

    // Whoever listens with the old key is not believed: it may be anybody who once had it.
    let behind = pool.server();
    let error = pool.endpoint_with(keys).connect(behind.addr, Some(behind.id)).await.unwrap_err();
    assert!(matches!(error, ConnectError::WrongPoolKey { .. }), "{error}");
}

#[tokio::test]
async fn another_node_than_expected_is_refused() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let error = client.connect(server.addr, Some(client.id())).await.unwrap_err();
    let ConnectError::WrongIdentity { expected, got, .. } = error else { panic!("{error}") };
    assert_eq!((expected, got), (client.id(), server.id));
}

#[tokio::test]
async fn a_taken_port_is_said_to_be_taken() {
    let pool = Pool::new();
    let first = pool.endpoint();
    let config = EndpointConfig {
        bind: first.local_addr(),
        key: zero2ai_proto::SecretKey::generate().unwrap(),
        pool: pool.id,
        pool_keys: pool.key.into(),
    };
    let error = Endpoint::bind(config).unwrap_err();
    assert!(matches!(error, zero2ai_rpc::BindError::PortTaken(_)), "{error}");
}
