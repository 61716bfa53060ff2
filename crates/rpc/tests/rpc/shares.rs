//! What one identity may hold, and what those who are not admitted share.

use futures::future::join_all;
use zero2ai_proto::{ByteBuf, rpc::ErrorCode};
use zero2ai_rpc::{CallError, Peer, tuning};

use crate::support::{Count, Echo, Join, LONG, Pool, Wait};

async fn works(peer: &Peer) -> bool {
    peer.call::<Count>(&1, LONG).await.is_ok()
}

#[tokio::test]
async fn one_identity_has_its_share_of_connections_and_no_more() {
    let pool = Pool::new();
    let (server, greedy, other) = (pool.server(), pool.endpoint(), pool.endpoint());
    let mut held = Vec::new();
    for _ in 0..tuning::CONNECTIONS_PER_PEER {
        held.push(greedy.connect(server.addr, None).await.unwrap());
        assert!(works(held.last().unwrap()).await);
    }
    if let Ok(surplus) = greedy.connect(server.addr, None).await {
        assert!(!works(&surplus).await && surplus.is_closed(), "the newest is closed");
    }
    assert!(join_all(held.iter().map(works)).await.into_iter().all(|ok| ok), "the older ones stay");
    assert!(works(&other.connect(server.addr, None).await.unwrap()).await, "others have their own share");
}

#[tokio::test]
async fn strangers_share_little_and_what_they_hold_is_not_taken_from_members() {
    let pool = Pool::new();
    let server = pool.server();
    let mut held = Vec::new();
    // Beyond the streams of one connection: each stranger asks as often as its share allows.
    for _ in 0..tuning::STRANGER_CALLS / tuning::STRANGER_SHARE {
        let stranger = server.stranger(&pool);
        let peer = stranger.connect(server.addr, None).await.unwrap();
        for _ in 0..tuning::STRANGER_SHARE {
            held.push((stranger.clone(), peer.stream::<Wait>(&1, LONG).await.unwrap()));
        }
    }
    server.waiting(tuning::STRANGER_CALLS).await;
    let one_more = server.stranger(&pool);
    let refused = one_more.connect(server.addr, None).await.unwrap().call::<Count>(&1, LONG).await;
    assert!(matches!(&refused, Err(CallError::Remote(e)) if e.code == ErrorCode::Busy), "{refused:?}");
    assert!(works(&pool.endpoint().connect(server.addr, None).await.unwrap()).await, "a member is served");
}

#[tokio::test]
async fn a_stranger_says_little_at_once_until_it_is_admitted() {
    let pool = Pool::new();
    let server = pool.server();
    let joiner = server.stranger(&pool);
    let peer = joiner.connect(server.addr, None).await.unwrap();
    let large = ByteBuf::from(vec![7; tuning::STRANGER_FRAME]);
    let refused = peer.call::<Echo>(&large, LONG).await;
    assert!(matches!(&refused, Err(CallError::Remote(e)) if e.code == ErrorCode::Invalid), "{refused:?}");
    assert!(works(&peer).await);
    server.answers.strangers.lock().unwrap().clear();
    // More than a stranger's window: the same connection was widened.
    let larger = ByteBuf::from(vec![7; 8 * tuning::STRANGER_WINDOW as usize]);
    assert_eq!(peer.call::<Echo>(&larger, LONG).await.unwrap(), larger);
}

#[tokio::test]
async fn who_was_admitted_makes_room_for_the_next_stranger_without_another_call() {
    let pool = Pool::new();
    let server = pool.server();
    let mut joined = Vec::new();
    for n in 0..tuning::STRANGER_CONNECTIONS + 8 {
        let joiner = server.stranger(&pool);
        let peer = joiner.connect(server.addr, None).await.unwrap_or_else(|e| panic!("number {n}: {e}"));
        peer.call::<Join>(&0, LONG).await.unwrap_or_else(|e| panic!("number {n}: {e}"));
        joined.push((joiner, peer));
    }
    assert!(joined.iter().all(|(_, peer)| !peer.is_closed()), "all are still connected");
}
