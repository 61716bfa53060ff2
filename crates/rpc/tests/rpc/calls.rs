//! Calls that come to their end: answers, streams, errors, bounds.

use std::{sync::atomic::Ordering, time::Duration};

use futures::future::join_all;
use zero2ai_proto::{
    ByteBuf,
    limits::FRAME_BYTES,
    rpc::{ErrorCode, Load},
};
use zero2ai_rpc::{CallError, tuning};

use crate::support::{Bytes, Count, Echo, LONG, Panic, Pool, Refuse, Unknown, Wait};

fn code(result: Result<impl std::fmt::Debug, CallError>) -> ErrorCode {
    match result {
        Err(CallError::Remote(e)) => e.code,
        other => panic!("an error of the peer's was expected: {other:?}"),
    }
}

#[tokio::test]
async fn a_large_body_goes_both_ways() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let peer = client.connect(server.addr, None).await.unwrap();
    let body = ByteBuf::from((0..3_000_000_u32).map(|i| i.to_le_bytes()[0]).collect::<Vec<_>>());
    assert_eq!(peer.call::<Echo>(&body, LONG).await.unwrap(), body);
}

#[tokio::test]
async fn members_hear_with_an_answer_how_busy_the_node_is_and_others_do_not() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let peer = client.connect(server.addr, None).await.unwrap();
    let echo = ByteBuf::from(vec![1]);
    peer.call::<Echo>(&echo, LONG).await.unwrap();
    assert!(peer.load().is_none(), "it says nothing of it");
    for (queue, queue_us) in [(3, 4_000), (0, 0)] {
        let load = Load { queue, queue_us };
        *server.answers.load.lock().unwrap() = Some(load);
        peer.call::<Count>(&3, LONG).await.unwrap_err();
        peer.call::<Echo>(&echo, LONG).await.unwrap();
        assert_eq!(peer.load().unwrap().0, load);
    }
    *server.answers.load.lock().unwrap() = Some(Load { queue: 1, queue_us: 1 });
    assert_eq!(code(peer.call::<Refuse>(&1, LONG).await), ErrorCode::Denied);
    assert_eq!(peer.load().unwrap().0.queue, 1, "with a refusal too");

    let stranger = pool.endpoint();
    server.answers.strangers.lock().unwrap().insert(stranger.id());
    let peer = stranger.connect(server.addr, None).await.unwrap();
    peer.call::<Echo>(&echo, LONG).await.unwrap();
    assert!(peer.load().is_none(), "the key alone does not tell how busy a node is");
}

#[tokio::test]
async fn items_stream_in_order_and_the_end_is_told() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let peer = client.connect(server.addr, None).await.unwrap();
    let mut replies = peer.stream::<Count>(&500, LONG).await.unwrap();
    let mut next = 0;
    while let Some(item) = replies.next().await {
        assert_eq!(item.unwrap(), next);
        next += 1;
    }
    assert_eq!(next, 500);
    assert!(replies.next().await.is_none());
    // A method with one answer must have exactly one.
    assert!(matches!(peer.call::<Count>(&0, LONG).await, Err(CallError::Closed { .. })));
    assert!(matches!(peer.call::<Count>(&2, LONG).await, Err(CallError::Closed { .. })));
}

#[tokio::test]
async fn errors_keep_their_code_and_a_panic_fails_one_call_alone() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let peer = client.connect(server.addr, None).await.unwrap();
    assert_eq!(code(peer.call::<Refuse>(&0, LONG).await), ErrorCode::Denied);
    assert_eq!(code(peer.call::<Unknown>(&0, LONG).await), ErrorCode::Unsupported);
    assert_eq!(code(peer.call::<Panic>(&0, LONG).await), ErrorCode::Internal);
    assert_eq!(peer.call::<Count>(&1, LONG).await.unwrap(), 0);
}

#[tokio::test]
async fn a_request_or_an_answer_over_the_bound_is_not_sent() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let peer = client.connect(server.addr, None).await.unwrap();
    let body = ByteBuf::from(vec![0; FRAME_BYTES + 1]);
    let error = peer.call::<Echo>(&body, LONG).await.unwrap_err();
    assert!(matches!(error, CallError::Codec { what: "the request", .. }), "{error}");
    // Two byte strings and an enum stand around the bytes of an answer.
    let most = u32::try_from(FRAME_BYTES).unwrap() - 5 - 5 - 2;
    assert_eq!(code(peer.call::<Bytes>(&(most + 1), LONG).await.map(|b| b.len())), ErrorCode::Internal);
    assert_eq!(peer.call::<Bytes>(&most, LONG).await.unwrap().len(), most as usize);
    assert_eq!(server.answers.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn many_calls_run_side_by_side() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let peer = client.connect(server.addr, None).await.unwrap();
    let calls = (0..tuning::CALLS_PER_PEER as u32).map(|i| {
        let peer = peer.clone();
        async move { (i, peer.call::<Wait>(&i, LONG).await.unwrap()) }
    });
    let all = tokio::spawn(join_all(calls.collect::<Vec<_>>()));
    server.waiting(tuning::CALLS_PER_PEER).await;
    // The peer has its share now: one more is refused at once, not queued.
    assert_eq!(code(peer.call::<Echo>(&ByteBuf::new(), LONG).await), ErrorCode::Busy);
    server.answers.go.notify_waiters();
    assert!(all.await.unwrap().iter().all(|(sent, got)| sent == got));
    // Places are given back just after the last byte of the answer.
    let again = async {
        while peer.call::<Echo>(&ByteBuf::new(), LONG).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, again).await.unwrap();
}

#[tokio::test]
async fn a_stopping_server_lets_calls_end_then_closes() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let peer = client.connect(server.addr, None).await.unwrap();
    let call = tokio::spawn({
        let peer = peer.clone();
        async move { peer.call::<Wait>(&5, LONG).await }
    });
    server.waiting(1).await;
    server.stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.answers.go.notify_waiters();
    assert_eq!(call.await.unwrap().unwrap(), 5, "the call in progress ends well");
    tokio::time::timeout(LONG, server.task).await.unwrap().unwrap().unwrap();
    assert!(peer.call::<Echo>(&ByteBuf::new(), LONG).await.is_err());
    assert!(peer.is_closed());
}
