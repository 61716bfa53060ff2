//! Which chunk to ask of which peer: a state machine. Events and the time go in, actions come out; no clock, no sockets, and
//! the same seed gives the same plan.
//!
//! The rules are BitTorrent's (Cohen, "Incentives Build Robustness in BitTorrent", 2003, section 2.4), with windows as BBR
//! sizes them:
//! - the first few chunks at random, so that there is soon something to share; then the rarest first;
//! - a peer has as many requests open as its rate × round trip wants, so slow peers do not sit on many chunks;
//! - end game: once a peer finds nothing unasked, it is asked for what another peer has kept open too long; the first copy
//!   cancels the others;
//! - a wrong hash bans at once; silence and refusals give a pause that doubles, then the peer is dropped.

mod peer;
mod pool;

use std::collections::{BTreeMap, BTreeSet};

use crate::chunk_set::ChunkSet;
use peer::Peer;
use pool::Pool;

/// Peers known at once, the dropped ones included. Beyond it, newcomers are ignored until one leaves.
const PEERS: usize = 1_024;

/// How a planner behaves. The defaults fit chunks of 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannerConfig {
    /// What random choices follow from.
    pub seed: u64,
    /// Chunks fetched at random before the rarest come first.
    pub random_first: u32,
    /// Most requests open to one peer. Each may hold a chunk in memory.
    pub peer_window: u32,
    /// Most requests open at all: bounds memory to this many chunks.
    pub in_flight: u32,
    /// Milliseconds without a chunk after which a peer that owes one is passed over. Too short and slow links are dropped;
    /// too long and a silent peer delays the end.
    pub stall_ms: u64,
    /// Copies of one chunk on their way in the end game.
    pub copies: usize,
    /// Pauses in a row after which a peer is dropped.
    pub strikes: u32,
}

impl Default for PlannerConfig {
    fn default() -> Self {
        Self { seed: 0, random_first: 4, peer_window: 32, in_flight: 64, stall_ms: 10_000, copies: 2, strikes: 4 }
    }
}

/// What happened. Chunks are numbers in the sealed manifest's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P> {
    /// A peer came, or said anew what it holds. Ignored for banned peers.
    Joined {
        /// The peer.
        peer: P,
        /// What it holds.
        held: ChunkSet,
    },
    /// A peer got another chunk.
    Has {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// A peer went. Its open requests are cancelled.
    Left {
        /// The peer.
        peer: P,
    },
    /// A peer's chunk arrived, had the right hash, and is stored.
    Received {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// A peer's chunk had the wrong hash.
    Wrong {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// A peer did not give a chunk.
    Failed {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// Time passed: send one at least every tenth of [`PlannerConfig::stall_ms`].
    Tick,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<P> {
    /// Ask `peer` for `chunk`.
    Request {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// Take back that request. An answer that still comes is welcome.
    Cancel {
        /// The peer.
        peer: P,
        /// The chunk.
        chunk: u32,
    },
    /// Never speak to `peer` again in this transfer. Its open requests were cancelled before this.
    Drop {
        /// The peer.
        peer: P,
        /// Why.
        why: DropReason,
    },
}

/// Why a peer was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It sent bytes with the wrong hash.
    WrongHash,
    /// It was silent or refused too often.
    Useless,
}

/// The planner of one transfer. `P` names a peer.
#[derive(Debug)]
pub struct Planner<P> {
    config: PlannerConfig,
    pool: Pool,
    peers: BTreeMap<P, Peer>,
    dropped: BTreeSet<P>,
    /// Peers that were asked for a chunk and have not answered, by chunk.
    asked: BTreeMap<u32, Vec<P>>,
    in_flight: u32,
    received: u32,
}

impl<P: Copy + Ord> Planner<P> {
    /// A planner for what is missing from `held`.
    #[must_use]
    pub fn new(config: PlannerConfig, held: &ChunkSet) -> Self {
        Self {
            config,
            pool: Pool::new(config.seed, held),
            peers: BTreeMap::new(),
            dropped: BTreeSet::new(),
            asked: BTreeMap::new(),
            in_flight: 0,
            received: 0,
        }
    }

    /// Chunks not yet received.
    #[must_use]
    pub fn missing(&self) -> u32 {
        self.pool.missing()
    }

    /// True once every chunk is here.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.missing() == 0
    }

    /// True if chunks are missing and none is on its way: only a new peer, or one whose pause ends, can help.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        !self.is_done() && self.in_flight == 0
    }

    /// Peers in use.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Takes in `event` at `now_ms` (milliseconds, never going back) and says what to do, in order.
    pub fn handle(&mut self, now_ms: u64, event: Event<P>) -> Vec<Action<P>> {
        let mut actions = Vec::new();
        match event {
            Event::Joined { peer, held } => self.join(peer, held),
            Event::Has { peer, chunk } => self.has(peer, chunk),
            Event::Left { peer } => self.remove(peer, &mut actions),
            Event::Received { peer, chunk } => self.received(now_ms, peer, chunk, &mut actions),
            Event::Wrong { peer, chunk } => {
                self.answered(peer, chunk);
                self.drop_peer(peer, DropReason::WrongHash, &mut actions);
            }
            Event::Failed { peer, chunk } => self.failed(now_ms, peer, chunk, &mut actions),
            Event::Tick => self.pass_over_silent(now_ms, &mut actions),
        }
        self.fill(now_ms, &mut actions);
        actions
    }

    fn join(&mut self, peer: P, held: ChunkSet) {
        if self.dropped.contains(&peer) || held.chunks() != self.pool.chunks() {
            return;
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            self.pool.count_out(&known.held);
            self.pool.count_in(&held);
            known.held = held;
            known.fruitless = None;
        } else if self.peers.len() + self.dropped.len() < PEERS {
            self.pool.count_in(&held);
            self.peers.insert(peer, Peer::new(held));
        }
    }

    fn has(&mut self, peer: P, chunk: u32) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        // Rebuilding the counts keeps the rule for full peers in one place; a peer sends few of these at a time.
        self.pool.count_out(&known.held);
        known.held.insert(chunk);
        self.pool.count_in(&known.held);
        known.fruitless = None;
    }

    fn received(&mut self, now_ms: u64, peer: P, chunk: u32, actions: &mut Vec<Action<P>>) {
        let is_new = self.pool.take(chunk);
        self.take_back(peer, chunk);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.delivered(now_ms, chunk, self.config.peer_window);
        }
        if !is_new {
            return; // Another copy was first.
        }
        self.received += 1;
        for other in self.asked.get(&chunk).cloned().unwrap_or_default() {
            self.answered(other, chunk);
            actions.push(Action::Cancel { peer: other, chunk });
        }
    }

    fn failed(&mut self, now_ms: u64, peer: P, chunk: u32, actions: &mut Vec<Action<P>>) {
        self.answered(peer, chunk);
        let Some(known) = self.peers.get_mut(&peer) else { return };
        // It may not have it after all: not asked again for this one until it says anew what it holds.
        self.pool.count_out(&known.held);
        known.held.remove(chunk);
        self.pool.count_in(&known.held);
        self.strike(now_ms, peer, actions);
    }

    fn pass_over_silent(&mut self, now_ms: u64, actions: &mut Vec<Action<P>>) {
        let silent = |p: &Peer| p.waiting_since().is_some_and(|t| now_ms.saturating_sub(t) > self.config.stall_ms);
        let silent: Vec<P> = self.peers.iter().filter(|(_, p)| silent(p)).map(|(peer, _)| *peer).collect();
        for peer in silent {
            self.cancel_all(peer, actions);
            self.strike(now_ms, peer, actions);
        }
    }

    fn strike(&mut self, now_ms: u64, peer: P, actions: &mut Vec<Action<P>>) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if known.strike(now_ms, self.config.stall_ms) >= self.config.strikes {
            self.drop_peer(peer, DropReason::Useless, actions);
        }
    }

    fn drop_peer(&mut self, peer: P, why: DropReason, actions: &mut Vec<Action<P>>) {
        if self.peers.contains_key(&peer) {
            self.remove(peer, actions);
            self.dropped.insert(peer);
            actions.push(Action::Drop { peer, why });
        }
    }

    fn remove(&mut self, peer: P, actions: &mut Vec<Action<P>>) {
        self.cancel_all(peer, actions);
        if let Some(gone) = self.peers.remove(&peer) {
            self.pool.count_out(&gone.held);
        }
    }

    fn cancel_all(&mut self, peer: P, actions: &mut Vec<Action<P>>) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        for chunk in std::mem::take(&mut known.open).into_keys() {
            self.take_back(peer, chunk);
            actions.push(Action::Cancel { peer, chunk });
        }
    }

    /// Nothing more is expected of `peer` for `chunk`.
    fn answered(&mut self, peer: P, chunk: u32) {
        self.take_back(peer, chunk);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.open.remove(&chunk);
        }
    }

    /// Forgets that `peer` was asked for `chunk`; the chunk is free again if nobody else was.
    fn take_back(&mut self, peer: P, chunk: u32) {
        let Some(askers) = self.asked.get_mut(&chunk) else { return };
        let before = askers.len();
        askers.retain(|p| *p != peer);
        self.in_flight -= u32::try_from(before - askers.len()).unwrap_or(0);
        if askers.is_empty() {
            self.asked.remove(&chunk);
            self.pool.release(chunk);
        }
    }

    /// Asks until every window is full: one request a peer and round, those first who would answer first, since the bound of
    /// all requests may leave room for few.
    fn fill(&mut self, now_ms: u64, actions: &mut Vec<Action<P>>) {
        let mut eager: Vec<P> = self.peers.keys().copied().collect();
        eager.sort_by_cached_key(|peer| self.peers.get(peer).map(Peer::next_answer_ms));
        while !eager.is_empty() && !self.is_done() {
            eager.retain(|peer| {
                let chunk = if self.in_flight < self.config.in_flight { self.choose(now_ms, *peer) } else { None };
                if let Some(chunk) = chunk {
                    self.ask(now_ms, *peer, chunk);
                    actions.push(Action::Request { peer: *peer, chunk });
                }
                chunk.is_some()
            });
        }
    }

    fn choose(&mut self, now_ms: u64, peer: P) -> Option<u32> {
        let known = self.peers.get_mut(&peer)?;
        if !known.may_be_asked(now_ms) {
            return None;
        }
        if known.fruitless != Some(self.pool.epoch()) {
            if let Some(chunk) = self.pool.choose(&known.held, self.received < self.config.random_first) {
                return Some(chunk);
            }
            known.fruitless = Some(self.pool.epoch());
        }
        self.choose_again(now_ms, peer)
    }

    /// End game: what `peer` could bring sooner than whoever was asked.
    fn choose_again(&self, now_ms: u64, peer: P) -> Option<u32> {
        let known = self.peers.get(&peer)?;
        let helps = |chunk: u32, askers: &[P]| {
            askers.len() < self.config.copies
                && !askers.contains(&peer)
                && known.held.contains(chunk)
                && askers.iter().all(|other| {
                    let since = self.peers.get(other).and_then(|p| p.open.get(&chunk)).map(|r| r.since_ms);
                    since.is_some_and(|t| now_ms.saturating_sub(t) > known.usual_ms())
                })
        };
        self.asked.iter().find(|(chunk, askers)| helps(**chunk, askers)).map(|(chunk, _)| *chunk)
    }

    fn ask(&mut self, now_ms: u64, peer: P, chunk: u32) {
        self.pool.reserve(chunk);
        self.asked.entry(chunk).or_default().push(peer);
        self.in_flight += 1;
        if let Some(known) = self.peers.get_mut(&peer) {
            known.ask(now_ms, chunk);
        }
    }
}
