//! Swarms of real stores in one process: serving while fetching, busy peers, order, and peers that mean no good.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod peers;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use peers::{Kind, Net, OPTIONS, model, node, run};
use tokio_util::sync::CancellationToken;
use zero2ai_chunk::planner::Order;
use zero2ai_swarm::{Board, Fetch, FetchOptions, Source, Traffic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_fetching_serves_what_it_has_meanwhile() {
    let model = model(60);
    let mut net = Net::new();
    let a = [net.add(1, Kind::Honest, &model, |n| n < 30), net.add(4, Kind::Honest, &model, |n| n >= 30)];
    let (b, c) = (node(2), node(3));
    let (store_b, store_c, board) = (net.store(), net.store(), Board::default());
    net.peers.peers.insert(b, (Kind::Honest, store_b.clone()));
    net.peers.boards.insert(b, board.clone());
    // The last 30 chunks leave the second A only once C has got most of the others, which B alone can have given it.
    net.peers.withheld.lock().unwrap().extend(model.chunks[30..].iter().map(|(cid, _)| (*cid, a[1])));
    let net_peers = Arc::new(net.peers);
    let source: Arc<dyn Source> = Arc::clone(&net_peers) as _;
    let options = FetchOptions { stall: Duration::from_secs(20), patience: Duration::from_secs(20), ..OPTIONS };
    let transfer = |store: &zero2ai_store::Store, me, from: &[_], board| Fetch {
        store: store.clone(),
        source: Arc::clone(&source),
        id: model.id,
        peers: from.to_vec(),
        options,
        me: Some(me),
        board,
        traffic: Traffic::default(),
        stop: CancellationToken::new(),
    };
    let first = transfer(&store_b, b, &a, board).run(|_| {});
    let second = async {
        while store_b.stats().chunks < 20 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        transfer(&store_c, c, &[b], Board::default()).run(|_| {}).await
    };
    let release = async {
        while store_c.stats().chunks < 20 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(store_b.stats().chunks < 60, "B is not through yet");
        net_peers.withheld.lock().unwrap().clear();
    };
    let all = async { tokio::join!(first, second, release) };
    let (b_report, c_report, ()) = tokio::time::timeout(Duration::from_secs(30), all).await.expect("it hangs");
    assert_eq!((b_report.unwrap().chunks, c_report.unwrap().chunks), (60, 60));
    for (cid, bytes) in &model.chunks {
        assert_eq!(store_c.chunk(cid).unwrap().as_ref(), Some(bytes));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_peer_is_asked_again_and_nothing_is_held_against_it() {
    let model = model(12);
    let mut net = Net::new();
    let from = vec![net.add(1, Kind::Busy, &model, |_| true)];
    let store = net.store();
    // More refusals in all than the strikes that a peer may get: were they strikes, the transfer could not end.
    // Time enough that a slow disk here is not held against the peer.
    let options = FetchOptions { stall: Duration::from_secs(10), ..OPTIONS };
    let stop = CancellationToken::new();
    let transfer = zero2ai_swarm::fetch(&store, Arc::new(net.peers), model.id, from, options, |_| {}, stop);
    let report = transfer.await.unwrap();
    assert_eq!((report.chunks, report.banned), (12, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_order_the_first_chunks_come_first() {
    let model = model(60);
    let mut net = Net::new();
    let from = vec![net.add(1, Kind::Honest, &model, |_| true), net.add(2, Kind::Honest, &model, |n| n % 2 == 0)];
    let store = net.store();
    let window = 8;
    let ahead = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ahead);
    let progress = move |p: zero2ai_swarm::Progress<'_>| {
        let lowest = (0..p.total_chunks).find(|c| !p.held.contains(*c));
        let highest = (0..p.total_chunks).rev().find(|c| p.held.contains(*c));
        if let (Some(lowest), Some(highest)) = (lowest, highest) {
            seen.lock().unwrap().push(highest.saturating_sub(lowest));
        }
    };
    let job = Fetch {
        store: store.clone(),
        source: Arc::new(net.peers),
        id: model.id,
        peers: from,
        options: FetchOptions { stall: Duration::from_secs(10), order: Order::InOrder { window }, ..OPTIONS },
        me: None,
        board: Board::default(),
        traffic: Traffic::default(),
        stop: CancellationToken::new(),
    };
    assert_eq!(job.run(progress).await.unwrap().chunks, 60);
    // Usually, not always: while a slow disk keeps one of the first, others go on behind the window.
    let mut ahead = std::mem::take(&mut *ahead.lock().unwrap());
    ahead.sort_unstable();
    let usual = ahead[ahead.len() / 2];
    assert!(usual <= window + OPTIONS.in_flight + 1, "chunks were {usual} places ahead, {ahead:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_mean_no_good_cost_little_each() {
    let model = model(24);
    let kinds = [Kind::Liar, Kind::Silent, Kind::Swollen, Kind::Nonsense, Kind::Chatterer, Kind::Boaster];
    for kind in kinds {
        let mut net = Net::new();
        let from = vec![net.add(2, Kind::Honest, &model, |_| true), net.add(1, kind, &model, |_| true)];
        let store = net.store();
        let peers = Arc::new(net.peers);
        let report = run(&peers, &store, model.id, from.clone()).await.unwrap();
        assert_eq!(store.stats().chunks, 24);
        let asked = peers.asked.lock().unwrap().get(&from[1]).copied().unwrap_or(0);
        match kind {
            Kind::Liar | Kind::Swollen => assert!(asked <= 2, "{asked}: its first window"),
            Kind::Nonsense => assert_eq!(asked, 0),
            // Their chunks are good; their talk costs no more than what it may be.
            _ => assert!(report.banned.is_empty()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dribbler_does_not_hold_up_the_others() {
    let model = model(60);
    let mut net = Net::new();
    let from = vec![net.add(1, Kind::Dribbler, &model, |_| true), net.add(2, Kind::Honest, &model, |_| true)];
    let store = net.store();
    let report = run(&Arc::new(net.peers), &store, model.id, from.clone()).await.unwrap();
    let by_dribbler = report.by_peer.get(&from[0]).copied().unwrap_or(0) / 2_016;
    assert!(by_dribbler <= 8, "{by_dribbler} of 60 chunks came from the dribbler");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_that_fetch_at_once_share_the_origin_out() {
    let model = model(80);
    let mut net = Net::new();
    let origin = net.add(1, Kind::Honest, &model, |_| true);
    let others: Vec<_> = (2..6).map(|n| (node(n), net.store(), Board::default())).collect();
    for (id, store, board) in &others {
        net.peers.peers.insert(*id, (Kind::Honest, store.clone()));
        net.peers.boards.insert(*id, board.clone());
        store.put_manifest(&model.bytes).unwrap();
    }
    let peers = Arc::new(net.peers);
    let jobs = others.iter().map(|(me, store, board)| {
        let rest = others.iter().map(|(id, _, _)| *id).filter(|id| id != me);
        let job = Fetch {
            store: store.clone(),
            source: Arc::clone(&peers) as _,
            id: model.id,
            peers: rest.chain([origin]).collect(),
            options: FetchOptions { stall: Duration::from_secs(10), ..OPTIONS },
            me: Some(*me),
            board: board.clone(),
            traffic: Traffic::default(),
            stop: CancellationToken::new(),
        };
        job.run(|_| {})
    });
    let all = tokio::time::timeout(Duration::from_secs(30), futures::future::join_all(jobs));
    for report in all.await.expect("it hangs") {
        assert_eq!(report.unwrap().chunks, 80);
    }
    let asked: BTreeSet<_> = peers.asked.lock().unwrap().keys().copied().collect();
    assert!(asked.contains(&origin));
}
