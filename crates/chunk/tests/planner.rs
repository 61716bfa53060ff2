//! The planner in seeded simulation: many peers, churn, liars, silence; time is virtual.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use proptest::prelude::*;
use zero2ai_chunk::{
    ChunkSet,
    planner::{Action, DropReason, Event, Order, Planner, PlannerConfig},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Answers each request after its turn in a queue of this many milliseconds a chunk.
    Honest(u64),
    /// Sends wrong bytes every so many answers.
    Liar(u64),
    /// Says nothing, ever.
    Silent,
    /// Refuses everything.
    Refuser,
    /// Honest until it leaves at this time.
    Leaver(u64),
}

#[derive(Clone, Debug)]
struct Setup {
    chunks: usize,
    seed: u64,
    peers: Vec<(Kind, u64)>,
}

fn setup() -> impl Strategy<Value = Setup> {
    let kind = prop_oneof![
        (1u64..400).prop_map(Kind::Honest),
        (1u64..4).prop_map(Kind::Liar),
        Just(Kind::Silent),
        Just(Kind::Refuser),
        (0u64..20_000).prop_map(Kind::Leaver),
    ];
    let peer = (kind, any::<u64>());
    (1usize..200, any::<u64>(), prop::collection::vec(peer, 0..40), 1u64..200).prop_map(
        |(chunks, seed, mut peers, ms)| {
            // One peer holds everything and is honest; the rest may be anything.
            peers.push((Kind::Honest(ms), u64::MAX));
            Setup { chunks, seed, peers }
        },
    )
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    finished_ms: u64,
    requests: u64,
    wrong: BTreeMap<u32, u32>,
    from: BTreeMap<u32, u32>,
}

const CONFIG: PlannerConfig = PlannerConfig {
    seed: 0,
    random_first: 4,
    peer_window: 16,
    in_flight: 48,
    stall_ms: 2_000,
    copies: 2,
    strikes: 4,
    order: Order::RarestFirst,
};

/// Runs one transfer to its end and checks every action on the way.
fn simulate(setup: &Setup) -> Outcome {
    let mut planner = Planner::new(PlannerConfig { seed: setup.seed, ..CONFIG }, &ChunkSet::empty(setup.chunks));
    let mut queue = BinaryHeap::new();
    let mut outcome = Outcome::default();
    let mut open: BTreeSet<(u32, u32)> = BTreeSet::new();
    let (mut gone, mut held, mut busy_until) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    let mut answers: BTreeMap<u32, u64> = BTreeMap::new();
    let mut order = 0u64;
    // What happens when: (time, order, what, peer, chunk).
    const JOIN: u8 = 0;
    const LEAVE: u8 = 1;
    const ANSWER: u8 = 2;
    const TICK: u8 = 3;
    for (peer, (kind, mask)) in (0u32..).zip(&setup.peers) {
        queue.push(Reverse((mask % 500, u64::from(peer), JOIN, peer, 0)));
        if let Kind::Leaver(at) = kind {
            queue.push(Reverse((500 + at, u64::from(peer), LEAVE, peer, 0)));
        }
    }
    queue.push(Reverse((0, 0, TICK, 0, 0)));
    while !planner.is_done() {
        let Reverse((now, _, what, peer, chunk)) = queue.pop().expect("ticks never end");
        assert!(now < 3_600_000, "not done after an hour: {} missing", planner.missing());
        outcome.finished_ms = now;
        let kind = setup.peers[peer as usize].0;
        let event = match what {
            JOIN => {
                let mut set = ChunkSet::empty(setup.chunks);
                let mask = setup.peers[peer as usize].1;
                let claims_all = matches!(kind, Kind::Liar(_) | Kind::Refuser | Kind::Silent);
                for c in 0..setup.chunks as u32 {
                    if claims_all || mask == u64::MAX || mask.rotate_left(c) & 1 == 1 {
                        set.insert(c);
                    }
                }
                Event::Joined { peer, held: set }
            }
            LEAVE => {
                gone.insert(peer);
                Event::Left { peer }
            }
            TICK => {
                order += 1;
                queue.push(Reverse((now + 200, order, TICK, 0, 0)));
                Event::Tick
            }
            // A cancelled answer, or one of somebody who is gone, never arrives.
            _ if !open.remove(&(peer, chunk)) => continue,
            _ => {
                let nth = answers.entry(peer).or_insert(0);
                *nth += 1;
                match kind {
                    Kind::Liar(every) if nth.is_multiple_of(every) => {
                        *outcome.wrong.entry(peer).or_insert(0) += 1;
                        Event::Wrong { peer, chunk }
                    }
                    Kind::Refuser => Event::Failed { peer, chunk },
                    _ => {
                        held.insert(chunk);
                        *outcome.from.entry(peer).or_insert(0) += 1;
                        Event::Received { peer, chunk }
                    }
                }
            }
        };
        for action in planner.handle(now, event) {
            match action {
                Action::Request { peer, chunk } => {
                    assert!(!gone.contains(&peer), "asked {peer} though it was dropped or had left");
                    assert!(!held.contains(&chunk), "asked for a chunk that is here");
                    assert!(open.insert((peer, chunk)), "asked twice");
                    outcome.requests += 1;
                    order += 1;
                    let per_chunk = match setup.peers[peer as usize].0 {
                        Kind::Honest(ms) => ms,
                        Kind::Silent => continue,
                        _ => 50,
                    };
                    let at = busy_until.get(&peer).copied().unwrap_or(0).max(now) + per_chunk;
                    busy_until.insert(peer, at);
                    queue.push(Reverse((at + 20, order, ANSWER, peer, chunk)));
                }
                Action::Cancel { peer, chunk } => {
                    assert!(open.remove(&(peer, chunk)), "cancelled what was not open");
                }
                Action::Drop { peer, why } => {
                    assert!(open.iter().all(|(p, _)| *p != peer), "a dropped peer has open requests");
                    let honest = matches!(setup.peers[peer as usize].0, Kind::Honest(_) | Kind::Leaver(_));
                    assert!(!(honest && why == DropReason::WrongHash));
                    gone.insert(peer);
                }
            }
        }
        assert!(open.len() <= CONFIG.in_flight as usize);
        for peer in open.iter().map(|(p, _)| *p).collect::<BTreeSet<_>>() {
            assert!(open.iter().filter(|(p, _)| *p == peer).count() <= CONFIG.peer_window as usize);
        }
    }
    assert!(open.is_empty(), "requests are left open after the end");
    assert_eq!(held.len(), setup.chunks);
    outcome
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_transfer_ends_whoever_else_is_there(setup in setup()) {
        let outcome = simulate(&setup);
        prop_assert!(outcome.wrong.values().all(|n| *n == 1), "a liar costs one chunk: {:?}", outcome.wrong);
    }

    #[test]
    fn the_same_seed_gives_the_same_plan(setup in setup()) {
        prop_assert_eq!(simulate(&setup), simulate(&setup));
    }
}

#[test]
fn hundreds_of_peers_share_the_work() {
    let peers = (0..300).map(|n| (Kind::Honest(50 + n % 50), u64::MAX)).collect();
    let outcome = simulate(&Setup { chunks: 2_000, seed: 7, peers });
    // 48 requests at once bind, not the peers: some 100 ms a request.
    assert!(outcome.finished_ms < 2_000 / 48 * 100 + 1_500, "{} ms", outcome.finished_ms);
    assert!(outcome.requests < 2_300, "{} requests for 2000 chunks", outcome.requests);
}

#[test]
fn a_slow_peer_gets_few_chunks_and_does_not_hold_up_the_end() {
    let peers = vec![(Kind::Honest(10), u64::MAX), (Kind::Honest(1_500), u64::MAX)];
    let outcome = simulate(&Setup { chunks: 400, seed: 1, peers });
    assert!(outcome.from[&1] < 10, "{:?}", outcome.from);
    assert!(outcome.finished_ms < 400 * 10 + 2_000, "{} ms", outcome.finished_ms);
}

#[test]
fn the_rarest_chunk_comes_first() {
    let mut planner = Planner::new(PlannerConfig { random_first: 0, ..CONFIG }, &ChunkSet::empty(50));
    let mut common = ChunkSet::full(50);
    common.remove(33);
    for peer in 0..5 {
        assert!(!planner.handle(0, Event::Joined { peer, held: common.clone() }).is_empty());
    }
    let mut rare = common.clone();
    rare.insert(33);
    rare.remove(0);
    let actions = planner.handle(1, Event::Joined { peer: 9, held: rare });
    assert_eq!(actions.first(), Some(&Action::Request { peer: 9, chunk: 33 }));
}

#[test]
fn nothing_is_asked_when_everything_is_here() {
    let mut planner = Planner::new(CONFIG, &ChunkSet::full(9));
    assert!(planner.is_done());
    assert_eq!(planner.handle(0, Event::Joined { peer: 1, held: ChunkSet::full(9) }), []);
}

#[test]
fn bit_fields_round_trip_and_bad_ones_are_refused() {
    let mut set = ChunkSet::empty(10);
    assert!(set.insert(0) && set.insert(9) && !set.insert(9) && !set.insert(10));
    assert_eq!(set.as_bytes(), [0x80, 0x40]);
    assert_eq!(ChunkSet::from_bytes(set.as_bytes(), 10).unwrap(), set);
    assert!(ChunkSet::from_bytes(&[0x80], 10).is_err());
    assert!(ChunkSet::from_bytes(&[0x80, 0x20], 10).is_err(), "a bit behind the end");
    assert!(ChunkSet::from_bytes(&[0xff, 0xc0], 10).unwrap().is_full());
}
