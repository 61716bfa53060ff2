//! Calls that are given up: by the caller, by time, by the death of the peer.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use zero2ai_rpc::{CallError, tuning};

use crate::support::{Deaf, Forever, Hang, LONG, Pool, Wait};

#[tokio::test]
async fn dropping_the_replies_cancels_the_call() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let peer = client.connect(server.addr, None).await.unwrap();
    let replies = peer.stream::<Hang>(&0, LONG).await.unwrap();
    server.waiting(1).await;
    drop(replies);
    timeout(LONG, server.answers.cancelled.notified()).await.expect("the handler learns it");
}

#[tokio::test]
async fn a_stream_that_nobody_reads_stops_its_sender() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let peer = client.connect(server.addr, None).await.unwrap();
    let mut replies = peer.stream::<Forever>(&0, LONG).await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap().len(), 1 << 20);
    drop(replies);
    timeout(LONG, server.answers.cancelled.notified()).await.expect("the sender is refused");
}

#[tokio::test]
async fn a_call_ends_at_its_time_on_both_sides() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let peer = client.connect(server.addr, None).await.unwrap();
    let limit = Duration::from_millis(200);
    let start = Instant::now();
    let result = peer.call::<Wait>(&0, limit).await;
    assert!(matches!(result, Err(CallError::Timeout { .. })), "{result:?}");
    assert!(start.elapsed() >= limit && start.elapsed() < LONG);
    let _ = peer.call::<Hang>(&0, limit).await;
    timeout(LONG, server.answers.cancelled.notified()).await.expect("the handler's token fires");
}

#[tokio::test]
async fn a_handler_that_does_not_heed_its_cancellation_is_dropped() {
    let pool = Pool::new();
    let (server, client) = (pool.server(), pool.endpoint());
    let peer = client.connect(server.addr, None).await.unwrap();
    let mut replies = peer.stream::<Deaf>(&0, LONG).await.unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), 1);
    server.stop.cancel();
    let broken = timeout(LONG, replies.next()).await.unwrap();
    assert!(matches!(broken, Some(Err(CallError::Closed { .. }))), "{broken:?}");
    timeout(LONG, server.task).await.expect("the server is not held up").unwrap().unwrap();
}

/// A runtime of its own stands for a process: dropping it, sockets and all, is a SIGKILL to those who talk to it.
#[test]
fn a_peer_that_dies_is_noticed_long_before_the_timeout() {
    let pool = Pool::new();
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = other.block_on(async { pool.server() });
    let here = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    here.block_on(async {
        let client = pool.endpoint();
        let peer = client.connect(server.addr, None).await.unwrap();
        let mut replies = peer.stream::<Deaf>(&0, Duration::from_secs(600)).await.unwrap();
        assert_eq!(replies.next().await.unwrap().unwrap(), 1);
        freeze(&other);
        let start = Instant::now();
        let result = timeout(LONG, replies.next()).await.unwrap();
        assert!(matches!(result, Some(Err(CallError::Closed { .. }))), "{result:?}");
        assert!(start.elapsed() < tuning::IDLE, "earlier than QUIC itself would have noticed");
        assert!(peer.is_closed(), "nobody begins another call on it");
    });
    other.shutdown_background();
    here.shutdown_background();
}

/// Blocks the only thread of `runtime` for good: no packet leaves it any more, not even a farewell.
fn freeze(runtime: &tokio::runtime::Runtime) {
    let (frozen, is_frozen) = std::sync::mpsc::sync_channel::<()>(1);
    runtime.spawn(async move {
        let (_held, never) = std::sync::mpsc::sync_channel::<()>(1);
        let _ = frozen.send(());
        let _ = never.recv();
    });
    is_frozen.recv().unwrap();
}
