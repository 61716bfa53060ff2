//! A node that listens on every address is reached over IPv4 and over IPv6. Skipped, with a word, where this machine has no IPv6.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use common::{Node, Opinion, Pool, until};
use zero2ai_net::{NetConfig, NetError};
use zero2ai_proto::SecretKey;

fn without_ipv6() -> bool {
    let bound = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0));
    if let Err(error) = &bound {
        println!("skipped: this machine has no IPv6: {error}");
    }
    bound.is_err()
}

fn config(pool: &Pool, listen: SocketAddr) -> NetConfig {
    NetConfig { listen, ..pool.config(&SecretKey::generate().unwrap(), &[]) }
}

#[tokio::test]
async fn every_address_means_those_of_either_kind() {
    if without_ipv6() {
        return;
    }
    let pool = Pool::new();
    let start = async |listen: SocketAddr| Node::start(config(&pool, listen), Arc::new(Opinion::default())).await;
    let all = start((Ipv6Addr::UNSPECIFIED, 0).into()).await;
    let loopback = |kind: &str| {
        let found = || all.handle.listen_addresses().into_iter().find(|text| text.starts_with(kind));
        found().unwrap_or_else(|| panic!("none with {kind} of {:?}", all.handle.listen_addresses()))
    };
    until("it knows its addresses of either kind", async || {
        let told = all.handle.listen_addresses();
        ["/ip4/127.0.0.1/", "/ip6/::1/"].iter().all(|kind| told.iter().any(|text| text.starts_with(kind)))
    })
    .await;
    let port = |text: &str| text.split('/').nth(4).unwrap().to_owned();
    assert_eq!(port(&loopback("/ip4/127.0.0.1/")), port(&loopback("/ip6/::1/")), "at one port");
    for (listen, kind) in [
        (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "/ip4/127.0.0.1/"),
        (SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), "/ip6/::1/"),
    ] {
        let other = start(listen).await;
        other.handle.dial(all.id, &loopback(kind)).await.unwrap();
        assert!(other.handle.peers().contains(&all.id), "whoever waited for a connection sees it");
        until("both are connected", async || all.handle.peers().contains(&other.id)).await;
    }
}

#[tokio::test]
async fn a_port_that_is_taken_for_one_kind_is_taken() {
    if without_ipv6() {
        return;
    }
    let taken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let listen = SocketAddr::from((Ipv6Addr::UNSPECIFIED, taken.local_addr().unwrap().port()));
    let stop = tokio_util::sync::CancellationToken::new();
    let started = zero2ai_net::start(config(&Pool::new(), listen), Arc::new(Opinion::default()), stop).await;
    assert!(matches!(started, Err(NetError::Listen { .. })));
}
