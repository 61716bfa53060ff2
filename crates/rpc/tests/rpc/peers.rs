//! The cache of connections.

use futures::future::join_all;
use zero2ai_proto::record::Address;
use zero2ai_rpc::{ConnectError, Peers};

use crate::support::{Echo, LONG, Pool};

#[tokio::test]
async fn one_dial_serves_all_and_a_closed_connection_is_forgotten() {
    let pool = Pool::new();
    let (server, peers) = (pool.server(), Peers::new(pool.endpoint()));
    let addresses = [Address::Swarm("/memory/1".into()), Address::Rpc(server.addr.to_string())];
    let got = join_all((0..20).map(|_| peers.get(server.id, &addresses))).await;
    let ports: Vec<_> = got.into_iter().map(Result::unwrap).collect();
    assert_eq!(peers.connected().iter().map(zero2ai_rpc::Peer::id).collect::<Vec<_>>(), [server.id]);
    server.stop.cancel();
    tokio::time::timeout(LONG, server.task).await.unwrap().unwrap().unwrap();
    let body = Default::default();
    assert!(ports[0].call::<Echo>(&body, LONG).await.is_err());
    assert!(ports.iter().all(zero2ai_rpc::Peer::is_closed), "all share one connection");
    assert!(peers.open(&server.id).is_none());
    assert!(peers.connected().is_empty());
}

#[tokio::test]
async fn a_failed_dial_is_told_and_not_remembered() {
    let pool = Pool::new();
    let (server, peers) = (pool.server(), Peers::new(pool.endpoint()));
    let none = peers.get(server.id, &[]).await.unwrap_err();
    assert!(matches!(none, ConnectError::NoAddress { .. }), "{none}");
    let other = pool.server();
    let wrong = peers.get(server.id, &[Address::Rpc(other.addr.to_string())]).await.unwrap_err();
    assert!(matches!(wrong, ConnectError::WrongIdentity { .. }), "{wrong}");
    peers.get(server.id, &[Address::Rpc(server.addr.to_string())]).await.unwrap();
}
