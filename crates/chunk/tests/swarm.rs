//! Whole swarms in seeded simulation: many planners at once, each peer's uplink a queue, time virtual. The figures asserted
//! here are counts and virtual milliseconds; the same seed gives the same trace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
};

use zero2ai_chunk::{
    ChunkSet,
    planner::{Action, DropReason, Event, Order, Planner, PlannerConfig},
};

/// Milliseconds that a message takes one way.
const LATENCY: u64 = 10;
/// Milliseconds until others hear that a chunk came.
const HAVE: u64 = 100;
const TICK: u64 = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Holds everything and serves.
    Seed,
    /// Fetches, and serves what it has.
    Leecher,
    /// Claims everything, sends wrong bytes.
    Liar,
    /// Claims everything, never answers.
    Silent,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    /// Milliseconds that its uplink takes for a chunk.
    up_ms: u64,
    joins: u64,
    /// It vanishes without a word at this time.
    leaves: u64,
}

#[derive(Clone, Debug)]
struct Scenario {
    seed: u64,
    chunks: u32,
    nodes: Vec<Node>,
    /// One answer in so many is lost; 0 is none.
    lost_in: u64,
    /// Chunks a peer that serves has in its queue before it says that it is busy.
    slots: usize,
    order: Order,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Hash of everything that happened, in order.
    trace: u64,
    /// When each leecher was done.
    done: BTreeMap<u32, u64>,
    /// Chunks that each node put on its uplink.
    sent: BTreeMap<u32, u64>,
    /// Chunks that arrived where they were already.
    twice: u64,
    /// Wrong answers, by (leecher, liar).
    wrong: BTreeMap<(u32, u32), u32>,
    /// For each leecher, chunks in the order they came.
    order: BTreeMap<u32, Vec<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Join,
    Leave,
    /// `from` asks `to` for a chunk.
    Ask,
    /// The uplink of `from` is through with the chunk for `to`.
    Sent,
    Answer,
    Busy,
    /// `from` tells `to` of a chunk.
    Has,
    Tick,
}

/// When, a tie-break, what, from, to, chunk.
type Due = (u64, u64, What, u32, u32, u32);

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

struct Sim<'a> {
    scenario: &'a Scenario,
    planners: BTreeMap<u32, Planner<u32>>,
    held: BTreeMap<u32, ChunkSet>,
    /// Requests of each leecher that it still wants: (leecher, peer, chunk).
    open: BTreeSet<(u32, u32, u32)>,
    /// What waits for each uplink; the first is being sent.
    uplinks: BTreeMap<u32, VecDeque<(u32, u32)>>,
    events: BinaryHeap<Reverse<Due>>,
    here: BTreeSet<u32>,
    random: Random,
    order: u64,
    outcome: Outcome,
}

impl Sim<'_> {
    fn at(&mut self, when: u64, what: What, from: u32, to: u32, chunk: u32) {
        self.order += 1;
        self.events.push(Reverse((when, self.order, what, from, to, chunk)));
    }

    fn node(&self, n: u32) -> Node {
        self.scenario.nodes[n as usize]
    }

    fn tell(&mut self, now: u64, n: u32, event: Event<u32>) {
        let Some(planner) = self.planners.get_mut(&n) else { return };
        let was_done = planner.is_done();
        let actions = planner.handle(now, event);
        let is_done = planner.is_done();
        if is_done && !was_done {
            self.outcome.done.insert(n, now);
        }
        for action in actions {
            match action {
                Action::Request { peer, chunk } => {
                    assert!(!self.held[&n].contains(chunk), "asked for what is here");
                    assert!(self.open.insert((n, peer, chunk)), "asked twice");
                    self.at(now + LATENCY, What::Ask, n, peer, chunk);
                }
                Action::Cancel { peer, chunk } => assert!(self.open.remove(&(n, peer, chunk))),
                Action::Drop { peer, why } => {
                    let honest = matches!(self.node(peer).kind, Kind::Seed | Kind::Leecher);
                    assert!(!(honest && why == DropReason::WrongHash));
                }
            }
        }
    }

    /// In a large swarm a node knows about every fourth of those who fetch.
    fn knows(&self, a: u32, b: u32) -> bool {
        let fetch = |n| self.node(n).kind == Kind::Leecher;
        let pair = (u64::from(a.min(b)) << 32) | u64::from(a.max(b));
        self.scenario.nodes.len() < 50 || !fetch(a) || !fetch(b) || Random(pair).next().is_multiple_of(4)
    }

    fn join(&mut self, now: u64, n: u32) {
        self.here.insert(n);
        let chunks = self.scenario.chunks as usize;
        let config = PlannerConfig {
            seed: self.scenario.seed ^ u64::from(n),
            in_flight: 48,
            stall_ms: 4_000,
            order: self.scenario.order,
            ..PlannerConfig::default()
        };
        let node = self.node(n);
        let full = node.kind != Kind::Leecher;
        self.held.insert(n, if full { ChunkSet::full(chunks) } else { ChunkSet::empty(chunks) });
        if !full {
            self.planners.insert(n, Planner::new(config, &ChunkSet::empty(chunks)).sharing(n));
            self.at(now + TICK, What::Tick, n, n, 0);
        }
        for other in self.here.clone() {
            if other != n && self.knows(n, other) {
                let (its, ours) = (self.held[&other].clone(), self.held[&n].clone());
                self.tell(now, n, Event::Joined { peer: other, held: its });
                self.tell(now, other, Event::Joined { peer: n, held: ours });
            }
        }
    }

    /// Starts the next chunk of an uplink; those that were cancelled meanwhile are skipped.
    fn send_next(&mut self, now: u64, n: u32) {
        let queue = self.uplinks.entry(n).or_default();
        while queue.front().is_some_and(|(to, chunk)| !self.open.contains(&(*to, n, *chunk))) {
            queue.pop_front();
        }
        if let Some((to, chunk)) = queue.front().copied() {
            let up_ms = self.node(n).up_ms;
            self.at(now + up_ms, What::Sent, n, to, chunk);
        }
    }

    fn step(&mut self, now: u64, what: What, from: u32, to: u32, chunk: u32) {
        match what {
            What::Join => self.join(now, from),
            What::Leave => {
                self.here.remove(&from);
                self.planners.remove(&from);
                self.open.retain(|(n, _, _)| *n != from);
            }
            What::Ask if !self.here.contains(&to) || self.node(to).kind == Kind::Silent => {}
            What::Ask => {
                let queue = self.uplinks.entry(to).or_default();
                if queue.len() >= self.scenario.slots {
                    return self.at(now + LATENCY, What::Busy, to, from, chunk);
                }
                queue.push_back((from, chunk));
                if queue.len() == 1 {
                    self.send_next(now, to);
                }
            }
            What::Sent => {
                self.uplinks.entry(from).or_default().pop_front();
                *self.outcome.sent.entry(from).or_insert(0) += 1;
                let lost = self.scenario.lost_in > 0 && self.random.next().is_multiple_of(self.scenario.lost_in);
                if !lost && self.here.contains(&from) {
                    self.at(now + LATENCY, What::Answer, from, to, chunk);
                }
                self.send_next(now, from);
            }
            What::Busy => {
                if self.open.remove(&(to, from, chunk)) {
                    self.tell(now, to, Event::Busy { peer: from, chunk });
                }
            }
            What::Answer => self.answer(now, from, to, chunk),
            What::Has => self.tell(now, to, Event::Has { peer: from, chunk }),
            What::Tick => {
                if self.here.contains(&from) && !self.outcome.done.contains_key(&from) {
                    self.tell(now, from, Event::Tick);
                    self.at(now + TICK, What::Tick, from, from, 0);
                }
            }
        }
    }

    fn answer(&mut self, now: u64, from: u32, to: u32, chunk: u32) {
        let wanted = self.open.remove(&(to, from, chunk));
        if !self.here.contains(&to) {
            return;
        }
        if self.held[&to].contains(chunk) {
            self.outcome.twice += 1;
        }
        if !wanted {
            return;
        }
        if self.node(from).kind == Kind::Liar {
            *self.outcome.wrong.entry((to, from)).or_insert(0) += 1;
            return self.tell(now, to, Event::Wrong { peer: from, chunk });
        }
        assert!(self.held[&from].contains(chunk), "asked for what it does not have");
        self.held.get_mut(&to).unwrap().insert(chunk);
        self.outcome.order.entry(to).or_default().push(chunk);
        for other in self.here.clone() {
            if other != to && self.knows(to, other) {
                self.at(now + HAVE, What::Has, to, other, chunk);
            }
        }
        self.tell(now, to, Event::Received { peer: from, chunk });
    }
}

fn simulate(scenario: &Scenario) -> Outcome {
    let mut sim = Sim {
        scenario,
        planners: BTreeMap::new(),
        held: BTreeMap::new(),
        open: BTreeSet::new(),
        uplinks: BTreeMap::new(),
        events: BinaryHeap::new(),
        here: BTreeSet::new(),
        random: Random(scenario.seed),
        order: 0,
        outcome: Outcome::default(),
    };
    for (n, node) in (0u32..).zip(&scenario.nodes) {
        sim.at(node.joins, What::Join, n, 0, 0);
        if node.leaves < u64::MAX {
            sim.at(node.leaves, What::Leave, n, 0, 0);
        }
    }
    let stay = |node: &&Node| node.kind == Kind::Leecher && node.leaves == u64::MAX;
    let expected = scenario.nodes.iter().filter(stay).count();
    let finished = |sim: &Sim| {
        let stays = |n: &&u32| scenario.nodes[**n as usize].leaves == u64::MAX;
        sim.outcome.done.keys().filter(stays).count() == expected
    };
    while !finished(&sim) {
        let Reverse((now, _, what, from, to, chunk)) = sim.events.pop().expect("ticks go on until all are done");
        assert!(now < 7_200_000, "not done after two hours: {:?}", sim.outcome.done);
        let mixed = sim.outcome.trace ^ now ^ (u64::from(from) << 40) ^ (u64::from(to) << 20) ^ u64::from(chunk);
        sim.outcome.trace = Random(mixed.wrapping_add(what as u64)).next();
        sim.step(now, what, from, to, chunk);
    }
    sim.outcome
}

fn node(kind: Kind, up_ms: u64) -> Node {
    Node { kind, up_ms, joins: 0, leaves: u64::MAX }
}

fn one_seeder(leechers: u32, chunks: u32, seed: u64) -> Scenario {
    let mut nodes = vec![node(Kind::Seed, 20)];
    // They do not start in the same millisecond.
    nodes.extend((0..leechers).map(|n| Node { joins: u64::from(n) * 37, ..node(Kind::Leecher, 20) }));
    Scenario { seed, chunks, nodes, lost_in: 0, slots: 64, order: Order::RarestFirst }
}

#[test]
fn an_origin_sends_a_model_little_more_than_once_however_many_fetch_it() {
    for (leechers, seed, chunks) in [(2, 1, 600), (8, 2, 600), (8, 3, 600), (8, 4, 300), (8, 5, 300)] {
        let outcome = simulate(&one_seeder(leechers, chunks, seed));
        let (sent, last) = (outcome.sent[&0], *outcome.done.values().max().unwrap());
        println!("{leechers} leechers: origin sent {sent} for {chunks}, {} twice, done at {last} ms", outcome.twice);
        assert!(sent * 100 <= u64::from(chunks) * 115, "the origin sent {sent} chunks for {chunks}");
        let bound = u64::from(chunks) * 20;
        assert!(last * 10 <= bound * 13, "{last} ms where the uplink needs {bound}");
        assert!(outcome.twice * 20 <= u64::from(leechers * chunks), "{} came twice", outcome.twice);
    }
}

#[test]
fn hundreds_of_peers_with_churn_loss_liars_and_slow_ones_all_get_the_model() {
    let mut random = Random(77);
    let mut nodes = vec![node(Kind::Seed, 5), node(Kind::Seed, 5)];
    for n in 0..200u64 {
        let leaves = if n % 5 == 0 { 2_000 + random.next() % 8_000 } else { u64::MAX };
        let up_ms = if n % 7 == 0 { 400 } else { 10 + random.next() % 20 };
        nodes.push(Node { kind: Kind::Leecher, up_ms, joins: random.next() % 3_000, leaves });
    }
    for n in 0..10 {
        nodes.push(node(if n % 2 == 0 { Kind::Liar } else { Kind::Silent }, 10));
    }
    let scenario = Scenario { seed: 5, chunks: 30, nodes, lost_in: 200, slots: 64, order: Order::RarestFirst };
    let outcome = simulate(&scenario);
    println!("200 peers: {} twice, done at {:?} ms", outcome.twice, outcome.done.values().max());
    assert!(outcome.wrong.values().all(|n| *n <= 1), "a liar costs each node one chunk");
    assert!(outcome.twice * 100 <= 15 * 200 * 30, "{} of 6000 came twice", outcome.twice);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut scenario = one_seeder(12, 80, 21);
    scenario.lost_in = 50;
    scenario.nodes[3].leaves = 900;
    scenario.nodes.push(node(Kind::Liar, 10));
    let outcome = simulate(&scenario);
    assert_eq!(outcome, simulate(&scenario));
    let other = simulate(&Scenario { seed: 22, ..scenario });
    assert_ne!(outcome.trace, other.trace, "another seed gives another one");
}

#[test]
fn in_order_stays_within_its_window() {
    let window = 32;
    let mut scenario = one_seeder(1, 400, 9);
    scenario.nodes.push(node(Kind::Seed, 200));
    scenario.nodes.push(node(Kind::Seed, 30));
    scenario.order = Order::InOrder { window };
    let outcome = simulate(&scenario);
    let (mut here, mut lowest, mut ahead) = (BTreeSet::new(), 0u32, 0u32);
    for chunk in &outcome.order[&1] {
        here.insert(*chunk);
        while here.contains(&lowest) {
            lowest += 1;
        }
        ahead = ahead.max(chunk.saturating_sub(lowest));
    }
    println!("in order: at most {ahead} ahead, done at {:?} ms", outcome.done);
    assert!(ahead <= 3 * window, "a chunk came {ahead} places ahead of the lowest missing one");
    let last = outcome.done[&1];
    // 20, 30 and 200 ms a chunk together: 400 chunks in 4.5 s.
    assert!(last < 6_500, "{last} ms");
}

#[test]
fn with_few_slots_nobody_is_given_up_and_all_get_the_model() {
    let mut scenario = one_seeder(8, 200, 11);
    scenario.slots = 3;
    let outcome = simulate(&scenario);
    let (sent, last) = (outcome.sent[&0], *outcome.done.values().max().unwrap());
    println!("3 slots: origin sent {sent} for 200, done at {last} ms");
    assert!(sent * 100 <= 200 * 125, "the origin sent {sent} chunks for 200");
    // A slot that is given back waits for whoever asks next: some of the line is lost.
    assert!(last < 200 * 20 * 2, "{last} ms where the uplink needs 4000");
}

#[test]
fn a_slow_line_that_is_all_there_is_gets_the_model_through() {
    // A chunk takes 5.5 s: longer than the 4 s that a peer may usually be silent.
    let nodes = vec![node(Kind::Seed, 5_500), node(Kind::Leecher, 20)];
    let scenario = Scenario { seed: 1, chunks: 12, nodes, lost_in: 0, slots: 64, order: Order::RarestFirst };
    let outcome = simulate(&scenario);
    assert!(outcome.done[&1] < 12 * 5_500 * 3, "{:?}", outcome.done);
}
