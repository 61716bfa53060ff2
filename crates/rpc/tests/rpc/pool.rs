//! Who may connect: the pool proof and the identities.

use std::sync::atomic::Ordering;

use zero2ai_proto::PoolId;
use zero2ai_rpc::{ConnectError, Endpoint, EndpointConfig};

use crate::support::{LONG, Pool, Whoami};

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
        pool_key: pool.key,
    };
    let error = Endpoint::bind(config).unwrap_err();
    assert!(matches!(error, zero2ai_rpc::BindError::PortTaken(_)), "{error}");
}
