//! Transfers between real stores in one process: several peers, a liar, a silent one, resuming, stopping.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod peers;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use peers::{Kind, Net, OPTIONS, model, node, run};
use tempfile::tempdir;
use tokio_util::sync::CancellationToken;
use zero2ai_store::{Store, StoreConfig};
use zero2ai_swarm::{FetchError, FetchOptions, Source, bitfield, fetch, serve_chunk};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_comes_from_many_peers_at_once() {
    let model = model(60);
    let mut net = Net::new();
    let from = vec![
        net.add(1, Kind::Honest, &model, |n| n % 3 == 0),
        net.add(2, Kind::Honest, &model, |n| n % 3 == 1),
        net.add(3, Kind::Honest, &model, |n| n % 3 == 2),
    ];
    let store = net.store();
    let (peers, last) = (Arc::new(net.peers), Arc::new(AtomicU64::new(0)));
    let source: Arc<dyn Source> = Arc::clone(&peers) as _;
    let seen = Arc::clone(&last);
    let progress = move |p: zero2ai_swarm::Progress<'_>| {
        assert!(p.bytes <= p.total_bytes && p.chunks <= p.total_chunks);
        assert!(seen.swap(p.bytes, Ordering::SeqCst) <= p.bytes);
    };
    let stop = CancellationToken::new();
    let report = fetch(&store, source, model.id, from.clone(), OPTIONS, progress, stop).await.unwrap();
    assert_eq!((report.chunks, report.reused, report.bytes), (60, 0, 60 * 2016));
    assert_eq!(report.by_peer.keys().copied().collect::<BTreeSet<_>>(), from.into_iter().collect());
    assert_eq!(report.by_peer.values().sum::<u64>(), report.bytes);
    assert_eq!(last.load(Ordering::SeqCst), report.bytes);
    assert!(peers.most_in_flight.load(Ordering::SeqCst) <= OPTIONS.in_flight);
    for (cid, bytes) in &model.chunks {
        assert_eq!(store.chunk(cid).unwrap().as_ref(), Some(bytes));
    }
    assert_eq!(store.manifest(&model.id).unwrap().unwrap(), model.bytes);
    assert_eq!(bitfield(&store, &model.sealed).unwrap(), [[0xff; 7].as_slice(), &[0xf0]].concat());
    // Again: nothing is left to do, and nobody is needed.
    let again = run(&peers, &store, model.id, vec![]).await.unwrap();
    assert_eq!((again.chunks, again.reused), (0, 60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liars_are_banned_and_cost_little() {
    let model = model(60);
    let mut net = Net::new();
    let from = [
        net.add(1, Kind::Liar, &model, |_| true),
        net.add(2, Kind::Swollen, &model, |_| true),
        net.add(3, Kind::Nonsense, &model, |_| true),
        net.add(4, Kind::Honest, &model, |_| true),
    ];
    let store = net.store();
    net.peers.after = Some(from[0]);
    let peers = Arc::new(net.peers);
    // The swollen one is asked for the manifest first.
    let order = vec![from[1], from[0], from[2], from[3]];
    let report = run(&peers, &store, model.id, order).await.unwrap();
    assert_eq!(report.banned.iter().copied().collect::<BTreeSet<_>>(), [from[0], from[1]].into());
    assert_eq!(report.by_peer.keys().copied().collect::<Vec<_>>(), [from[3]]);
    let asked = peers.asked.lock().unwrap().clone();
    assert!(asked[&from[0]] <= 2, "a liar is asked for its first window at most: {asked:?}");
    assert!(!asked.contains_key(&from[1]) && !asked.contains_key(&from[2]), "{asked:?}");
    assert_eq!(store.stats().chunks, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_does_not_stop_the_transfer() {
    let model = model(40);
    let mut net = Net::new();
    let from = vec![net.add(1, Kind::Silent, &model, |_| true), net.add(2, Kind::Honest, &model, |_| true), node(77)];
    let store = net.store();
    let report = run(&Arc::new(net.peers), &store, model.id, from.clone()).await.unwrap();
    assert_eq!(report.by_peer.keys().copied().collect::<Vec<_>>(), [from[1]]);
    assert_eq!(report.banned, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_holds_ends_in_an_error_and_the_rest_is_kept() {
    let model = model(40);
    let mut net = Net::new();
    let from = vec![net.add(1, Kind::Honest, &model, |n| n >= 3)];
    let store = net.store();
    let full = net.add(2, Kind::Honest, &model, |_| true);
    let peers = Arc::new(net.peers);
    let error = run(&peers, &store, model.id, from.clone()).await.unwrap_err();
    assert!(matches!(error, FetchError::NoSource { missing: 3, total: 40 }), "{error}");
    assert_eq!(store.stats().chunks, 37);
    let resumed = run(&peers, &store, model.id, vec![from[0], full]).await.unwrap();
    assert_eq!((resumed.chunks, resumed.reused), (3, 37));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_still_fetching_is_asked_again() {
    let model = model(20);
    let mut net = Net::new();
    let from = vec![net.add(1, Kind::Honest, &model, |n| n < 10)];
    let growing = net.peers.peers[&from[0]].1.clone();
    let (store, rest) = (net.store(), model.chunks[10..].to_vec());
    let options = FetchOptions { patience: Duration::from_secs(12), ..OPTIONS };
    let source: Arc<dyn Source> = Arc::new(net.peers);
    let grow = async {
        while store.stats().chunks < 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for (cid, bytes) in &rest {
            growing.put_chunk(cid, bytes).unwrap();
        }
    };
    let transfer = fetch(&store, source, model.id, from, options, |_| {}, CancellationToken::new());
    let (report, ()) = tokio::join!(transfer, grow);
    assert_eq!(report.unwrap().chunks, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_ends_it_and_leaves_a_store_to_go_on_from() {
    let model = model(40);
    let mut net = Net::new();
    let from = vec![net.add(1, Kind::Silent, &model, |_| true)];
    let store = net.store();
    let peers = Arc::new(net.peers);
    let stop = CancellationToken::new();
    let source: Arc<dyn Source> = Arc::clone(&peers) as _;
    let options = FetchOptions { stall: Duration::from_secs(60), ..OPTIONS };
    let transfer = fetch(&store, source, model.id, from, options, |_| {}, stop.clone());
    let stopper = async {
        while peers.in_flight.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    let (result, ()) = tokio::join!(transfer, stopper);
    assert!(matches!(result, Err(FetchError::Stopped)));
    assert_eq!(peers.in_flight.load(Ordering::SeqCst), 0, "open requests were dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_to_ask_and_a_full_store_are_told_apart() {
    let model = model(40);
    let mut net = Net::new();
    let from = vec![net.add(1, Kind::Honest, &model, |_| true)];
    let dir = tempdir().unwrap();
    let small = Store::open(
        dir.path(),
        StoreConfig { cache_bytes: 1 << 20, quota_bytes: Some(5 * 2016), ..StoreConfig::default() },
    )
    .unwrap();
    let peers = Arc::new(net.peers);
    let nobody = run(&peers, &small, model.id, vec![]).await.unwrap_err();
    assert!(matches!(nobody, FetchError::NoPeers(_)));
    let unreachable = run(&peers, &small, model.id, vec![node(9)]).await.unwrap_err();
    assert!(matches!(unreachable, FetchError::NoManifest { tried: 1, .. }), "{unreachable}");
    let full = run(&peers, &small, model.id, from).await.unwrap_err();
    assert!(matches!(full, FetchError::Store(zero2ai_store::StoreError::Quota { .. })), "{full}");
}

#[test]
fn a_damaged_chunk_is_not_served_and_heals() {
    let model = model(1);
    let mut net = Net::new();
    let store = net.store();
    let (cid, bytes) = &model.chunks[0];
    store.put_chunk(cid, bytes).unwrap();
    assert_eq!(serve_chunk(&store, cid).unwrap().as_ref(), Some(bytes));
    let name = cid.to_string();
    let path = net.folders[0].path().join("chunks").join(&name[..2]).join(&name);
    let mut flipped = bytes.clone();
    flipped[3] ^= 1;
    std::fs::write(path, flipped).unwrap();
    assert_eq!(serve_chunk(&store, cid).unwrap(), None);
    assert!(!store.has_chunk(cid).unwrap());
    assert!(store.put_chunk(cid, bytes).unwrap());
    assert_eq!(serve_chunk(&store, cid).unwrap().as_ref(), Some(bytes));
}
